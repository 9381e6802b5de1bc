"""Worst-case damage: the budgets that `stemlib.stress.corruptions` spends at random, where they hurt one model most.

Both attacks know the model and the labels of the tested instances. They are lower bounds on what an adversary can do:
a stronger search may find more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from stemlib.data.graph import node_features, plain, undirected_pairs
from stemlib.data.tasks import Task, require_classes
from stemlib.devices import device_of
from stemlib.model.losses import instance_loss, task_loss
from stemlib.model.network import require_fit
from stemlib.stress.conditions import CORRUPTIONS, Condition
from stemlib.stress.corruptions import Corruption, thinned, touched_nodes
from stemlib.training.evaluation import predict

QUERIES = 64  # damaged graphs that a model is asked about before it is attacked
QUERY_RATE = 0.5  # of edges deleted in a query: every edge is present in half of them
ROUNDS = 4  # of masking, each guided by the gradient after the previous ones


def _labelled(condition: Condition) -> Condition:
    """The condition with its labelled instances only: an adversary reads the labels."""
    return replace(condition, index=condition.task.labelled(condition.index))


def losses_at_nodes(task: Task, index: Tensor, losses: Tensor) -> Tensor:
    """The losses `[M]` of the instances `index`, summed at the nodes that belong to each, `[N]`."""
    if task.kind == "graph":
        of_graph = losses.new_zeros(task.instances).index_copy_(0, index, losses)
        return of_graph[task.graph.batch]
    nodes = task.select(index).reshape(index.numel(), -1)
    return losses.new_zeros(task.graph.num_nodes).index_add_(
        0, nodes.flatten(), losses.repeat_interleave(nodes.size(1))
    )


def edge_worth(model: nn.Module, condition: Condition, seed: int, queries: int = QUERIES) -> Tensor:
    """How much a model needs each undirected edge around the tested instances, `[P]`, in `undirected_pairs`' order.

    An edge's worth is how much larger the loss at its two ends is without it than with it, on average over graphs
    with half of the edges missing at random. So it is measured on the model as it is, however it uses edges, and for
    all edges at once: the effect of distant ones averages out. Edges without an end among the tested nodes have `-inf`.

    Args:
        model: a trained model.
        condition: the tested instances and their graph.
        seed: of the queries.
        queries: how many.

    Raises:
        ValueError: a regression.
    """
    condition = _labelled(condition)
    task = condition.task
    require_classes(task, "the worth of an edge")
    nodes = touched_nodes(task, condition.index)
    pairs, pair_of_edge = undirected_pairs(plain(task.graph.edge_index), task.graph.num_nodes)
    ends = torch.stack([pairs // task.graph.num_nodes, pairs % task.graph.num_nodes])
    candidate = nodes[ends].any(0)
    generator = torch.Generator().manual_seed(seed)
    sums = torch.zeros(2, pairs.numel())  # of the losses at an edge's ends, with the edge and without it
    counts = torch.zeros(2, pairs.numel())
    labels = task.labels[condition.index]
    for _ in range(queries):
        missing = candidate & (torch.rand(pairs.numel(), generator=generator) < QUERY_RATE)
        shown = task.with_graph(thinned(task.graph, missing[pair_of_edge]))
        losses = instance_loss(predict(model, shown, condition.index), labels, "ce").float().nan_to_num()
        at_ends = losses_at_nodes(task, condition.index, losses)[ends].sum(0)
        for row, chosen in enumerate((~missing, missing)):
            sums[row] += at_ends * chosen
            counts[row] += chosen
    means = sums / counts.clamp(min=1)
    return (means[1] - means[0]).masked_fill(~candidate, -torch.inf)


def worst_deletion(condition: Condition, worth: Tensor, rate: float) -> tuple[Condition, Corruption]:
    """Delete the undirected edges around the tested instances that a model needs most, and none that harm it.

    Args:
        condition: the tested instances and their graph.
        worth: of every undirected edge to the model, from `edge_worth`.
        rate: share of the edges with an end among the tested nodes.

    Returns:
        The condition on the damaged graph, and the damage.
    """
    task = condition.task
    _, pair_of_edge = undirected_pairs(plain(task.graph.edge_index), task.graph.num_nodes)
    candidates = int(worth.isfinite().sum())
    most = worth.topk(round(rate * candidates))
    deleted = torch.zeros_like(worth, dtype=torch.bool).index_fill_(0, most.indices[most.values > 0], True)
    graph = thinned(task.graph, deleted[pair_of_edge])
    met = Condition(f"{condition.name}, worst deletion {rate:g}", task.with_graph(graph), condition.index)
    return met, Corruption(graph, rate, int(deleted.sum()), candidates)


def worst_masking(
    model: nn.Module, condition: Condition, rate: float, rounds: int = ROUNDS
) -> tuple[Condition, Corruption]:
    """Mask the features of the tested nodes that the model needs most, by the gradient of its loss.

    To first order, masking an entry `x` changes the loss by `-x dL/dx`. A budget is a share of the nonzero entries, as
    the others cannot be masked; each round may spend a part of it on the largest changes for the worse. Changes for
    the better are not made.

    Args:
        model: a trained model.
        condition: the tested instances and their graph.
        rate: share of the tested nodes' entries that are not zero.
        rounds: how many.

    Returns:
        The condition on the damaged graph, and the damage.

    Raises:
        ValueError: features made from the data's by an SVD: their coordinates cannot be masked.
    """
    condition = _labelled(condition)
    task = condition.task
    require_fit(model, task)
    if task.graph.source is not None:
        raise ValueError(
            f"the worst masking needs the data's own features; x of {task.name!r} was made from them by an SVD: load "
            "it with width=None, or mask at random with stemlib.stress.corruptions.mask_features"
        )
    nodes = touched_nodes(task, condition.index)
    where = device_of(model)
    out = copy(task.graph.on(where))
    out.x, out.node_type, nodes = node_features(out).clone(memory_format=torch.contiguous_format), None, nodes.to(where)
    candidates = int((out.x[nodes] != 0).sum())
    budget, labels = round(rate * candidates), task.labels[condition.index].to(where)
    index, instances = condition.index.to(where), task.select(condition.index) if task.kind != "graph" else None
    instances = instances if instances is None else instances.to(where)
    model.eval()
    for number in range(rounds):
        out.x.requires_grad_(True)
        logits = model(out, instances).logits
        logits = logits[index] if task.kind == "graph" else logits
        (gradient,) = torch.autograd.grad(task_loss(logits, labels, regression=task.regression), out.x)
        out.x = out.x.detach()
        change = (-out.x * gradient).masked_fill((out.x == 0) | ~nodes.unsqueeze(1), -torch.inf)
        spend = (number + 1) * budget // rounds - number * budget // rounds
        most = change.flatten().topk(spend)
        out.x.view(-1)[most.indices[most.values > 0]] = 0.0
    hit, out = candidates - int((out.x[nodes] != 0).sum()), out.on(torch.device("cpu"))
    met = Condition(f"{condition.name}, worst masking {rate:g}", task.with_graph(out), condition.index)
    return met, Corruption(out, rate, hit, candidates)


def worst_conditions(
    model: nn.Module, clean: Condition, damage: str, rates: Sequence[float], seed: int
) -> Iterator[tuple[float, Condition]]:
    """A condition as the adversary damages it against one network, rate by rate.

    Args:
        model: a trained model.
        clean: the tested instances and their graph.
        damage: `masked` or `deleted`.
        rates: budgets, see `worst_masking` and `worst_deletion`.
        seed: of the queries.

    Raises:
        ValueError: an unknown damage; or as `edge_worth` and `worst_masking`.
    """
    if damage not in CORRUPTIONS:
        raise ValueError(f"unknown damage {damage!r}; there are {' and '.join(CORRUPTIONS)}")
    worth = edge_worth(model, clean, seed) if damage == "deleted" and rates else None
    for rate in rates:
        met, _ = worst_masking(model, clean, rate) if worth is None else worst_deletion(clean, worth, rate)
        yield rate, met
