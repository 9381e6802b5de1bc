"""The figures of chapter 03, from its table: the parts of a risk, their changes, nulls, floors, and the router."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stemlib.stress.conditions import CORRUPTIONS
from study import figures
from study.coverage_tables import LOSSES
from study.statistics import interval

PARTS = {"C": "coverage", "S": "selection", "X": "mixing"}


def by_condition(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, conditions in their order."""
    return rows.groupby("condition", sort=False).mean(numeric_only=True)


def stack(axis: Axes, means: pd.DataFrame, prefix: str = "") -> None:
    """Bars of the three parts, positive ones upwards from zero, negative ones downwards."""
    top, bottom = np.zeros(len(means)), np.zeros(len(means))
    for part, name in PARTS.items():
        value = means[prefix + part].to_numpy()
        start = np.where(value >= 0, top, bottom)
        axis.bar(range(len(means)), value, 0.7, start, color=figures.COLOURS[name], label=name)
        top, bottom = top + value.clip(min=0), bottom + value.clip(max=0)
    axis.set_xticks(range(len(means)), means.index, rotation=45, ha="right")
    axis.grid(axis="x", visible=False)


def draw_parts(table: pd.DataFrame, name: str, paths: int) -> Figure:
    """Coverage, selection and mixing in every condition and both losses, beside static networks."""
    figure, axes = figures.panels(1, 2, sharex=True, height=2.5)
    for axis, (loss, rows) in zip(axes, table.groupby("loss"), strict=True):
        means = by_condition(rows)
        stack(axis, means)
        low, high = np.array([interval(values) for _, values in rows.groupby("condition", sort=False).R]).T
        axis.errorbar(range(len(means)), means.R, [means.R - low, high - means.R], fmt="k.", label="risk $R$")
        beside = np.arange(len(means)) + 0.22  # the null and the risk would hide each other
        axis.plot(beside, means.R_independent, "wD", mec="k", markersize=4, label="one static network")
        axis.plot(range(len(means)), means.C_independent, "k_", markersize=14, mew=2, label=f"best of {paths} static")
        axis.set_ylabel(LOSSES[loss])
    axes[0].legend(ncols=3, loc="upper left", fontsize="small")
    axes[0].set_ylim(top=1.45 * axes[0].get_ylim()[1])
    of_ce = table[table.loss == "ce"].mean(numeric_only=True)
    larger, part = ("coverage", of_ce.C) if of_ce.C > of_ce.S else ("selection", of_ce.S)
    figure.suptitle(f"{larger.capitalize()} is {100 * part / of_ce.R:.0f} % of the cross-entropy on {name}")
    return figure


def draw_changes(table: pd.DataFrame, name: str) -> Figure:
    """What each part adds to the change of cross-entropy, from the clean condition to every other."""
    means = by_condition(table[table.loss == "ce"])
    damage = {f"{kind} at rate": list(means.filter(like=kind, axis=0).index) for kind in CORRUPTIONS}
    groups = {"shifted nodes": [c for c in means.index.drop("clean") if c not in chain(*damage.values())]} | damage
    figure, axes = figures.panels(3, sharey=True, height=3.4)
    for axis, (title, group) in zip(axes, groups.items(), strict=True):
        stack(axis, means.loc[group], "d")
        axis.plot(means.loc[group].dR.to_numpy(), "k.", label="risk")
        axis.set_title(title)
        axis.set_xticklabels([each.split()[-1] if "rate" in title else each for each in group])
    axes[0].set_ylabel("change of cross-entropy")
    figures.legend_below(figure, axes[1])
    worst = means.dR.idxmax()
    figure.suptitle(f"On {name} the risk grows most in the condition '{worst}'")
    return figure


def draw_nulls(table: pd.DataFrame, name: str, paths: int) -> Figure:
    """Coverage between the best single path and what chance would cover."""
    marks = {"C_env": "best single path", "C": "$C$: best path per node", "C_mix": "best mixture per node"}
    marks |= {"C_independent": f"best of {paths} static", "C_shuffled": "shuffled"}
    figure, axes = figures.panels(2, height=3.4, sharey=True)
    for axis, (loss, rows) in zip(axes, table.groupby("loss"), strict=True):
        means = by_condition(rows)
        for (column, label), mark in zip(marks.items(), "^o|s.", strict=True):
            axis.plot(means[column], range(len(means)), mark, label=label)
        axis.set(xlabel=LOSSES[loss], xlim=(0, None))
    axes[0].set_yticks(range(len(means)), means.index)
    axes[0].invert_yaxis()
    figures.legend_below(figure, axes[0], columns=3)
    gap = (table.C - table.C_independent)[table.loss == "ce"].mean()
    figure.suptitle(
        f"In cross-entropy the paths cover {'less' if gap > 0 else 'more'} than unrelated networks on {name}"
    )
    return figure


def draw_floors(table: pd.DataFrame, name: str, paths: int) -> Figure:
    """The risk in every condition beside the static floors; below a line in all of them, the floor is broken."""
    ce = table[table.loss == "ce"]
    means = by_condition(ce)
    figure, axis = figures.panels(height=3.3)
    axis.plot(means.R.to_numpy(), "o", color=figures.COLOURS["stem"], label="as routed")
    look = {"color": "black", "mfc": "none", "ms": 9}
    axis.plot(means.C_env.to_numpy(), "^", label="its best single path, per condition", **look)
    axis.axhline(ce.C_all.mean(), color=figures.PALETTE["grey"], linestyle="--", label="its static floor $C_{all}$")
    axis.axhline(ce.C_all_held_out.mean(), color="black", linestyle=":", label="the same, held out")
    label = f"floor of {paths} static networks"
    axis.axhline(ce.independent_floor.mean(), color=figures.COLOURS["dense"], linestyle="--", label=label)
    axis.set_xticks(range(len(means)), means.index, rotation=45, ha="right")
    axis.set(ylabel="cross-entropy", title=f"Does routing beat its static floor on {name}? Below the lines: yes")
    axis.margins(y=0.1)
    figures.legend_below(figure, axis, columns=2)
    return figure


def draw_router(table: pd.DataFrame, name: str) -> Figure:
    """Regret by layer, and how often the top path is an oracle path."""
    figure, axes = figures.panels(2, height=3.3, sharey=True)
    means = by_condition(table[table.loss == "ce"])
    places, before = np.arange(len(means)), 0.0
    for column, colour in zip(means.filter(regex=r"^S_\d"), ("orange", "brown", "pink"), strict=False):
        label = f"layer {column.removeprefix('S_')}"
        axes[0].barh(places, means[column], left=before, color=figures.PALETTE[colour], label=label)
        before = before + means[column]
    for loss, colour, mark in (("ce", "blue", "o"), ("zero_one", "green", "s")):
        share = by_condition(table[table.loss == loss]).oracle_share
        axes[1].plot(100 * share, places, mark, color=figures.PALETTE[colour], label=LOSSES[loss])
    axes[0].set(xlabel="regret, cross-entropy")
    axes[1].set(xlabel="nodes on an oracle path, %", xlim=(0, 105))
    axes[0].set_yticks(places, means.index)
    axes[0].invert_yaxis()
    for axis in axes:
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    found = 100 * means.oracle_share.mean()
    figure.suptitle(f"In cross-entropy the router finds the best path of {found:.0f} % of the nodes on {name}")
    return figure
