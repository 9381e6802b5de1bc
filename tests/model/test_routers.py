"""Routers: what holds for all of them."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch
from routed_samples import condition, damaged, random_task
from samples import EXACT, node_task, random_graph, renumbered, small_model

from stemlib.data.batches import batches
from stemlib.data.graph import Graph, sorted_by_target
from stemlib.data.sampling import neighbourhood
from stemlib.model.encoder import Encoder, path_gates
from stemlib.model.routers import ROUTERS
from stemlib.model.stem import StemGNN
from stemlib.presets import ModelConfig, TrainConfig
from stemlib.theory.coverage import coverage
from stemlib.theory.sensitivity import sensitivity
from stemlib.training.finetune import fit
from study.families import build, load_model, save_model

NAMES = sorted(ROUTERS)
UNLEARNT = {"frozen", "hash", "uniform", "kmeans", "fuzzy"}
every = pytest.mark.parametrize("name", NAMES)


def encoder(name: str, **settings: object) -> Encoder:
    """In float64 and evaluation mode, on features of width 6."""
    torch.manual_seed(1)
    return Encoder(small_model(router=name, **settings), 6).double().eval()


def shown(model: Encoder, graph: Graph) -> Encoder:
    """The encoder after one pass in training, as `kmeans` and `fuzzy` need it to start."""
    model.train()(graph)
    return model.eval()


def network(name: str, kind: str, **settings: object) -> StemGNN:
    torch.manual_seed(0)
    return build(small_model(router=name, **settings), random_task(kind)).double().eval()


def test_settings_and_registry_have_the_same_names() -> None:
    assert sorted(get_args(get_type_hints(ModelConfig)["router"])) == NAMES


@every
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("routed", ["last", "all"])
def test_gates_lie_on_the_simplex(name: str, routed: str, training: bool) -> None:
    graph = random_graph()
    model = encoder(name, routed=routed, layers=3)
    for gate in model.train(training)(graph).gates:
        assert gate.shape == (12, 3)
        assert (gate >= 0).all()
        torch.testing.assert_close(gate.sum(1), torch.ones(12).double(), **EXACT)


@every
def test_a_single_expert_has_gate_1(name: str) -> None:
    model = encoder(name, experts=1)
    for training in (True, False):
        assert all(
            torch.equal(gate, torch.ones(12, 1).double()) for gate in model.train(training)(random_graph()).gates
        )


@every
def test_nodes_and_edges_have_no_order(name: str) -> None:
    graph = random_graph()
    model = shown(encoder(name), graph)
    order, edges = torch.randperm(12), torch.randperm(30)
    expected = model(graph)
    for other in (renumbered(graph, order, edges), sorted_by_target(renumbered(graph, order, edges))):
        found = model(other)
        torch.testing.assert_close(found.z, expected.z[order], **EXACT)
        for a, b in zip(found.gates, expected.gates, strict=True):
            torch.testing.assert_close(a, b[order], **EXACT)


@every
def test_gradients_reach_what_is_learnt_and_nothing_else(name: str) -> None:
    model, graph = encoder(name).train(), random_graph()
    encoding = model(graph)
    loss = encoding.z.square().sum()
    if name == "anchored":  # its prior learns by a training term
        loss = loss + sum(encoding.memory["prior", level].square().sum() for level in range(2))
    loss.backward()
    assert (not list(model.routers.parameters())) == (name in UNLEARNT)
    for key, value in model.routers.named_parameters():
        assert value.grad is not None, key
        assert value.grad.isfinite().all(), key
        assert value.grad.any() or key == "0.cell.weight_hh", key  # the first layer has no state to read


@every
def test_evaluation_draws_nothing_and_what_was_learnt_is_in_the_state(name: str) -> None:
    graph = random_graph()
    model = encoder(name)
    fresh = model(graph).z
    assert torch.equal(model(graph).z, fresh)
    shown(model, graph)
    found = model(graph).z
    assert torch.equal(found, fresh) is (name not in {"kmeans", "fuzzy"})
    torch.manual_seed(2)
    other = Encoder(model.config, 6).double().eval()
    assert torch.equal(other(graph).z, found) is False
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(graph).z, found)


@every
def test_gates_are_replayed_and_forced(name: str) -> None:
    graph = random_graph()
    model = shown(encoder(name), graph)
    first = model(graph)
    again = model(graph, first.gates)
    assert torch.equal(again.z, first.z)
    forced = path_gates((2, 0), 12, 3, like=graph.x)
    linear = encoder("linear")
    for mine, theirs in zip(linear.layers, model.layers, strict=True):
        mine.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(model(graph, forced).z, linear(graph, forced).z, **EXACT)


@every
@pytest.mark.parametrize("kind", ["node", "link", "graph"])
def test_a_model_takes_a_step_and_is_saved(name: str, kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = random_task(kind)
    model = build(small_model(router=name), task).double().train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01)
    (batch,) = batches(task, torch.arange(task.instances))
    before = deepcopy(model.state_dict())
    model(batch.graph, batch.instances).logits.square().sum().backward()
    optimiser.step()
    assert any(not torch.equal(value, before[key]) for key, value in model.state_dict().items())
    logits = model.float().eval()(to_float(batch.graph), batch.instances).logits
    assert logits.isfinite().all()
    save_model(model, tmp_path)
    assert torch.equal(load_model(tmp_path)(to_float(batch.graph), batch.instances).logits, logits)


def to_float(graph: Graph) -> Graph:
    out = deepcopy(graph)
    out.x = graph.x.float()
    if graph.edge_attr is not None:
        out.edge_attr = graph.edge_attr.float()
    return out


@every
@pytest.mark.parametrize("routed", ["last", "all"])
def test_a_receptive_field_gives_what_the_whole_graph_gives(name: str, routed: str) -> None:
    graph = sorted_by_target(random_graph(nodes=40, edges=60))
    model = shown(encoder(name, routed=routed), graph)
    assert model.reach == (0 if ROUTERS[name].whole else 2)
    if model.reach:
        seeds = torch.tensor([7, 3, 20])
        part = model(neighbourhood(graph, seeds, (None, None)))
        whole = model(graph)
        torch.testing.assert_close(part.z, whole.z[seeds], **EXACT)
        torch.testing.assert_close(part.gates[-1], whole.gates[-1][seeds], **EXACT)


@every
def test_products_in_bf16_leave_gates_in_the_states_precision(name: str) -> None:
    graph = to_float(random_graph())
    model = shown(encoder(name).float(), graph)
    expected = model(graph).gates[0]
    with torch.autocast("cpu", torch.bfloat16):
        found = model(graph)
    assert found.gates[0].dtype == found.z.dtype == torch.float32
    assert (found.gates[0] - expected).abs().mean() < 0.05


@every
@pytest.mark.parametrize("kind", ["node", "link", "graph"])
def test_the_decompositions_hold(name: str, kind: str) -> None:
    task = random_task(kind)
    model = network(name, kind)
    clean = condition(task)
    found = coverage(model, clean)
    assert pytest.approx(found.R) == found.C + found.S + found.X
    assert found.C >= 0
    read = sensitivity(model, clean, damaged(task), "embedding")
    assert read.sequential.residual.amax() < 1e-9
    still = read.sequential.amplification.amax() == 0
    assert bool(still) is (name == "uniform")


def test_sparse_features_are_read_by_all() -> None:
    graph = to_float(random_graph())
    for name in NAMES:
        model = shown(encoder(name).float(), graph)
        sparse = Graph(graph.x.to_sparse_csr(), graph.edge_index)
        torch.testing.assert_close(model(sorted_by_target(sparse)).z, model(graph).z)


def test_training_with_a_clustered_router_repeats() -> None:
    task = node_task()
    for name in ("kmeans", "fuzzy"):
        histories = []
        for _ in range(2):
            torch.manual_seed(0)
            model = build(small_model(router=name), task)
            histories.append(fit(model, task, task.split("random"), TrainConfig(epochs=3), 0).history)
        assert histories[0] == histories[1]
