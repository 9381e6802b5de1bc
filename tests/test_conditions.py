"""Conditions of tasks with one binary label; `test_bad_input.py` holds what is refused."""

from __future__ import annotations

from dataclasses import replace

import torch
from samples import small_baseline

from stemlib.checkpoints import build
from stemlib.conditions import corrupt, scores, shift_protocol
from stemlib.shifts import COVARIATES, instance_covariate, tail_buckets
from stemlib.tasks import PARTS, Task


def binary(task: Task) -> Task:
    """The task with one binary label, `[M, 1]`, as HIV, Minesweeper and Tolokers have it."""
    labels = task.labels[:, :1] if task.labels.dim() == 2 else (task.labels == 0).float().unsqueeze(1)
    return replace(task, name=f"{task.name}-binary", labels=labels)


def test_a_binary_task_of_every_kind_can_be_shifted_and_damaged(task: Task) -> None:
    task = binary(task)
    assert (task.metric, task.outputs) == ("roc_auc", 1)
    model = build(small_baseline("sage"), task)
    for covariate in COVARIATES:
        buckets = tail_buckets(instance_covariate(task, covariate))
        shifted, split, conditions = shift_protocol(task, buckets, seed=0)
        parts = [getattr(split, part) for part in PARTS]
        assert torch.equal(torch.cat(parts).sort().values, buckets.members["ID"].sort().values)
        assert all(task.labels[part].unique().tolist() == [0, 1] for part in parts)
        assert [condition.name for condition in conditions] == ["clean", "OOD-low", "OOD-high"]
        damaged = [corrupt(conditions[0], kind, 0.5, seed=0)[0] for kind in ("masked", "deleted")]
        met = [c for c in [*conditions, *damaged] if task.labels[c.index].unique().numel() == 2]
        assert all(0 <= area <= 1 for area in scores(model, met).values())
        assert len(met) >= 3
        assert shifted.splits[split.name] is split
