"""What the records say of the claims in docs/claims.md: leads over rivals that are trained alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes

from study.better_balance import OURS, RATE, RIVALS, SMALLER, shifted_by
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


def draw_leads(axes: Sequence[Axes], by_method: Mapping[str, pd.DataFrame]) -> None:
    """The lead on every data set with its 95 % interval, one panel per demand, and the mean over all below them.

    Points are filled where the corrected p-value is below 0.05; data sets stand in the order of the first method's
    clean leads.

    Args:
        axes: one for each of `KINDS`, which share their vertical axis.
        by_method: from `leads`, by method.
    """
    clean = next(iter(by_method.values())).query("demand == 'clean'")
    tasks = list(clean.sort_values("difference").task)
    for turn, (method, compared) in enumerate(by_method.items()):
        means, look = over_sets(compared), {"color": COLOURS[method], "lw": 1}
        for axis, kind in zip(axes, KINDS, strict=True):
            rows = compared[compared.demand == kind].set_index("task").reindex(tasks)
            for place, row in enumerate(rows.itertuples()):
                fill = COLOURS[method] if row.p < SIGNIFICANT else "white"
                reach = row.high - row.difference
                axis.errorbar(row.difference, place - 0.3 * turn, xerr=reach, fmt="o", ms=4, mfc=fill, **look)
            mean = means.loc[kind]
            reach = mean.high - mean.difference
            axis.errorbar(mean.difference, -1.2 - 0.4 * turn, xerr=reach, fmt="D", ms=5, label=method, **look)
            axis.axvline(0, color="black", lw=1)
            axis.set(title=kind, yticks=[-1.4, *range(len(tasks))], yticklabels=["mean", *tasks])
            axis.set_xscale("symlog", linthresh=2)
            axis.set_xticks(ticks := [-20, -5, 0, 5, 20], labels=map(str, ticks))
            axis.minorticks_off()
            axis.set_ylim(-2.2, len(tasks) - 0.3)
            axis.grid(axis="y")
    axes[0].set_xlabel("points ahead of the strongest\nequally trained rival (symlog)", loc="left")


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
    rows: dict[str, tuple[str, str]] = {}

    def above(claim: str, mean: pd.Series, threshold: float = 0.0) -> None:
        holds = "yes" if mean.low > threshold else "no" if mean.high < threshold else "open"
        rows[claim] = in_points(mean.difference, mean.low, mean.high), holds

    of_method = {SMALLER: (1, 2, 3, 3, 4, 5), "stacked": (13, 14, 15, 15, 16, 17), OURS: (18, 19, 20, 20, 21, 22)}
    for ours, numbers in of_method.items():
        rivals = RIVALS if ours == SMALLER else (*RIVALS, SMALLER)
        compared = leads(demands, ours, rivals)
        over = over_sets(by_size(compared, instances, at_least=LARGE))
        small = over_sets(by_size(compared, instances, below=SMALL))
        for number, kind in zip(numbers, over.index, strict=False):
            above(f"{number}: {ours} ahead, {kind}", over.loc[kind])
        told = ", ".join(f"{kind} {share:.0%}" for kind, share in over.above.items())
        rows[f"{numbers[4]}: {ours} ahead on two thirds"] = told, "yes" if over.above.min() >= 2 / 3 else "no"
        told = ", ".join(f"{kind} {in_points(*row)}" for kind, row in small[["difference", "low", "high"]].iterrows())
        level = "yes" if (small.verdict == "level").all() else "no" if (small.high < -1).any() else "open"
        rows[f"{numbers[5]}: {ours} level below {SMALL} instances"] = told, level
    five = demands_of(few[few.labels == 5])
    above("6: five labels, five points over a GCN", pair_over_sets(five, SMALLER, "plain gcn", 5).loc["clean"], 5.0)
    for claim, pair in {
        "7: validated over uniform weights": (SMALLER, "averaged"),
        "8: filters over as many GCNs": ("averaged", "ensemble"),
        "10: filters in the layer over means": ("filters", "routed"),
    }.items():
        above(claim, pair_over_sets(demands, *pair).loc["clean"])
    effects = ingredient_changes(changed).flat.xs("clean", level="demand")
    gain = {name: -effects.get((name, "trained plainly"), 0.0) for name in ("sage", SMALLER)}
    told = f"training gives {gain['sage']:+.1f} to GraphSAGE, {gain[SMALLER]:+.1f} to the mixture"
    rows["9: half of the lead is the training's"] = told, "yes" if gain["sage"] >= gain[SMALLER] / 2 else "no"
    every, held = (
        gain[SMALLER] + effects.get((SMALLER, f"consistency {how}"), 0.0) for how in ("alone", "without who is met")
    )
    told = f"{held:+.1f}, with them {every:+.1f}"
    rows["11: consistency gains as much without who is met"] = told, "yes" if held >= every else "no"
    errors = uncertain[uncertain.kind == "clean"].groupby(["task", "method"]).ece.mean().unstack()
    gap = (errors[SMALLER] - errors[[name for name in errors if name in RIVALS]].min(axis=1)).mean()
    rows["12: better calibrated than every rival"] = f"{gap:+.1f} points of error", "yes" if gap < 0 else "no"
    return pd.DataFrame.from_dict(rows, orient="index", columns=["found", "holds"])
