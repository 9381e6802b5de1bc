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
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.nn import global_add_pool, global_max_pool, global_mean_pool
from torch_geometric.utils import contains_isolated_nodes, contains_self_loops

from stemlib.messages import sorted_by_target

Kind = Literal["node", "link", "graph"]
PARTS = ("train", "val", "test")
MIN_PER_CLASS = 3
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
        graph: `x` `[N, d]`, `edge_index` `[2, E]` (source, target), optionally `edge_attr` and `edge_type`
            as in `Encoder.forward`, and for graph tasks `batch` and `ptr`.
        labels: classes `[M]` (long), or `[M, T]` (float, NaN where missing) for many binary labels.
        splits: by name; indices of instances.
        pairs: a link task's pairs of nodes `[M, 2]`.
        description: what a node, an edge and a label are, and where they come from.
        checksum: of the raw files or of the settings that made the data.
        notes: what the checks found that a reader should know (isolated nodes, self-loops, ...).
    """

    name: str
    kind: Kind
    graph: Data
    labels: Tensor
    splits: dict[str, Split]
    pairs: Tensor | None = None
    description: str = ""
    checksum: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def instances(self) -> int:
        return self.labels.size(0)

    @property
    def outputs(self) -> int:
        """Number of logits: classes, or binary labels."""
        return int(self.labels.max()) + 1 if self.labels.dim() == 1 else self.labels.size(1)

    @property
    def metric(self) -> Literal["accuracy", "roc_auc"]:
        return "accuracy" if self.labels.dim() == 1 else "roc_auc"

    @property
    def edge_width(self) -> int | None:
        edges = self.graph.get("edge_attr")
        return None if edges is None else edges.size(1)

    def select(self, index: Tensor) -> Tensor:
        """What the model's read-out takes for the instances `index` of a node or link task."""
        return index if self.kind == "node" else self.pairs[index]

    def split(self, name: str) -> Split:
        if name not in self.splits:
            raise ValueError(f"{self.name} has no split {name!r}; it has {', '.join(self.splits)}")
        return self.splits[name]

    def with_graph(self, graph: Data) -> Task:
        """The same task on another graph of the same nodes: corrupted, say."""
        return replace(self, graph=sorted_by_target(graph))


def read_out(z: Tensor, graph: Data, instances: Tensor | None, kind: Kind, pool: str = "mean") -> Tensor:
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
        return POOLS[pool](z, graph.batch)
    return z[instances] if kind == "node" else z[instances].mean(1)


def score(logits: Tensor, labels: Tensor) -> float:
    """Accuracy for class labels; ROC-AUC averaged over binary labels that have both classes, NaN skipped.

    Args:
        logits: `[M, classes]` or `[M, T]`.
        labels: `[M]` or `[M, T]`.

    Raises:
        ValueError: no instance, or no label with both classes: a score would mean nothing.
    """
    if len(labels) == 0:
        raise ValueError("no instances to score: the split or bucket is empty")
    if labels.dim() == 1:
        return (logits.argmax(-1) == labels).double().mean().item()
    areas = []
    for prediction, label in zip(logits.T.double().numpy(), labels.T.numpy(), strict=True):
        known = np.isfinite(label)
        if np.unique(label[known]).size == 2:
            areas.append(roc_auc_score(label[known], prediction[known]))
    if not areas:
        raise ValueError("no label has both classes among these instances; ROC-AUC is undefined")
    return float(np.mean(areas))


def checked(task: Task) -> Task:
    """The task, its edges sorted for speed, after checks that name every problem at once.

    Isolated nodes, self-loops and repeated edges are legal (a mean over no neighbours is zero) and noted.

    Raises:
        ValueError: all problems, one a line, each with what to do.
    """
    graph = task.graph
    problems = _feature_problems(graph) + _edge_problems(graph) + _label_problems(task)
    for split in task.splits.values():
        problems += _split_problems(task, split)
    if problems:
        lines = "\n".join(f"  - {line}" for line in problems)
        raise ValueError(f"the data of {task.name!r} cannot be used:\n{lines}")
    notes = []
    if graph.num_edges == 0:
        notes.append("no edges: every neighbourhood mean is zero")
    elif contains_isolated_nodes(graph.edge_index, graph.num_nodes):
        notes.append("isolated nodes: their neighbourhood mean is zero")
    if contains_self_loops(graph.edge_index):
        notes.append("self-loops: kept as edges")
    keys = graph.edge_index[0] * graph.num_nodes + graph.edge_index[1]
    repeated = keys.numel() - keys.unique().numel()
    if repeated and graph.get("edge_attr") is None:
        notes.append(f"{repeated} repeated edges: each counts in the mean")
    notes += _untrained_classes(task)
    return replace(task, graph=sorted_by_target(graph), notes=task.notes + tuple(notes))


def _feature_problems(graph: Data) -> list[str]:
    if graph.get("x") is None or graph.x.dim() != 2 or not graph.x.is_floating_point():
        return ["node features `x` must be a float tensor [N, d]"]
    problems = []
    if graph.x.size(0) == 0 or graph.x.size(1) == 0:
        problems.append(f"node features `x` are empty: {tuple(graph.x.shape)}")
    for name in ("x", "edge_attr"):
        value = graph.get(name)
        if value is not None and not value.isfinite().all():
            row = int((~value.isfinite()).any(-1).nonzero()[0])
            bad = int((~value.isfinite()).sum())
            problems.append(
                f"{name} has {bad} NaN or infinite values, first in row {row}; impute or drop them"
            )
    return problems


def _edge_problems(graph: Data) -> list[str]:
    edges = graph.get("edge_index")
    if edges is None or edges.dim() != 2 or edges.size(0) != 2 or edges.dtype != torch.long:
        return ["`edge_index` must be a long tensor [2, E] (source, target); for no edges use shape [2, 0]"]
    problems = []
    nodes = graph.x.size(0) if graph.get("x") is not None else graph.num_nodes
    if edges.numel() and (int(edges.min()) < 0 or int(edges.max()) >= nodes):
        problems.append(
            f"`edge_index` names nodes {int(edges.min())}..{int(edges.max())}, but there are {nodes}"
        )
    types, table = graph.get("edge_type"), graph.get("edge_attr")
    if types is not None:
        if types.shape != (edges.size(1),):
            problems.append(f"`edge_type` must be [{edges.size(1)}], one per edge, got {tuple(types.shape)}")
        elif types.numel() and table is not None and int(types.max()) >= table.size(0):
            problems.append(
                f"`edge_type` reaches {int(types.max())}, but `edge_attr` has {table.size(0)} rows"
            )
    elif table is not None and table.size(0) != edges.size(1):
        problems.append(f"`edge_attr` has {table.size(0)} rows for {edges.size(1)} edges")
    return problems


def _label_problems(task: Task) -> list[str]:
    labels = task.labels
    expected = {"node": task.graph.num_nodes, "link": None if task.pairs is None else len(task.pairs)}
    if task.kind == "graph":
        expected["graph"] = int(task.graph.ptr.numel()) - 1
    problems = []
    if expected[task.kind] is None:
        return ["a link task needs `pairs` [M, 2]"]
    if labels.size(0) != expected[task.kind]:
        problems.append(f"{labels.size(0)} labels for {expected[task.kind]} {task.kind}s")
    if labels.dim() == 1 and (labels.dtype != torch.long or labels.numel() == 0 or int(labels.min()) < 0):
        problems.append("class labels must be long, from 0 on")
    elif labels.dim() == 2:
        known = labels[labels.isfinite()]
        if not ((known == 0) | (known == 1)).all():
            problems.append("binary labels must be 0, 1 or NaN (missing)")
    return problems


def _split_problems(task: Task, split: Split) -> list[str]:
    problems = []
    seen = torch.zeros(task.instances, dtype=torch.long)
    for part in PARTS:
        index = getattr(split, part)
        if index.numel() == 0:
            problems.append(f"split {split.name!r}: its {part} part is empty")
        elif int(index.min()) < 0 or int(index.max()) >= task.instances:
            problems.append(
                f"split {split.name!r}: its {part} part names instances outside 0..{task.instances - 1}"
            )
        else:
            seen.index_add_(0, index, torch.ones_like(index))
    if int(seen.max()) > 1:
        problems.append(f"split {split.name!r}: {int((seen > 1).sum())} instances stand in it more than once")
    return problems


def _untrained_classes(task: Task) -> list[str]:
    """A note where training instances lack a class: it happens in published splits, and bounds the accuracy."""
    if task.labels.dim() == 2:
        return []
    classes = task.labels.unique()
    names = [
        split.name
        for split in task.splits.values()
        if not torch.isin(classes, task.labels[split.train]).all()
    ]
    return [f"classes without a training instance in: {', '.join(names)}"] if names else []
