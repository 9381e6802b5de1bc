"""What the records say about the better balance: leads over rivals that are trained alike, and what single changes do.

There are two kinds of interval. Those *over data sets* say what other data sets might give (`over_sets`,
`pair_over_sets`). Those *over seeds*, for few data sets, say what other runs on them might give (`over_seeds`).
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
from scipy.stats import t as student

from study.better_balance import OURS, RATE, RIVALS, TRAINED, shifted_by
from study.meta_analysis import OverDataSets, counted, of_comparisons, of_runs, over_data_sets
from study.paper_tables import comparisons, demand_scores, of_classes, over_demands
from study.power import detectable, equivalence
from study.statistics import SIGNIFICANT, PairedTest, corrected_together, holm, in_points

KINDS = ("clean", "shift", "masked", "deleted")
LARGE, SMALL = 2000, 1000  # instances: the claims are about data sets of at least the first, or below the second


def demands_of(stress: pd.DataFrame) -> pd.DataFrame:
    """Rows of `study.stress.StressTest.scores` as one score for each of `KINDS` on each run.

    Damage is at `RATE` only, shift the worst bucket by the data set's own covariate. Regressions are left out.
    """
    met = stress[stress.rate.isin([0.0, RATE]) & ~stress.kind.str.startswith("shift, ")]
    met = of_classes(met[met.covariate == met.task.map(shifted_by)])
    found = demand_scores(met)
    return found.assign(demand=found.demand.where(~found.demand.str.endswith(" shift"), "shift"))


def leads(demands: pd.DataFrame, ours: str = OURS, rivals: Iterable[str] = RIVALS, labels: int = 0) -> pd.DataFrame:
    """One method against the strongest of others, by validation, for every task and demand; see `comparisons`.

    Args:
        demands: from `demands_of`.
        ours, rivals: methods.
        labels: per class, 0 for all.
    """
    return counted(comparisons(demands[demands.method.isin([ours, *rivals])], ours, labels))


def over_sets(compared: pd.DataFrame) -> pd.DataFrame:
    """The leads over data sets, one row per demand.

    Args:
        compared: from `leads`.

    Returns:
        The columns of `OverDataSets`, `p` corrected over the demands; `above`, the share of data sets whose lead is
        positive; `wins` and `loses`, how many are significant; `on_test`, the flat mean against the best rival on test;
        `mean_detectable`, the true mean found with 80 % power; `verdict` of `equivalence` within a point.
    """
    rows = {}
    for kind in [kind for kind in KINDS if (compared.demand == kind).any()]:
        part = compared[compared.demand == kind]
        found = of_comparisons(part)
        mean, sure = over_data_sets(found.difference, found.error), part.p < SIGNIFICANT
        counts = {"above": (found.difference > 0).mean(), "wins": (sure & (part.difference > 0)).sum()}
        counts |= {"loses": (sure & (part.difference < 0)).sum(), "on_test": part.on_test.mean()}
        counts |= {"mean_detectable": detectable(mean.error, mean.df), "verdict": equivalence(mean).verdict}
        rows[kind] = mean._asdict() | counts
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("demand")
    return over_demands(table) if len(table) else table


def lead_text(found: pd.DataFrame) -> pd.DataFrame:
    """The rows of `over_sets`, formatted for reading."""
    return pd.DataFrame(
        {
            "random-effects mean": [in_points(*row) for row in found[["difference", "low", "high"]].to_numpy()],
            "flat mean": [in_points(*row) for row in found[["flat", "flat_low", "flat_high"]].to_numpy()],
            "median": found["median"].map("{:+.1f}".format),
            "flat mean, rival best on test": found.on_test.map("{:+.1f}".format),
            "data sets": found.sets,
            "families": found.families,
            "lead above 0": found.above.map("{:.0%}".format),
            "won": found.wins,
            "lost": found.loses,
        },
        index=found.index,
    )


def by_size(
    compared: pd.DataFrame, instances: pd.Series, at_least: int = 0, below: float = float("inf")
) -> pd.DataFrame:
    """The leads on data sets of some size, corrected together.

    Args:
        compared: from `leads`.
        instances: of each task.
        at_least, below: how many.
    """
    count = compared.task.map(instances)
    chosen = compared[(count >= at_least) & (count < below)]
    return corrected_together(chosen) if len(chosen) else chosen


def pair_over_sets(demands: pd.DataFrame, first: str, second: str, labels: int = 0) -> pd.DataFrame:
    """`first - second`, run by run, over data sets; one row of `OverDataSets` per demand of `KINDS`."""
    scores = demands.pivot(index=["task", "seed", "demand"], columns="method", values="score")
    runs, rows = (scores[first] - scores[second]).dropna(), {}
    for kind in KINDS:
        part = counted(runs.xs(kind, level="demand")) if kind in runs.index.get_level_values("demand") else []
        if len(part):
            found = of_runs(part, labels, kind)
            rows[kind] = over_data_sets(found.difference, found.error)
    return pd.DataFrame.from_dict(rows, orient="index", columns=OverDataSets._fields).rename_axis("demand")


def over_seeds(runs: pd.Series, labels: int = 0) -> pd.DataFrame:
    """Mean over data sets of differences run by run, with the 95 % interval over seeds.

    Args:
        runs: differences with `task`, `seed` and `demand` in the index.
        labels: per class, 0 for all; see `study.protocols.split_overlap`.

    Returns:
        A row of `PairedTest` per demand of `KINDS`. Data sets are given: nothing is said about others. The error is
        that of a mean of independent ones, with Satterthwaite's degrees of freedom; NaN where one has a single seed.
    """
    rows = {}
    for kind in [kind for kind in KINDS if kind in runs.index.get_level_values("demand")]:
        part = runs.xs(kind, level="demand").dropna()
        found = of_runs(part, labels, kind)
        mean, squares = found.difference.mean(), found.error**2
        error = squares.sum(skipna=False) ** 0.5 / len(found)
        if error == 0:
            rows[kind] = PairedTest(mean, mean, mean, float("nan") if mean == 0 else 0.0, 0.0, float("nan"))
            continue
        seeds = part.reset_index().groupby("task").seed.nunique()
        df = squares.sum() ** 2 / (squares**2 / (seeds - 1)).sum()
        reach = student.ppf(0.975, df) * error
        p = 2 * student.sf(abs(mean) / error, df)
        rows[kind] = PairedTest(mean, mean - reach, mean + reach, p, error, df)
    return pd.DataFrame.from_dict(rows, orient="index", columns=PairedTest._fields).rename_axis("demand")


def pair_over_seeds(demands: pd.DataFrame, first: str, second: str, labels: int = 0) -> pd.DataFrame:
    """`first - second`, run by run, by `over_seeds`."""
    scores = demands.pivot(index=["task", "seed", "demand"], columns="method", values="score")
    return over_seeds(scores[first] - scores[second], labels)


def against(demands: pd.DataFrame, ours: str, compared: pd.DataFrame, rival: str, labels: int = 0) -> pd.DataFrame:
    """A method against the rival that was chosen for each data set and demand, by `over_seeds`.

    Args:
        demands: from `demands_of`.
        ours: the method.
        compared: from `leads`.
        rival: the column of `compared` that names the rival: `strongest` (on validation) or `strongest_on_test`.
        labels: per class, 0 for all.
    """
    by = ["task", "demand"]
    chosen = compared[[*by, rival]].rename(columns={rival: "method"})
    theirs = demands.merge(chosen, on=[*by, "method"]).set_index([*by, "seed"]).score
    return over_seeds(demands[demands.method == ours].set_index([*by, "seed"]).score - theirs, labels)


def ingredient_changes(rows: pd.DataFrame) -> pd.DataFrame:
    """What each change of `study.better_balance.INGREDIENTS` does to the tuned network, in points.

    Args:
        rows: kept rows of `ingredients`, for several tasks.

    Returns:
        A row of `PairedTest` per `method`, `variant` and `demand`, see `over_seeds`: the variant minus the tuned
        network, with `p` corrected over all rows. A variant that every network was tuned to has no row.
    """
    parts = {}
    for method, part in rows.groupby("method", sort=False):
        demands = demands_of(part.assign(method=part.variant.fillna("").replace("", "tuned")))
        for variant in [name for name in demands.method.unique() if name != "tuned"]:
            parts[method, variant] = pair_over_seeds(demands, variant, "tuned")
    return _corrected(pd.concat(parts, names=["method", "variant", "demand"]))


def by_training(rows: pd.DataFrame) -> pd.DataFrame:
    """Kept rows of `ingredients` whose `variant` is a training of `TRAINED`, of methods whose trainings were compared.

    The tuned network is listed under the training that it was tuned to, which is missing among its variants.
    """
    rows = rows[rows.method.isin(rows[rows.variant.isin(TRAINED)].method)].fillna({"variant": ""})
    named = []
    for _, part in rows.groupby(["task", "method"], sort=False):
        absent = [name for name in TRAINED if name not in set(part.variant)]
        named.append(part.replace({"variant": {"": absent[0]}}) if len(absent) == 1 else part)
    found = pd.concat(named)
    return found[found.variant.isin(TRAINED)]


def training_gains(rows: pd.DataFrame) -> pd.DataFrame:
    """What each training of `TRAINED` gains over standard training, whichever of them a network was tuned to.

    Args:
        rows: kept rows of `ingredients`, for several tasks.

    Returns:
        A row of `PairedTest` per `method`, `training` and `demand`, with `p` corrected over all rows.
    """
    standard, *others = TRAINED
    parts = {}
    for method, part in by_training(rows).groupby("method", sort=False):
        demands = demands_of(part.assign(method=part.variant))
        for training in [name for name in others if {name, standard} <= set(demands.method)]:
            parts[method, training] = pair_over_seeds(demands, training, standard)
    return _corrected(pd.concat(parts, names=["method", "training", "demand"]))


def _corrected(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its p-values corrected together."""
    table.loc[table.p.notna(), "p"] = holm(table.p.dropna())
    return table


def to_read(table: pd.DataFrame) -> pd.DataFrame:
    """Differences with their intervals as text, one column per demand; the table's last level is `demand`."""
    text = table.assign(text=[in_points(*row) for row in table[["difference", "low", "high"]].to_numpy()]).text
    return text.unstack("demand", sort=False).reindex(columns=list(KINDS)).fillna("")
