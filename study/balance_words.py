"""What chapter 17 found, in sentences generated from its records, which more data sets cannot make false."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from scipy.stats import spearmanr

from study.balance_tables import LARGE, SMALL, by_size, over_sets, pair_over_sets
from study.better_balance import OURS, RIVALS, SMALLER
from study.power import MARGIN
from study.statistics import SIGNIFICANT, in_points
from study.stress_words import names

OTHERS = {OURS: (*RIVALS, SMALLER), SMALLER: RIVALS}  # the rivals of each of our methods
KNOWN = ("cora", "citeseer", "chameleon", "cornell", "wisconsin")  # whose scores were known when `OURS` was written
SINGLE = ("mlp", "gcn", "sage", "appnp")  # networks of one filter each, four of the mixture's five


def sets(rows: pd.DataFrame) -> str:
    """How many data sets the rows cover, which ones, and with how many seeds: `2 data sets (5 seeds: cora, dblp)`."""
    seeds = rows.groupby("task", sort=False).seed.nunique()
    parts = [f"{count} seeds: {', '.join(some.index)}" for count, some in seeds.groupby(seeds)]
    return f"{len(seeds)} data set{'s' * (len(seeds) != 1)} ({'; '.join(reversed(parts))})"


def excluded(over: Mapping[str, pd.DataFrame]) -> str:
    """A list: what the means over data sets can and cannot exclude, by method.

    Args:
        over: from `over_sets`, by method.
    """
    lines = []
    for method, found in over.items():
        level, differs = (found.index[found.verdict == verdict] for verdict in ("level", "differs"))
        line = f"- `{method}`'s random-effects mean is level, within {MARGIN:.1f} points, in: {_of(level)}."
        line += f" It is reliably different in: {_of(differs)}."
        if found.low.notna().all():
            least, most = found.low.min(), found.high.max()
            line += f" Random-effects means above {most:+.1f} and below {least:+.1f} lie outside every interval."
            low, high = found.mean_detectable.min(), found.mean_detectable.max()
            line += f" A true mean of {low:.1f} to {high:.1f} points, by demand, is found with 80 % probability before"
            line += " correction."
        lines.append(line)
    return "\n".join(lines)


def _of(some: pd.Index) -> str:
    return ", ".join(some) or "no demand"


def lost(compared: pd.DataFrame, demands: pd.DataFrame) -> str:
    """A list: on which data sets the mixture is behind when clean, and whether one filter is far ahead there.

    Args:
        compared: the mixture's, from `leads`.
        demands: from `demands_of`.
    """
    clean = compared[compared.demand == "clean"].set_index("task").sort_values("difference")
    behind = clean[clean.difference < -MARGIN]
    told = ", ".join(f"{task} ({row.difference:+.1f} to `{row.strongest}`)" for task, row in behind.iterrows())
    lines = [
        f"- When clean, `{SMALLER}` is more than a point behind on {len(behind)} of {len(clean)}: {told or 'none'}."
    ]
    scores = demands[(demands.demand == "clean") & demands.method.isin(SINGLE)].groupby(["task", "method"]).score.mean()
    gap = (scores.groupby("task").max() - scores.groupby("task").mean()).reindex(clean.index)
    if len(clean) > 2:
        found = spearmanr(clean.difference, gap)
        how, sure = "lower" if found[0] < 0 else "higher", "" if found[1] < SIGNIFICANT else ", not significantly"
        lines.append(
            f"- Its lead is {how} where the best of {names(SINGLE)} is further above the mean of these{sure}: "
            f"rank correlation {found[0]:+.2f} over {len(clean)} data sets, p = {found[1]:.3f}."
        )
    return "\n".join(lines)


def repaired(compared: pd.DataFrame, demands: pd.DataFrame, instances: pd.Series) -> str:
    """A list: what selection gains over the mixture by size, and its lead on data sets that were not known before.

    Args:
        compared: of `OURS`, from `leads`.
        demands: from `demands_of`.
        instances: of each task.
    """
    lines = []
    for told, part in {
        f"of {LARGE:,} instances and more": by_size(compared, instances, at_least=LARGE),
        f"below {SMALL:,}": by_size(compared, instances, below=SMALL),
    }.items():
        found = pair_over_sets(demands[demands.task.isin(part.task)], OURS, SMALLER)
        if "clean" in found.index:
            row = found.loc["clean"]
            lines.append(
                f"- On {row.sets:.0f} data sets {told}, selection is {row.flat:+.1f} over the mixture when clean."
            )
    fresh = over_sets(compared[~compared.task.isin(KNOWN)])
    if len(fresh):
        flat = fresh[["flat", "flat_low", "flat_high"]]
        told = ", ".join(f"{kind} {in_points(*row)}" for kind, row in zip(flat.index, flat.to_numpy(), strict=True))
        count = int(fresh.sets.max())
        lines.append(f"- On the {count} that were not known when `{OURS}` was designed, its flat mean lead is: {told}.")
    return "\n".join(lines)


def came_of(found: pd.DataFrame) -> str:
    """A list: how many claims hold, and which do not.

    Args:
        found: from `study.balance_claims.claims`.
    """
    told = {"yes": "Hold", "no": "Do not hold", "open": "Open"}
    lines = []
    for verdict, word in told.items():
        some = list(dict.fromkeys(name.split(":")[0] for name in found.index[found.holds == verdict]))
        lines.append(f"- {word}: {', '.join(some) or 'none'}.")
    leading = found[found.index.str.contains("ahead, ")]
    bare = (~leading.found.str.contains(r"\[")).sum()
    lines.append(
        f"- Of the {len(leading)} rows that claim a lead, {(leading.holds == 'yes').sum()} hold."
        + f" {bare} have fewer than five data sets in their scope, so that they have no interval." * bool(bare)
    )
    return "\n".join(lines)
