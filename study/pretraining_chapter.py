"""Tables and figures of chapter 05: what pretraining gains, how its losses fall, what the encoder makes of graphs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch_geometric.nn import global_mean_pool

from stemlib.data.batches import batches
from stemlib.data.public import DATA_SETS
from stemlib.data.tasks import Task
from stemlib.training.journal import LOSSES
from study import figures
from study.meta_analysis import OverDataSets, counted
from study.paper_tables import of_classes, over_tasks
from study.statistics import in_points

BUDGETS = {0: "all labels", 5: "5 per class"}
KINDS = ("clean", "shift", "masked", "deleted")
KIND_OF = {name: entry.kind for name, entry in DATA_SETS.items()} | {"built-in": "node"}
COLOUR_OF = {"node": "blue", "link": "orange", "graph": "green"}
OBJECTIVES = LOSSES[:5]  # what is reconstructed, and the commitment


def mean_gain(scores: pd.DataFrame, labels: int, rival: str = "stem", kind: str = "clean") -> OverDataSets:
    """How far `pretrained` is ahead of a rival, over the data sets on which both were trained.

    Args:
        scores: from `study.transfer.compared`, of any number of data sets.
        labels: per class; 0 for all.
    """
    part = counted(of_classes(scores[(scores.labels == labels) & (scores.kind == kind)]))
    points = part.groupby(["task", "method", "seed"]).score.mean().unstack("method")
    return over_tasks((points["pretrained"] - points[rival]).dropna(), labels)


def told_gain(mean: OverDataSets) -> str:
    """In words: `+2.2 points [+0.3, +4.0] in the mean and +2.4 in the median of 17 data sets`."""
    points = in_points(mean.difference, mean.low, mean.high).replace(" ", " points ", 1)
    return f"{points} in the mean and {mean.median:+.1f} in the median of {mean.sets:.0f} data sets"


def gain_text(gains: pd.DataFrame) -> list[str]:
    """`+4.2 [-8.3, +16.6]` for every row of `study.transfer.gains`."""
    return [in_points(row.gain, row.low, row.high) for row in gains.itertuples()]


def gain_table(gains: pd.DataFrame, rows: str | list[str], columns: str) -> pd.DataFrame:
    """`gain_text` when clean, by some columns of `gains`; empty where nothing was run."""
    part = gains[gains.kind == "clean"]
    wide = part.assign(text=gain_text(part)).set_index([*([rows] if isinstance(rows, str) else rows), columns])
    return wide.text.unstack(columns, sort=False, fill_value="")


def draw_gains(gains: pd.DataFrame) -> Figure:
    """Points gained, a row per data set, a column per kind of condition, a panel per number of labels.

    Args:
        gains: from `study.transfer.gains`.
    """
    tasks = list(gains.task.unique())
    figure, axes = figures.panels(len(BUDGETS), sharey=True, height=1.3 + 0.2 * len(tasks))
    for axis, (labels, title) in zip(axes, BUDGETS.items(), strict=True):
        rows = gains[gains.labels == labels]
        rows = rows.assign(text=rows.gain.map("{:+.1f}".format) + np.where(rows.low * rows.high > 0, "*", ""))
        wide = rows.pivot(index="task", columns="kind")
        points, text = (wide[value].reindex(tasks, columns=KINDS) for value in ("gain", "text"))
        look = {"cmap": "vlag_r", "center": 0, "vmin": -15, "vmax": 15, "cbar": False, "annot_kws": {"size": 8}}
        sns.heatmap(points, annot=text, fmt="", ax=axis, yticklabels=True, **look)
        axis.set(title=title, xlabel="", ylabel="")
    figure.suptitle("Points that pretraining gains on scratch (*: interval without 0)")
    return figure


def draw_along(axis: Axes, table: pd.DataFrame, column: str, **look: object) -> None:
    """The median over data sets of each kind, with a band between their lowest and their highest tenth."""
    rows = table.dropna(subset=column).assign(kind=lambda rows: rows.data_set.map(KIND_OF))
    palette = {kind: figures.PALETTE[colour] for kind, colour in COLOUR_OF.items()}
    look = {"hue": "kind", "palette": palette, "estimator": "median", "errorbar": ("pi", 80)} | look
    sns.lineplot(rows, x="step", y=column, ax=axis, **look)
    axis.set_ylabel("")


def relative_losses(losses: pd.DataFrame) -> pd.DataFrame:
    """Losses by objective, relative to the data set's first ones."""
    shown = [name for name in OBJECTIVES if losses[name].notna().any()]
    first = losses.groupby("data_set")[shown].transform("first")
    return losses[["data_set", "step"]].join(losses[shown] / first)


def draw_losses(relative: pd.DataFrame) -> Figure:
    """A panel per objective.

    Args:
        relative: from `relative_losses`.
    """
    shown = [name for name in OBJECTIVES if name in relative]
    figure, axes = figures.panels(len(shown), height=2.6, sharey=True)
    for axis, name in zip(axes, shown, strict=True):
        draw_along(axis, relative, name, legend=name == "feature")
        axis.set(title=name.replace("_", " "), xlabel="step")
    axes[0].set_ylabel("loss (first stretch: 1)")
    return figure


def draw_usage(tokens: pd.DataFrame, experts: pd.DataFrame, count: int = 3) -> Figure:
    """Perplexity of each head's codes, and the largest share of one of `count` experts, layers counted from 1."""
    figure, (left, right) = figures.panels(2, height=2.6)
    for head, rows in tokens.groupby("head"):
        left.plot(rows.step, rows.perplexity, label=f"head {head}", linewidth=1)
    left.set(xlabel="step", title="perplexity of the codes", ylim=(0, 132))
    left.legend(ncols=2)
    shares = experts.assign(percent=100 * experts.largest, layer=experts.layer + 1)
    draw_along(right, shares, "percent", style="layer")
    right.axhline(100 / count, color="black", linewidth=1, linestyle=":")
    right.set(xlabel="step", title="largest expert's share, % (dotted: even)", ylim=(32, 50))
    right.legend(ncols=2, fontsize="small")
    return figure


@torch.no_grad()
def embedded(network: nn.Module, task: Task, most: int = 400) -> tuple[Tensor, Tensor]:
    """Embeddings `[M, d]` of up to `most` instances, and which instances they are, `[M]`."""
    index = torch.arange(0, task.instances, max(1, task.instances // most))[:most]
    (batch,) = batches(task, index)
    z = network.encoder(batch.graph).z
    if task.kind == "graph":
        return global_mean_pool(z, batch.graph.batch), index
    return (z[batch.instances] if task.kind == "node" else z[batch.instances].mean(1)), index


def draw_embeddings(networks: Mapping[str, nn.Module], tasks: Mapping[str, Task]) -> Figure:
    """Planes of two principal components: all data sets above, the first one's classes below, a column per network."""
    figure, axes = figures.panels(len(networks), 2, height=2.4)
    for (above, below), (title, network) in zip(axes.T, networks.items(), strict=True):
        parts = {name: embedded(network, task)[0] for name, task in tasks.items()}
        plane = PCA(2).fit(torch.cat(list(parts.values())))
        for name, part in parts.items():
            above.scatter(*plane.transform(part).T, s=3, label=name)
        above.set(title=title, xticks=[], yticks=[])
        task = next(iter(tasks.values()))
        part, index = embedded(network, task)
        below.scatter(*PCA(2).fit_transform(part).T, s=4, c=task.labels[index], cmap="tab10")
        below.set(xlabel=f"{task.name}, by class", xticks=[], yticks=[])
    axes[0, -1].legend(loc="upper left", bbox_to_anchor=(1, 1), markerscale=3)
    return figure
