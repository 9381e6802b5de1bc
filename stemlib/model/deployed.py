"""A trained model as it is deployed: frozen, without noise, and with nothing in it that only training reads.

Tokens and head are tables (`stemlib.model.folded`): scores `z @ (P_h^T C_h)`, then one lookup per head. Routing is as
trained (`soft`), or hard: with `top1` every node computes only the expert of its largest gate, a `K`-th of the experts'
products, and that expert's output counts in full:

    out_i = [mean_j m_ij ; x_i] W_k + x_i,   k = argmax router(x_i)

From layer to layer the states `x` are then hard-routed ones, so a deeper layer's argmax may differ from that of soft
routing. It is the network of `model.encode(graph, gates)` with the one-hot gates of these argmaxes.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch_geometric.data import Data

from stemlib.data.checks import require_finite
from stemlib.data.graph import Graph, node_features, sorted_by_target
from stemlib.devices import device_of
from stemlib.model.experts import RoutedSAGE
from stemlib.model.folded import folded_classifier
from stemlib.model.network import Network
from stemlib.model.stem import StemGNN

Routing = Literal["soft", "top1"]
Deployed = Callable[[Graph | Data, Tensor | None], Tensor]


class TopOneSAGE(nn.Module):
    """A `RoutedSAGE` in which every node computes one expert: of the gates it reads only the argmax."""

    whole, side_by_side = False, True

    def __init__(self, soft: RoutedSAGE) -> None:
        super().__init__()
        self.weight, self.residual = soft.weight, soft.residual

    def forward(self, mean: Tensor, x: Tensor, gates: Tensor) -> Tensor:
        """The output of each node's top expert, `[N, d_out]`, from means and own states `[N, d_in]`, gates `[N, K]`."""
        expert = gates.argmax(-1)
        out = x.new_empty(len(x), self.weight.size(2))
        for k, weight in enumerate(self.weight):
            rows = (expert == k).nonzero().squeeze(1)
            out[rows] = torch.cat([mean[rows], x[rows]], dim=1) @ weight
        return out.add_(x) if self.residual else out


def _hard(logits: Tensor, noisy: bool = False) -> Tensor:
    return one_hot(logits.argmax(-1), logits.size(-1)).to(logits.dtype)


def deploy(model: Network, routing: Routing = "soft") -> Deployed:
    """The function from a graph and its instances to logits `[M, classes]`, or numbers in the data's own unit.

    It runs on the model's device and answers on the CPU. Without instances (None) it answers for all nodes, or all
    graphs. It refuses NaN and infinity (`ValueError`), which choosing codes and experts by score would hide.

    Args:
        model: a trained one of any family; a copy is deployed, which later training does not change.
        routing: `soft` for the model's own, equal up to rounding; `top1` for hard routing, see the module's docstring.

    Raises:
        ValueError: an unknown routing, or `top1` for a model that routes nothing.

    Example:
        >>> from stemlib.presets import ModelConfig
        >>> graph = Data(x=torch.randn(4, 8), edge_index=torch.tensor([[0, 1, 2], [1, 2, 3]]))
        >>> model = StemGNN(ModelConfig(hidden=16), in_width=8, classes=2)
        >>> deploy(model, "top1")(graph, torch.arange(4)).shape
        torch.Size([4, 2])
    """
    if routing not in get_args(Routing):
        raise ValueError(f"routing must be one of {', '.join(get_args(Routing))}, got {routing!r}")
    if routing == "top1" and not (isinstance(model, StemGNN) and model.encoder.routed_layers):
        raise ValueError("top1 needs routed layers; this model has none (routed='none'): deploy it with routing='soft'")
    with torch.no_grad():
        model = deepcopy(model).eval()
        classify = folded_classifier(model) if isinstance(model, StemGNN) else None
    if routing == "top1":
        for index, layer in enumerate(model.encoder.layers):
            if isinstance(layer, RoutedSAGE):
                model.encoder.layers[index] = TopOneSAGE(layer)
        model.encoder.route = _hard

    where = device_of(model)

    @torch.no_grad()
    def logits(graph: Graph | Data, instances: Tensor | None) -> Tensor:
        graph = Graph.of(graph)
        require_finite(graph)
        if graph.node_type is not None:  # a table of types, which no network reads outside `batches`
            graph = sorted_by_target(replace(graph, x=node_features(graph), node_type=None))
        if instances is None and model.kind != "graph":
            if model.kind == "link":
                raise ValueError("a link model answers for pairs of nodes [M, 2]; none were given")
            instances = torch.arange(graph.num_nodes)
        instances, graph = None if instances is None else instances.to(where), graph.on(where)
        found = classify(model.embed(graph, instances)) if classify else model(graph, instances).logits
        return model.in_own_unit(found).cpu()

    return logits
