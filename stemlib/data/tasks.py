"""The task: what is to be learnt, on what, and how it is scored. Everything after loading sees only this.

A task of any kind has one graph. A node task's instances are nodes; a link task's are pairs of nodes; a
graph task's are the graphs of a disjoint union (`graph.batch`, `graph.ptr`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor
from torch_geometric.nn import global_add_pool, global_max_pool, global_mean_pool

from stemlib.cache import digest
from stemlib.data.graph import Graph, sorted_by_target

Kind = Literal["node", "link", "graph"]
PARTS = ("train", "val", "test")
MIN_PER_CLASS = 3
UNLABELLED = -1  # a class
FEW_VALUES = 5
POOLS = {"mean": global_mean_pool, "sum": global_add_pool, "max": global_max_pool}


@dataclass(frozen=True)
class Split:
    """Which instances train, validate and test: three disjoint index tensors, sorted.

    Attributes:
        met: all instances used at test, if a shift makes them more than `test`. It is not part of the `hash`.
    """

    name: str
    train: Tensor
    val: Tensor
    test: Tensor
    met: Tensor | None = None

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
        labels: classes `[M]` (long, `UNLABELLED` where there is none); or `[M, T]` (float, NaN where missing), many
            binary labels or a regression.
        splits: by name; indices of instances.
        pairs: a link task's pairs of nodes `[M, 2]`.
        description: what a node, an edge and a label are, and where they come from.
        regression: whether labels `[M, T]` are numbers to predict, not binary.
        scale: mean and standard deviation `[2, T]` that `standardised` has removed from such numbers.
        class_names: what the classes are called at the data's source; empty if that is 0, 1, ...
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
    class_names: tuple[int | str, ...] = ()
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

        A changed graph, other labels, or a value edited in place give another content.
        """
        parts = [value for value in (self.labels, self.pairs) if value is not None]
        return digest([self.kind, self.regression, self.graph.content, *map(digest, parts)])

    def labelled(self, index: Tensor | None = None) -> Tensor:
        """The instances of `index` (default: all) that have a label, or at least one of several."""
        index = torch.arange(self.instances) if index is None else index
        labels = self.labels[index]
        return index[labels != UNLABELLED if labels.dim() == 1 else labels.isfinite().any(1)]

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
        """The same task with one more split.

        Raises:
            ValueError: all of `split_problems`.
        """
        if found := split_problems(self, split):
            raise ValueError("\n  - ".join([f"a split of {self.name!r} cannot be used:", *found]))
        return replace(self, splits=self.splits | {split.name: split})

    def with_graph(self, graph: Graph) -> Task:
        """The same task on another graph of the same nodes: a corrupted one, say."""
        return replace(self, graph=sorted_by_target(graph))


def split_problems(task: Task, split: Split) -> list[str]:
    """What keeps a split from being used: parts that overlap, are empty, or name what is not there or has no label."""
    found, labels, seen = [], task.labels, torch.zeros(task.instances, dtype=torch.long)
    for part in PARTS:
        index, where = getattr(split, part), f"split {split.name!r}: its {part} part"
        if not isinstance(index, Tensor) or index.dim() != 1 or index.dtype != torch.long:
            about = f"{index.dtype} {tuple(index.shape)}" if isinstance(index, Tensor) else type(index).__name__
            found.append(f"{where} must be a long tensor [n] of instances, got {about}")
        elif index.numel() == 0:
            found.append(f"{where} is empty")
        elif int(index.min()) < 0 or int(index.max()) >= task.instances:
            found.append(f"{where} names instances outside 0..{task.instances - 1}")
        else:
            seen.index_add_(0, index, torch.ones_like(index))
            found += [f"{where} {what}" for what in _label_gaps(labels[index], part, task.regression)]
    if (seen > 1).any():
        found.append(f"split {split.name!r}: {int((seen > 1).sum())} instances appear more than once")
    return found


def _label_gaps(labels: Tensor, part: str, regression: bool) -> list[str]:
    """Why a part's labels cannot be learnt from, or scored."""
    if labels.dim() == 1:
        missing = int((labels == UNLABELLED).sum())
        return [f"has {missing} instances without a label; leave them out of the split"] if missing else []
    if part == "train":
        return [] if labels.isfinite().any() else ["has no known label"]
    if regression:
        values = [column[column.isfinite()].unique().numel() for column in labels.T]
        return [] if max(values) > 1 else ["has no label with two values, so no R2"]
    no, yes = ((labels == value).any(0) for value in (0, 1))
    return [] if (no & yes).any() else ["has no label with both classes, so no ROC-AUC"]


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


def require_classes(task: Task, reader: str) -> None:
    """Refuse a regression, which has no decisions to be right or wrong, nor a cross-entropy.

    Raises:
        ValueError: it is one; `reader` says what needed classes.
    """
    if task.regression:
        raise ValueError(f"{reader} takes classes or binary labels; {task.name!r} is a regression")


def standardised(task: Task, split: Split) -> Task:
    """A regression with its labels in standard deviations from the mean of a split's training part; others unchanged.

    They are learnt in this form, see `stemlib.training.finetune.fit`. A label for which training knows fewer than
    `FEW_VALUES`, or only one value, takes the mean and deviation of all labels together (then in one unit): those of
    two close values would blow it up.

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
    return in_unit(replace(task, labels=labels, scale=None), scale)


def in_unit(task: Task, scale: Tensor) -> Task:
    """A regression standardised by mean and standard deviation `[2, T]`; one that already is, and others, as is."""
    if not task.regression or task.scale is not None:
        return task
    return replace(task, labels=((task.labels.double() - scale[0]) / scale[1]).float(), scale=scale)
