"""Worst-case damage: it spends its budget, finds what decides, and hurts more than chance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from run_samples import TRAIN, method
from samples import TASKS, node_task, small_baseline
from torch import Tensor, nn

from stemlib.data.features import unit_features
from stemlib.data.graph import Graph, plain
from stemlib.data.tasks import Split, Task
from stemlib.model.losses import task_loss
from stemlib.model.messages import neighbour_mean
from stemlib.model.network import Output
from stemlib.stress.conditions import Condition, corrupt
from stemlib.stress.corruptions import touched_nodes
from stemlib.training.adversary import edge_worth, losses_at_nodes, worst_deletion, worst_masking
from stemlib.training.evaluation import predict
from study.families import build
from study.method import Method
from study.trained import trained_model


class FirstFeature(nn.Module):
    """Says class 1 where a node's own first feature plus that of its neighbours' mean is above 0; no parameters."""

    def forward(self, graph: Graph, instances: Tensor | None) -> Output:
        first = (graph.x + neighbour_mean(graph.x, graph.edge_index))[:, 0]
        logits = torch.stack([-first, first], dim=1)[instances]
        return Output(logits, logits)


@pytest.fixture
def star() -> Condition:
    """Node 0, of class 1, has three neighbours, of which the second alone tells its class."""
    x = torch.tensor([[0.0, 1.0], [-1.0, 1.0], [5.0, 1.0], [-1.0, 1.0]])
    edges = torch.tensor([[1, 2, 3, 0, 0, 0], [0, 0, 0, 1, 2, 3]])
    labels = torch.tensor([1, 0, 1, 0])
    index = torch.tensor([0])
    task = Task("star", "node", Graph(x=x, edge_index=edges), labels, {"s": Split("s", index, index, index)})
    return Condition("clean", task.with_graph(task.graph), index)


def loss(model: nn.Module, condition: Condition) -> float:
    return task_loss(predict(model, condition.task, condition.index), condition.task.labels[condition.index]).item()


def test_the_edge_that_decides_is_deleted(star: Condition) -> None:
    met, damage = worst_deletion(star, edge_worth(FirstFeature(), star, seed=0), 1 / 3)
    assert (damage.hit, damage.candidates) == (1, 3)
    left = plain(met.task.graph.edge_index)
    assert sorted(map(tuple, left.T.tolist())) == [(0, 1), (0, 3), (1, 0), (3, 0)]
    assert met.name == "clean, worst deletion 0.333333"
    assert star.task.graph.num_edges == 6


def test_features_that_are_not_the_data_s_own_are_refused() -> None:
    task = unit_features(node_task(), 4)
    met = Condition("clean", task, task.split("random").test)
    with pytest.raises(ValueError, match=r"x of 'tiny' was made from them by an SVD: load it with width=None"):
        worst_masking(build(small_baseline("mlp"), task), met, 0.5)


def test_what_would_help_is_left_alone(star: Condition) -> None:
    worth = edge_worth(FirstFeature(), star, seed=0)
    assert (worth > 0).sum() == 1  # the other two neighbours speak for the wrong class
    met, damage = worst_deletion(star, worth, 1.0)
    assert (damage.hit, met.task.graph.num_edges) == (1, 4)
    met, damage = worst_masking(FirstFeature(), Condition("clean", star.task, torch.tensor([0, 2])), 1.0)
    assert met.task.graph.x.tolist() == [[0.0, 1.0], [-1.0, 1.0], [0.0, 1.0], [-1.0, 1.0]]


def test_the_entry_that_decides_is_masked(star: Condition) -> None:
    """Of the tested node alone; here none of its own entries matters, so the neighbours' are tested too."""
    condition = Condition("clean", star.task, torch.tensor([0, 2]))
    met, damage = worst_masking(FirstFeature(), condition, 1 / 3, rounds=1)
    assert (damage.hit, damage.candidates) == (1, 3)  # of [0, 1] and [5, 1] three entries are not zero
    assert met.task.graph.x[2].tolist() == [0.0, 1.0]
    assert star.task.graph.x[2].tolist() == [5.0, 1.0]


NETWORKS = {"stem": method("stem", epochs=2), "gcn": Method("gcn", small_baseline("gcn"), replace(TRAIN, epochs=2))}


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_tasks_of_every_kind_can_be_attacked_within_the_budget(kind: str, network: Method, runs: Path) -> None:
    task = TASKS[kind]()
    model = trained_model("t", task, "random", network, 0)
    condition = Condition("clean", task, task.split("random").test)
    nodes = touched_nodes(task, condition.index)
    worth = edge_worth(model, condition, seed=0, queries=4)
    for met, damage in (worst_deletion(condition, worth, 0.4), worst_masking(model, condition, 0.4)):
        assert 0 < damage.hit <= round(0.4 * damage.candidates)
        assert 0 < damage.realised <= 0.4 + 1 / damage.candidates
        assert torch.equal(met.task.graph.x[~nodes], task.graph.x[~nodes])
        assert loss(model, met) > 0
    nothing, _ = worst_deletion(condition, worth, 0.0)
    assert nothing.task.graph.num_edges == task.graph.num_edges


def test_the_memory_s_order_of_features_changes_nothing() -> None:
    task = node_task()
    strided = replace(task.graph, x=task.graph.x.T.contiguous().T)
    model = build(small_baseline("sage"), task)
    conditions = [Condition("clean", met, torch.arange(20)) for met in (task, task.with_graph(strided))]
    found = [worst_masking(model, condition, 0.5)[0].task.graph.x for condition in conditions]
    assert torch.equal(*found)
    assert not torch.equal(found[0], task.graph.x)


def test_it_hurts_a_trained_network_more_than_chance_does(runs: Path) -> None:
    task = node_task(300)
    model = trained_model("t", task, "random", method(epochs=30, patience=30), 0)
    condition = Condition("clean", task, task.split("random").test)
    worth = edge_worth(model, condition, seed=0)
    worst = {"deleted": worst_deletion(condition, worth, 0.3), "masked": worst_masking(model, condition, 0.3)}
    for kind, (met, _) in worst.items():
        chance = max(loss(model, corrupt(condition, kind, 0.3, seed)[0]) for seed in range(5))
        assert loss(model, met) > chance


def test_losses_lie_where_their_instances_lie(task: Task) -> None:
    index = torch.tensor([4, 0, 7])
    at_nodes = losses_at_nodes(task, index, torch.tensor([1.0, 2.0, 4.0]))
    for node in range(task.graph.num_nodes):
        expected = 0.0
        for instance, value in zip(index.tolist(), (1.0, 2.0, 4.0), strict=True):
            if task.kind == "graph":
                expected += value * (task.graph.batch[node] == instance).item()
            else:
                expected += value * (task.select(torch.tensor(instance)) == node).sum().item()
        assert at_nodes[node].item() == expected
