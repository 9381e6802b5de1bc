"""A training step or an evaluation that computes only what it needs gives what the whole graph gives."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import pytest
import torch
from samples import ENCODERS, graph_task, link_task, node_task, small_baseline, small_model
from torch import Tensor, nn

from stemlib.data.batches import batches, own_edges
from stemlib.data.graph import plain
from stemlib.data.tasks import Task
from stemlib.model.losses import task_loss
from stemlib.model.messages import neighbour_mean
from stemlib.presets import MixtureConfig, TrainConfig
from stemlib.training import finetune
from stemlib.training.epochs import every_epoch
from stemlib.training.evaluation import answer, evaluation_batches, hops, predict
from stemlib.training.finetune import fit, start_tokens, training_batches
from study.families import build

CLOSE = {"rtol": 0, "atol": 1e-5}


def gradients(model: nn.Module, graph: object, instances: Tensor, labels: Tensor) -> list[Tensor]:
    model.zero_grad()
    task_loss(model(graph, instances).logits, labels).backward()
    return [value.grad.clone() for value in model.parameters() if value.grad is not None]


@pytest.mark.parametrize("task", [node_task(), link_task()], ids=lambda task: task.kind)
@pytest.mark.parametrize(("routed", "backbone"), ENCODERS)
@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
def test_a_step_and_an_evaluation_equal_those_of_the_whole_graph(
    task: Task, routed: str, backbone: str, norm: str
) -> None:
    torch.manual_seed(0)
    model = build(small_model(routed=routed, backbone=backbone, norm=norm), task)
    split = task.split("random")
    start_tokens(model, task, split)
    model.eval()  # no noise; gradients flow as in training
    (part,) = training_batches(model, task, split, TrainConfig())(None)
    (whole,) = batches(task, split.train)
    local = routed == "all" or backbone == "sage"
    assert (hops(model, task) > 0) == (local and norm != "batch")
    assert (part.graph is task.graph) == (hops(model, task) == 0)
    for own, expected in zip(gradients(model, *part[:3]), gradients(model, *whole[:3]), strict=True):
        torch.testing.assert_close(own, expected, **CLOSE)
    expected = model(task.graph, task.select(split.test)).logits
    torch.testing.assert_close(predict(model, task, split.test), expected, **CLOSE)


def test_only_the_receptive_field_is_computed() -> None:
    task = node_task(nodes=400, degree=3)
    model, seeds = build(small_model(), task), torch.tensor([7, 3])
    (batch,) = batches(task, seeds, fanouts=(None,) * hops(model, task))
    source, target = plain(task.graph.edge_index)
    one = torch.cat([seeds, source[torch.isin(target, seeds)]]).unique()
    two = torch.cat([one, source[torch.isin(target, one)]]).unique()
    assert [layer.size(0) for layer in model.encode(batch.graph).inputs] == [two.numel(), one.numel()]
    assert model.encode(batch.graph).z.size(0) == 2


def test_the_first_mean_is_reused_unless_dropout_changes_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    task = node_task()
    counted = []
    monkeypatch.setattr("stemlib.model.encoder.neighbour_mean", lambda *a: counted.append(1) or neighbour_mean(*a))
    for dropout, expected in ((0.0, 1), (0.5, 2)):
        model = build(small_model(input_dropout=dropout), task).train()
        (batch,) = training_batches(model, task, task.split("random"), TrainConfig())(None)
        counted.clear()
        model(batch.graph, batch.instances)
        assert len(counted) == expected


def test_what_stays_the_same_is_made_once_and_what_is_drawn_is_drawn_anew() -> None:
    task, generator = node_task(), torch.Generator().manual_seed(0)
    index = torch.arange(20)
    once = every_epoch(task, index, fanouts=(None, None))
    assert once(None) is once(generator)
    drawn = every_epoch(task, index, fanouts=(2, 2))
    (first,), (second,) = drawn(generator), drawn(generator)
    assert not torch.equal(first.graph.hops[0].edge_index[0], second.graph.hops[0].edge_index[0])


def with_triples(task: Task, count: int = 40) -> Task:
    """A link task whose graph has two edges for each of its first `count` pairs, as a knowledge graph's."""
    pairs = task.pairs[:count]
    graph = copy(task.graph)
    graph.edge_index = torch.cat([pairs.T, pairs.flip(1).T], 1)
    graph.edge_type = torch.arange(2).repeat_interleave(count)
    graph.edge_pair = torch.arange(count).repeat(2)
    return task.with_graph(graph)


@pytest.mark.parametrize("kind", ["stem", "sage"])
def test_a_step_does_not_see_its_own_triples_and_an_evaluation_sees_them_all(kind: str) -> None:
    task = with_triples(link_task())
    model = build(small_model() if kind == "stem" else small_baseline("sage"), task)
    split = replace(task.split("random"), train=torch.arange(40))
    shown = []
    for batch in training_batches(model, task, split, TrainConfig(batch_size=8))(torch.Generator()):
        first = batch.graph.hops[0] if kind == "stem" else batch.graph
        shown.append(first.edge_pair)
        own = {tuple(sorted(pair)) for pair in task.pairs[:40].tolist()}
        assert len(own) > 8
        hidden = set(range(40)) - set(first.edge_pair.tolist())
        asked = batch.instances if kind == "sage" else batch.graph.nodes[batch.instances]
        missing = {tuple(pair) for pair in task.pairs[sorted(hidden)].tolist()}
        assert {tuple(pair) for pair in asked.tolist()} <= missing
    if kind == "sage":  # on the whole graph exactly the batch's eight are hidden, both directions
        assert all(pairs.numel() == 2 * (40 - 8) for pairs in shown)
    (batch,) = evaluation_batches(model, task, split.test)(None)
    assert answer(model, [batch], "t").size(0) == split.test.numel()
    assert own_edges(task, torch.arange(8)).sum() == 16
    task.graph.edge_pair = task.graph.edge_pair.where(task.graph.edge_pair != 3, -1)  # two edges that stand for no pair
    assert own_edges(task, torch.arange(8)).sum() == 14


def test_hiding_every_edge_there_is_is_refused() -> None:
    task = with_triples(link_task())
    split = replace(task.split("random"), train=torch.arange(40))
    with pytest.raises(ValueError, match="batch_size"):
        training_batches(build(small_model(), task), task, split, TrainConfig())(None)


@pytest.mark.parametrize("task", [node_task(), link_task()], ids=lambda task: task.kind)
def test_training_with_drawn_neighbours_learns_and_repeats(task: Task) -> None:
    split, train = task.split("random"), TrainConfig(lr=0.02, epochs=15, batch_size=16, fanout=3)
    fits = []
    for _ in range(2):
        torch.manual_seed(0)
        fits.append(fit(build(small_model(), task), task, split, train, 0))
    assert fits[0].history == fits[1].history
    assert fits[0].history[-1]["loss"] < 0.8 * fits[0].history[0]["loss"]


@pytest.mark.parametrize(("config", "settings"), [(small_model(norm="batch"), {}), (small_model(), {"routing": 0.1})])
def test_drawing_neighbours_where_all_nodes_are_needed_is_refused(config: object, settings: dict) -> None:
    task = node_task()
    with pytest.raises(ValueError, match="fanout=5"):
        training_batches(build(config, task), task, task.split("random"), TrainConfig(fanout=5, **settings))


@pytest.mark.parametrize("config", [small_baseline("sage"), small_baseline("gcn"), MixtureConfig(hidden=8)], ids=str)
def test_baselines_and_mixtures_learn_from_drawn_neighbours_and_repeat(config: object) -> None:
    task, train = node_task(), TrainConfig(lr=0.02, epochs=15, batch_size=16, fanout=3)
    fits = []
    for _ in range(2):
        torch.manual_seed(0)
        fits.append(fit(build(config, task), task, task.split("random"), train, 0))
    assert fits[0].history == fits[1].history
    assert fits[0].history[-1]["loss"] < fits[0].history[0]["loss"]


def test_a_graphsage_that_draws_all_neighbours_learns_as_from_the_whole_graph() -> None:
    task, found = node_task(), []
    for fanout in (0, 1000):
        torch.manual_seed(0)
        model = build(small_baseline("sage"), task)
        found.append(fit(model, task, task.split("random"), TrainConfig(epochs=5, fanout=fanout), 0).history)
    losses = [[epoch["loss"] for epoch in history] for history in found]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_drawing_neighbours_of_whole_graphs_or_with_consistency_is_refused() -> None:
    for task, settings in ((graph_task(), {}), (node_task(), {"consistency": 1.0})):
        with pytest.raises(ValueError, match="fanout=5"):
            fit(
                build(small_baseline("sage"), task),
                task,
                next(iter(task.splits.values())),
                TrainConfig(fanout=5, **settings),
                0,
            )


def test_codebooks_of_large_tasks_start_on_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    task = node_task()
    monkeypatch.setattr(finetune, "START_INSTANCES", 10)
    model, seen = build(small_model(), task), []
    monkeypatch.setattr(model, "start_tokens", lambda graph, instances: seen.append(instances))
    start_tokens(model, task, task.split("random"))
    assert seen[0].numel() == 10
