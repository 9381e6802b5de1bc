"""What the chapters on shift and damage (07 to 10) found, in sentences generated from their records.

So a run with other parameters, or another grid, cannot leave a false sentence behind.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from study.paper_tables import claim_table
from study.statistics import SIGNIFICANT, in_points
from study.stress_figures import FAR_OFF

DAMAGED = {"masked": "masking", "deleted": "deletion"}
PARTS = {"dC": "coverage", "dS": "selection", "dX": "mixing"}


def readers(values: pd.Series) -> pd.Series:
    """The values of methods that read edges; of all methods if there is none."""
    rest = values.drop(index=FAR_OFF, errors="ignore").dropna()
    return rest if len(rest) else values.dropna()


def names(some: Iterable[str]) -> str:
    """Names as code, separated by commas; `none` if there are none."""
    return ", ".join(f"`{name}`" for name in some) or "none"


def _bucket_changes(stress: pd.DataFrame) -> pd.DataFrame:
    """By method and shifted bucket, how far the mean score is from the clean one, in points."""
    means = stress.groupby(["method", "condition"], sort=False).score.mean().unstack("condition", sort=False)
    return means.drop(columns="clean").sub(means["clean"], axis=0).dropna(axis=1, how="all")


def shift_title(stress: pd.DataFrame) -> str:
    """A figure's title: how much methods change from the ordinary bucket to the worse tail.

    Args:
        stress: rows of `StressTest.scores`, of one task, without damage.
    """
    (task,) = stress.task.unique()
    worst = readers(_bucket_changes(stress).min(axis=1))
    if worst.empty:
        return f"No tail of {task} is a shift"
    low, high = worst.idxmin(), worst.idxmax()
    span = f"{worst[low]:+.1f} ({low})" + ("" if low == high else f" to {worst[high]:+.1f} ({high})")
    return f"In the worse tail, points won or lost: {span}"


def shift_found(stress: pd.DataFrame) -> str:
    """A list: whether each tail is harder than the middle, and for which methods most; see `shift_title`."""
    lines = []
    for bucket, every in _bucket_changes(stress).items():
        changes = readers(every)
        harder = "harder" if (changes < 0).all() else "easier" if (changes > 0).all() else None
        how = (
            f"{harder} than the middle for all networks"
            if harder
            else "harder than the middle for some and easier for other networks"
        )
        low, high = changes.idxmin(), changes.idxmax()
        span = f"from {changes[low]:+.1f} points (`{low}`) to {changes[high]:+.1f} (`{high}`)"
        far = f" For `{FAR_OFF}` it is {every[FAR_OFF]:+.1f}." if FAR_OFF in every and FAR_OFF not in changes else ""
        lines.append(
            f"- On average, the bucket `{bucket}` is {how} that read edges. The change from `clean` runs {span}.{far}"
        )
    return "\n".join(lines) or "- No tail is a shift: most of the middle has the same covariate."


def leads_found(leads: pd.DataFrame, by: str, ours: str) -> str:
    """A list: where one method is significantly ahead of its rival, where behind, and what could have been found.

    Args:
        leads: from `StressTest.leads`.
        by: the column that makes a group.
        ours: the method that leads, or does not.
    """
    if leads.empty:
        return f"- `{ours}` ran alone: there is nothing to compare."
    groups, significant = leads[by].astype(str), leads.p < SIGNIFICANT
    ahead, behind = (names(groups[significant & side]) for side in (leads.difference > 0, leads.difference < 0))
    chosen = "validation" if (leads.chosen_on == "val").all() else "test, where no validation score is known"
    return (
        f"- `{ours}` against the strongest rival on {chosen} ({names(leads.strongest.unique())}), by {by}: "
        f"significantly ahead in {ahead}, significantly behind in {behind}.\n"
        f"- With this many seeds, such a test finds a true difference of {leads.detectable.min():.1f} points four "
        f"times in five in the easiest group, and of {leads.detectable.max():.1f} in the hardest."
    )


def parts_found(changes: pd.DataFrame) -> str:
    """A list: how the risk of each routed network changes in its worst bucket, and which part carries most of that.

    Args:
        changes: from `study.stress_chapters.changes_in_the_worst`.
    """
    lines = []
    for (method, bucket), row in changes.iterrows():
        part = row[list(PARTS)].abs().idxmax()
        lines.append(
            f"- The risk of `{method}` is highest in `{bucket}`, where it changes by {row.dR:+.3f}. "
            f"The part that changes most is {PARTS[part]} ({row[part]:+.3f})."
        )
    return "\n".join(lines) or "- No network that ran has routes: there is no risk to split."


def _losses(rows: pd.DataFrame, rate: float) -> pd.Series:
    """By method, how many points of its clean score are lost at a rate, mean over seeds and draws."""
    of_seed = rows.groupby(["method", "rate", "seed"], sort=False).score.mean()
    means = of_seed.groupby(["method", "rate"], sort=False).mean().unstack("rate")
    return means[0.0] - means[rate] if rate in means else pd.Series(dtype=float)


def damage_title(stress: pd.DataFrame, adversary: pd.DataFrame) -> str:
    """A figure's title: what networks that read edges lose by chance, and to an adversary with a smaller budget.

    Args:
        stress: rows of `StressTest.scores`, of one task and one corruption.
        adversary: rows of `StressTest.worst_case`.
    """
    most = stress.rate.max()
    lost = readers(_losses(stress, most))
    title = f"At {100 * most:g} %, chance takes up to {lost.max():.1f} points"
    if (rates := adversary.rate[adversary.rate > 0]).empty:
        return title
    attacked = readers(_losses(adversary, rates.min()))
    return f"{title}; at {100 * rates.min():g} %, an adversary takes up to {attacked.max():.1f}"


def damage_found(stress: pd.DataFrame, adversary: pd.DataFrame) -> str:
    """A list: methods that lose most and least by chance and under attack, or fall below an MLP; see `damage_title`."""
    lines, kind = [], next(kind for kind in stress.kind.unique() if kind != "clean")
    for rows, who in ((stress, "By chance"), (adversary, "Under attack")):
        if (rates := sorted(rows.rate[rows.rate > 0].unique())) == []:
            continue
        rate = rates[-1] if who == "By chance" else rates[0]
        every = _losses(rows, rate)
        lost = readers(every)
        far = f" `{FAR_OFF}` loses {every[FAR_OFF]:.1f}." if FAR_OFF in every and FAR_OFF not in lost else ""
        lines.append(
            f"- {who}, {DAMAGED[kind]} at a rate of {rate:g} costs most for `{lost.idxmax()}`, "
            f"{lost.max():.1f} points, and least for `{lost.idxmin()}`, {lost.min():.1f}.{far}"
        )
    means = adversary[adversary.rate == adversary.rate.max()].groupby("method", sort=False).score.mean()
    if FAR_OFF in means and len(means) > 1 and adversary.rate.max() > 0:
        below = names(means.index[means < means[FAR_OFF]])
        lines.append(f"- At the adversary's largest budget, these are below `{FAR_OFF}`: {below}.")
    return "\n".join(lines)


def data_sets_found(compared: pd.DataFrame, ours: str = "stem") -> str:
    """A list: one method against the strongest other one over data sets, demand by demand.

    Args:
        compared: from `study.paper_tables.comparisons`.
        ours: the method.
    """
    lines = []
    for demand, row in claim_table(compared).iterrows():
        zero = ""
        if row.low == row.low:
            outside = f"excludes zero; corrected for all rows, p is {row.p:.3f}"
            zero = f" The interval {'includes zero' if row.low <= 0 <= row.high else outside}."
        mean = in_points(row.difference, row.low, row.high)
        lines.append(
            f"- **{demand.capitalize()}**, {row.sets} data sets of {row.families} families: the mean lead of `{ours}` "
            f"over its rival is {mean} points.{zero} The median is {row['median']:+.1f}. One by one, after correction, "
            f"it wins {row.wins} of {row.comparisons} comparisons and loses {row.loses}."
            + chosen_on(row.on_val, row.comparisons)
        )
    return "\n".join(lines) or "- Fewer than two data sets are kept: there is no mean over data sets."


def chosen_on(validation: int, comparisons: int) -> str:
    """Where not all rivals were chosen on validation, how many were."""
    if validation == comparisons:
        return ""
    return f" Validation chose the rival in {validation} of them, the test, which favours it, in the others."


def data_sets_title(compared: pd.DataFrame, ours: str = "stem") -> str:
    """A figure's title: the mean leads of `data_sets_found`."""
    leads = [f"{row.difference:+.1f} ({demand})" for demand, row in claim_table(compared).iterrows()]
    return f"Mean lead of {ours}, points: {', '.join(leads) or 'not known'}"
