"""Figures of leads: of the whole model over its variants, of methods over each other, data set by data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study import figures
from study.balance import not_dominated
from study.balance_tables import over_sets
from study.figures import COLOURS
from study.meta_analysis import FEWEST, counted, over_data_sets
from study.paper_tables import CLAIMS, claim_table
from study.statistics import SIGNIFICANT, interval
from study.stress_figures import BALANCE, FAR_OFF

BALANCED = {"clean": "clean", "shift": "shift", "masked": "features masked", "deleted": "edges deleted"}
EDGE = 10.0  # points: what lies beyond is shown as an arrow


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
    difference to the best one over data sets, or over the seeds of one, where there are at least five. An MLP that is
    many times further off than all others is shown as a number at the edge.

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
    axes[1].set_xlabel("points to the best one (0); ringed: beaten by no other")


def _intervals(by_run: pd.DataFrame, best: str, demand: str) -> dict[str, tuple[float, float]]:
    """For each method with enough known runs, the interval of how far it is behind the best one."""
    points = by_run.loc[best, demand] - by_run[demand].unstack("method").drop(columns=best).T
    known = {name: row.dropna() for name, row in points.iterrows() if row.count() >= FEWEST}
    if by_run.index.names[1] == "seed":
        return {name: interval(row.tolist()) for name, row in known.items()}
    means = {name: over_data_sets(row, 0 * row) for name, row in known.items()}
    return {name: (mean.flat_low, mean.flat_high) for name, mean in means.items()}


def draw_claims(compared: pd.DataFrame, axis: Axes | None = None) -> Figure:
    """A method's lead over the strongest other one, claim by claim: a circle per comparison, a diamond for their mean.

    Circles are filled where the corrected p-value is below 0.05; the mean is that of random effects over data sets,
    with its 95 % interval where there are enough of them. The farthest at either end are named.

    Args:
        compared: from `study.paper_tables.comparisons`.
        axis: to draw on; None for a figure of its own.
    """
    axis = axis or figures.panels(1, height=2.0)[1]
    compared = counted(compared)
    claims = claim_table(compared)
    for place, (claim, row) in enumerate(claims.iterrows()):
        found = compared[compared.demand.isin(CLAIMS[claim])].sort_values("difference")
        heights = place + np.linspace(-0.3, 0.3, len(found))
        _leads(axis, found, heights, s=12, linewidths=0.6)
        for end, side, away in ((0, "right", -4), (-1, "left", 4)):  # the farthest off, by name
            name, there = found.task.iloc[end], (found.difference.iloc[end], heights[end])
            axis.annotate(name, there, (away, 0), textcoords="offset points", ha=side, va="center", fontsize=6)
        bar = [[row.difference - row.low], [row.high - row.difference]]
        look = {"color": COLOURS["stem"], "ms": 6, "capsize": 3, "zorder": 4}
        axis.errorbar(row.difference, place, xerr=bar, fmt="D", **look)
    axis.axvline(0, color="black", linewidth=1)
    axis.margins(x=0.2)
    axis.set(xlabel="points ahead", yticks=range(len(claims)), yticklabels=claims.index)
    axis.set_ylim(len(claims) - 0.5, -0.5)
    return axis.figure


def draw_by_task(compared: pd.DataFrame) -> Figure:
    """A method's lead over the strongest other one, data set by data set, a panel for each claim.

    Circles are filled where the corrected p-value is below 0.05; the mean of `draw_claims` is below them.

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


def draw_balance(by_method: Mapping[str, pd.DataFrame], names: Mapping[str, str]) -> Figure:
    """The lead on every data set with its 95 % interval, one panel per demand, and below them the means.

    Marks are filled where the interval excludes zero; a star follows where the corrected p-value is below 0.05. The
    axis ends at `EDGE`: an interval that goes on has an arrow there, and a lead beyond it is given as a number. Data
    sets are in the order of the first method's clean leads.

    Args:
        by_method: from `study.balance_tables.leads`, by method.
        names: of the methods, for the legend.
    """
    clean = pd.concat([rows[rows.demand == "clean"].sort_values("difference") for rows in by_method.values()])
    tasks = list(dict.fromkeys(clean.task))
    figure, axes = figures.panels(len(BALANCED), sharex=True, sharey=True, height=2.1 + 0.32 * len(tasks))
    for turn, (method, compared) in enumerate(by_method.items()):
        means, down = over_sets(compared), 0.16 * (2 * turn + 1 - len(by_method))
        for axis, kind in zip(axes, BALANCED, strict=True):
            for row in compared[compared.demand == kind].itertuples():
                _lead(axis, row, tasks.index(row.task) - down, COLOURS[method], "o", row.p < SIGNIFICANT)
            if kind in means.index:
                _lead(axis, means.loc[kind], -1.5 - down, COLOURS[method], "D")
    for axis, title in zip(axes, BALANCED.values(), strict=True):
        axis.axvline(0, color="black", lw=1)
        axis.axhspan(-2.1, -0.9, color="black", alpha=0.07, lw=0)
        axis.set(title=title, xlim=(-1.15 * EDGE, 1.15 * EDGE), ylim=(-2.1, len(tasks) - 0.4))
        axis.set_xticks([-EDGE, 0, EDGE], [f"{-EDGE:.0f}", "0", f"{EDGE:.0f}"])
    axes[0].set_yticks([-1.5, *range(len(tasks))], ["mean over\ndata sets", *tasks])
    for method in by_method:
        axes[0].plot([], [], color=COLOURS[method], label=names[method])
    looks = {"interval or lead goes on beyond the axis": (">", "black"), "95 % interval excludes 0": ("o", "black")}
    looks |= {"95 % interval includes 0": ("o", "white"), "excludes 0 after correction (Holm)": ("$*$", "black")}
    for told, (mark, fill) in looks.items():
        axes[0].plot([], [], ls="", marker=mark, ms=4, mfc=fill, color="black", label=told)
    axes[0].set_xlabel(" ")  # keeps room for the common label, which as one panel's would push the panels apart
    below = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "center", "va": "top"}
    label = axes[1].annotate("points ahead of the strongest equally trained rival", (1.05, 0), (0, -21), **below)
    label.set_in_layout(False)
    figures.legend_below(figure, axes[0], 2)
    return figure


def _lead(axis: Axes, row: Any, place: float, colour: Any, mark: str, star: bool = False) -> None:
    """One lead with its interval, cut at `EDGE`; few data sets have no interval."""
    low, high = (row.difference if np.isnan(end) else end for end in (row.low, row.high))
    axis.plot(np.clip([low, high], -EDGE, EDGE), [place, place], color=colour, lw=1)
    for beyond, end, arrow in ((low < -EDGE, -EDGE, "<"), (high > EDGE, EDGE, ">")):
        if beyond:
            axis.plot(end, place, arrow, ms=3, color=colour)
    side, text = np.sign(row.difference), "*" * star
    if abs(row.difference) > EDGE:
        look = {"ha": "left" if side < 0 else "right", "va": "center", "fontsize": 7, "color": colour}
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.3}
        axis.text(0.85 * side * EDGE, place - 0.02, f"{row.difference:+.1f}{text}", bbox=box, **look)
        return
    axis.plot(row.difference, place, mark, ms=4, mfc=colour if row.low > 0 or row.high < 0 else "white", color=colour)
    axis.text(row.difference, place, text, color=colour, fontsize=9, ha="center")
