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
MEANT = {
    "coverage": "coverage: left by an oracle's path",
    "selection": "selection: the router's regret",
    "mixing": "mixing: what soft gates change",
}
UNITS = {"ce": "cross-entropy, nats", "zero_one": "0/1 error"}
OWN, INDEPENDENT = figures.COLOURS["stem"], "black"  # the routed network's own paths, and independent networks


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
    """Coverage, selection and mixing in every condition and both losses, beside independent networks."""
    figure, axes = figures.panels(1, 2, sharex=True, height=2.7)
    for axis, (loss, rows) in zip(axes, table.groupby("loss"), strict=True):
        means = by_condition(rows)
        stack(axis, means)
        low, high = np.array([interval(values) for _, values in rows.groupby("condition", sort=False).R]).T
        axis.errorbar(range(len(means)), means.R, [means.R - low, high - means.R], fmt="k.", label="risk $R$")
        beside = np.arange(len(means)) + 0.22  # otherwise the null and the risk would hide each other
        axis.plot(beside, means.R_independent, "wD", mec="k", markersize=4, label="one independent network")
        axis.plot(
            range(len(means)),
            means.C_independent,
            "k_",
            markersize=14,
            mew=2,
            label=f"an oracle's choice among {paths} such",
        )
        axis.set_ylabel(f"{UNITS[loss]}\n(lower is better)")
    marks, labels = axes[0].get_legend_handles_labels()
    figure.legend(marks, [MEANT.get(label, label) for label in labels], ncols=2, loc="outside lower center")
    of_ce = table[table.loss == "ce"].mean(numeric_only=True)
    figure.suptitle(
        f"Even an oracle's choice of path leaves {100 * of_ce.C / of_ce.R:.0f} % of the cross-entropy on {name}"
    )
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
    axes[0].set_ylabel("change of cross-entropy, nats")
    figures.legend_below(figure, axes[1])
    worst = means.dR.idxmax()
    figure.suptitle(f"On {name} the risk grows most in the condition '{worst}'")
    return figure


def draw_nulls(table: pd.DataFrame, name: str, paths: int) -> Figure:
    """Coverage, between the best single path and what an oracle makes of independent networks."""
    marks = {
        "C_env": ("best single path", {"marker": "^", "color": OWN, "mfc": "none", "ms": 7}),
        "C": ("$C$: best path per node", {"marker": "o", "color": OWN}),
        "C_mix": ("best mixture per node", {"marker": "|", "color": figures.COLOURS["mixing"], "mew": 2}),
        "C_independent": (
            f"best of {paths} independent networks per node",
            {"marker": "s", "color": INDEPENDENT, "ms": 5},
        ),
    }
    figure, axes = figures.panels(2, height=3.4, sharey=True)
    for axis, (loss, rows) in zip(axes, table.groupby("loss"), strict=True):
        means = by_condition(rows)
        for column, (label, look) in marks.items():
            axis.plot(means[column], range(len(means)), linestyle="none", label=label, **look)
        axis.set(xlabel=UNITS[loss], xlim=(0, None))
    axes[0].set_yticks(range(len(means)), means.index)
    axes[0].invert_yaxis()
    figures.legend_below(figure, axes[0], columns=2)
    gap = (table.C - table.C_independent)[table.loss == "ce"].mean()
    figure.suptitle(
        f"In cross-entropy the paths cover {'less' if gap > 0 else 'more'} than independent networks on {name}"
    )
    return figure


def draw_floors(table: pd.DataFrame, name: str, paths: int) -> Figure:
    """The risk in every condition beside the static floors, with which only its highest point is compared."""
    ce = table[table.loss == "ce"]
    means, worst = by_condition(ce), ce.groupby("condition", sort=False).R.mean().idxmax()
    floors = {
        "C_all": ("static floor $C_{all}$: its best path over all conditions", {"color": OWN, "linestyle": "--"}),
        "C_all_held_out": ("the same, chosen on the other half of the nodes", {"color": OWN, "linestyle": ":"}),
        "independent_floor": (f"floor of {paths} independent networks", {"color": INDEPENDENT, "linestyle": "--"}),
    }
    figure, axis = figures.panels(height=3.9)
    axis.plot(means.R.to_numpy(), "o", color=OWN, alpha=0.35, mew=0, label="as routed")
    axis.plot(list(means.index).index(worst), means.R[worst], "o", color=OWN, ms=11, label="as routed, worst condition")
    look = {"color": OWN, "mfc": "none", "ms": 9, "alpha": 0.6}
    axis.plot(means.C_env.to_numpy(), "^", label="its best single path in a condition", **look)
    for column, (label, style) in floors.items():
        axis.axhline(ce[column].mean(), label=label, **style)
    axis.set_xticks(range(len(means)), means.index, rotation=45, ha="right")
    axis.set(ylabel=UNITS["ce"])
    axis.margins(y=0.1)
    figures.legend_below(figure, axis, columns=2)
    below = sum(means.R[worst] < ce[column].mean() for column in floors)
    figure.suptitle(
        f"Only the highest dot decides: it lies below {below or 'none'} of the {len(floors)} floors on {name}"
    )
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
    axes[0].set(xlabel="regret, nats")
    axes[1].set(xlabel="nodes on an oracle path, %", xlim=(0, 105))
    axes[0].set_yticks(places, means.index)
    axes[0].invert_yaxis()
    for axis in axes:
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    found = 100 * means.oracle_share.mean()
    figure.suptitle(f"In cross-entropy the router finds the best path of {found:.0f} % of the nodes on {name}")
    return figure
