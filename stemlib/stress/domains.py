"""Another graph as a condition: a network learns one graph, is frozen, and is evaluated on others.

Each of the others is another `Task`, of which training never sees features, edges or labels. Its features must come
from the source's own space (`stemlib.data.feature_space.FeatureSpace`), fitted on the source alone.

Example:
    >>> from stemlib.data.built_in import mixed_graph
    >>> north, south = mixed_graph(200, seed=0), mixed_graph(120, seed=1)
    >>> task, split, conditions = domain_protocol(north, {"south": south}, seed=0)
    >>> [(condition.name, condition.task.instances) for condition in conditions]
    [('clean', 200), ('south', 120)]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import scipy.sparse
import torch
from torch import Tensor
from torch_geometric.utils import subgraph

from stemlib.data.checks import checked
from stemlib.data.feature_source import FeatureSource
from stemlib.data.feature_space import FeatureSpace
from stemlib.data.graph import Graph, node_features, plain
from stemlib.data.tasks import UNLABELLED, Split, Task, in_unit
from stemlib.stress.conditions import Condition, shift_protocol
from stemlib.stress.shifts import Buckets


def domain_protocol(
    task: Task,
    targets: Mapping[str, Task],
    seed: int,
    per_class: int | None = None,
    whole_validation: bool = False,
    own_split: str | None = None,
    buckets: Buckets | None = None,
) -> tuple[Task, Split, list[Condition]]:
    """Train on one graph, and use others at test time only.

    Args:
        task: the source; for several as one, see `disjoint_union`.
        targets: the other tasks, by name, evaluated on all that has a label; of links with a split only on its test
            part, as the others are edges of that graph.
        seed, per_class, whole_validation, own_split: of the source, see `shift_protocol`.
        buckets: of the source's instances, if the outer ones are evaluated as well; None trains on all of it.

    Returns:
        As `shift_protocol`; each target is a condition after those of the source.

    Raises:
        ValueError: as `shift_protocol`; a target that the source's networks could not read, with what does not fit; two
            conditions of the same name.
    """
    if buckets is None:
        every = torch.arange(task.instances)
        buckets = Buckets(torch.zeros(task.instances), (), {"ID": every})
    task, split, conditions = shift_protocol(task, buckets, seed, per_class, whole_validation, own_split)
    if taken := {condition.name for condition in conditions} & set(targets):
        raise ValueError(f"target name {', '.join(sorted(taken))} is taken by a condition of the source")
    return task, split, [*conditions, *(met_elsewhere(task, name, target) for name, target in targets.items())]


def met_elsewhere(task: Task, name: str, target: Task) -> Condition:
    """A target as a condition for networks that learn a source: classes in its order, a regression in its unit.

    Args:
        task: the source.
        name: of the condition.
        target: what they are evaluated on.

    Raises:
        ValueError: another kind of task, other features, edge features or classes; or nothing has a label.
    """
    alike = {
        "kind": (task.kind, target.kind),
        "metric": (task.metric, target.metric),
        "feature width": (task.graph.x.size(1), target.graph.x.size(1)),
        "edge feature width": (task.edge_width, target.edge_width),
    }
    if task.labels.dim() == target.labels.dim() == 2:
        alike["number of labels"] = (task.labels.size(1), target.labels.size(1))
    if other := [f"its {what} is {theirs}, not {ours}" for what, (ours, theirs) in alike.items() if ours != theirs]:
        raise ValueError(f"{name}: {target.name!r} does not fit {task.name!r}: {'; '.join(other)}")
    FeatureSpace.of(task).require(target)
    target = _with_classes(target, _names(task), task.name)
    target = target if task.scale is None else in_unit(target, task.scale)
    index = target.labelled()
    if target.kind == "link" and target.splits:
        index = next(iter(target.splits.values())).test
    return Condition(name, target, index)


def disjoint_union(tasks: Sequence[Task], name: str) -> Task:
    """Several node tasks as one, side by side with no edges between them; `about["domain"]` numbers them.

    Args:
        tasks: with features from one space, and classes of one naming, in any order; the first's order is kept.
        name: of the union; it has no split.

    Raises:
        ValueError: links or graphs, or a task that the first one's networks could not read.
    """
    first = tasks[0]
    if wrong := [task.name for task in tasks if task.kind != "node"]:
        raise ValueError(f"a union takes node tasks; {', '.join(wrong)} has links or graphs as instances")
    names = tuple(dict.fromkeys(label for task in tasks for label in _names(task)))
    tasks = [met_elsewhere(replace(first, class_names=names), task.name, task).task for task in tasks]
    graphs, sizes = [task.graph for task in tasks], torch.tensor([task.instances for task in tasks])
    offsets = sizes.cumsum(0) - sizes
    edges = [plain(graph.edge_index) + offset for graph, offset in zip(graphs, offsets, strict=True)]
    rows = [graph.edge_attr if graph.edge_type is None else graph.edge_attr[graph.edge_type] for graph in graphs]
    sources = [graph.source for graph in graphs if graph.source is not None]
    source = None
    if sources:
        raw = [each.raw_of(torch.arange(task.instances)) for each, task in zip(sources, tasks, strict=True)]
        source = FeatureSource(scipy.sparse.vstack(raw, format="csr"), sources[0].steps, terms=sources[0].terms)
    graph = Graph(
        torch.cat([node_features(graph) for graph in graphs]),
        torch.cat(edges, dim=1),
        None if rows[0] is None else torch.cat(rows),
        source=source,
        about={"domain": torch.arange(len(tasks)).repeat_interleave(sizes)},
    )
    union = replace(tasks[0], name=name, graph=graph, labels=torch.cat([task.labels for task in tasks]), splits={})
    union = checked(replace(union, description=f"{', '.join(task.name for task in tasks)}, side by side", notes=()))
    return replace(union, checksum=union.content)


def through_time(task: Task, time: Tensor, borders: Sequence[float]) -> tuple[Task, dict[str, Task]]:
    """A node task as it was until a time, and what came later, on the graph as it had grown by then.

    Args:
        task: its graph is the last state.
        time: of every node, `[N]`.
        borders: last times of the periods, ascending; anything later is one more period.

    Returns:
        The source, without a split; and by name (`until 2004`) the later periods, in which earlier nodes have no label.

    Raises:
        ValueError: links or graphs; times that are not one for each node; features that were fitted on all nodes.
    """
    if task.kind != "node" or time.shape != (task.instances,):
        raise ValueError(
            f"through_time takes a node task and one time for each node; {task.name!r} is a {task.kind} task of "
            f"{task.instances} instances with times {tuple(time.shape)}"
        )
    source = task.graph.source
    if source is not None and any(step.components is not None for step in source.steps):
        raise ValueError(f"the features of {task.name!r} were fitted on all nodes, even later ones: use native ones")
    ends = [*borders, *([time.max().item()] if time.max() > borders[-1] else [])]
    states = []
    for begin, end in zip([-float("inf"), *ends], ends, strict=False):
        gone = replace(task, labels=_without(task, time <= begin))
        states.append(_induced(gone, (time <= end).nonzero().flatten(), f"{task.name}-until-{end:g}"))
    return states[0], {f"until {end:g}": state for end, state in zip(ends[1:], states[1:], strict=True)}


def _without(task: Task, hidden: Tensor) -> Tensor:
    """The labels, without those of the nodes of a mask `[N]`."""
    missing = UNLABELLED if task.labels.dim() == 1 else float("nan")
    return task.labels.masked_fill(hidden.view(-1, *[1] * (task.labels.dim() - 1)), missing)


def _induced(task: Task, nodes: Tensor, name: str) -> Task:
    """A node task on some of its nodes and the edges between them, without a split."""
    graph = task.graph
    edges, _, kept = subgraph(
        nodes, plain(graph.edge_index), relabel_nodes=True, num_nodes=graph.num_nodes, return_edge_mask=True
    )
    part = Graph(
        node_features(graph, nodes),
        edges,
        graph.edge_attr if graph.edge_attr is None or graph.edge_type is not None else graph.edge_attr[kept],
        None if graph.edge_type is None else graph.edge_type[kept],
        source=None if graph.source is None else graph.source.of(nodes),
    )
    task = replace(task, name=name, labels=task.labels[nodes], splits={}, checksum="").with_graph(part)
    return replace(task, checksum=task.content)


def _names(task: Task) -> tuple[int | str, ...]:
    """What a task's classes are called; nothing for binary labels and numbers."""
    if task.labels.dim() == 2:
        return ()
    return task.class_names or tuple(range(task.outputs))


def _with_classes(target: Task, names: tuple[int | str, ...], source: str) -> Task:
    """The target with its classes numbered as the source's, by name."""
    own = _names(target)
    if own == names[: len(own)]:
        return target
    used = [own[label] for label in target.labels.unique().tolist() if label != UNLABELLED]
    if unseen := [str(name) for name in used if name not in names]:
        raise ValueError(
            f"{target.name!r} has classes that {source!r} does not know: {', '.join(unseen)} (it knows "
            f"{', '.join(map(str, names))}); use the same names in `class_names`, or set those labels to {UNLABELLED}"
        )
    place = torch.tensor([names.index(name) if name in names else UNLABELLED for name in own] + [UNLABELLED])
    return replace(target, labels=place[target.labels], class_names=names)
