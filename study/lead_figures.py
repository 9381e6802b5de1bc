"""Figures of leads: of the whole model over its variants, of methods over each other, data set by data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study import figures
from study.balance import not_dominated
from study.figures import COLOURS
from study.meta_analysis import FEWEST, counted, over_data_sets
from study.paper_tables import CLAIMS, claim_table
from study.statistics import SIGNIFICANT, interval
from study.stress_figures import BALANCE, FAR_OFF


def draw_effects(lead: pd.DataFrame, whole: pd.Series) -> Figure:
    """The whole model's lead over each variant, in points, one panel for each demand; filled where it is reliable.

    Args:
        lead: from `study.ablations.effects`.
        whole: the whole model's own mean score by demand.
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
        axis.set_title(f"{title}\nwhole model: {whole[demand]:.1f} %")
    axes[1].set_xlabel("whole model ahead by, points; filled: reliable")
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    return figure


def _leads(axis: Axes, rows: pd.DataFrame, places: Sequence[float], **look: Any) -> None:
    """Circles at the differences, filled where they are reliable."""
    fill = np.where(rows.p < SIGNIFICANT, "black", "white")
    axis.scatter(rows.difference, places, c=fill, edgecolors="black", zorder=3, **look)


def draw_pareto(axes: Sequence[Axes], balance: pd.DataFrame) -> None:
    """How far each method is from the best one in each demand, in points.

    Rings mark the Pareto front: methods that no other beats in all three demands. Bars are 95 % intervals of the
    difference to the best one over data sets, or over the seeds of one, where there are five. An MLP that is many
    times further off than all others is written at the edge.

    Args:
        axes: three, which share `y`.
        balance: from `three_way_balance`, of one task or, with `task`, of several.
    """
    by_run = balance.set_index(["method", "task" if "task" in balance else "seed"])[list(BALANCE)]
    means = by_run.groupby("method", sort=False).mean()
    lead, free = means - means.max(), not_dominated(means, list(means))
    for axis, (demand, title) in zip(axes, BALANCE.items(), strict=True):
        reach = _intervals(by_run, means[demand].idxmax(), demand)
        ends = {name: [points, *(-end for end in reach.get(name, ()))] for name, points in lead[demand].items()}
        left = min([0.0, *(end for name, some in ends.items() if name != FAR_OFF for end in some)])
        far = {name for name, some in ends.items() if name == FAR_OFF and some[0] < 3 * left - 5}
        shown = [end for name, some in ends.items() if name not in far for end in some]
        room = 0.1 * (max(shown) - min(shown)) + 0.1
        for place, (method, points) in enumerate(lead[demand].items()):
            if method in far:
                axis.text(min(shown), place, f"← {points:.1f}", va="center", color=COLOURS[method])
                continue
            if method in reach:
                axis.hlines(place, *(-end for end in reach[method]), color=COLOURS[str(method)], linewidth=1.5)
            axis.plot(points, place, "o", ms=7, color=COLOURS[str(method)])
            if free[method]:
                axis.plot(points, place, "o", ms=13, mfc="none", color="black", mew=1)
        axis.axvline(0, color="black", linewidth=1)
        axis.set(title=title, ylim=(len(means) - 0.5, -0.5), xlim=(min(shown) - room, max(shown) + room))
    axes[0].set_yticks(range(len(means)), [f"{name} ({score:.1f})" for name, score in means["fit"].items()])
    axes[1].set_xlabel("points to the best one (0); ringed: none is better in all three")


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


def draw_by_task(compared: pd.DataFrame) -> Figure:
    """A method's lead over the strongest other one, data set by data set, a panel for each claim.

    Filled where the corrected p-value is below 0.05; below them the mean of `draw_claims`.

    Args:
        compared: from `study.paper_tables.comparisons`.
    """
    compared = counted(compared)
    claims, tasks = claim_table(compared), list(compared.task.unique())
    columns, height = max(1, len(claims)), 1.2 + 0.17 * len(tasks)
    figure, axes = figures.panels(columns, sharey=True, squeeze=False, height=height)
    for axis, (claim, row) in zip(axes[0], claims.iterrows(), strict=False):
        found = compared[compared.demand.isin(CLAIMS[claim])]
        _leads(axis, found, [tasks.index(task) for task in found.task], s=22)
        bar = [[row.difference - row.low], [row.high - row.difference]]
        axis.errorbar(row.difference, len(tasks), xerr=bar, fmt="D", color=COLOURS["stem"], capsize=3)
        axis.axvline(0, color="black", linewidth=1)
        axis.set(title=claim, xlabel="points ahead; filled: reliable", ylim=(len(tasks) + 0.7, -0.7))
    axes[0, 0].set_yticks(range(len(tasks) + 1), [*tasks, "mean"])
    return figure
