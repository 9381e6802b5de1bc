"""What is trained on and what is met: the task's own split, or a seed's draw; and what a report shifts by."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from stemlib.data.splits import stratified_split
from stemlib.data.tasks import Split, Task, standardised
from stemlib.stress.conditions import Condition
from stemlib.stress.shifts import covariates, instance_covariate

LEAST = 5  # of either answer to a binary label, below which its score says nothing
LOCAL = 200_000  # edges, beyond which locality takes too long


class Drawn(NamedTuple):
    """What a seed trains on, and what the trained networks meet; the first of the conditions is `clean`."""

    task: Task
    split: Split
    conditions: list[Condition]


def is_drawn(task: Task) -> bool:
    """Whether the task came without a split of its own, so that each seed may draw one."""
    names = list(task.splits)
    return task.kind == "node" and (not names or (len(names) == 1 and names[0].startswith("stratified-")))


def rare(task: Task, index: Tensor) -> bool:
    """Whether some instances have too few of one answer for a score: of binary labels, fewer than `LEAST` 0s or 1s."""
    if task.labels.dim() == 1 or task.regression:
        return False
    labels = task.labels[index]
    return min(int((labels > 0).sum(0).max()), int((labels <= 0).sum(0).max())) < LEAST


def shifted_by(task: Task) -> dict[str, Tensor]:
    """The covariates `[M]` by which a report shifts, and locality where the graph is small enough for it."""
    names = covariates(task)
    if task.kind == "node" and 0 < task.graph.num_edges <= LOCAL:
        names.append("locality")
    return {name: instance_covariate(task, name) for name in names}


def whole(task: Task, seed: int) -> Drawn:
    """A seed's turn among the task's own splits, or the seed's draw if the task came without any.

    Raises:
        ValueError: links or graphs without a split, or nothing that can be split.
    """
    given = list(task.splits.values())
    if not is_drawn(task) and not given:
        raise ValueError(f"{task.name} has no split: links and graphs need one of their own, see docs/own_data.md")
    split = stratified_split(task.labelled(), task.strata, seed) if is_drawn(task) else given[seed % len(given)]
    task = standardised(replace(task, splits={}).with_split(split), split)
    return Drawn(task, split, [Condition("clean", task, split.test)])
