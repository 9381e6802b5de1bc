"""Whom a frozen model meets, for tasks of every kind; `test_bad_input.py` holds what else is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from samples import graph_task, link_task, node_task, small_baseline

from stemlib.data.scores import score
from stemlib.data.tasks import PARTS, Task
from stemlib.stress.conditions import Condition, alone, corrupt, shift_protocol
from stemlib.stress.shifts import covariates, instance_covariate, tail_buckets
from stemlib.training.evaluation import predict, scores
from study.families import build


def binary(task: Task) -> Task:
    """The task with one binary label, `[M, 1]`, as HIV, Minesweeper and Tolokers have it."""
    labels = task.labels[:, :1] if task.labels.dim() == 2 else (task.labels == 0).float().unsqueeze(1)
    return replace(task, name=f"{task.name}-binary", labels=labels)


@pytest.mark.parametrize("task", [node_task(), link_task(), graph_task(200)], ids=["node", "link", "graph"])
def test_a_binary_task_of_every_kind_can_be_shifted_and_damaged(task: Task) -> None:
    task = binary(task)
    assert (task.metric, task.outputs) == ("roc_auc", 1)
    model = build(small_baseline("sage"), task)
    for covariate in covariates(task):
        buckets = tail_buckets(instance_covariate(task, covariate))
        shifted, split, conditions = shift_protocol(task, buckets, seed=0)
        assert [condition.name for condition in conditions] == ["clean", "OOD-low", "OOD-high"]
        damaged = [corrupt(conditions[0], kind, 0.5, seed=0)[0] for kind in ("masked", "deleted")]
        met = [c for c in [*conditions, *damaged] if task.labels[c.index].unique().numel() == 2]
        assert all(0 <= area <= 1 for area in scores(model, met).values())
        assert len(met) >= 3
        assert shifted.splits[split.name] is split


def test_nodes_are_split_anew_inside_and_met_outside_as_a_whole() -> None:
    task = node_task()
    buckets = tail_buckets(instance_covariate(task, "degree"))
    _, split, conditions = shift_protocol(task, buckets, seed=3)
    parts = torch.cat([getattr(split, part) for part in PARTS])
    assert torch.equal(parts.sort().values, buckets.members["ID"].sort().values)
    assert split.hash != shift_protocol(task, buckets, seed=4)[1].hash
    for condition in conditions[1:]:
        assert torch.equal(condition.index, buckets.members[condition.name])


@pytest.mark.parametrize("task", [link_task(), graph_task()], ids=["link", "graph"])
def test_links_and_graphs_keep_their_own_split_narrowed_to_the_buckets(task: Task) -> None:
    """Whoever trains on a triple that is drawn anew finds test triples as edges of the message graph."""
    given = task.split("random")
    buckets = tail_buckets(instance_covariate(task, "degree"))
    _, split, conditions = shift_protocol(task, buckets, seed=3)
    inside = set(buckets.members["ID"].tolist())
    for part in PARTS:
        assert set(getattr(split, part).tolist()) == set(getattr(given, part).tolist()) & inside
    for condition in conditions[1:]:
        bucket = set(buckets.members[condition.name].tolist())
        assert set(condition.index.tolist()) == (bucket & set(given.test.tolist()) if task.kind == "link" else bucket)
    with pytest.raises(ValueError, match="has no split of its own to shift"):
        shift_protocol(replace(task, splits={}), buckets, seed=3)


@pytest.mark.parametrize("part", ["val", "test"])
def test_a_part_that_cannot_be_scored_is_refused(part: str) -> None:
    """Of the frequent scaffolds in BACE's middle one molecule is for validation."""
    task = binary(graph_task(200))
    labels = task.labels.clone()
    labels[getattr(task.split("random"), part)] = 1.0
    buckets = tail_buckets(instance_covariate(task, "degree"))
    with pytest.raises(
        ValueError, match=rf"the '{part}' part .* inside the middle \(\d+ of \d+ instances\) has no score"
    ):
        shift_protocol(replace(task, labels=labels), buckets, seed=0)


def test_an_empty_bucket_is_named() -> None:
    buckets = tail_buckets(torch.arange(100.0))
    empty = replace(buckets, members=buckets.members | {"OOD-low": torch.tensor([], dtype=torch.long)})
    with pytest.raises(ValueError, match="no labelled instances in the bucket OOD-low"):
        shift_protocol(node_task(100), empty, seed=0)


def test_a_bucket_that_is_like_the_inside_is_left_out() -> None:
    task = node_task(100)
    few_other = torch.full((100,), 8.0)
    few_other[:3] = torch.tensor([3.0, 4.0, 5.0])
    with pytest.warns(UserWarning, match="OOD-high, OOD-low left out, no shift: tied with most of ID"):
        _, split, conditions = shift_protocol(task, tail_buckets(few_other), seed=0)
    assert [condition.name for condition in conditions] == ["clean"]
    assert sum(getattr(split, part).numel() for part in PARTS) == 70
    few_other[:20] = 1.0
    with pytest.warns(UserWarning, match="OOD-high left out"):
        _, _, conditions = shift_protocol(task, tail_buckets(few_other), seed=0)
    assert [condition.name for condition in conditions] == ["clean", "OOD-low"]


def test_few_labels_change_whom_a_model_learns_from_and_nothing_else(task: Task) -> None:
    buckets = tail_buckets(instance_covariate(task, "degree"))
    _, split, conditions = shift_protocol(task, buckets, seed=0)
    few_task, thinned, same = shift_protocol(task, buckets, seed=0, per_class=2)
    assert few_task.split(thinned.name) is thinned
    assert set(thinned.train.tolist()) < set(split.train.tolist())
    assert set(thinned.val.tolist()) < set(split.val.tolist())
    assert torch.equal(shift_protocol(task, buckets, 0, 2, whole_validation=True)[1].val, split.val)
    assert [c.index.tolist() for c in same] == [c.index.tolist() for c in conditions]


def test_graphs_that_are_not_met_can_be_left_out(task: Task) -> None:
    condition = Condition("some", task, torch.tensor([5, 2, 9]))
    few = alone(condition)
    model = build(small_baseline("gin"), task)
    torch.testing.assert_close(predict(model, few.task, few.index), predict(model, task, condition.index))
    assert torch.equal(few.task.labels[few.index].nan_to_num(), task.labels[condition.index].nan_to_num())
    if task.kind == "graph":
        assert few.task.instances == 3
        assert few.task.graph.num_nodes < task.graph.num_nodes
    else:
        assert few is condition


def test_who_has_no_label_is_neither_learnt_nor_met() -> None:
    task = node_task()
    hidden = torch.arange(0, 80, 7)
    task = replace(task, labels=task.labels.index_fill(0, hidden, -1), splits={})
    inside, split, conditions = shift_protocol(task, tail_buckets(torch.arange(80.0)), 0)
    met = torch.cat([split.train, split.val, *(condition.index for condition in conditions)])
    assert not torch.isin(hidden, met).any()
    assert met.unique().numel() == 80 - hidden.numel()
    with pytest.raises(ValueError, match="have no label; leave them out"):
        score(torch.zeros(80, 3), inside.labels)
