"""Figures of stress tests: severity, buckets, and the balance of three demands, one colour per method."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stemlib import figures
from stemlib.experiments.balance import not_dominated
from stemlib.experiments.paper_tables import CLAIMS, claim_table
from stemlib.figures import COLOURS
from stemlib.statistics import SIGNIFICANT, interval

TICKS = (-40, -15, -5, -2, 0, 2, 5, 15, 40)
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


def draw_balance(balance: pd.DataFrame) -> Figure:
    """Fit, worst shifted bucket and mean over corruptions: a bar at each method's mean, a point per seed.

    Args:
        balance: from `three_way_balance`, of one task.
    """
    figure, axes = figures.panels(3)
    methods = list(balance.method.unique())
    titles = {"fit": "fit", "shift": "worst shifted bucket", "corruption": "mean over corruption"}
    for axis, (part, title) in zip(axes, titles.items(), strict=True):
        for place, method in enumerate(methods):
            values = balance.loc[balance.method == method, part]
            axis.hlines(values.mean(), place - 0.3, place + 0.3, color=COLOURS[method], linewidth=4)
            axis.plot([place] * len(values), values, "k.", markersize=5)
        axis.set_xticks(range(len(methods)), methods, rotation=45 if len(methods) > 4 else 0)
        axis.set_title(title)
    return figure


def draw_pareto(axis: Axes, balance: pd.DataFrame) -> None:
    """How many points each method is behind the best one, under shift and under corruption; fit stands in the legend.

    Rings mark methods that no other beats in all three demands. The axes are linear up to a point and logarithmic
    beyond, so that a weak method does not press the others together; up and right is better.

    Args:
        axis: to draw on.
        balance: from `three_way_balance`, of one task or of several.
    """
    means = balance.groupby("method", sort=False)[["fit", "shift", "corruption"]].mean()
    behind, free = means.max() - means, not_dominated(means, list(means))
    for method, row in behind.iterrows():
        label = f"{method}: fit {means.loc[method, 'fit']:.1f}"
        place = (row["shift"], row["corruption"])
        axis.plot(*place, "o", ms=7, color=COLOURS[str(method)], label=label)
        if free[method]:
            axis.plot(*place, "o", ms=13, mfc="none", color="black", mew=1)
    for scale, limit, name in (
        (axis.set_xscale, axis.set_xlim, "shift"), (axis.set_yscale, axis.set_ylim, "corruption")
    ):  # fmt: skip
        scale("symlog", linthresh=1.0)
        limit(behind[name].max() * 1.5 + 1, -0.4)
    ticks = [0, 0.5, 1, 2, 5, 10, 20, 50]
    for side, name in ((axis.xaxis, "shift"), (axis.yaxis, "corruption")):
        side.set_ticks([tick for tick in ticks if tick <= behind[name].max() * 1.5 + 1], minor=False)
        side.set_major_formatter("{x:g}")
    axis.set(xlabel="worst shifted bucket, points behind the best", ylabel="mean corruption, points behind")
    axis.legend(loc="upper left", bbox_to_anchor=(1.02, 1))


def draw_claims(axis: Axes, compared: pd.DataFrame) -> None:
    """A method's lead over the strongest other one, claim by claim: a circle per comparison, a diamond for their mean.

    Circles are filled where the corrected p-value is below 0.05; the mean is over data sets, with its 95 % bootstrap
    interval. Linear up to five points and logarithmic beyond.

    Args:
        axis: to draw on.
        compared: from `stemlib.experiments.paper_tables.comparisons`.
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
    axis.set_xscale("symlog", linthresh=5)
    reach = compared.difference.abs().max()
    axis.set_xticks([tick for tick in TICKS if abs(tick) <= reach], minor=False)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set(xlabel="points ahead", yticks=range(len(claims)), yticklabels=claims.index)
    axis.set_ylim(len(claims) - 0.5, -0.5)
