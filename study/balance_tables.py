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


def ingredient_changes(rows: pd.DataFrame) -> pd.DataFrame:
    """What each change of `study.better_balance.INGREDIENTS` does to the tuned network, in points over data sets.

    Args:
        rows: kept ones of `ingredients`, of several tasks.

    Returns:
        A row of `OverDataSets` per `method`, `variant` and `demand`: the variant minus the tuned network. A variant
        that every data set was tuned to has none.
    """
    parts = {}
    for method, part in rows.groupby("method", sort=False):
        demands = demands_of(part.assign(method=part.variant.fillna("").replace("", "tuned")))
        for variant in [name for name in demands.method.unique() if name != "tuned"]:
            parts[method, variant] = pair_over_sets(demands, variant, "tuned")
    return pd.concat(parts, names=["method", "variant", "demand"])


def claims(
    demands: pd.DataFrame, instances: pd.Series, few: pd.DataFrame, changed: pd.DataFrame, uncertain: pd.DataFrame
) -> pd.DataFrame:
    """What the records say of each claim of docs/claims.md.

    Args:
        demands: from `demands_of`.
        instances: of each task.
        few, changed, uncertain: kept rows of `study.better_balance`.

    Returns:
        One row per claim: `found`, in words, and `holds` (yes, no; open where the interval allows both).
    """
    compared = leads(demands)
    large = by_size(compared, instances, at_least=LARGE)
    over, small = over_sets(large), over_sets(by_size(compared, instances, below=SMALL))
    rows: dict[str, tuple[str, str]] = {}

    def above(claim: str, mean: pd.Series, threshold: float = 0.0) -> None:
        value, low, high = mean.difference, mean.low, mean.high
        holds = "yes" if low > threshold else "no" if high < threshold else "open"
        rows[claim] = in_points(value, low, high), holds

    names = {"clean": "1", "shift": "2", "masked": "3, masked", "deleted": "3, deleted"}
    for kind, number in names.items():
        above(f"{number}: ahead of the strongest, {kind}", over.loc[kind])
    shares = {kind: over.above[kind] for kind in KINDS}
    told = ", ".join(f"{kind} {share:.0%}" for kind, share in shares.items())
    rows["4: ahead on two thirds"] = told, "yes" if min(shares.values()) >= 2 / 3 else "no"
    verdicts = [f"{kind} {in_points(*small.loc[kind, ['difference', 'low', 'high']])}" for kind in small.index]
    rows["5: level below 1,000 instances"] = ", ".join(verdicts), "yes" if (small.verdict == "level").all() else "open"
    five = demands_of(few[few.labels == 5])
    above("6: five labels, five points over a GCN", pair_over_sets(five, OURS, "plain gcn", 5).loc["clean"], 5.0)
    for claim, pair in {
        "7: validated over uniform weights": (OURS, "averaged"),
        "8: filters over as many GCNs": ("averaged", "ensemble"),
        "10: filters in the layer over means": ("filters", "routed"),
    }.items():
        above(claim, pair_over_sets(demands, *pair).loc["clean"])
    effects = ingredient_changes(changed).flat.xs("clean", level="demand")
    gain = -effects.get(("sage", "trained plainly"), 0.0), -effects.get((OURS, "trained plainly"), 0.0)
    told = f"training gives {gain[0]:+.1f} to GraphSAGE, {gain[1]:+.1f} to the mixture"
    rows["9: half of the lead is the training's"] = told, "yes" if gain[0] >= over.flat["clean"] else "no"
    every, held = (
        gain[1] + effects.get((OURS, name), 0.0) for name in ("consistency alone", "consistency without who is met")
    )
    rows["11: consistency gains as much without who is met"] = (
        f"{held:+.1f}, with them {every:+.1f}",
        "yes" if held >= every else "no",
    )
    errors = uncertain[uncertain.kind == "clean"].groupby(["task", "method"]).ece.mean().unstack()
    gap = (errors[OURS] - errors[[name for name in errors if name in RIVALS]].min(axis=1)).mean()
    rows["12: the best calibrated"] = f"{gap:+.1f} points of error beside the best", "yes" if gap < 0 else "no"
    return pd.DataFrame.from_dict(rows, orient="index", columns=["found", "holds"])
