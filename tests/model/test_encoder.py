"""The routed encoder: gates as data, experts and routers by definition, edge features, initialisation."""

from __future__ import annotations

import math
from copy import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import ENCODERS, EXACT, fewer, graphs, random_graph, renumbered, small_model
from torch import nn

from stemlib.data.graph import Graph, sorted_by_target
from stemlib.model.encoder import Encoder, gumbel_noise, path_gates
from stemlib.model.experts import mixture
from stemlib.model.losses import routing_regulariser

NORMS = ("none", "batch", "layer")
WIDTH, EDGE_WIDTH = 6, 3


def encoder(**settings: object) -> Encoder:
    """In float64 and evaluation mode; batch-norm statistics that are not the trivial ones."""
    edge_width = settings.pop("edge_width", EDGE_WIDTH)
    torch.manual_seed(1)
    model = Encoder(small_model(**settings), WIDTH, edge_width).double().eval()
    for norm in model.norms:
        if isinstance(norm, nn.BatchNorm1d):
            nn.init.uniform_(norm.running_mean, -1, 1)
            nn.init.uniform_(norm.running_var, 0.5, 2)
    return model


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("routed", ["last", "all"])
@pytest.mark.parametrize("norm", NORMS)
def test_replayed_gates_give_the_same_bits(routed: str, norm: str, training: bool) -> None:
    model = encoder(routed=routed, norm=norm).train(training)
    graph = random_graph(edge_features="rows")
    first = model(graph)
    again = model(graph, first.gates)
    assert torch.equal(again.z, first.z)
    for used, given_ in zip(again.gates, first.gates, strict=True):
        assert used is given_
    for a, b in zip(again.gate_logits, first.gate_logits, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("routed", ["last", "all"])
def test_kept_outputs_are_the_experts_and_change_nothing(routed: str) -> None:
    model, graph = encoder(routed=routed).eval(), random_graph(edge_features="rows")
    plain, kept = model(graph), model(graph, keep_outputs=True)
    torch.testing.assert_close(kept.z, plain.z, **EXACT)
    assert not plain.outputs
    assert len(kept.outputs) == model.routed_layers
    torch.testing.assert_close(model.finish_layer(1, mixture(kept.gates[-1], kept.outputs[-1])), kept.z, **EXACT)


def test_gates_may_be_given_for_some_layers_only() -> None:
    model, graph = encoder(), random_graph()
    routed = model(graph)
    first, second = path_gates((2, 0), 12, 3, like=graph.x)
    later = model(graph, [None, second])
    assert torch.equal(later.gates[0], routed.gates[0])
    assert later.gates[1] is second
    earlier = model(graph, [first, None])
    torch.testing.assert_close(earlier.gates[1], earlier.gate_logits[1].softmax(-1))
    assert not torch.allclose(earlier.gates[1], routed.gates[1])  # the router sees what the forced layer made


@pytest.mark.parametrize("path", [(0, 0), (1, 2), (2, 1)])
@pytest.mark.parametrize("norm", NORMS)
def test_a_forced_path_is_the_network_of_those_experts_alone(path: tuple[int, int], norm: str) -> None:
    model = encoder(norm=norm)
    alone = encoder(norm=norm, experts=1)
    state = {name: value for name, value in model.state_dict().items() if not name.startswith("routers")}
    for layer, expert in enumerate(path):
        state[f"layers.{layer}.weight"] = state[f"layers.{layer}.weight"][expert : expert + 1]
    assert not any("routers" not in name for name in alone.load_state_dict(state, strict=False).missing_keys)
    graph = random_graph(edge_features="types")
    forced = model(graph, path_gates(path, 12, 3, like=graph.x))
    torch.testing.assert_close(forced.z, alone(graph).z, **EXACT)


def test_different_paths_are_different_networks() -> None:
    model, graph = encoder(), random_graph()
    outputs = [model(graph, path_gates((a, b), 12, 3, like=graph.x)).z for a in range(3) for b in range(3)]
    assert all(not torch.allclose(outputs[i], outputs[j]) for i in range(9) for j in range(i))


def test_path_gates_are_one_hot() -> None:
    gates = path_gates((1, 0), nodes=4, experts=3)
    assert [gate.shape for gate in gates] == [(4, 3), (4, 3)]
    assert gates[0].tolist() == [[0, 1, 0]] * 4
    assert path_gates((0,), 2, 2, like=torch.zeros(1, dtype=torch.double))[0].dtype == torch.double
    with pytest.raises(ValueError, match=r"path \(0, 3\) names an expert outside 0\.\.2"):
        path_gates((0, 3), nodes=4, experts=3)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(12, 3)], "expected gates for 2 routed layers, got 1"),
        ([(12, 3)] * 3, "expected gates for 2 routed layers, got 3"),
        ([(12, 3), (12, 2)], r"gates of a layer must be \(12, 3\), got \(12, 2\)"),
        ([(11, 3), (12, 3)], r"gates of a layer must be \(12, 3\), got \(11, 3\)"),
        ([(3,), (12, 3)], r"gates of a layer must be \(12, 3\), got \(3,\)"),
    ],
)
def test_gates_of_a_wrong_shape_are_refused(shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encoder()(random_graph(), [torch.ones(shape).double() for shape in shapes])


def test_features_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"node features of width 6 .* width 3; the graph has 5 and None"):
        encoder()(random_graph(width=5))
    with pytest.raises(ValueError, match=r"edge features of width 3; the graph has 6 and 6"):
        encoder()(random_graph(edge_features="rows", edge_width=6))
    with pytest.raises(ValueError, match=r"edge features of width None; the graph has 6 and 3"):
        encoder(edge_width=None)(random_graph(edge_features="rows"))


def test_in_evaluation_gates_are_the_routers_softmax() -> None:
    model, graph = encoder(), random_graph()
    encoding = model(graph)
    torch.testing.assert_close(encoding.gate_logits[0], model.routers[0](graph.x), **EXACT)
    torch.testing.assert_close(encoding.gates[0], encoding.gate_logits[0].softmax(-1), **EXACT)
    assert torch.equal(encoding.inputs[0], graph.x)
    torch.testing.assert_close(encoding.gate_logits[1], model.routers[1](encoding.inputs[1]), **EXACT)
    assert torch.equal(model(graph).z, encoding.z)


def test_training_draws_gumbel_softmax_gates_of_the_given_temperature() -> None:
    logits = torch.tensor([2.0, 0.0, -1.0]).expand(20_000, 3)
    sharp, soft = (encoder(temperature=value).train() for value in (0.01, 100.0))
    gates = sharp.route(logits)
    torch.testing.assert_close(gates.sum(-1), torch.ones(20_000))
    assert gates.max(-1).values.mean() > 0.98  # nearly one-hot ...
    chosen = gates.argmax(-1).bincount(minlength=3) / 20_000  # ... with the softmax's probabilities
    torch.testing.assert_close(chosen, logits[0].softmax(-1), atol=0.015, rtol=0)
    assert (soft.route(logits) - 1 / 3).abs().max() < 0.1
    assert not torch.equal(sharp.route(logits), gates)


def test_gumbel_noise_has_the_gumbel_moments() -> None:
    noise = gumbel_noise(torch.empty(200_000))
    assert abs(noise.mean() - 0.5772) < 4 * (math.pi / 6**0.5) / 200_000**0.5
    assert abs(noise.var() - math.pi**2 / 6) < 0.05
    assert noise.isfinite().all()


def test_routing_regulariser_by_hand() -> None:
    uniform = torch.full((4, 3), 1 / 3)
    assert routing_regulariser([uniform], [torch.zeros(4, 3)]).item() == pytest.approx(-math.log(3))
    certain = torch.tensor([[1.0, 0.0]]), torch.tensor([[50.0, 0.0]])
    assert routing_regulariser([certain[0]], [certain[1]]).item() == pytest.approx(0, abs=1e-6)
    pair = routing_regulariser([uniform, certain[0]], [torch.zeros(4, 3), certain[1]])
    assert pair.item() == pytest.approx(-math.log(3) / 2)
    assert routing_regulariser([], []).item() == 0


@pytest.mark.parametrize(("routed", "backbone"), ENCODERS)
def test_which_layers_are_routed(routed: str, backbone: str) -> None:
    model = encoder(routed=routed, backbone=backbone, layers=3, edge_width=None)
    layers = {"none": 0, "last": 1, "all": 3}[routed]
    assert model.is_routed == [False] * (3 - layers) + [True] * layers
    assert model.routed_layers == len(model.routers) == layers
    encoding = model(random_graph())
    assert len(encoding.gates) == len(encoding.gate_logits) == layers
    assert [value.shape for value in encoding.gates] == [(12, 3)] * layers
    assert [value.shape for value in encoding.inputs] == [(12, 6), (12, 8), (12, 8)]
    assert encoding.z.shape == (12, 8)


@pytest.mark.parametrize(("routed", "backbone"), ENCODERS)
@fewer
@given(graph=graphs, random=st.randoms(use_true_random=False))
def test_encoders_do_not_depend_on_numbering_or_on_the_fast_path(
    routed: str, backbone: str, graph: Graph, random: object
) -> None:
    model = encoder(routed=routed, backbone=backbone)
    order, edge_order = list(range(graph.num_nodes)), list(range(graph.num_edges))
    random.shuffle(order)
    random.shuffle(edge_order)
    other = renumbered(graph, torch.tensor(order), torch.tensor(edge_order, dtype=torch.long))
    with torch.no_grad():
        z = model(graph).z
        assert z.isfinite().all()  # isolated nodes, loops, repeats and no edges included
        torch.testing.assert_close(model(other).z, z[order], **EXACT)
        torch.testing.assert_close(model(sorted_by_target(other)).z, z[order], **EXACT)


def gradients(model: Encoder, graph: Graph) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(graph).z.square().sum().backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("features", ["none", "rows", "types"])
@pytest.mark.parametrize(("routed", "backbone"), ENCODERS)
def test_gradients_are_the_same_on_the_fast_path(routed: str, backbone: str, features: str) -> None:
    model = encoder(routed=routed, backbone=backbone)
    graph = random_graph(edge_features=features)
    slow, fast = gradients(model, graph), gradients(model, sorted_by_target(graph))
    assert slow.keys() == fast.keys()
    for name, value in slow.items():
        torch.testing.assert_close(fast[name], value, **EXACT, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("edge_width", [EDGE_WIDTH, WIDTH])
@pytest.mark.parametrize(("routed", "backbone"), ENCODERS)
def test_edge_types_are_the_same_as_their_rows(routed: str, backbone: str, edge_width: int) -> None:
    model = encoder(routed=routed, backbone=backbone, edge_width=edge_width)
    typed = random_graph(edge_features="types", edge_width=edge_width)
    rows = Graph(x=typed.x, edge_index=typed.edge_index, edge_attr=typed.edge_attr[typed.edge_type])
    torch.testing.assert_close(model(typed).z, model(rows).z, **EXACT)


@pytest.mark.parametrize("switch", [True, False])
@pytest.mark.parametrize(("routed", "backbone"), ENCODERS)
def test_edge_features_matter_where_they_should(routed: str, backbone: str, switch: bool) -> None:
    """In routed layers but for the reference's switch, and in dense GraphSAGE layers; PyG's layers read none."""
    model = encoder(routed=routed, backbone=backbone, routed_edge_features=switch)
    graph = random_graph(edge_features="rows")
    other = copy(graph)
    other.edge_attr = graph.edge_attr + torch.randn_like(graph.edge_attr)
    reads = (routed != "none" and switch) or (routed != "all" and backbone == "sage")
    assert torch.equal(model(graph).z, model(other).z) is not reads
    projected = [layer for layer in model.edge_projections if isinstance(layer, nn.Linear)]
    assert bool(projected) is reads
    learns = [value.any() for name, value in gradients(model, graph).items() if "edge_projections" in name]
    assert len(learns) == len(projected)
    assert all(learns)


def test_edge_features_are_projected_where_their_width_is_another() -> None:
    assert not any(isinstance(layer, nn.Linear) for layer in encoder(edge_width=None).edge_projections)
    first, second = encoder(edge_width=WIDTH).edge_projections
    assert isinstance(first, nn.Identity)
    assert (second.in_features, second.out_features, second.bias) == (WIDTH, 8, None)


def test_norms_are_what_they_are_called() -> None:
    graph = random_graph(nodes=50, edges=200)
    by_row = encoder(norm="layer")(graph).z
    torch.testing.assert_close(by_row.mean(1), torch.zeros(50).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(by_row.var(1, correction=0), torch.ones(50).double(), atol=1e-2, rtol=0)
    by_column = encoder(norm="batch").train()(graph).z
    torch.testing.assert_close(by_column.mean(0), torch.zeros(8).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(by_column.var(0, correction=0), torch.ones(8).double(), atol=1e-2, rtol=0)


@pytest.mark.parametrize("norm", NORMS)
def test_finishing_a_layer_acts_on_the_last_dimension(norm: str) -> None:
    """Expert outputs `[N, K, d]` can be finished one by one, which the theory's tightness bound needs."""
    model = encoder(norm=norm)
    outputs = torch.randn(5, 3, 8, dtype=torch.double)
    for index in (0, 1):
        expected = torch.stack([model.finish_layer(index, outputs[:, k]) for k in range(3)], 1)
        torch.testing.assert_close(model.finish_layer(index, outputs), expected, **EXACT)
    assert (model.finish_layer(0, outputs) >= 0).all()  # an activation between layers, none after the last
    assert (model.finish_layer(1, outputs) < 0).any()


def test_dropout_acts_in_training_only() -> None:
    model = encoder(input_dropout=0.5, dropout=0.5, routed="none")
    graph = random_graph(nodes=200, edges=400)
    assert torch.equal(model(graph).inputs[0], graph.x)
    dropped = model.train()(graph).inputs
    assert 0.4 < dropped[0].eq(0).double().mean() < 0.6
    assert dropped[1].eq(0).double().mean() > model.eval()(graph).inputs[1].eq(0).double().mean() + 0.1


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_activations(activation: str) -> None:
    inside = encoder(activation=activation)(random_graph()).inputs[1]
    assert (inside.min() < 0) == (activation == "leaky_relu")
