"""Certificates before any damage is seen: how far a budget can move an embedding, Statements 3.11 to 3.13.

The bound follows each node layer by layer, from its clean states and the graph as it is: what masking or deletion does
to its own state and to the mean over its neighbours, through the experts mixed by the clean gates, and what the gates
can add by moving. No perturbed pass is run.

Example:
    >>> from stemlib.data.built_in import built_in
    >>> from stemlib.presets import ModelConfig
    >>> task = built_in(60, degree=4)
    >>> model = StemGNN(ModelConfig(hidden=8, heads=2, codes=4), task.graph.x.size(1), 2).eval()
    >>> a_priori(model, task, torch.arange(60), Budget("deleted", 1)).shape
    torch.Size([60])
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch_geometric.utils import k_hop_subgraph

from stemlib.data.graph import Graph, node_features, plain
from stemlib.data.tasks import Task
from stemlib.model.network import require_fit
from stemlib.model.stem import StemGNN
from stemlib.theory.certificates import ReachCertificate
from stemlib.theory.layer_bounds import Layer, clean_layers, largest
from stemlib.theory.neighbourhoods import Neighbourhoods
from stemlib.theory.routing import evaluating

INSTANCES = 64  # whose own rows are masked at once


@dataclass(frozen=True)
class Budget:
    """What may be done to the graph.

    Attributes:
        damage: `deleted`: undirected edges, anywhere; `masked`: entries of every node's row; `masked own`: entries of
            the instance's own row.
        count: how many of them at most; of entries, in each row.
    """

    damage: Literal["deleted", "masked", "masked own"]
    count: int

    def __post_init__(self) -> None:
        if self.damage not in ("deleted", "masked", "masked own") or self.count < 0:
            raise ValueError(
                f"a budget is a number of 'deleted', 'masked' or 'masked own', got {self.count} of {self.damage!r}"
            )


def a_priori(model: StemGNN, task: Task, index: Tensor, budget: Budget) -> Tensor:
    """Which predictions no damage within a budget can change: mask `[M]` of the instances `index`.

    False proves nothing. The mask holds for what is computed in the model's precision, rounding included.

    Args:
        model: its experts and dense layers are GraphSAGE-mean, without norms; on any device, in any mode.
        task: of nodes with classes, on a graph without edge features.
        index: instances `[M]`.
        budget: what may be done.

    Raises:
        ValueError: a model or task of another form; masking of features that were made from other columns.
    """
    _require(model, task, budget)
    dtype = next(model.parameters()).dtype
    exact = deepcopy(model).cpu().double()
    with evaluating(exact):
        z, move = moves(exact, task.graph, task.select(index), budget, dtype)
        return ReachCertificate(exact, dtype).stays(z, move)


def _require(model: StemGNN, task: Task, budget: Budget) -> None:
    if not isinstance(model, StemGNN):
        raise ValueError(f"the a-priori bound needs a StemGNN, got {type(model).__name__}: smooth it instead")
    require_fit(model, task)
    refused = {
        f"{task.kind} tasks": task.kind != "node",
        "labels that are not one class each": task.regression or task.labels.dim() != 1,
        "edge features": task.edge_width is not None,
        f"norm={model.config.norm!r}": model.config.norm != "none",
        f"expert={model.config.expert!r}": model.config.expert != "mean",
        f"router={model.config.router!r}": model.config.router != "linear",
        f"backbone={model.config.backbone!r}": model.config.backbone != "sage" and not all(model.encoder.is_routed),
        "masking features that were made from other columns": task.graph.source is not None
        and budget.damage != "deleted",
    }
    if found := [name for name, is_so in refused.items() if is_so]:
        raise ValueError(f"{task.name}: the a-priori bound does not hold for {', '.join(found)}: smooth instead")


def moves(
    model: StemGNN, graph: Graph, nodes: Tensor, budget: Budget, dtype: torch.dtype = torch.double
) -> tuple[Tensor, Tensor]:
    """Embeddings `[M, d]` of some nodes, and how far the budget can move each at most, `[M]`.

    Args:
        model: in float64, evaluating.
        graph: without edge features.
        nodes: `[M]`.
        budget: of damage.
        dtype: in which the deployed model computes.
    """
    near = Neighbourhoods(graph)
    x = node_features(graph).double()
    layers, z = clean_layers(model, replace(graph, x=x, node_type=None), near, dtype)
    if budget.damage == "deleted":
        return z[nodes], _deleted(layers, near, budget.count)[nodes]
    first = layers[0]
    maps = zip((first.neighbours, first.own, first.router), first.norms, strict=True)
    images = [_masked(x, *each, budget.count) for each in maps]
    if budget.damage == "masked":
        return z[nodes], _moved(layers, near.mean, [image.unsqueeze(0) for image in images])[0, nodes]
    found = []
    for some in nodes.split(INSTANCES):
        # A node's own mask comes back to it only through others at most `len(layers) - 1` hops away.
        reach, _, places, _ = k_hop_subgraph(some, len(layers) - 1, plain(graph.edge_index), num_nodes=graph.num_nodes)
        at = torch.arange(len(some)), places
        alone = [image.new_zeros(len(some), len(reach), image.size(1)).index_put(at, image[some]) for image in images]
        found.append(_moved([layer.at(reach) for layer in layers], near.mean_among(reach), alone)[at])
    return z[nodes], torch.cat(found)


def _masked(x: Tensor, maps: Tensor, norms: Tensor, count: int) -> Tensor:
    """How far `count` masked entries of each row `[N, d]` can move its images under maps `[P, d, e]`, `[N, P]`.

    Entry by entry, or all at once by the operator norm, whichever is smaller.
    """
    sizes, count = x.abs(), min(count, x.size(1))
    length = torch.linalg.vector_norm(sizes.topk(count, dim=1).values, dim=1)
    bounds = x.new_zeros(len(x), len(maps))
    for place, (entries, norm) in enumerate(zip(torch.linalg.vector_norm(maps, dim=2), norms, strict=True)):
        bounds[:, place] = torch.minimum((sizes * entries).topk(count, dim=1).values.sum(1), length * norm)
    return bounds


def _moved(layers: list[Layer], mean_of: Callable[[Tensor], Tensor], images: list[Tensor]) -> Tensor:
    """Moves of the last layer's outputs `[B, N]` from bounds `[B, N, P]` on the images of the first one's input.

    Args:
        layers: in order.
        mean_of: means over neighbours.
        images: bounds under `neighbours`, `own` and `router` of the first layer.
    """
    move = torch.zeros_like(images[1][..., 0])  # for rounding: masked entries have not grown
    for index, layer in enumerate(layers):
        if index:
            images = [move.unsqueeze(2) * norms for norms in layer.norms]
        mean = mean_of(images[0].transpose(0, 1)).transpose(0, 1)
        error, osc = layer.rounding(mean_of(move.T).T, move)
        nothing = torch.zeros_like(move)
        move = layer.output(mean, images[1], largest(images[2]) + osc, nothing, nothing) + error
    return move


def _deleted(layers: list[Layer], near: Neighbourhoods, count: int) -> Tensor:
    """Moves of the last layer's outputs `[N]` when at most `count` undirected edges are missing."""
    states = torch.zeros(count + 1, near.nodes).to(layers[0].messages)  # by number of missing edges; the features stay
    for index, layer in enumerate(layers):
        of_mean, of_own, of_router = layer.norms
        direct = near.missing(layer.messages, count, layer.experts, layer.gates)
        raw, grown = (near.missing(each, count) for each in (layer.messages, layer.messages.abs()))
        out = torch.zeros_like(states)
        for missing in range(count + 1):
            for own in range(missing + 1):  # so many of a node's own edges, the others elsewhere
                if index < 2:  # a first layer's output depends on a node's own edges alone
                    move, mean = states[own], near.kept(states, own, missing - own)
                else:
                    move, mean = states[missing], near.kept_all(states[missing], own)
                images = mean.unsqueeze(1) * of_mean, move.unsqueeze(1) * of_own
                error, osc = layer.rounding(mean + grown[own], move)
                found = layer.output(*images, move * largest(of_router) + osc, direct[own], raw[own]) + error
                out[missing] = torch.maximum(out[missing], found)
        states = out
    return states[count]
