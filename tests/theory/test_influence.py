"""Influence by hop: nothing from beyond the receptive field, closed forms, and slopes by finite differences."""

from __future__ import annotations

from dataclasses import replace

import networkx as nx
import pytest
import torch
from samples import BASELINES, EXACT, graph_task, link_task, node_task, small_baseline, small_model
from torch import Tensor

from stemlib.data.graph import plain
from stemlib.data.tasks import Task
from stemlib.model.network import Network
from stemlib.theory.influence import influence_by_hop
from study.families import build

NODES = torch.tensor([3, 0, 41])


def sparse_task() -> Task:
    """In float64, with nodes up to four hops away and beyond."""
    task = node_task(degree=1.5)
    return task.with_graph(replace(task.graph, x=task.graph.x.double()))


def network(task: Task, config: object) -> Network:
    torch.manual_seed(0)
    return build(config, task).double().eval()


def distances(task: Task, node: int) -> Tensor:
    """Of every node to one, -1 where no path leads there."""
    whole = nx.DiGraph()
    whole.add_nodes_from(range(task.graph.num_nodes))
    whole.add_edges_from(plain(task.graph.edge_index).T.tolist())
    found = nx.single_target_shortest_path_length(whole, node)
    return torch.tensor([dict(found).get(other, -1) for other in range(task.graph.num_nodes)])


def by_finite_differences(model: Network, task: Task, node: int, hops: int) -> Tensor:
    def logits(x: Tensor) -> Tensor:
        with torch.no_grad():
            return model(replace(task.graph, x=x), torch.tensor([node])).logits[0]

    influence = torch.zeros(task.graph.num_nodes, dtype=torch.double)
    for other in range(task.graph.num_nodes):
        for column in range(task.graph.x.size(1)):
            step = torch.zeros_like(task.graph.x)
            step[other, column] = 1e-6
            change = logits(task.graph.x + step) - logits(task.graph.x - step)
            influence[other] += change.abs().sum() / 2e-6
    far = distances(task, node)
    shares = [influence[far == hop].sum() for hop in range(hops + 1)]
    shares.append(influence[(far > hops) | (far < 0)].sum())
    return torch.stack(shares) / influence.sum()


@pytest.mark.parametrize("config", [small_model(codebook="none"), small_baseline("sage"), small_baseline("gcn")])
def test_shares_are_those_of_finite_differences(config: object) -> None:
    task = sparse_task()
    model = network(task, config)
    found = influence_by_hop(model, task, NODES[:2], hops=1)
    expected = torch.stack([by_finite_differences(model, task, node, 1) for node in NODES[:2].tolist()])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert (found > 0).all()


@pytest.mark.parametrize("config", [small_model(), *map(small_baseline, BASELINES)])
def test_nothing_comes_from_beyond_the_layers(config: object) -> None:
    task = sparse_task()
    found = influence_by_hop(network(task, config), task, NODES, hops=4)
    torch.testing.assert_close(found.sum(1), torch.ones(3).double(), **EXACT)
    layers = 0 if getattr(config, "kind", "") == "mlp" else 2
    assert (found[:, : layers + 1] > 0).all()
    assert (found[:, layers + 1 :] == 0).all()


def test_a_layer_of_means_is_its_closed_form() -> None:
    """`mean_j x_j W + x_i V + b`: the neighbours' share is that of `||W||_1`, whatever their number."""
    task = sparse_task()
    model = network(task, small_baseline("sage", layers=1))
    weights = [value.abs().sum() for value in model.parameters() if value.dim() == 2]
    found = influence_by_hop(model, task, NODES, hops=1)
    of_neighbours, own = (weights[0], weights[1])
    expected = torch.stack([own, of_neighbours, own.new_zeros(())]).expand(3, 3) / (own + of_neighbours)
    torch.testing.assert_close(found, expected.detach(), **EXACT)


def test_it_is_of_nodes_alone() -> None:
    for task in (link_task(), graph_task()):
        with pytest.raises(ValueError, match=f"is a {task.kind} task"):
            influence_by_hop(build(small_model(), task), task, torch.tensor([0]), hops=1)


def test_a_node_that_nothing_moves_has_no_shares() -> None:
    task = sparse_task()
    model = network(task, small_model(codebook="none"))
    torch.nn.init.zeros_(model.head.linear.weight)
    modes = [module.training for module in model.train().modules()]
    assert influence_by_hop(model, task, NODES, hops=1).isnan().all()
    assert [module.training for module in model.modules()] == modes
