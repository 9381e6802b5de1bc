"""The task: what is to be learnt, on what, and how it is scored. Everything after loading sees only this.

A task of any kind has one graph. A node task's instances are nodes; a link task's are pairs of nodes; a
graph task's are the graphs of a disjoint union (`graph.batch`, `graph.ptr`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from scipy.stats import rankdata
from sklearn.metrics import r2_score
from torch import Tensor
from torch_geometric.nn import global_add_pool, global_max_pool, global_mean_pool

from stemlib.data.graph import Graph, sorted_by_target
from stemlib.files import digest

Kind = Literal["node", "link", "graph"]
PARTS = ("train", "val", "test")
MIN_PER_CLASS = 3
FEW_VALUES = 5
POOLS = {"mean": global_mean_pool, "sum": global_add_pool, "max": global_max_pool}


@dataclass(frozen=True)
class Split:
    """Which instances train, validate and test: three disjoint index tensors, sorted."""

    name: str
    train: Tensor
    val: Tensor
    test: Tensor

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that two people can compare."""
        digest = hashlib.sha256()
        for part in PARTS:
            digest.update(getattr(self, part).long().numpy().astype("<i8").tobytes() + part.encode())
        return digest.hexdigest()[:12]


@dataclass(frozen=True)
class Task:
    """What is to be learnt.

    Attributes:
        name: short name, as in file names.
        kind: node, link or graph.
        graph: prepared; a graph task's is a disjoint union.
        labels: classes `[M]` (long), or `[M, T]` (float, NaN where missing) for many binary labels or a regression.
        splits: by name; indices of instances.
        pairs: a link task's pairs of nodes `[M, 2]`.
        description: what a node, an edge and a label are, and where they come from.
        regression: whether labels `[M, T]` are numbers to predict, not binary.
        scale: mean and standard deviation `[2, T]` that such numbers have been freed of by `standardised`.
        checksum: of the raw files or of the settings that made the data.
        notes: what the checks found that a reader should know (isolated nodes, self-loops, ...).
    """

    name: str
    kind: Kind
    graph: Graph
    labels: Tensor
    splits: dict[str, Split]
    pairs: Tensor | None = None
    description: str = ""
    regression: bool = False
    scale: Tensor | None = None
    checksum: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def instances(self) -> int:
        """Number of instances `M`."""
        return self.labels.size(0)

    @property
    def outputs(self) -> int:
        """Number of logits: classes, binary labels, or numbers to predict."""
        return int(self.labels.max()) + 1 if self.labels.dim() == 1 else self.labels.size(1)

    @property
    def metric(self) -> Literal["accuracy", "roc_auc", "r2"]:
        """What `score` measures."""
        if self.labels.dim() == 1:
            return "accuracy"
        return "r2" if self.regression else "roc_auc"

    @property
    def strata(self) -> Tensor:
        """Classes `[M]` or `[M, T]` to stratify by: a regression is one class, 0, with NaN where a label is missing."""
        return self.labels * 0 if self.regression else self.labels

    @property
    def edge_width(self) -> int | None:
        """Width of edge features; None where the graph has none."""
        edges = self.graph.edge_attr
        return None if edges is None else edges.size(1)

    @property
    def content(self) -> str:
        """sha256 of every value that is learnt from or scored by; `checksum` says where the data came from.

        A graph on which something was changed, other labels, or a value edited in place are other contents.
        """
        parts = [value for value in (self.labels, self.pairs) if value is not None]
        return digest([self.kind, self.regression, self.graph.content, *map(digest, parts)])

    def select(self, index: Tensor) -> Tensor:
        """What the model's read-out takes for the instances `index` of a node or link task."""
        return index if self.kind == "node" else self.pairs[index]

    def split(self, name: str) -> Split:
        """The split of that name.

        Raises:
            ValueError: the task has none of that name.
        """
        if name not in self.splits:
            raise ValueError(f"{self.name} has no split {name!r}; it has {', '.join(self.splits)}")
        return self.splits[name]

    def with_split(self, split: Split) -> Task:
        """The same task with one more split."""
        return replace(self, splits=self.splits | {split.name: split})

    def with_graph(self, graph: Graph) -> Task:
        """The same task on another graph of the same nodes: corrupted, say."""
        return replace(self, graph=sorted_by_target(graph))


def read_out(z: Tensor, graph: Graph, instances: Tensor | None, kind: Kind, pool: str = "mean") -> Tensor:
    """Embeddings of instances `[M, d]` from embeddings of nodes `[N, d]`.

    Args:
        z: node embeddings.
        graph: its `batch` `[N]` says which graph a node is in, for graph tasks.
        instances: node indices `[M]`; pairs of nodes `[M, 2]`, read as the mean of the two ends; or None
            for graph tasks, where every graph of the batch is an instance.
        kind: node, link or graph.
        pool: mean, sum or max over a graph's nodes.
    """
    if kind == "graph":
        return POOLS[pool](z, graph.batch, graph.ptr.numel() - 1)
    return z[instances] if kind == "node" else z[instances].mean(1)


def score(logits: Tensor, labels: Tensor, regression: bool = False) -> float:
    """Accuracy for class labels; ROC-AUC averaged over binary labels that have both classes; R2 of a regression.

    R2 is one less the squared error over that of the mean, both summed over the labels that are scored; below 0 the
    mean of the instances would have been the better answer. Labels of one value alone and NaN are skipped.

    Args:
        logits: `[M, classes]` or `[M, T]`.
        labels: `[M]` or `[M, T]`.
        regression: whether `[M, T]` labels are numbers to predict, not binary.

    Raises:
        ValueError: no instance, no label with both classes or with two values, or logits that are not finite: a score
            would mean nothing.
    """
    if len(labels) == 0:
        raise ValueError("no instances to score: the split or bucket is empty")
    if not logits.isfinite().all():
        bad = int((~logits.isfinite()).sum())
        raise ValueError(f"{bad} of {logits.numel()} logits to be scored are not finite; lower the learning rate")
    if labels.dim() == 1:
        return (logits.argmax(-1) == labels).double().mean().item()
    found, weights = (_r2 if regression else _roc_auc)(logits.double().numpy(), labels.double().numpy())
    if not weights.any():
        raise ValueError(
            "no label has two values among these instances; R2 is undefined"
            if regression
            else "no label has both classes among these instances; ROC-AUC is undefined"
        )
    return float(np.average(found[weights > 0], weights=weights[weights > 0]))


def _roc_auc(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ROC-AUC of every label `[T]`, and 1 for those that have both classes, from `[M, T]`; NaN labels are skipped.

    From ranks, as the share of pairs in the right order: scikit-learn's, label by label, takes thirty times as long
    for ToxCast's 617.
    """
    known, positive = np.isfinite(labels), labels == 1
    ranks = rankdata(np.where(known, logits, np.nan), axis=0, nan_policy="omit")
    ones = positive.sum(0)
    pairs = ones * (known.sum(0) - ones)
    above = np.where(positive, ranks, 0).sum(0) - ones * (ones + 1) / 2
    return above / np.maximum(pairs, 1), (pairs > 0).astype(float)


def _r2(predictions: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """R2 of every label `[T]` and its squared errors from the mean, from `[M, T]`; NaN labels are skipped."""
    found, errors = np.zeros((2, labels.shape[1]))
    for place, (prediction, label) in enumerate(zip(predictions.T, labels.T, strict=True)):
        known = np.isfinite(label)
        if np.unique(label[known]).size > 1:
            found[place] = r2_score(label[known], prediction[known])
            errors[place] = label[known].var() * known.sum()
    return found, errors


def require_classes(task: Task, reader: str) -> None:
    """Refuse a regression, which has no decisions to be right or wrong, nor a cross-entropy.

    Raises:
        ValueError: it is one; `reader` says what needed classes.
    """
    if task.regression:
        raise ValueError(f"{reader} takes classes or binary labels; {task.name!r} is a regression")


def standardised(task: Task, split: Split) -> Task:
    """A regression with its labels in standard deviations from the mean of a split's training part; others unchanged.

    That is the form in which they are learnt and answered: an answer in the data's own unit is
    `logits * scale[1] + scale[0]`. A label of which training knows fewer than `FEW_VALUES`, or one value alone, takes
    mean and deviation of all labels together (of one unit, then): those of two close values would blow it up.

    Raises:
        ValueError: no two values differ in that part.
    """
    if not task.regression:
        return task
    labels = task.labels.double()
    if task.scale is not None:  # of another split
        labels = labels * task.scale[1] + task.scale[0]
    known = labels[split.train]
    every = known[known.isfinite()]
    if every.unique().numel() < 2:
        raise ValueError(
            f"no two training labels of {task.name!r} differ in split {split.name!r}: there is nothing to learn"
        )
    mean = known.nanmean(0)
    spread = (known - mean).square().nanmean(0).sqrt()
    own = (known.isfinite().sum(0) >= FEW_VALUES) & (spread > 0)
    scale = torch.stack([torch.where(own, mean, every.mean()), torch.where(own, spread, every.std(correction=0))])
    return replace(task, labels=((labels - scale[0]) / scale[1]).float(), scale=scale)
