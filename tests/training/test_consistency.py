"""Consistency and DropEdge: who is taught what and when, by hand; that nothing held out is read; and the same bits."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from run_samples import equal
from samples import TASKS, graph_task, node_task, small_baseline, small_model
from torch import Tensor
from torch.nn import functional as F

from stemlib.data.graph import Graph
from stemlib.data.splits import few_labels
from stemlib.data.tasks import Split, Task
from stemlib.model.network import Output
from stemlib.presets import MixtureConfig, TrainConfig
from stemlib.stress.conditions import shift_protocol
from stemlib.stress.shifts import instance_covariate, tail_buckets
from stemlib.training import finetune, loop
from stemlib.training.consistency import Consistency
from stemlib.training.finetune import fit, training_batches
from study.families import AnyConfig, build

TRAIN = TrainConfig(lr=0.02, weight_decay=0.01, epochs=6, patience=6, consistency=1.0, edge_dropout=0.3)
MODELS: dict[str, AnyConfig] = {
    "mixture": MixtureConfig("self low mean ppr rich", hidden=8, input_dropout=0.3, dropout=0.3),
    "gcn": small_baseline("gcn", dropout=0.3),
    "stem": small_model(dropout=0.3),
}


def trained(name: str, task: Task, train: TrainConfig, state: Path | None = None) -> dict[str, Tensor]:
    """What a training leaves: the weights of its best epoch, and the loss after each."""
    torch.manual_seed(0)
    model = build(MODELS[name], task)
    progress = fit(model, task, task.split("random"), train, 0, state)
    losses = {name: torch.tensor([row[name] for row in progress.history]) for name in ("loss", "val_loss")}
    return model.state_dict() | losses


@pytest.mark.parametrize("batch_size", [0, 7])
@pytest.mark.parametrize("name", MODELS)
def test_an_interrupted_training_ends_with_the_same_bits(
    name: str, batch_size: int, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = replace(TRAIN, batch_size=batch_size)
    whole = trained(name, task, train)
    assert not equal(whole, trained(name, task, replace(train, consistency=0.0)))
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_STATES", -1.0)
    epochs, train_epoch = [], finetune.train_epoch

    def stops(*args: object) -> float:
        epochs.append(None)
        if len(epochs) == 4:
            raise KeyboardInterrupt
        return train_epoch(*args)

    monkeypatch.setattr(finetune, "train_epoch", stops)
    with pytest.raises(KeyboardInterrupt):
        trained(name, task, train, tmp_path / "state")
    assert equal(trained(name, task, train, tmp_path / "state"), whole)
    assert len(epochs) == 4 + (train.epochs - 3)


@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_task_is_learnt(name: str, task: Task) -> None:
    torch.manual_seed(0)
    model = build(MODELS[name], task)
    progress = fit(model, task, task.split("random"), replace(TRAIN, epochs=40, patience=40), 0)
    assert progress.history[-1]["loss"] < progress.history[0]["loss"]
    assert progress.best[0] > 0.7


def test_training_with_drawn_neighbours_is_possible() -> None:
    found = trained("stem", node_task(), replace(TRAIN, batch_size=7, fanout=2))
    assert all(value.isfinite().all() for value in found.values())


def poisoned(task: Task, nodes: Tensor, labels: bool = True, features: bool = True) -> Task:
    """Other features and labels of some nodes."""
    x, given = task.graph.x.clone(), task.labels.clone()
    if features:
        x[nodes] = 7 * torch.randn(len(nodes), x.size(1))
    if labels:
        given[nodes] = (given[nodes] + 1) % 3
    graph = replace(task.graph, x=x)
    return replace(task, graph=graph, labels=given)


def apart() -> Task:
    """A node task, none of whose test nodes an edge leaves or enters."""
    task = node_task(120)
    split = task.split("random")
    test = torch.zeros(task.instances, dtype=torch.bool).index_fill_(0, split.test, True)
    return task.with_graph(task.graph.without_edges(test[task.graph.edge_index.as_tensor()].any(0)))


@pytest.mark.parametrize("batch_size", [0, 7])
def test_what_is_held_out_is_not_learnt_from(batch_size: int) -> None:
    task = apart()
    other = poisoned(task, task.split("random").test)
    train = replace(TRAIN, batch_size=batch_size, consistency_on="held_out")
    assert equal(trained("mixture", task, train), trained("mixture", other, train))
    everyone = replace(train, consistency_on="all")
    assert not equal(trained("mixture", task, everyone), trained("mixture", other, everyone))


def test_labels_of_who_is_taught_are_never_read() -> None:
    task = node_task(120)
    other = poisoned(task, task.split("random").test, features=False)
    assert equal(trained("mixture", task, TRAIN), trained("mixture", other, TRAIN))


def taught(task: Task, split: Split, **settings: object) -> set[int]:
    return set(Consistency(task, split, replace(TRAIN, **settings)).unlabelled.tolist())


def test_who_is_taught() -> None:
    task = node_task(120)
    split = few_labels(task.split("random"), task.labels, 3, seed=0)
    train, test = set(split.train.tolist()), set(split.test.tolist())
    everyone = set(range(120))
    assert taught(task, split) == everyone - train
    assert taught(task, split, consistency_on="held_out") == everyone - train - test


def test_held_out_are_the_tails_of_a_shift_too() -> None:
    task = node_task(120)
    buckets = tail_buckets(instance_covariate(task, "degree"), tail=0.3)
    inside, split, conditions = shift_protocol(task, buckets, seed=0, per_class=3)
    met = {int(one) for condition in conditions for one in condition.index}
    assert len(met) > split.test.numel()
    found = taught(inside, split, consistency_on="held_out")
    assert found == set(range(120)) - set(split.train.tolist()) - met
    assert set(split.val.tolist()) < found
    assert taught(inside, split) >= met


def made(**settings: object) -> tuple[Consistency, Task, Split]:
    task = node_task()
    split = task.split("random")
    return Consistency(task, split, replace(TRAIN, epochs=100, **settings)), task, split


def test_the_target_runs_behind_the_answers() -> None:
    consistency, task, split = made()
    order = torch.cat([split.val, split.test, consistency.others])
    first, second = torch.randn(2, task.instances, 3)
    consistency.note(first[order])
    who = consistency.unlabelled
    torch.testing.assert_close(consistency.target, (first[who] / 0.5).softmax(1))
    consistency.note(second[order])
    expected = 0.7 * (first[who] / 0.5).softmax(1) + 0.3 * (second[who] / 0.5).softmax(1)
    torch.testing.assert_close(consistency.target, expected)


def test_the_weight_rises_after_some_epochs() -> None:
    consistency, task, _ = made(consistency=2.0, consistency_after=0.05)
    assert consistency.weight == 0
    found = []
    for _ in range(30):
        consistency.note(torch.zeros(task.instances, 3))
        found.append(consistency.weight)
    assert found[:4] == [0, 0, 0, 0]
    assert found[4:] == pytest.approx([min(0.2 * k, 2.0) for k in range(26)])
    at_once, task, _ = made(consistency_after=0.0)
    assert at_once.weight == 0  # there is no target yet
    at_once.note(torch.zeros(task.instances, 3))
    assert at_once.weight == 1


def test_every_network_of_a_mixture_is_taught_and_the_labelled_are_not() -> None:
    consistency, task, split = made(consistency_after=0.0, consistency=0.5)
    consistency.note(torch.randn(task.instances, 3))
    (batch,) = consistency.shown(task, 0, torch.device("cpu"))(None)
    count = split.train.numel()
    parts = torch.randn(task.instances, 2, 3)
    unlabelled, target = parts[count:], consistency.target
    each = [-(target * unlabelled[:, k].log_softmax(1)).sum(1).mean() for k in range(2)]
    torch.testing.assert_close(consistency.loss(Output(parts[:, 0], parts, parts=parts), batch), 0.5 * sum(each) / 2)
    torch.testing.assert_close(consistency.loss(Output(parts[:, 1], parts), batch), 0.5 * each[1])
    assert torch.equal(batch.labels, task.labels[split.train])
    assert torch.equal(batch.instances[count:], consistency.unlabelled[batch.unlabelled])


def test_of_binary_labels_all_are_taught() -> None:
    task = graph_task()
    split = task.split("random")
    consistency = Consistency(task, split, replace(TRAIN, consistency_after=0.0))
    logits = torch.randn(len(consistency.unlabelled), 2)
    consistency.note(logits)
    torch.testing.assert_close(consistency.target, (logits / 0.5).sigmoid())
    (batch,) = consistency.shown(task, 0, torch.device("cpu"))(None)
    answers = torch.randn(task.instances, 2)
    expected = F.binary_cross_entropy_with_logits(answers[split.train.numel() :], consistency.target)
    torch.testing.assert_close(consistency.loss(Output(answers, answers), batch), expected)


@pytest.mark.parametrize("kind", TASKS)
def test_a_step_shows_as_many_without_labels_as_with_them(kind: str) -> None:
    task = TASKS[kind]()
    split, train = task.split("random"), replace(TRAIN, batch_size=7)
    model, consistency = build(MODELS["mixture"], task), Consistency(task, split, train)
    shown = list(training_batches(model, task, split, train, consistency)(torch.Generator().manual_seed(0)))
    assert [len(batch.labels) for batch in shown] == [len(chunk) for chunk in split.train.split(7)]
    counts = Counter()
    for batch in shown:
        output = model(batch.graph, batch.instances)
        assert len(output.logits) == 2 * len(batch.labels)
        counts.update(batch.unlabelled.tolist())
        assert len(set(batch.unlabelled.tolist())) == len(batch.labels)
    assert max(counts.values()) - min(counts.get(k, 0) for k in range(len(consistency.unlabelled))) <= 1


def test_a_step_of_dropedge_reads_another_graph_and_an_evaluation_the_whole_one() -> None:
    task, seen = node_task(), []
    model = build(small_baseline("gcn"), task)
    model.register_forward_pre_hook(lambda module, given: seen.append((module.training, Graph.of(given[0]).num_edges)))
    fit(model, task, task.split("random"), replace(TRAIN, consistency=0.0, edge_dropout=0.5), 0)
    whole = task.graph.num_edges
    steps = [edges for training, edges in seen if training]
    assert all(edges == whole for training, edges in seen if not training)
    assert len(set(steps)) > 1
    assert sum(steps) / len(steps) == pytest.approx(whole / 2, rel=0.1)


def test_a_regression_is_refused_by_name() -> None:
    task = node_task()
    numbers = replace(task, name="numbers", labels=torch.randn(80, 1), regression=True)
    with pytest.raises(ValueError, match=r"consistency=1 takes classes or binary labels; 'numbers' is a regression"):
        fit(build(MODELS["gcn"], numbers), numbers, numbers.split("random"), TRAIN, 0)


def test_that_nobody_is_left_is_refused() -> None:
    task = node_task()
    split = task.split("random")
    met = torch.cat([split.val, split.test])
    with pytest.raises(ValueError, match=r"leaves no instance of 'tiny' without a label; set consistency=0"):
        Consistency(task, replace(split, met=met), replace(TRAIN, consistency_on="held_out"))
