"""The figures of chapter 02: scores on every data set, nodes by number and kind of neighbours, and class shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from study import figures
from study.cards import DEGREE_BINS, HOMOPHILY_BINS
from study.first_results import METHODS, PUBLISHED
from study.stress_figures import POINTS

LOW = 18  # per cent; a row whose methods are all below it is written at the edge


def draw_results(found: pd.DataFrame) -> Figure:
    """Test scores by data set and form of split, mean and standard deviation over runs, beside what others publish.

    Args:
        found: rows of `study.first_results.kept_runs`.
    """
    rows = found.assign(row=found.task + " " + found.splits)
    order = list(rows.row.unique())
    figure, axis = figures.panels(1, height=0.9 + 0.26 * len(order))
    look = {"palette": figures.COLOURS, "errorbar": "sd", "dodge": 0.48, **POINTS}
    sns.pointplot(rows, x="test", y="row", hue="model", hue_order=METHODS, ax=axis, **look)
    marks = [(figure.score, i) for figure in PUBLISHED for i, row in enumerate(order) if row.split()[0] == figure.task]
    axis.plot(*zip(*(marks or [(np.nan, 0)]), strict=True), "k|", ms=12, mew=2, label="published")
    axis.set(xlabel="test accuracy, ROC-AUC or $R^2$, %", ylabel="", ylim=(len(order) - 0.5, -0.5), xlim=(LOW, 100))
    for place, row in enumerate(order):
        if (low := rows[rows.row == row].groupby("model").test.mean()).max() < LOW:
            axis.text(LOW + 1, place, f"← below: {low.min():.0f} to {low.max():.0f}", va="center")
    axis.grid(True)
    axis.legend(ncols=5, loc="lower center", bbox_to_anchor=(0.4, 1.0))
    return figure


def draw_distributions(bins: pd.DataFrame, order: Sequence[str]) -> Figure:
    """The share of a data set's nodes by degree and by homophily of labels and features, a row per data set.

    Args:
        bins: rows of `study.cards.distributions`.
        order: of the data sets.
    """
    figure, axes = figures.panels(3, sharey=True, height=0.8 + 0.19 * len(order))
    for axis, (quantity, rows) in zip(axes, bins.groupby("quantity", sort=False), strict=True):
        edges = DEGREE_BINS[:-1] if quantity == "degree" else HOMOPHILY_BINS[:-1]
        column = np.searchsorted(edges, rows.low - 1e-3)  # the kept table is rounded
        image = rows.assign(low=column).pivot(index="task", columns="low", values="share").fillna(0)
        image = image.reindex(columns=range(len(edges)), fill_value=0).reindex(index=order)
        shown = axis.imshow(image, aspect="auto", cmap="Blues", norm=PowerNorm(0.5, 0, 100))
        axis.set_xticks(range(0, len(edges), 4), [f"{edges[i]:g}" for i in range(0, len(edges), 4)])
        axis.set_yticks(range(len(order)), order)
        axis.set(title=quantity, facecolor="0.9")
        axis.grid(False)
    figure.colorbar(shown, ax=axes, location="bottom", shrink=0.5, ticks=[0, 1, 10, 50, 100], label="share of nodes, %")
    return figure


def draw_class_shares(cards: pd.DataFrame) -> Figure:
    """The largest and smallest class of every data set beside an even share, and the share of positive labels.

    Args:
        cards: rows of `study.cards.card`, by data set.
    """
    figure, (left, right) = figures.panels(2, height=4.2)
    rows = cards[cards["largest class"].notna()]
    ends = rows["smallest class"], rows["largest class"]
    left.hlines(range(len(rows)), *ends, color=figures.PALETTE["blue"], linewidth=4)
    left.plot(100 / rows.classes, range(len(rows)), "k|", ms=8)
    left.set_yticks(range(len(rows)), rows.index)
    left.set(xlabel="share of a class, %", title="smallest to largest class", xscale="log")
    rows = cards[cards.positive.notna()]
    right.plot(rows.positive, range(len(rows)), "o", color=figures.PALETTE["orange"])
    right.set_yticks(range(len(rows)), rows.index)
    right.set(xlabel="share of positive labels, %", title="binary labels", xscale="log", xlim=(0.1, 100))
    for axis in (left, right):
        axis.invert_yaxis()
        axis.xaxis.set_major_formatter("{x:g}")
    return figure
