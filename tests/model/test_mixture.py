"""The mixture of filters: each of its networks alone, all together, and in training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import EXACT, few, node_task, random_graph, renumbered, small_baseline
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.nn import APPNP
from torch_geometric.nn.models import MLP

from stemlib.baselines.networks import Baseline
from stemlib.data.graph import Graph, plain
from stemlib.data.tasks import Split, Task
from stemlib.model.filter_networks import NETWORK_FILTERS
from stemlib.model.mixture import Mixture
from stemlib.presets import MixtureConfig, TrainConfig
from stemlib.training.finetune import fit
from study.families import build, load_model, save_model

ALL = MixtureConfig().filters
EVERYONE = torch.arange(12)


def small(filters: str = ALL, **settings: object) -> MixtureConfig:
    return MixtureConfig(filters, **{"hidden": 8, "dropout": 0.0, "input_dropout": 0.0, **settings})


def exact(filters: str = ALL, edge_width: int | None = None, **settings: object) -> Mixture:
    """In float64, with biases that are not zero."""
    model = Mixture(small(filters, **settings), 6, 3, edge_width=edge_width).double().eval()
    for layer in model.layers:
        torch.nn.init.normal_(layer.bias)
    return model


def parts_of(model: Mixture, graph: Graph, instances: Tensor | None = EVERYONE) -> Tensor:
    return model(graph, instances).parts


@pytest.mark.parametrize("stored", ["none", "rows", "types"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize(("name", "kind"), [("self", "mlp"), ("low", "gcn"), ("mean", "sage")])
def test_one_filter_alone_is_the_network_of_that_kind(name: str, kind: str, layers: int, stored: str) -> None:
    graph = random_graph(edge_features=stored)
    width = None if stored == "none" else 3
    model = exact(name, width, layers=layers)
    other = Baseline(small_baseline(kind, layers=layers), 6, 3, edge_width=width).double().eval()
    networks = other.network.lins if kind == "mlp" else other.network.convs
    for layer, copy in zip(model.layers, networks, strict=True):
        maps = [copy] if kind == "mlp" else [copy.lin] if kind == "gcn" else [copy.lin_l, copy.lin_r]
        for weight, each in zip(layer.weight[0].split(layer.out_width, dim=1), maps, strict=True):
            each.weight.data = weight.data.T
        (copy.lin_l if kind == "sage" else copy).bias.data = layer.bias.data
    torch.testing.assert_close(model(graph, EVERYONE).logits, other(graph, EVERYONE).logits, **EXACT)


def test_ppr_alone_is_appnp() -> None:
    graph, model = random_graph(), exact("ppr")
    other = MLP([6, 8, 3], norm=None).double().eval()
    for layer, copy in zip(model.layers, other.lins, strict=True):
        copy.weight.data, copy.bias.data = layer.weight[0].data.T, layer.bias.data
    bias = other.lins[-1].bias.data
    spread = APPNP(8, 0.1)(other(graph.x) - bias, graph.edge_index)
    torch.testing.assert_close(model(graph, EVERYONE).logits, spread + bias, **EXACT)


def test_rich_alone_is_its_formula() -> None:
    graph, model = random_graph(), exact("rich")
    source, target = plain(graph.edge_index)
    adjacency = torch.zeros(12, 12, dtype=torch.double).index_put_((target, source), torch.ones(1).double(), True)
    means = adjacency / adjacency.sum(1, keepdim=True).clamp(min=1)
    loops = adjacency.fill_diagonal_(1)  # a loop that is there already, or twice, counts once
    root = loops.sum(1).rsqrt()
    low = root.unsqueeze(1) * loops * root
    states = graph.x
    for index, layer in enumerate(model.layers):
        a, b, c, d = layer.weight[0].split(layer.out_width, dim=1)
        states = means @ (means @ states @ a + states @ b) + low @ states @ c + states @ d + layer.bias
        states = states.relu() if index == 0 else states
    torch.testing.assert_close(model(graph, EVERYONE).logits, states, **EXACT)


@pytest.mark.parametrize("stored", ["none", "rows"])
def test_networks_that_share_products_answer_as_each_alone(stored: str) -> None:
    graph, names = random_graph(edge_features=stored), (ALL + " low self").split()
    width = None if stored == "none" else 3
    together = exact(" ".join(names), width)
    found = parts_of(together, graph)
    for k, name in enumerate(names):
        alone = exact(name, width)
        for layer, shared in zip(alone.layers, together.layers, strict=True):
            layer.weight[0].data = shared.weight[k].data
            layer.bias.data = shared.bias.data.chunk(len(names))[k]
        torch.testing.assert_close(found[:, k], parts_of(alone, graph)[:, 0], rtol=0, atol=1e-12)


def test_sparse_features_give_the_numbers_of_full_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, model = random_graph(), exact().float()
    graph.x = (graph.x * (graph.x > 1)).float()
    full = parts_of(model, graph)
    monkeypatch.setattr("stemlib.model.sparse_features.FEWEST", 1)
    monkeypatch.setattr("stemlib.model.sparse_features.FULLEST", 1.0)
    sparse = parts_of(model, Graph(graph.x, graph.edge_index))
    torch.testing.assert_close(sparse, full)


@few
@given(seed=st.integers(0, 2**31), nodes=st.integers(1, 12), edges=st.integers(0, 30))
def test_other_numbers_of_nodes_and_edges_change_nothing(seed: int, nodes: int, edges: int) -> None:
    graph = random_graph(nodes, edges, edge_features="rows", seed=seed)
    torch.manual_seed(seed)
    model, order = exact(edge_width=3), torch.randperm(nodes)
    moved = renumbered(graph, order, torch.randperm(edges))
    everyone = torch.arange(nodes)
    torch.testing.assert_close(parts_of(model, moved, everyone), parts_of(model, graph, everyone)[order], **EXACT)


def test_a_repeated_name_is_another_network() -> None:
    model = Mixture(small("low low", gate="uniform"), 6, 3)
    first, second = model.layers[0].weight
    assert not torch.equal(first, second)
    graph = random_graph()
    graph.x = graph.x.float()
    output = model(graph, EVERYONE)
    torch.testing.assert_close(output.logits, output.parts.mean(1))
    output.parts[:, 0].sum().backward()
    assert first.grad.abs().sum() > 0
    assert second.grad is None or second.grad.abs().sum() == 0


def test_of_classes_the_mixture_is_a_product_of_probabilities() -> None:
    graph, model = random_graph(), exact()
    model.gate = torch.rand(5).double().softmax(0)
    output = model(graph, EVERYONE)
    expected = (model.gate.unsqueeze(1) * output.parts.log_softmax(2)).sum(1).log_softmax(1)
    torch.testing.assert_close(output.logits.log_softmax(1), expected, **EXACT)


def built_case(what: str, nodes: int = 300) -> Task:
    """Labels that only a node's own features tell, or only its one neighbour's."""
    torch.manual_seed(0)
    labels, order = torch.randint(2, (nodes,)), torch.randperm(nodes)
    told = F.one_hot(labels, 2).float() + 0.3 * torch.randn(nodes, 2)
    x = told if what == "own" else torch.empty_like(told).index_copy_(0, order, told)
    split = Split("random", *torch.arange(nodes).split(nodes // 3))
    return Task(what, "node", Graph(x, torch.stack([order, torch.arange(nodes)])), labels, {"random": split})


@pytest.mark.parametrize(("what", "right"), [("own", 0), ("other", 1)])
def test_the_gate_finds_the_filter_that_fits(what: str, right: int) -> None:
    task = built_case(what)
    model = build(small("self low", hidden=16), task)
    found = fit(model, task, task.split("random"), TrainConfig(lr=0.02, epochs=60), seed=0)
    assert model.gate[right] > 0.65
    assert max(row["val"] for row in found.history) > 0.9


def test_a_uniform_gate_stays_so() -> None:
    task = built_case("own")
    model = build(small("self low", gate="uniform"), task)
    fit(model, task, task.split("random"), TrainConfig(lr=0.02, epochs=5), seed=0)
    assert model.gate.tolist() == [0.5, 0.5]


def test_the_gate_is_saved_with_the_model(tmp_path: Path) -> None:
    task = built_case("own")
    model = build(small("self low"), task)
    fit(model, task, task.split("random"), TrainConfig(lr=0.02, epochs=5), seed=0)
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert torch.equal(again.gate, model.gate)
    assert not torch.equal(model.gate, torch.full((2,), 0.5))
    everyone = torch.arange(300)
    assert torch.equal(again(task.graph, everyone).logits, model(task.graph, everyone).logits)


def test_loss_and_penalty_are_means_over_the_networks() -> None:
    graph, model = random_graph(), exact("low self")
    model.gate = torch.tensor([1.0, 0.0]).double()
    output, labels = model(graph, EVERYONE), torch.arange(12) % 3
    expected = sum(F.cross_entropy(output.parts[:5, k], labels[:5]) for k in range(2)) / 2
    torch.testing.assert_close(model.loss(output, labels[:5]), expected, **EXACT)
    expected = 0.1 * sum(weight.square().sum() for weight in model.layers[-1].weight) / 2
    torch.testing.assert_close(model.penalty(output, TrainConfig(lipschitz=0.1)), expected, **EXACT)


def test_every_network_starts_at_the_prior() -> None:
    task = node_task()
    model = Mixture(small(), task.graph.x.size(1), 2)
    for layer in model.layers:
        for weight in layer.weight:
            torch.nn.init.zeros_(weight)
    labels = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    model.start_at_prior(labels)
    expected = torch.tensor([4 / 2, 2 / 4]).log()
    parts = parts_of(model, task.graph)
    torch.testing.assert_close(parts, expected.expand_as(parts))


@pytest.mark.parametrize("filters", ["", "low high", "low,mean"])
def test_an_unknown_filter_is_refused_with_the_known_ones(filters: str) -> None:
    with pytest.raises(ValueError, match=f"filters must be some of {', '.join(NETWORK_FILTERS)}"):
        Mixture(small(filters), 6, 3)
