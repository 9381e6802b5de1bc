"""Figures of stress tests: severity, buckets, and the balance of three demands, one colour per method."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study import figures
from study.balance import not_dominated
from study.figures import COLOURS
from study.paper_tables import CLAIMS, FEWEST, claim_table
from study.statistics import SIGNIFICANT, interval

TICKS = (-5, -2, -1, 0, 1, 2, 5, 10, 20, 50)
BALANCE = {"fit": "fit", "shift": "worst shifted bucket", "corruption": "mean over corruption"}
DAMAGE = {"masked": "features masked", "deleted": "edges deleted"}


def draw_severity(axis: Axes, stress: pd.DataFrame, kind: str) -> None:
    """Score against the rate of one corruption, each method's mean over seeds with its 95 % bootstrap interval.

    Args:
        axis: to draw on.
        stress: rows of `stress_scores` of one task.
        kind: `masked` or `deleted`.
    """
    methods = list(stress.method.unique())
    rows = stress[stress.kind.isin(["clean", kind])]
    scores = rows.groupby(["method", "rate", "seed"], sort=False).score.mean()
    for method in methods:
        by_rate = {rate: group.to_list() for rate, group in scores[method].groupby("rate")}
        low, high = zip(*(interval(values) for values in by_rate.values()), strict=True)
        line = {"color": COLOURS[method], "label": method}
        axis.plot(list(by_rate), [np.mean(values) for values in by_rate.values()], "o-", ms=4, **line)
        axis.fill_between(list(by_rate), low, high, color=line["color"], alpha=0.15, linewidth=0)
    axis.set(xlabel=f"share of {DAMAGE[kind]}, at test only")


def draw_buckets(axis: Axes, stress: pd.DataFrame) -> None:
    """Score in the ordinary bucket and in the shifted ones, mean over seeds with its 95 % bootstrap interval."""
    methods = list(stress.method.unique())
    rows = stress[stress.kind.isin(["clean", "shift"])]
    buckets = ["OOD-low", "clean", "OOD-high"]
    for place, method in zip(np.linspace(-0.25, 0.25, len(methods)), methods, strict=True):
        for x, bucket in enumerate(buckets):
            values = rows[(rows.method == method) & (rows.condition == bucket)].score.dropna().tolist()
            if len(values) < 2:
                continue
            low, high = interval(values)
            mean, label = np.mean(values), method if x == 0 else None
            bars = [[mean - low], [high - mean]]
            axis.errorbar(x + place, mean, yerr=bars, fmt="o", ms=4, color=COLOURS[method], label=label)
    axis.set_xticks(range(len(buckets)), ["lowest 15 %", "ordinary", "highest 15 %"])


def draw_along(axis: Axes, groups: pd.DataFrame) -> None:
    """Mean score of equally large groups of instances, in the order of a covariate, one line per method.

    Args:
        axis: to draw on.
        groups: rows of `study.stress.scores_of_unseen` of some seeds.
    """
    means = groups.groupby(["method", groups.index], sort=False)[["covariate", "score"]].mean()
    for name in groups.method.unique():
        line = means.loc[name]
        axis.plot(line.covariate, line.score, "o-", ms=3, color=COLOURS[name], label=name)


def draw_runs(axis: Axes, found: pd.DataFrame) -> None:
    """Test score of each run, the mean with its 95 % bootstrap interval, and hollow what selection on test would give.

    Args:
        axis: to draw on.
        found: rows of `study.records.table`: `model`, `test`, `test_best`.
    """
    names = list(found.model.unique())
    for place, name in enumerate(names):
        rows = found[found.model == name]
        mean, (low, high) = rows.test.mean(), interval(rows.test.tolist())
        axis.plot([place - 0.25] * len(rows), rows.test, ".", color="black", ms=4)
        axis.errorbar(place, mean, [[mean - low], [high - mean]], fmt="o", ms=4, color=COLOURS[name])
        axis.plot(place + 0.25, rows.test_best.mean(), "o", mfc="none", color=COLOURS[name])
    axis.set_xticks(range(len(names)), names, rotation=45)
    axis.set(ylabel="test score, %")


def draw_effects(lead: pd.DataFrame) -> Figure:
    """The whole model's lead over each variant, in points, one panel for each demand; filled where it is sure.

    Args:
        lead: from `study.ablations.effects`.
    """
    names = list(lead.variant.unique())
    figure, axes = figures.panels(3, sharex=True, sharey=True, height=1.0 + 0.24 * len(names))
    for axis, (demand, title) in zip(axes, BALANCE.items(), strict=True):
        rows = lead[lead.demand == demand]
        bars = [rows.difference - rows.low, rows.high - rows.difference]
        fill = np.where(rows.p < SIGNIFICANT, "black", "white")
        axis.errorbar(rows.difference, range(len(rows)), xerr=bars, fmt="none", color=figures.PALETTE["grey"])
        axis.scatter(rows.difference, range(len(rows)), c=fill, edgecolors="black", zorder=3)
        axis.axvline(0, color="black", linewidth=1)
        axis.set_title(title)
    axes[1].set_xlabel("whole model ahead by, points")
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    return figure


def draw_balance(balance: pd.DataFrame) -> Figure:
    """Fit, worst shifted bucket and mean over corruptions: a bar at each method's mean, a point per seed.

    Args:
        balance: from `three_way_balance`, of one task.
    """
    figure, axes = figures.panels(3)
    methods = list(balance.method.unique())
    for axis, (part, title) in zip(axes, BALANCE.items(), strict=True):
        for place, method in enumerate(methods):
            values = balance.loc[balance.method == method, part]
            axis.hlines(values.mean(), place - 0.3, place + 0.3, color=COLOURS[method], linewidth=4)
            axis.plot([place] * len(values), values, "k.", markersize=5)
        axis.set_xticks(range(len(methods)), methods, rotation=45 if len(methods) > 4 else 0)
        axis.set_title(title)
    return figure


def draw_pareto(axis: Axes, balance: pd.DataFrame) -> None:
    """How many points each method is behind the best one, under shift and under corruption; fit stands in the legend.

    Rings mark the Pareto front: methods that no other beats in all three demands. Bars are 95 % bootstrap intervals of
    the difference to the best one over data sets, or over the seeds of one, where there are five. The axes are linear
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
    return {name: interval(row.dropna().tolist()) for name, row in points.iterrows() if row.count() >= FEWEST}


def draw_claims(axis: Axes, compared: pd.DataFrame) -> None:
    """A method's lead over the strongest other one, claim by claim: a circle per comparison, a diamond for their mean.

    Circles are filled where the corrected p-value is below 0.05; the mean is over data sets, with its 95 % bootstrap
    interval where there are enough of them.

    Args:
        axis: to draw on.
        compared: from `study.paper_tables.comparisons`.
    """
    claims = claim_table(compared)
    for place, (claim, row) in enumerate(claims.iterrows()):
        found = compared[compared.demand.isin(CLAIMS[claim])].sort_values("difference")
        fill = np.where(found.p < SIGNIFICANT, "black", "white")
        height = place + np.linspace(-0.3, 0.3, len(found))
        axis.scatter(found.difference, height, s=12, c=fill, edgecolors="black", linewidths=0.6)
        bar = [[row.difference - row.low], [row.high - row.difference]]
        axis.errorbar(row.difference, place, xerr=bar, fmt="D", color=COLOURS["stem"], ms=6, capsize=3)
    axis.axvline(0, color="black", linewidth=1)
    axis.set(xlabel="points ahead", yticks=range(len(claims)), yticklabels=claims.index)
    axis.set_ylim(len(claims) - 0.5, -0.5)
