"""Means with their uncertainty over seeds."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from scipy.stats import bootstrap

RESAMPLES = 2000


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean; the point itself where all values agree.

    Raises:
        ValueError: fewer than two values have no spread to estimate.
    """
    values = list(values)
    if len(values) < 2:
        raise ValueError(f"an interval needs at least 2 values, got {len(values)}: run more seeds")
    if min(values) == max(values):
        return values[0], values[0]
    resampled = bootstrap(
        (values,), statistic=lambda x, axis: x.mean(axis=axis), confidence_level=level,
        n_resamples=RESAMPLES, method="percentile", rng=0, vectorized=True,
    )
    return float(resampled.confidence_interval.low), float(resampled.confidence_interval.high)


def summary(frame: pd.DataFrame, by: str | list[str], value: str) -> pd.DataFrame:
    """`mean`, `std` (ddof 1), `seeds` and `text` (`mean ± std`) of a column, one row per group."""
    groups = frame.groupby(by, sort=False)[value]
    result = pd.DataFrame({"mean": groups.mean(), "std": groups.std(ddof=1), "seeds": groups.size()})
    result["text"] = [f"{mean:.1f} ± {std:.1f}" for mean, std in zip(result["mean"], result["std"], strict=True)]
    return result


def paired_difference(
    frame: pd.DataFrame, value: str, first: str, second: str, by: str = "method", pair: str | list[str] = "seed"
) -> tuple[float, float, float]:
    """Mean of `first - second` over pairs (the same seed), and its 95 % bootstrap interval.

    Raises:
        ValueError: a method is missing, or the pairs do not match.
    """
    columns = [frame[frame[by] == name].set_index(pair)[value].sort_index() for name in (first, second)]
    if columns[0].empty or not columns[0].index.equals(columns[1].index):
        raise ValueError(f"{first!r} and {second!r} do not have the same {pair}; run the missing ones")
    difference = columns[0] - columns[1]
    return (float(difference.mean()), *interval(difference.tolist()))
