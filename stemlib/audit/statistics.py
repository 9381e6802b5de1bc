"""Means with their uncertainty, by Student's t: of runs, and of pairs of runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t as student
from scipy.stats import ttest_1samp


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Interval of the mean of independent values by Student's t; the point itself where all values agree.

    Raises:
        ValueError: fewer than two values have no spread to estimate.
    """
    values = list(values)
    if len(values) < 2:
        raise ValueError(f"an interval needs at least 2 values, got {len(values)}: run more seeds")
    if min(values) == max(values):
        return values[0], values[0]
    found = ttest_1samp(values, 0).confidence_interval(level)
    return float(found.low), float(found.high)


class PairedTest(NamedTuple):
    """Mean `difference`, its 95 % interval `low` to `high` (Student's t), and `p` of the same test.

    `error` is the mean's standard error, `df` the degrees of freedom of its estimate.
    """

    difference: float
    low: float
    high: float
    p: float
    error: float
    df: float


def paired_test(differences: pd.Series | np.ndarray, overlap: float = 0.0) -> PairedTest:
    """What pairs say about their mean difference.

    Runs that draw the split anew share most of their training instances, so that their differences agree better than
    independent ones would: the variance of the mean is taken as `s^2 (1/n + overlap)` (Nadeau and Bengio, 2003).

    Args:
        differences: of pairs, `[n]`.
        overlap: test instances per training instance, where runs share training instances; 0 where they share nothing
            or the split is fixed.

    Returns:
        The test; if all differences are the same, the mean alone, with a p of NaN (if they are 0) or 0. What rounding
        does to a run is in `s^2`, as it is drawn anew in each.

    Raises:
        ValueError: fewer than two pairs.
    """
    mean, pairs = float(differences.mean()), len(differences)
    if pairs < 2:
        raise ValueError(f"a difference needs at least 2 pairs to be tested, got {pairs}: run more seeds")
    error, df = (differences.var(ddof=1) * (1 / pairs + overlap)) ** 0.5, pairs - 1
    if error == 0:
        return PairedTest(mean, mean, mean, float("nan") if mean == 0 else 0.0, 0.0, df)
    reach = student.ppf(0.975, df) * error
    return PairedTest(mean, mean - reach, mean + reach, 2 * student.sf(abs(mean) / error, df), error, df)


class Difference:
    """A mean difference over seeds, and whether it is sure: `text`, `sign` (0 where its interval includes 0)."""

    def __init__(self, differences: pd.Series, overlap: float = 0.0, digits: int = 1) -> None:
        self.mean = float(differences.mean())
        self.text, self.sign = f"{self.mean:+z.{digits}f}", 0
        self.low = self.high = float("nan")
        if len(differences) > 1:
            found = paired_test(differences, overlap)
            self.low, self.high = found.low, found.high
            self.text += f" [{found.low:+z.{digits}f}, {found.high:+z.{digits}f}]"
            self.sign = int(found.low > 0) - int(found.high < 0)

    @property
    def known(self) -> bool:
        """Whether there were enough seeds for an interval."""
        return self.low == self.low

    @property
    def size(self) -> str:
        """The difference without its sign, to follow `loses` or `gains`."""
        if not self.known:
            return f"{abs(self.mean):.1f}"
        low, high = (self.low, self.high) if self.mean >= 0 else (-self.high, -self.low)
        return f"{abs(self.mean):.1f} [{low:z.1f}, {high:z.1f}]"
