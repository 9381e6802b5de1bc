"""What a number of runs or data sets could have found, and when two things count as level.

`statsmodels.stats.power.TTestPower.solve_power` answers the first question too, but for few degrees of freedom and
small p-values it silently returns the point where its search began.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import pandas as pd
from scipy.special import nctdtrinc
from scipy.stats import t as student

Numbers = TypeVar("Numbers", float, pd.Series)
MARGIN = 1.0  # points: a difference that is reliably smaller is level


class Tested(Protocol):
    """A difference with its standard error: `study.statistics.PairedTest`, `study.meta_analysis.OverDataSets`."""

    difference: float
    error: float
    df: float


def detectable(error: Numbers, df: Numbers, level: float = 0.05, power: float = 0.8) -> Numbers:
    """The smallest true difference that a two-sided t-test finds with a probability of `power`.

    Args:
        error: the difference's standard error.
        df: degrees of freedom of that.
        level: what p must be below.
        power: the probability.

    Returns:
        `error` times the noncentrality of Student's t that exceeds the test's threshold with that probability; the
        chance of finding the difference on the wrong side is neglected.
    """
    return error * nctdtrinc(df, 1 - power, student.isf(level / 2, df))


class Equivalence(NamedTuple):
    """`p` of the hypothesis that two things lie the margin or more apart, and the conclusion.

    `verdict` is `level` if that p is below 0.05; failing that, `differs` if the 95 % interval excludes 0; otherwise
    `undecided`.
    """

    p: float
    verdict: str


def equivalence(found: Tested, margin: float = MARGIN) -> Equivalence:
    """Are two things level? Two one-sided t-tests (Schuirmann, 1987).

    Args:
        found: their difference.
        margin: what still counts as level, in points.
    """
    difference, error, df = found.difference, found.error, found.df
    with np.errstate(divide="ignore", invalid="ignore"):  # an error of 0 is sure
        beyond, apart = np.divide(margin - abs(difference), error), np.divide(abs(difference), error)
    p = float(student.sf(beyond, df))
    differs = difference != 0 and student.sf(apart, df) < 0.025
    return Equivalence(p, "level" if p < 0.05 else "differs" if differs else "undecided")
