"""Test conditions: which instances a frozen model is evaluated on, and how damaged their graph is.

A shift is a condition (a bucket of instances), a corruption is one (the same instances on a damaged graph),
and so are both together. The theory and the stress tests see only conditions.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stemlib.data.batches import union_of_graphs
from stemlib.data.splits import few_labels, stratified_split, within
from stemlib.data.tasks import Split, Task, standardised
from stemlib.stress.corruptions import Corruption, delete_edges, mask_features, touched_nodes
from stemlib.stress.shifts import Buckets

CORRUPTIONS = {"masked": mask_features, "deleted": delete_edges}
MOST_OVERLAP = 0.5  # the largest share of `ID` that may tie with a bucket; beyond that it is no shift


@dataclass(frozen=True)
class Condition:
    """What a frozen model is evaluated on.

    Attributes:
        name: as in tables and figures: `clean`, `OOD-low`, `masked 0.4`, `OOD-low, masked 0.4`.
        task: the task as evaluated, its graph possibly damaged.
        index: the instances evaluated, `[n]`.
    """

    name: str
    task: Task
    index: Tensor

    def __post_init__(self) -> None:
        if self.index.numel() == 0:
            raise ValueError(f"condition {self.name!r} has no instances: the split or bucket is empty")


def shift_protocol(
    task: Task,
    buckets: Buckets,
    seed: int,
    per_class: int | None = None,
    whole_validation: bool = False,
    own_split: str | None = None,
) -> tuple[Task, Split, list[Condition]]:
    """Train inside the in-distribution bucket, and use the other buckets only at test time.

    A node task's `ID` bucket is split 50/25/25 by `seed` (the reference's protocol), unless `own_split` says which of
    its own splits is kept. The splits that links and graphs come with mean something (a message graph without test
    triples, scaffolds): the first is kept. Kept parts are narrowed to the `ID` bucket. Instances without a class or
    number are not evaluated. The other buckets are evaluated in full, except for links and nodes of an `own_split`: of
    these only the test part is, as other triples are edges of the graph, and other nodes the user's. A bucket that
    ties with most of `ID` is left out with a warning: it is no shift (Minesweeper's degrees are nearly all 8).

    Args:
        task: what is learnt.
        buckets: from `stemlib.stress.shifts`, with an `ID` bucket.
        seed: of the draws.
        per_class: instances per class, or per label of a regression, to train on, and as many to validate; None for
            all.
        whole_validation: see `stemlib.data.splits.few_labels`.
        own_split: name of the task's own split that is kept; None as described above.

    Returns:
        The task with that split added, a regression standardised by it; the split; the conditions: `clean` (the test
        part of `ID`), then every other bucket.

    Raises:
        ValueError: a link or graph task without a split, or no split of that name; a part or bucket without instances;
            a validation or test part without a score; a regression of which no two training labels differ.
    """
    if task.kind == "node" or task.labels.dim() == 1:
        buckets = replace(buckets, members={name: task.labelled(index) for name, index in buckets.members.items()})
    if empty := [name for name, index in buckets.members.items() if index.numel() == 0]:
        raise ValueError(f"{task.name}: no labelled instances in the bucket {', '.join(empty)}")
    inside = buckets.members["ID"]
    outside = {name: buckets.members[name] for name, share in buckets.overlap.items() if share <= MOST_OVERLAP}
    if tied := set(buckets.overlap) - set(outside):
        warnings.warn(f"{task.name}: {', '.join(sorted(tied))} left out, no shift: tied with most of ID", stacklevel=2)
    if task.kind == "node" and own_split is None:
        split = stratified_split(inside, task.strata, seed, name=f"inside-{seed}")
    else:
        given = next(iter(task.splits.values()), None) if own_split is None else task.split(own_split)
        if given is None:
            raise ValueError(f"{task.name} has no split of its own to shift: links and graphs are not split anew")
        split = within(given, inside, name=f"{given.name}-inside")
        for part in ("val", "test"):
            left, whole = getattr(split, part), getattr(given, part)
            if not is_scored(Condition(part, task, left)):
                raise ValueError(
                    f"{task.name}: the {part!r} part of the split {given.name!r} inside the middle ({left.numel()} of "
                    f"{whole.numel()} instances) has no score ({task.metric}): shift by another covariate"
                )
        if task.kind != "graph":
            outside = {name: index[torch.isin(index, given.test)] for name, index in outside.items()}
            if empty := [name for name, index in outside.items() if index.numel() == 0]:
                raise ValueError(
                    f"{task.name}: the split {given.name!r} tests nothing in the bucket {', '.join(empty)}"
                )
    if per_class is not None:
        split = few_labels(split, task.strata, per_class, seed, whole_validation)
    split = replace(split, met=torch.cat([split.test, *outside.values()]))
    task = standardised(task.with_split(split), split)
    met = [Condition(name, task, index) for name, index in outside.items()]
    return task, split, [Condition("clean", task, split.test), *met]


def of_one_task(conditions: Iterable[Condition]) -> list[list[Condition]]:
    """Conditions that ask the same of one graph, group by group: they can share a pass."""
    groups: dict[tuple[int, ...], list[Condition]] = {}
    for condition in conditions:
        task = condition.task
        groups.setdefault((id(task.graph), id(task.labels), id(task.pairs)), []).append(condition)
    return list(groups.values())


def alone(condition: Condition) -> Condition:
    """A graph task's condition with only its own graphs, renumbered: damaging it touches no others.

    Node and link conditions come back as they are.
    """
    task = condition.task
    if task.kind != "graph":
        return condition
    graph, labels = union_of_graphs(task.graph, condition.index), task.labels[condition.index]
    task = replace(task, graph=graph, labels=labels, splits={})
    return Condition(condition.name, task, torch.arange(task.instances))


def corrupt(condition: Condition, kind: str, rate: float, seed: int) -> tuple[Condition, Corruption]:
    """The condition with its instances' nodes corrupted, and what was really done.

    Args:
        condition: clean or already corrupted.
        kind: `masked` (features) or `deleted` (edges).
        rate: in [0, 1].
        seed: of the draw.

    Raises:
        ValueError: an unknown kind.
    """
    if kind not in CORRUPTIONS:
        raise ValueError(f"unknown corruption {kind!r}; there are {', '.join(CORRUPTIONS)}")
    nodes = touched_nodes(condition.task, condition.index)
    damage = CORRUPTIONS[kind](condition.task.graph, nodes, rate, seed)
    name = f"{kind} {rate:g}" if condition.name == "clean" else f"{condition.name}, {kind} {rate:g}"
    return Condition(name, condition.task.with_graph(damage.graph), condition.index), damage


def is_scored(condition: Condition) -> bool:
    """Whether the metric is defined: labels are classes, or some binary label or target varies."""
    labels = condition.task.labels[condition.index]
    if labels.dim() == 1:
        return True
    return any(column[column.isfinite()].unique().numel() > 1 for column in labels.T)
