from __future__ import annotations

from copy import copy

import pytest
import torch
from samples import TASKS, node_task, random_graph, small_model
from torch import Tensor

from stemlib.data.batches import batches
from stemlib.data.graph import Graph, sorted_by_target
from stemlib.data.sampling import incoming, sampled_neighbourhood
from stemlib.data.tasks import Task
from stemlib.model.losses import task_loss
from stemlib.model.messages import neighbour_mean
from study.families import build

ALL = (None, None)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def in_double(task: Task) -> Task:
    graph = copy(task.graph)
    for name in ("x", "edge_attr"):
        if getattr(graph, name) is not None:
            setattr(graph, name, getattr(graph, name).double())
    return task.with_graph(graph)


def gradient(model: torch.nn.Module, graph: Graph, instances: Tensor, labels: Tensor) -> Tensor:
    """Of the mean loss, all parameters in one vector."""
    model.zero_grad()
    task_loss(model(graph, instances).logits, labels).backward()
    values = [value.grad if value.grad is not None else torch.zeros_like(value) for value in model.parameters()]
    return torch.cat([value.flatten() for value in values])


@pytest.mark.parametrize("kind", ["node", "link"])
@pytest.mark.parametrize("routed", ["none", "last", "all"])
def test_with_all_neighbours_the_mean_gradient_is_the_full_batch_one(kind: str, routed: str) -> None:
    task = in_double(TASKS[kind]())
    index = task.split(next(iter(task.splits))).train
    model = build(small_model(routed=routed, codebook="none"), task).double().eval()
    full = gradient(model, task.graph, task.select(index), task.labels[index])
    total = torch.zeros_like(full)
    for batch in batches(task, index, 7, rng(), fanouts=ALL):
        total += gradient(model, *batch[:3]) * len(batch.labels) / len(index)
    assert torch.allclose(total, full, rtol=1e-9, atol=1e-12)


def test_with_all_neighbours_the_logits_are_those_of_the_whole_graph() -> None:
    task = in_double(node_task())
    model = build(small_model(), task).double().eval()
    index = torch.tensor([5, 3, 60])
    whole = model(task.graph, index).logits
    (batch,) = batches(task, index, fanouts=ALL)
    assert torch.allclose(model(batch.graph, batch.instances).logits, whole, rtol=1e-9, atol=1e-12)
    assert batch.labels.tolist() == task.labels[index].tolist()


def test_a_fan_out_bounds_the_edges_of_every_node() -> None:
    graph = sorted_by_target(random_graph(40, 400))
    edges = incoming(graph, torch.arange(40), 3, rng())
    target = graph.edge_index[1]
    full = torch.bincount(target, minlength=40)
    assert torch.equal(torch.bincount(target[edges], minlength=40), full.clamp(max=3))
    assert edges.unique().numel() == edges.numel()


def test_every_neighbour_is_drawn_equally_often() -> None:
    """Five neighbours, two drawn: each in two draws of five; 4 standard errors of 2000 draws."""
    graph = sorted_by_target(Graph(x=torch.ones(6, 1), edge_index=torch.tensor([[1, 2, 3, 4, 5], [0] * 5])))
    generator = rng()
    drawn = torch.cat([incoming(graph, torch.tensor([0]), 2, generator) for _ in range(2000)])
    share = torch.bincount(drawn, minlength=5) / 2000
    assert (share - 0.4).abs().max() < 4 * (0.4 * 0.6 / 2000) ** 0.5


def test_one_linear_layer_s_gradient_is_unbiased() -> None:
    """The mean over many draws, within 4 standard errors of the full gradient, in every direction."""
    graph = sorted_by_target(random_graph(30, 300))
    weight, seeds = torch.randn(30, 6, dtype=torch.double), torch.arange(10)
    full = (weight[seeds] * neighbour_mean(graph.x, graph.edge_index)[seeds]).sum(0)  # d/dw of sum_i a_i w mean_i
    draws, generator = [], rng()
    for _ in range(600):
        part = sampled_neighbourhood(graph, seeds, (2,), generator)
        draws.append((weight[seeds] * neighbour_mean(part.x, part.edge_index)[:10]).sum(0))
    draws = torch.stack(draws)
    error = (draws.mean(0) - full).abs()
    assert (error < 4 * draws.std(0) / 600**0.5).all()
    assert draws.std(0).min() > 0.1  # the draws differ


def test_a_network_s_gradient_comes_closer_with_the_fan_out() -> None:
    task = in_double(node_task(nodes=300, degree=12))
    index = task.split(next(iter(task.splits))).train
    model = build(small_model(codebook="none"), task).double().eval()
    full = gradient(model, task.graph, index, task.labels[index])

    def distance(fanout: int) -> float:
        generator = rng()
        draws = [
            gradient(model, *batch[:3])
            for _ in range(20)
            for batch in batches(task, index, 0, generator, fanouts=(fanout, fanout))
        ]
        return float((torch.stack(draws).mean(0) - full).norm() / full.norm())

    assert distance(12) < 1e-9  # all there are
    assert distance(8) < distance(2) < 0.5


def test_a_batch_is_no_larger_than_its_fan_outs_allow() -> None:
    task = node_task(nodes=300, degree=12)
    (batch,) = batches(task, torch.arange(5), 5, rng(), fanouts=(3, 2))
    assert batch.graph.num_nodes <= 5 * (1 + 3 + 3 * 2)
    assert torch.equal(batch.graph.nodes[:5], torch.arange(5))
    assert [hop.num_nodes for hop in batch.graph.hops][-1] == 5
    assert torch.equal(batch.graph.x, task.graph.x[batch.graph.nodes])


def test_isolated_nodes_and_graphs_without_edges_are_fine() -> None:
    graph = sorted_by_target(Graph(x=torch.randn(4, 3), edge_index=torch.zeros(2, 0, dtype=torch.long)))
    part = sampled_neighbourhood(graph, torch.tensor([2]), (5, None), rng())
    assert (part.num_nodes, part.num_edges) == (1, 0)


def test_a_fan_out_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        next(batches(node_task(), torch.arange(2), 2, rng(), fanouts=(0, 3)))
