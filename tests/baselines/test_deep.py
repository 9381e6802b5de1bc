"""APPNP, GCNII and ACM against PyG's layers and their formulas."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from samples import EXACT, few, graphs, random_graph
from torch import nn
from torch_geometric.nn import APPNP, GCN2Conv, GCNConv
from torch_geometric.nn.models import MLP

from stemlib.baselines.deep import ACM, ACMLayer, PlainAPPNP, PlainGCNII
from stemlib.baselines.networks import adjacency
from stemlib.data.graph import Graph, plain
from stemlib.model.messages import Spread

SIZES = {"in_channels": 6, "hidden_channels": 8, "out_channels": 3}
GRAPH = random_graph()


def edges(graph: Graph = GRAPH) -> Spread:
    return adjacency("acm", graph, torch.double)


def drawn(network: nn.Module) -> nn.Module:
    """In float64, no parameter at a value that hides it."""
    torch.manual_seed(1)
    network = network.double().eval()
    for value in network.parameters():
        nn.init.normal_(value)
    return network


def with_gradients(value: torch.Tensor, network: nn.Module) -> list[torch.Tensor]:
    return [value, *torch.autograd.grad(value.square().sum(), list(network.parameters()))]


@few
@given(graph=graphs)
def test_appnp_is_an_mlp_and_pygs_steps(graph: Graph) -> None:
    """The last bias aside, which is added behind the steps."""
    ours = drawn(PlainAPPNP(num_layers=2, **SIZES))
    bias = ours.lins[-1].bias
    other = MLP(num_layers=2, norm=None, **SIZES).double()
    other.load_state_dict(ours.state_dict())
    other.lins[-1].bias = None
    expected = APPNP(10, 0.1)(other(graph.x), graph.edge_index) + bias
    torch.testing.assert_close(ours(graph.x, edges(graph)), expected, **EXACT)


@pytest.mark.parametrize("limit", [{"alpha": 1.0}, {"steps": 0}])
def test_appnp_that_takes_no_step_is_the_mlp(limit: dict[str, float]) -> None:
    ours = drawn(PlainAPPNP(num_layers=3, **SIZES, **limit))
    other = MLP(num_layers=3, norm=None, **SIZES).double()
    other.load_state_dict(ours.state_dict())
    for found, expected in zip(
        with_gradients(ours(GRAPH.x, edges()), ours), with_gradients(other(GRAPH.x), other), strict=True
    ):
        torch.testing.assert_close(found, expected, **EXACT)


@few
@given(graph=graphs)
def test_gcnii_is_pygs_layers_between_two_maps(graph: Graph) -> None:
    ours = drawn(PlainGCNII(num_layers=3, **SIZES))
    states = first = ours.lins[0](graph.x).relu()
    for layer, conv in enumerate(ours.convs, start=1):
        other = GCN2Conv(8, alpha=0.1, theta=0.5, layer=layer).double()
        other.weight1 = conv.weight1
        states = other(states, first, graph.edge_index).relu()
    expected = ours.lins[1](states)
    for found, value in zip(
        with_gradients(ours(graph.x, edges(graph)), ours), with_gradients(expected, ours), strict=True
    ):
        torch.testing.assert_close(found, value, **EXACT)


def test_gcnii_that_keeps_its_first_states_and_maps_nothing_is_an_mlp() -> None:
    ours = drawn(PlainGCNII(num_layers=5, alpha=1.0, theta=0.0, **SIZES))
    expected = ours.lins[1](ours.lins[0](GRAPH.x).relu())
    torch.testing.assert_close(ours(GRAPH.x, edges()), expected, **EXACT)


def test_acm_is_its_formula() -> None:
    source, target = plain(GRAPH.edge_index)
    loops = torch.zeros(12, 12, dtype=torch.double).index_put_((target, source), torch.ones(1).double(), True)
    loops.fill_diagonal_(1)  # a loop that is there already, or twice, counts once
    root = loops.sum(1).rsqrt()
    low = root.unsqueeze(1) * loops * root
    filters = (low, torch.eye(12).double() - low, torch.eye(12).double())
    ours, states = drawn(ACM(num_layers=2, **SIZES)), GRAPH.x
    for layer in ours.convs:
        channels = [(f @ states @ w.T).relu() for f, w in zip(filters, layer.weight.chunk(3), strict=True)]
        scores = torch.stack([(c @ v).sigmoid() for c, v in zip(channels, layer.score, strict=True)], dim=1)
        gates = (scores @ layer.mix / 3).softmax(1)
        states = sum(gates[:, k : k + 1] * channel for k, channel in enumerate(channels)) + layer.bias
    torch.testing.assert_close(ours(GRAPH.x, edges()), states, **EXACT)


@few
@given(graph=graphs)
def test_acm_that_uses_one_channel_is_a_gcn_layer_its_rest_or_a_map(graph: Graph) -> None:
    layer = drawn(ACMLayer(6, 4))
    gcn = GCNConv(6, 4, bias=False).double()
    layer.score.data.zero_()  # every score is a half
    found = []
    for channel, weight in enumerate(layer.weight.chunk(3)):
        layer.mix.data.zero_()[:, channel] = 1e4
        gcn.lin.weight.data = weight.data
        own, spread = graph.x @ weight.T, gcn(graph.x, graph.edge_index)
        expected = (spread, own - spread, own)[channel].relu() + layer.bias
        found.append((layer(graph.x, edges(graph)), expected))
    for states, expected in found:
        torch.testing.assert_close(states, expected, **EXACT)


def test_acm_gates_are_a_node_s_own_and_sum_to_one() -> None:
    layer = drawn(ACMLayer(6, 4))
    gates = layer.gates(layer.channels(GRAPH.x, edges()))
    torch.testing.assert_close(gates.sum(1), torch.ones(12).double(), **EXACT)
    assert len(gates.unique(dim=0)) > 6
    layer.mix.data.zero_()
    assert torch.equal(layer.gates(layer.channels(GRAPH.x, edges())), torch.full((12, 3), 1 / 3, dtype=torch.double))
