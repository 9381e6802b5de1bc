"""What the records say of the claims in docs/claims.md: leads over rivals that are trained alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd
from matplotlib.axes import Axes

from study.better_balance import OURS, RATE, RIVALS, shifted_by
from study.figures import COLOURS
from study.meta_analysis import OverDataSets, counted, of_comparisons, of_runs, over_data_sets
from study.paper_tables import comparisons, demand_scores, of_classes
from study.power import equivalence
from study.statistics import SIGNIFICANT, corrected_together, holm, in_points

KINDS = ("clean", "shift", "masked", "deleted")
LARGE, SMALL = 2000, 1000  # instances: the claims are of data sets at least, and below


def demands_of(stress: pd.DataFrame) -> pd.DataFrame:
    """Rows of `study.stress.StressTest.scores` as one score for each of `KINDS` on each run.

    Damage is that of `RATE` alone, shift the worst bucket of the data set's own covariate. Regressions are left out.
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
        labels: of each class, 0 for all.
    """
    return counted(comparisons(demands[demands.method.isin([ours, *rivals])], ours, labels))


def over_sets(compared: pd.DataFrame) -> pd.DataFrame:
    """What leads come to over data sets, one row per demand.

    Args:
        compared: from `leads`.

    Returns:
        The columns of `OverDataSets`, `p` corrected over the demands; `above`, the share of data sets whose lead is
        positive; `wins` and `loses`, how many are significant; `on_test`, the flat mean against whoever is strongest on
        test; `verdict` of `equivalence` within a point.
    """
    rows = {}
    for kind in [kind for kind in KINDS if (compared.demand == kind).any()]:
        part = compared[compared.demand == kind]
        found = of_comparisons(part)
        mean, sure = over_data_sets(found.difference, found.error), part.p < SIGNIFICANT
        counts = {"above": (found.difference > 0).mean(), "wins": (sure & (part.difference > 0)).sum()}
        counts |= {"loses": (sure & (part.difference < 0)).sum(), "on_test": part.on_test.mean()}
        rows[kind] = mean._asdict() | counts | {"verdict": equivalence(mean).verdict}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("demand")
    known = table.p.notna() if len(table) else []
    if len(table) and known.any():
        table.loc[known, "p"] = holm(table.p[known])
    return table


def lead_text(found: pd.DataFrame) -> pd.DataFrame:
    """The rows of `over_sets` to be read."""
    return pd.DataFrame(
        {
            "mean": [in_points(*row) for row in found[["difference", "low", "high"]].itertuples(index=False)],
            "flat mean": [in_points(*row) for row in found[["flat", "flat_low", "flat_high"]].itertuples(index=False)],
            "median": [f"{value:+.1f}" for value in found["median"]],
            "against the strongest on test": [f"{value:+.1f}" for value in found.on_test],
            "data sets": found.sets,
            "lead above 0": [f"{share:.0%}" for share in found.above],
            "won": found.wins,
            "lost": found.loses,
        },
        index=found.index,
    )


def draw_leads(axes: Sequence[Axes], compared: pd.DataFrame) -> None:
    """The lead on every data set with its 95 % interval, one panel per demand, and the mean over all below them.

    Points are filled where the corrected p-value is below 0.05; data sets stand in the order of their clean leads.

    Args:
        axes: one for each of `KINDS`, which share their vertical axis.
        compared: from `leads`.
    """
    clean, means = compared[compared.demand == "clean"], over_sets(compared)
    tasks = list(clean.sort_values("difference").task)
    for axis, kind in zip(axes, KINDS, strict=True):
        rows = compared[compared.demand == kind].set_index("task").reindex(tasks)
        for place, row in enumerate(rows.itertuples()):
            reach, sure = row.high - row.difference, row.p < SIGNIFICANT
            fill = COLOURS[OURS] if sure else "white"
            axis.errorbar(row.difference, place, xerr=reach, fmt="o", ms=5, color=COLOURS[OURS], mfc=fill, lw=1)
        mean = means.loc[kind]
        axis.errorbar(mean.difference, -1, xerr=mean.high - mean.difference, fmt="D", ms=6, color="black", capsize=3)
        axis.axvline(0, color="black", lw=1)
        axis.set(title=kind, yticks=range(-1, len(tasks)), yticklabels=["mean", *tasks], ylim=(-1.7, len(tasks) - 0.3))
        axis.set_xscale("symlog", linthresh=2)
    figure = axes[0].figure
    figure.supxlabel("points ahead of the strongest equally trained rival (logarithmic beyond 2)", fontsize="medium")


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


def ingredient_table(rows: pd.DataFrame, task_names: Sequence[str] = ()) -> pd.DataFrame:
    """What each change of `study.better_balance.INGREDIENTS` does to the tuned network, in points.

    Args:
        rows: kept ones of `ingredients`, of several tasks.
        task_names: those that count; none for all.

    Returns:
        Text, one row per method and variant, one column per demand: the flat mean over data sets of
        `variant - tuned`, with the interval of `over_data_sets` where there are enough.
    """
    rows = rows[rows.task.isin(task_names)] if task_names else rows
    text: dict[tuple[str, str], dict[str, str]] = {}
    for method, part in rows.groupby("method", sort=False):
        named = part.assign(method=part.variant.fillna("").replace("", "tuned"))
        demands = demands_of(named)
        for variant in [name for name in named.method.unique() if name != "tuned"]:
            found = pair_over_sets(demands, variant, "tuned")
            text[method, variant] = {
                kind: in_points(row.flat, row.flat_low, row.flat_high) for kind, row in found.iterrows()
            }
            text[method, variant]["data sets"] = str(found.sets.max())
    return pd.DataFrame.from_dict(text, orient="index")
