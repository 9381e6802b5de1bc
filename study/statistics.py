"""Means with their uncertainty over seeds; `study.meta_analysis` has those over data sets.

One procedure for each situation, chosen by simulated coverage (tests/study/test_coverage.py):

- runs, or other independent values: Student's t, `interval` and `paired_test`. It covers the mean of 3 to 28 normal or
  heavy-tailed values in 95 to 96 % of samples, of skewed ones in 88 to 93 %. The percentile bootstrap covers that of
  five normal values in 82 % and of nine in 90 %, BCa in 84 and 87 %.
- data sets: random effects and families of related ones, see `study.meta_analysis`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from stemlib.audit.statistics import PairedTest, paired_test
from stemlib.audit.statistics import interval as interval
from study.power import detectable

TIED = 1e-6  # points of a mean validation score: smaller differences are rounding
SIGNIFICANT = 0.05  # corrected p-values below this are called significant


def in_points(difference: float, low: float, high: float) -> str:
    """A difference and its interval as text: `+0.8 [+0.5, +1.1]`, or `+0.8` if the interval is not known."""
    return f"{difference:+.1f}" + (f" [{low:+.1f}, {high:+.1f}]" if low == low else "")


def summary(frame: pd.DataFrame, by: str | list[str], value: str) -> pd.DataFrame:
    """`mean`, `std` (ddof 1), `seeds` and `text` (`mean ± std`) of a column, one row per group."""
    groups = frame.groupby(by, sort=False)[value]
    result = pd.DataFrame({"mean": groups.mean(), "std": groups.std(ddof=1), "seeds": groups.size()})
    result["text"] = [f"{mean:.1f} ± {std:.1f}" for mean, std in zip(result["mean"], result["std"], strict=True)]
    return result


def paired_difference(
    frame: pd.DataFrame,
    value: str,
    first: str,
    second: str,
    by: str = "method",
    pair: str | list[str] = "seed",
    overlap: float = 0.0,
) -> PairedTest:
    """Mean of `first - second` over pairs (the same seed), with its 95 % interval and p, see `paired_test`.

    Raises:
        ValueError: a method is missing, the pairs do not match, or there are fewer than two.
    """
    columns = [frame[frame[by] == name].set_index(pair)[value].sort_index() for name in (first, second)]
    if columns[0].empty or not columns[0].index.equals(columns[1].index):
        raise ValueError(f"{first!r} and {second!r} do not have the same {pair}; run the missing ones")
    return paired_test(columns[0] - columns[1], overlap)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected by Holm's step-down method: each is below 0.05 only if all the smaller ones are.

    Raises:
        ValueError: a value outside 0..1.
    """
    p = np.asarray(p_values, dtype=float)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p-values lie in 0..1, got {p.tolist()}")
    order = p.argsort()
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)).clip(max=1.0)
    return stepped[order.argsort()].tolist()


def against_strongest(
    frame: pd.DataFrame,
    value: str,
    ours: str,
    by: str | list[str],
    pair: str | list[str] = "seed",
    overlap: str | None = None,
) -> pd.DataFrame:
    """One method against the strongest other one, group by group, paired.

    The strongest is the one with the largest mean validation score, where `frame` has `val` for all runs of a group;
    otherwise, and among those that tie, the one with the largest mean of what is compared, which favours the others,
    never ours.

    Args:
        frame: one row per `method`, group and pair.
        value: what is compared, the larger the better.
        ours: the method.
        by: columns that make a group: task, condition.
        pair: columns that make a pair: the same split and seed.
        overlap: a column, the same within a group, see `paired_test`; None for 0.

    Returns:
        One row per group: `strongest`, `chosen_on` (`val` or `test`), `ours` and `theirs` (means), the columns of
        `PairedTest`, and of `corrected_together` for all groups. Also `strongest_on_test`, with the mean difference to
        it, `on_test`; and `held_out`, the mean difference to the one that is strongest on test in the *other* pairs.
        That is not always the best, which favours ours a little.

    Raises:
        ValueError: a group without our method or without another, pairs that do not match, or fewer than two.
    """
    rows, columns = [], [by] if isinstance(by, str) else by
    numbered = frame.assign(**{"its pair": frame.groupby(pair).ngroup()})  # a pivot table in every group takes longer
    for group, part in numbered.groupby(by, sort=False):
        row, seen = pd.factorize(part["its pair"], sort=True)
        column, names = pd.factorize(part.method)
        scores = np.full((len(seen), len(names)), np.nan)
        scores[row, column] = part[value]
        if ours not in names or len(names) < 2:
            raise ValueError(f"{group}: nothing to compare {ours!r} with; there are {', '.join(names)}")
        if np.isnan(scores).any() or len(seen) < 2 or len(part) != scores.size:
            raise ValueError(f"{group}: not every method has the same {pair}, at least 2; run the missing ones")
        own, rivals = scores[:, names == ours].squeeze(1), scores[:, names != ours]
        others, means, runs = names[names != ours], rivals.mean(0), np.arange(len(rivals))
        strongest, validated = means.argmax(), "val" in part and part.val.notna().all()
        on_test = strongest
        if validated:
            val = np.bincount(column, part.val)[names != ours] / len(seen)
            strongest = np.where(val > val.max() - TIED, means, -np.inf).argmax()
        shared = 0.0 if overlap is None else part[overlap].iloc[0]
        elsewhere = (rivals.sum(0) - rivals).argmax(1)  # the strongest on all other pairs
        rows.append(
            dict(zip(columns, group if isinstance(group, tuple) else (group,), strict=True))
            | {"strongest": others[strongest], "chosen_on": "val" if validated else "test"}
            | {"ours": own.mean(), "theirs": means[strongest]}
            | paired_test(own - rivals[:, strongest], shared)._asdict()
            | {"strongest_on_test": others[on_test], "on_test": (own - rivals[:, on_test]).mean()}
            | {"held_out": (own - rivals[runs, elsewhere]).mean()}
        )
    table = pd.DataFrame(rows)
    return corrected_together(table.assign(uncorrected=table.p))


def corrected_together(table: pd.DataFrame) -> pd.DataFrame:
    """Comparisons in one table, corrected over all of them.

    Args:
        table: with `uncorrected` p-values (NaN where all differences are 0), `error` and `df`.

    Returns:
        The table with `p`, by `holm` over all rows, and `detectable`: the smallest true difference that a comparison
        finds with 80 % power when it is the first that Holm's method looks at, see `study.power.detectable`.
    """
    tested = table.uncorrected.notna()
    p = pd.Series(holm(table.uncorrected[tested]), index=table.index[tested], dtype=float).reindex(table.index)
    return table.assign(p=p, detectable=detectable(table.error, table.df, SIGNIFICANT / max(1, tested.sum())))
