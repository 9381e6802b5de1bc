"""What can be wrong with a task's data, and what a reader should know about it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch_geometric.utils import contains_isolated_nodes, contains_self_loops

from stemlib.data.graph import Graph, sorted_by_target
from stemlib.data.leaks import leaks
from stemlib.data.tasks import UNLABELLED, Task, split_problems


def problems(task: Task) -> list[str]:
    """Everything that keeps the task from being used, each with what to do; empty if all is well."""
    labels = _label_problems(task)
    # Where the labels themselves are wrong, their gaps mean nothing.
    sound = replace(task, labels=torch.zeros(task.instances, dtype=torch.long)) if labels else task
    splits = [problem for split in task.splits.values() for problem in split_problems(sound, split)]
    return _feature_problems(task.graph) + _edge_problems(task.graph) + labels + splits


def remarks(task: Task) -> list[str]:
    """What is legal but worth knowing: isolated nodes, self-loops, repeated edges, untrained classes.

    A mean over no neighbours is zero.
    """
    graph, notes = task.graph, []
    if graph.num_edges == 0:
        notes.append("no edges: every neighbourhood mean is zero")
    elif contains_isolated_nodes(graph.edge_index, graph.num_nodes):
        notes.append("isolated nodes: their neighbourhood mean is zero")
    if contains_self_loops(graph.edge_index):
        notes.append("self-loops: kept as edges")
    keys = graph.edge_index[0] * graph.num_nodes + graph.edge_index[1]
    repeated = keys.numel() - keys.unique().numel()
    if repeated and graph.edge_attr is None:
        notes.append(f"{repeated} repeated edges: each counts in the mean")
    return notes + _untrained_classes(task) + _unscored_labels(task) + leaks(task)


def _feature_problems(graph: Graph) -> list[str]:
    if graph.x is None or graph.x.dim() != 2 or not graph.x.is_floating_point():
        return ["node features `x` must be a float tensor [N, d]; if none, use degrees or a constant"]
    problems = [] if graph.x.numel() else [f"node features `x` are empty: {tuple(graph.x.shape)}"]
    for name in ("x", "edge_attr"):
        value = getattr(graph, name)
        if value is not None and (value.dim() != 2 or not value.is_floating_point()):
            problems.append(f"`{name}` must be a float table, got {value.dtype} {tuple(value.shape)}")
        elif value is not None and not value.isfinite().all():
            row, column = (~value.isfinite()).nonzero()[0].tolist()
            bad = int((~value.isfinite()).sum())
            where = f"row {row}, column {column}"
            problems.append(f"{name} has {bad} NaN or infinite values, first in {where}; impute or drop them")
    nodes, types = graph.num_nodes, graph.node_type
    if types is None and graph.x.size(0) != nodes:
        problems.append(f"node features `x` have {graph.x.size(0)} rows for {nodes} nodes")
    elif types is not None and types.shape != (nodes,):
        problems.append(f"`node_type` must be [{nodes}], one per node, got {tuple(types.shape)}")
    elif types is not None and not 0 <= int(types.min()) <= int(types.max()) < len(graph.x):
        problems.append(
            f"`node_type` names rows {int(types.min())}..{int(types.max())} of `x`, which has {len(graph.x)}"
        )
    return problems


def require_finite(graph: Graph) -> None:
    """Refuse NaN and infinity among a graph's features, which a network may hide behind ordinary answers.

    Raises:
        ValueError: the first of them by node (or edge, or type) and column.
    """
    for name in ("x", "edge_attr"):
        value = getattr(graph, name)
        if value is None or not value.numel() or torch.stack(value.aminmax()).isfinite().all():
            continue  # ten times faster than one by one
        row, column = (~value.isfinite()).nonzero()[0].tolist()
        of = "node" if name == "x" and graph.node_type is None else "row"
        row = row if of == "row" or graph.nodes is None else int(graph.nodes[row])
        raise ValueError(
            f"`{name}` has {int((~value.isfinite()).sum())} NaN or infinite values, first at {of} {row}, column "
            f"{column}; impute them as before training, or leave these nodes out"
        )


def _edge_problems(graph: Graph) -> list[str]:
    edges = graph.edge_index
    if edges is None or edges.dim() != 2 or edges.size(0) != 2 or edges.dtype != torch.long:
        return ["`edge_index` must be a long tensor [2, E] (source, target); for no edges use shape [2, 0]"]
    problems, nodes = [], graph.num_nodes
    if edges.numel() and (int(edges.min()) < 0 or int(edges.max()) >= nodes):
        problems.append(f"`edge_index` names nodes {int(edges.min())}..{int(edges.max())}, but there are {nodes}")
    types, table = graph.edge_type, graph.edge_attr
    if types is not None:
        if types.shape != (edges.size(1),):
            problems.append(f"`edge_type` must be [{edges.size(1)}], one per edge, got {tuple(types.shape)}")
        elif types.numel() and table is not None and not 0 <= int(types.min()) <= int(types.max()) < len(table):
            problems.append(
                f"`edge_type` names rows {int(types.min())}..{int(types.max())} of `edge_attr`, which has {len(table)}"
            )
    elif table is not None and table.size(0) != edges.size(1):
        problems.append(f"`edge_attr` has {table.size(0)} rows for {edges.size(1)} edges")
    return problems


def _label_problems(task: Task) -> list[str]:
    labels, expected, problems = task.labels, task.graph.num_nodes, []
    if task.kind == "link":
        expected, problems = 0 if task.pairs is None else len(task.pairs), _pair_problems(task)
    elif task.kind == "graph":
        if problems := _union_problems(task.graph):
            return problems
        expected = task.graph.ptr.numel() - 1
    if labels.dim() not in (1, 2) or labels.numel() == 0:
        return [*problems, f"labels must be classes [M], or binary labels or numbers [M, T], got {tuple(labels.shape)}"]
    if labels.size(0) != expected:
        problems.append(f"{labels.size(0)} labels for {expected} {task.kind}s")
    if task.regression:
        if labels.dim() != 2 or not labels.is_floating_point() or labels.isinf().any():
            problems.append("the labels of a regression must be a table of numbers [M, T], finite or NaN (missing)")
    elif labels.dim() == 1 and labels.dtype != torch.long:
        problems.append(f"class labels must be long, got {labels.dtype}; to predict numbers: `regression=True`")
    elif labels.dim() == 1 and not (int(labels.min()) >= UNLABELLED and (int(labels.max()) >= 0 or not task.splits)):
        problems.append(f"class labels must be long: 0, 1, ..., or {UNLABELLED} for none")
    elif labels.dim() == 1 and int(labels.max()) >= len(labels):
        problems.append(f"class labels reach {int(labels.max())} with {len(labels)} labels; number them 0, 1, ...")
    elif labels.dim() == 2 and not (
        labels.is_floating_point() and ((labels == 0) | (labels == 1) | labels.isnan()).all()
    ):
        problems.append(
            "binary labels must be floats: 0, 1 or NaN (missing); classes must be long; "
            "to predict numbers: `regression=True`"
        )
    return problems


def _pair_problems(task: Task) -> list[str]:
    pairs = task.pairs
    if pairs is None or pairs.dim() != 2 or pairs.size(1) != 2 or pairs.dtype != torch.long:
        return ["a link task needs `pairs`, a long tensor [M, 2]"]
    if pairs.numel() and not 0 <= int(pairs.min()) <= int(pairs.max()) < task.graph.num_nodes:
        return [f"`pairs` names nodes {int(pairs.min())}..{int(pairs.max())}, but there are {task.graph.num_nodes}"]
    standing, edges = task.graph.edge_pair, task.graph.edge_index
    if standing is not None and edges is not None and standing.shape != edges.shape[1:]:
        return [f"`edge_pair` must be [{edges.size(1)}], one per edge, got {tuple(standing.shape)}"]
    if standing is not None and standing.numel() and not -1 <= int(standing.min()) <= int(standing.max()) < len(pairs):
        return [f"`edge_pair` must name pairs 0..{len(pairs) - 1}, or -1 for none"]
    return []


def _union_problems(graph: Graph) -> list[str]:
    batch, ptr = graph.batch, graph.ptr
    if batch is None or ptr is None or ptr.numel() < 2:
        return ["a graph task needs `batch` [N] and `ptr` [G + 1]; torch_geometric.data.Batch makes them"]
    if batch.dim() != 1 or ptr.dim() != 1 or ptr[0] != 0 or ptr[-1] != graph.num_nodes:
        return [f"`ptr` must be [G + 1], from 0 to {graph.num_nodes}, got {tuple(ptr.shape)}; `batch` [N]"]
    sizes = ptr.diff()
    if (sizes < 1).any():
        return [f"graph {int((sizes < 1).nonzero()[0])} has no nodes; drop it"]
    if not torch.equal(batch, torch.arange(len(sizes)).repeat_interleave(sizes)):
        return ["`batch` and `ptr` disagree on which graph a node is in"]
    edges = graph.edge_index
    if not _edge_problems(graph) and (batch[edges[0]] != batch[edges[1]]).any():
        return ["`edge_index` joins nodes of different graphs"]
    return []


def _untrained_classes(task: Task) -> list[str]:
    """A note if no training instance has some class: it happens in published splits, and bounds the accuracy."""
    if task.labels.dim() == 2:
        return []
    classes = task.labels[task.labels != UNLABELLED].unique()
    names = [split.name for split in task.splits.values() if not torch.isin(classes, task.labels[split.train]).all()]
    return [f"classes without a training instance in: {', '.join(names)}"] if names else []


def _unscored_labels(task: Task) -> list[str]:
    """A note if some of several labels have only one value in a test part: scores are means over the others."""
    notes = []
    for split in task.splits.values() if task.labels.dim() == 2 else ():
        columns = task.labels[split.test].T
        count = sum(column[column.isfinite()].unique().numel() < 2 for column in columns)
        if count:
            notes.append(f"{split.name}: {count} of {len(columns)} labels cannot be scored: only one value in the test")
    return notes


def checked(task: Task) -> Task:
    """The task, its edges sorted for speed, after checks that name every problem at once.

    Raises:
        ValueError: all problems, one a line, each with what to do; see `stemlib.data.checks`.
    """
    if found := problems(task):
        raise ValueError("\n  - ".join([f"the data of {task.name!r} cannot be used:", *found]))
    return replace(task, graph=sorted_by_target(task.graph), notes=task.notes + tuple(remarks(task)))
