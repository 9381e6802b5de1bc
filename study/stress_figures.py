"""Figures of stress tests: severity, buckets, and the balance of three demands, one colour per method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stemlib.stress.shifts import Buckets
from study import figures
from study.balance import not_dominated
from study.figures import COLOURS
from study.meta_analysis import FEWEST, counted, over_data_sets
from study.paper_tables import CLAIMS, claim_table
from study.statistics import SIGNIFICANT, interval

BY_METHOD = {"hue": "method", "palette": COLOURS, "ms": 5}
POINTS = {"linestyle": "none", "ms": 5.5, "mew": 0, "err_kws": {"linewidth": 1.8}}  # means with their intervals
TICKS = (-5, -2, -1, 0, 1, 2, 5, 10, 20, 50)
BALANCE = {"fit": "fit", "shift": "worst shifted bucket", "corruption": "mean over corruption"}
BUCKETS = {"OOD-low": "lowest 15 %", "clean": "ordinary", "OOD-high": "highest 15 %"}
DAMAGE = {"masked": "features masked", "deleted": "edges deleted"}
BUDGET = {"masked": "entries that are not 0", "deleted": "edges"}  # an adversary's


def draw_severity(axis: Axes, stress: pd.DataFrame, kind: str) -> None:
    """Score against the rate of one corruption, each method's mean over seeds with its 95 % interval.

    Args:
        axis: to draw on.
        stress: from `StressTest.scores`.
        kind: `masked` or `deleted`.
    """
    rows = stress[stress.kind.isin(["clean", kind])]
    of_seed = rows.groupby(["method", "rate", "seed"], sort=False).score.mean().reset_index()
    figures.draw_means(axis, of_seed, "score", **BY_METHOD)
    axis.set_xlabel(f"share of {DAMAGE[kind]}, at test only")


def draw_damage(stress: pd.DataFrame, adversary: pd.DataFrame, kind: str) -> Figure:
    """One corruption at random, and of the same budget what an adversary makes of it, see `draw_severity`.

    Args:
        stress: from `StressTest.scores`.
        adversary: rows of `StressTest.worst_case`.
        kind: `masked` or `deleted`.
    """
    figure, axes = figures.panels(2, sharey=True, height=3.0)
    for axis, rows, title in zip(axes, (stress, adversary), ("at random", "worst case found"), strict=True):
        draw_severity(axis, rows, kind)
        axis.set_title(title)
    axes[0].set_ylabel("test score, %")
    axes[1].set_xlabel(f"budget: share of the {BUDGET[kind]}")
    figures.legend_below(figure, axes[0])
    return figure


def draw_buckets(axis: Axes, stress: pd.DataFrame) -> None:
    """Score in the ordinary bucket and in the shifted ones, mean over seeds with its 95 % interval."""
    rows = stress[stress.kind.isin(["clean", "shift"])]
    sns.pointplot(
        rows, x="condition", y="score", hue="method", order=list(BUCKETS), palette=COLOURS, errorbar=figures.spread,
        dodge=0.5 * (rows.method.nunique() > 1), ax=axis, **POINTS,
    )  # fmt: skip
    figures.bare(axis)
    axis.set_xticks(range(len(BUCKETS)), BUCKETS.values())


def draw_along(axis: Axes, groups: pd.DataFrame) -> None:
    """Mean score of equally large groups of instances, in the order of a covariate, one line per method.

    Args:
        axis: to draw on.
        groups: from `StressTest.scores_along`.
    """
    means = groups.groupby(["method", groups.index], sort=False)[["covariate", "score"]].mean().reset_index()
    figures.draw_means(axis, means, "score", "covariate", errorbar=None, **BY_METHOD)


def draw_shift(stress: pd.DataFrame, groups: pd.DataFrame) -> Figure:
    """Who loses how much in the tails: scores by bucket, and along the covariate.

    Args:
        stress: from `StressTest.scores`.
        groups: see `draw_along`.
    """
    figure, (left, right) = figures.panels(2, height=3.0)
    (task,), (covariate,) = stress.task.unique(), stress.covariate.unique()
    draw_buckets(left, stress)
    left.set(ylabel="test score, %", title=f"{task}, {stress.seed.nunique()} seeds")
    draw_along(right, groups)
    right.set(xlabel=f"{'feature homophily' if covariate == 'homophily' else covariate} of an instance")
    figures.legend_below(figure, right)
    return figure


def draw_covariate(axis: Axes, buckets: Buckets) -> None:
    """How many instances have which covariate, and, dashed, where the tails begin."""
    sns.histplot(buckets.covariate.numpy(), bins=50, color=figures.PALETTE["grey"], alpha=1, ax=axis)
    for border in buckets.borders:
        axis.axvline(border, color="black", linestyle="--", linewidth=1)


def draw_runs(axis: Axes, found: pd.DataFrame) -> None:
    """Test score of each run, the mean with its 95 % interval, and hollow what selection on test would give.

    Args:
        axis: to draw on.
        found: rows of `study.records.table`: `model`, `test`, `test_best`.
    """
    sns.pointplot(found, x="model", y="test", hue="model", palette=COLOURS, errorbar=figures.spread, ax=axis, **POINTS)
    axis.plot(pd.factorize(found.model)[0] - 0.25, found.test, ".", color="black", ms=4)
    means = found.groupby("model", sort=False).test_best.mean()
    axis.scatter(np.arange(len(means)) + 0.25, means, c="none", edgecolors=[COLOURS[name] for name in means.index])
    axis.tick_params("x", rotation=45)
    axis.set(xlabel="", ylabel="test score, %")


def draw_effects(lead: pd.DataFrame) -> Figure:
    """The whole model's lead over each variant, in points, one panel for each demand; filled where it is reliable.

    Args:
        lead: from `study.ablations.effects`.
    """
    names = list(lead.variant.unique())
    figure, axes = figures.panels(3, sharex=True, sharey=True, height=1.0 + 0.24 * len(names))
    for axis, (demand, title) in zip(axes, BALANCE.items(), strict=True):
        rows = lead[lead.demand == demand]
        places = [names.index(name) for name in rows.variant]
        bars = [rows.difference - rows.low, rows.high - rows.difference]
        axis.errorbar(rows.difference, places, xerr=bars, fmt="none", color=figures.PALETTE["grey"])
        _leads(axis, rows, places)
        axis.axvline(0, color="black", linewidth=1)
        axis.set_title(title)
    axes[1].set_xlabel("whole model ahead by, points")
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    return figure


def _leads(axis: Axes, rows: pd.DataFrame, places: Sequence[float], **look: Any) -> None:
    """Circles at the differences, filled where they are reliable."""
    fill = np.where(rows.p < SIGNIFICANT, "black", "white")
    axis.scatter(rows.difference, places, c=fill, edgecolors="black", zorder=3, **look)


def draw_balance(balance: pd.DataFrame) -> Figure:
    """Fit, worst shifted bucket and mean over corruptions: a bar at each method's mean, a point per seed.

    Args:
        balance: from `three_way_balance`, of one task.
    """
    figure, axes = figures.panels(3)
    bar = {"linestyle": "none", "marker": "_", "ms": 20, "mew": 4}
    for axis, (part, title) in zip(axes, BALANCE.items(), strict=True):
        sns.pointplot(balance, x="method", y=part, hue="method", palette=COLOURS, errorbar=None, ax=axis, **bar)
        sns.stripplot(balance, x="method", y=part, color="black", size=3.5, jitter=False, zorder=3, ax=axis)
        figures.bare(axis)
        axis.tick_params("x", rotation=45 if balance.method.nunique() > 4 else 0)
        axis.set_title(title)
    return figure


def draw_pareto(axis: Axes, balance: pd.DataFrame) -> None:
    """How many points each method is behind the best one, under shift and under corruption; fit stands in the legend.

    Rings mark the Pareto front: methods that no other beats in all three demands. Bars are 95 % intervals of the
    difference to the best one over data sets, or over the seeds of one, where there are five. The axes are linear
    up to two points and logarithmic beyond, so that a weak method does not press the others together; up and right is
    better.

    Args:
        axis: to draw on.
        balance: from `three_way_balance`, of one task or, with `task`, of several.
    """
    by_run = balance.set_index(["method", "task" if "task" in balance else "seed"])[list(BALANCE)]
    means = by_run.groupby("method", sort=False).mean()
    behind, free = means.max() - means, not_dominated(means, list(means))
    reach = {name: _intervals(by_run, means[name].idxmax(), name) for name in ("shift", "corruption")}
    for method, row in behind.iterrows():
        colour, place = COLOURS[str(method)], (row["shift"], row["corruption"])
        for name, draw, across in (("shift", axis.hlines, place[1]), ("corruption", axis.vlines, place[0])):
            if method in reach[name]:
                draw(across, *reach[name][method], color=colour, linewidth=1, alpha=0.5)
        axis.plot(*place, "o", ms=7, color=colour, label=f"{method}: fit {means.loc[method, 'fit']:.1f}")
        if free[method]:
            axis.plot(*place, "o", ms=13, mfc="none", color="black", mew=1)
    for name, scale, limit, side in (
        ("shift", axis.set_xscale, axis.set_xlim, axis.xaxis),
        ("corruption", axis.set_yscale, axis.set_ylim, axis.yaxis),
    ):
        ends = np.array([(0.0, behind[name].max()), *reach[name].values()])
        scale("symlog", linthresh=2.0)
        limit(1.2 * ends[:, 1].max() + 0.3, ends[:, 0].min() - 0.6)
        side.set_ticks([tick for tick in TICKS if ends.min() <= tick <= ends.max()], minor=False)
        side.set_major_formatter("{x:g}")
    axis.set(xlabel="worst shifted bucket, points behind the best", ylabel="mean corruption, points behind")
    axis.legend(loc="upper left", bbox_to_anchor=(1.02, 1))


def _intervals(by_run: pd.DataFrame, best: str, demand: str) -> dict[str, tuple[float, float]]:
    """By method, where enough runs are known: the interval of how far it is behind the best one."""
    points = by_run.loc[best, demand] - by_run[demand].unstack("method").drop(columns=best).T
    known = {name: row.dropna() for name, row in points.iterrows() if row.count() >= FEWEST}
    if by_run.index.names[1] == "seed":
        return {name: interval(row.tolist()) for name, row in known.items()}
    means = {name: over_data_sets(row, 0 * row) for name, row in known.items()}
    return {name: (mean.flat_low, mean.flat_high) for name, mean in means.items()}


def draw_claims(compared: pd.DataFrame, axis: Axes | None = None) -> Figure:
    """A method's lead over the strongest other one, claim by claim: a circle per comparison, a diamond for their mean.

    Circles are filled where the corrected p-value is below 0.05; the mean is that of random effects over data sets,
    with its 95 % interval where there are enough of them.

    Args:
        compared: from `study.paper_tables.comparisons`.
        axis: to draw on; None for a figure of its own.
    """
    axis = axis or figures.panels(1, height=2.0)[1]
    compared = counted(compared)
    claims = claim_table(compared)
    for place, (claim, row) in enumerate(claims.iterrows()):
        found = compared[compared.demand.isin(CLAIMS[claim])].sort_values("difference")
        _leads(axis, found, place + np.linspace(-0.3, 0.3, len(found)), s=12, linewidths=0.6)
        bar = [[row.difference - row.low], [row.high - row.difference]]
        look = {"color": COLOURS["stem"], "ms": 6, "capsize": 3, "zorder": 4}
        axis.errorbar(row.difference, place, xerr=bar, fmt="D", **look)
    axis.axvline(0, color="black", linewidth=1)
    axis.set(xlabel="points ahead", yticks=range(len(claims)), yticklabels=claims.index)
    axis.set_ylim(len(claims) - 0.5, -0.5)
    return axis.figure
