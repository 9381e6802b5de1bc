"""Means over data sets, and what makes them uncertain: the data sets' own errors, and that data sets differ.

Three means are given side by side. The **flat** one weighs data sets alike. The **random-effects** one weighs each by
`1 / (error^2 + tau^2)`, with the deviation tau between true differences by Paule and Mandel (statsmodels): what five
runs on 76 molecules hardly show counts for little. Where true differences grow with errors, the two answer different
questions, and both should be read: in such a simulation, the random-effects mean is 0.9 where the flat one is 1.5, and
its interval contains the latter in 41 % of studies. No single data set moves the **median**.

Data sets of one family (`DataSet.family`) share nodes, molecules or makers: their differences are no independent draws.
The intervals of all three allow for that: the variance is that of Bell and McCaffrey (CR2), summed by family, and the
degrees of freedom are Satterthwaite's (Tipton, 2015), few where one family weighs much. Where no data sets are related,
that of the flat mean is Student's t.

Simulated coverage, nominal 95 %, for normal, heavy-tailed and skewed differences, at 5, 9, 20 and 28 data sets, with
families and without: flat 94 to 97 %, random effects 94 to 97 % (92 to 96 % for skewed differences), median 95 to 99 %,
prediction 96 to 99 %. Hartung and Knapp's interval, which ignores families, contains the mean in 80 % at 28 related
data sets, Student's t in 87 %, the percentile bootstrap in 83 %. See tests/study/test_coverage.py.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd
from scipy.stats import t as student
from statsmodels.stats.meta_analysis import combine_effects

from stemlib.data.public import DATA_SETS
from study.protocols import FILTERED, split_overlap
from study.statistics import paired_test

Table = TypeVar("Table", pd.DataFrame, pd.Series)
FEWEST = 5  # data sets: fewer have no interval
FEWEST_OF_MEDIAN = 6  # the range of five independent values contains the median in only 94 % of samples


class OverDataSets(NamedTuple):
    """Means of differences over data sets, in points; NaN where there are too few for it.

    Attributes:
        difference, low, high: the random-effects mean and its 95 % interval; `p` of the same test, with the standard
            `error` and its `df`.
        flat, flat_low, flat_high: the mean in which data sets weigh alike.
        median, median_low, median_high: the median.
        tau: standard deviation of true differences between data sets.
        i2: share of the observed differences' variance that errors do not explain.
        predicted_low, predicted_high: where the true difference on another data set lies, with 95 %.
        sets, families: how many there are.
    """

    difference: float
    low: float
    high: float
    p: float
    error: float
    df: float
    flat: float
    flat_low: float
    flat_high: float
    median: float
    median_low: float
    median_high: float
    tau: float
    i2: float
    predicted_low: float
    predicted_high: float
    sets: int
    families: int


def family(task: str) -> str:
    """The family of related data sets, see `DataSet.family`; the task's own name if it has no relatives."""
    name = task.removesuffix(FILTERED)
    return getattr(DATA_SETS.get(name), "family", "") or name


def domain(task: str) -> str:
    """What kind of graph a task has, see `DataSet.domain`; `drawn` for one that is not a public data set."""
    return getattr(DATA_SETS.get(task.removesuffix(FILTERED)), "domain", "drawn")


def counted(rows: Table) -> Table:
    """The rows, with `task` as a column or in the index, that enter a mean over data sets or a count of them.

    Left out are graphs that are not what their name says (`DataSet.remark`), and tasks whose filtered form is present.
    """
    of_task = rows.task if "task" in getattr(rows, "columns", ()) else rows.index.get_level_values("task")
    known = {name for name, entry in DATA_SETS.items() if entry.remark}
    known |= {name.removesuffix(FILTERED) for name in of_task.unique() if name.endswith(FILTERED)}
    return rows[~of_task.isin(known)]


def robust_mean(values: np.ndarray, weights: np.ndarray, families: np.ndarray) -> tuple[float, float, float]:
    """A weighted mean, its standard error (CR2), and Satterthwaite's degrees of freedom.

    Args:
        values, weights: `[n]`.
        families: a name for each, `[n]`; values of one family may agree or not.

    Returns:
        Mean, error, degrees of freedom; the latter two NaN if one family is all that counts.
    """
    share = weights / weights.sum()
    mean = float(share @ values)
    place = np.unique(families, return_inverse=True)[1]
    s, off = np.bincount(place, share), np.bincount(place, share * (values - mean))
    if len(s) < 2 or s.max() > 1 - 1e-9:  # one family has all of the weight
        return mean, float("nan"), float("nan")
    inverse = (s**2 / (1 - s) ** 2).sum() - 2 * (s**3 / (1 - s) ** 2).sum() + (s**2 / (1 - s)).sum() ** 2
    return mean, float((off**2 / (1 - s)).sum() ** 0.5), float(1 / inverse)


def over_data_sets(differences: pd.Series, errors: pd.Series, related: bool = True) -> OverDataSets:
    """Random-effects mean, flat mean and median of differences over data sets; see the module.

    Args:
        differences: one for each task, which the index names.
        errors: their standard errors, with the same index. Where runs all agree and the error is 0, the smallest other
            error is taken, for five runs cannot be surer than all others; where all are 0, data sets weigh alike.
        related: whether families count as related; otherwise every data set stands alone.

    Returns:
        The means over what `counted` keeps. A data set whose difference or error is unknown is left out of all.
    """
    known = counted(pd.DataFrame({"y": differences, "error": errors}).rename_axis("task").dropna())
    y, error, nothing = known.y.to_numpy(), known.error.to_numpy(), float("nan")
    names = known.index.map(family if related else str).to_numpy()
    counts = len(known), len(set(names))
    if not len(known):
        return OverDataSets(*[nothing] * 16, *counts)
    variance = np.where(error > 0, error, error[error > 0].min(initial=np.inf)) ** 2
    tau2, i2 = 0.0, 0.0 if len(known) > 1 else nothing
    if np.isfinite(variance).all() and len(known) > 1:
        with np.errstate(divide="ignore"):  # where all differences are the same, nothing is to be explained
            found = combine_effects(y, variance, method_re="iterated", maxiter=1000)
        tau2, i2 = float(found.tau2), max(0.0, float(found.i2))
        weights = 1 / (variance + tau2)
    else:
        weights, tau2 = np.ones_like(y), float(y.var(ddof=1)) if len(known) > 1 else nothing
    mean, error_of, df = robust_mean(y, weights, names)
    flat, flat_error, flat_df = robust_mean(y, np.ones_like(y), names)
    median = float(np.median(y))
    _, below_error, below_df = robust_mean((y < median) + 0.5 * (y == median), np.ones_like(y), names)
    if len(known) < FEWEST:
        error_of = flat_error = nothing
    reach, flat_reach = student.ppf(0.975, df) * error_of, student.ppf(0.975, flat_df) * flat_error
    beyond = student.ppf(0.975, max(1.0, df - 1)) * (tau2 + error_of**2) ** 0.5
    return OverDataSets(
        *(mean, mean - reach, mean + reach, _p(mean, error_of, df), error_of, df),
        *(flat, flat - flat_reach, flat + flat_reach),
        *(median, *_around_median(y, student.ppf(0.975, below_df) * below_error)),
        *(tau2**0.5, i2, mean - beyond, mean + beyond, *counts),
    )


def _p(mean: float, error: float, df: float) -> float:
    """The two-sided p-value; for an error of 0 as in `paired_test`."""
    if error == 0:
        return float("nan") if mean == 0 else 0.0
    return float(2 * student.sf(abs(mean) / error, df))


def _around_median(values: np.ndarray, reach: float) -> tuple[float, float]:
    """The quantiles as far either side of one half as the share below the median is uncertain (Woodruff, 1952)."""
    if len(values) < FEWEST_OF_MEDIAN or np.isnan(reach):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [max(0.0, 0.5 - reach), min(1.0, 0.5 + reach)])
    return float(low), float(high)


def of_runs(values: pd.Series, labels: int = 0, demand: str = "clean") -> pd.DataFrame:
    """What runs say about each data set.

    Args:
        values: differences run by run, with `task` and `seed` in the index; further levels are averaged.
        labels, demand: see `split_overlap`.

    Returns:
        `difference` and `error` by task, see `paired_test`; the error is NaN for a single seed.
    """
    by_seed, rows = values.groupby(["task", "seed"]).mean(), {}
    for task, runs in by_seed.groupby("task"):
        if len(runs) > 1:
            found = paired_test(runs, split_overlap(task, labels, demand))
            rows[task] = found.difference, found.error
        else:
            rows[task] = runs.mean(), float("nan")
    return pd.DataFrame.from_dict(rows, orient="index", columns=["difference", "error"]).rename_axis("task")


def of_comparisons(compared: pd.DataFrame) -> pd.DataFrame:
    """What several comparisons say about each data set: `difference` and `error` by task.

    Args:
        compared: rows with `task`, `difference` and `error`, see `study.statistics.against_strongest`.

    Returns:
        Means by task. The mean error is that of a mean of differences that rise and fall together, as those by several
        covariates do, which share nodes and seeds; it is never too small.
    """
    return compared.groupby("task", sort=False)[["difference", "error"]].mean()


def by_domain(found: pd.DataFrame) -> pd.DataFrame:
    """`over_data_sets` for each kind of graph.

    Within a kind data sets stand alone: what the members of its one or two families share is the very thing described.

    Args:
        found: `difference` and `error` by task, see `of_runs` and `of_comparisons`.

    Returns:
        A row of `OverDataSets` per `domain`, the kind with most data sets first, and `all`.
    """
    known = counted(found.rename_axis("task"))
    parts = {name: over_data_sets(part.difference, part.error, False) for name, part in known.groupby(domain)}
    table = pd.DataFrame.from_dict(parts, orient="index", columns=OverDataSets._fields)
    table = table.sort_values("sets", ascending=False, kind="stable")
    table.loc["all"] = over_data_sets(known.difference, known.error)
    return table.rename_axis("domain")
