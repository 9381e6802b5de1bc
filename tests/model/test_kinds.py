"""Every kind of experts: its formula, its limits, and that all which holds for the paper's experts holds for it."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch
from routed_samples import condition, damaged, random_model, random_task, without_returns
from samples import EXACT, TASKS, random_graph, renumbered, small_model
from torch import Tensor
from torch.autograd import gradcheck

from stemlib.data.batches import batches
from stemlib.data.graph import Graph, sorted_by_target
from stemlib.data.sampling import neighbourhood
from stemlib.data.tasks import Task
from stemlib.model.deployed import deploy
from stemlib.model.encoder import Encoder, path_gates
from stemlib.model.experts import mixture
from stemlib.model.kinds import EXPERTS
from stemlib.model.losses import instance_loss
from stemlib.presets import ModelConfig, TrainConfig
from stemlib.theory.coverage import coverage
from stemlib.theory.paths import path_losses
from stemlib.theory.sensitivity import sensitivity
from stemlib.training.finetune import fit
from study.families import build, load_model, save_model

ALL_FILTERS = "mean self low high two ppr"
LOCAL = {"filters": "self mean high"}  # filters that read no more than the edges that end in a node
WIDTH, EDGE_WIDTH = 6, 3
each_kind = pytest.mark.parametrize("kind", EXPERTS)


def encoder(kind: str, **settings: object) -> Encoder:
    """In float64 and evaluation mode, no parameter at a special value."""
    torch.manual_seed(1)
    model = Encoder(small_model(expert=kind, **settings), WIDTH, EDGE_WIDTH).double().eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn_like(value) / 10)
    return model


def outputs_of(model: Encoder, graph: Graph, level: int = 0) -> Tensor:
    return model(graph, keep_outputs=True).outputs[level]


def test_the_registry_has_the_names_of_the_setting() -> None:
    assert get_args(get_type_hints(ModelConfig)["expert"]) == tuple(EXPERTS)


@each_kind
@pytest.mark.parametrize("edges", ["none", "rows", "types"])
def test_one_hot_gates_pick_an_expert_and_uniform_ones_give_the_mean(kind: str, edges: str) -> None:
    model, graph = encoder(kind), sorted_by_target(random_graph(edge_features=edges))
    first, kept = outputs_of(model, graph), model(graph, path_gates((1, 2), 12, 3, like=graph.x), keep_outputs=True)
    torch.testing.assert_close(kept.outputs[0], first, **EXACT)
    torch.testing.assert_close(model.finish_layer(0, first[:, 1]), kept.inputs[1], **EXACT)
    torch.testing.assert_close(model.finish_layer(1, kept.outputs[1][:, 2]), kept.z, **EXACT)
    torch.testing.assert_close(model(graph, kept.gates).z, kept.z, **EXACT)  # the way without outputs
    assert all(not torch.allclose(first[:, a], first[:, b]) for a in range(3) for b in range(a))
    even = [torch.full((12, 3), 1 / 3, dtype=torch.double)] * 2
    torch.testing.assert_close(model.finish_layer(0, first.mean(1)), model(graph, even).inputs[1], **EXACT)


@each_kind
def test_one_expert_has_nothing_to_choose(kind: str) -> None:
    model, graph = encoder(kind, experts=1), random_graph()
    found = model(graph, keep_outputs=True)
    assert all(torch.equal(gate, torch.ones_like(gate)) for gate in found.gates)
    torch.testing.assert_close(found.z, model.finish_layer(1, found.outputs[1][:, 0]), **EXACT)


@each_kind
def test_numbering_does_not_matter(kind: str) -> None:
    model, graph = encoder(kind, experts=6, filters=ALL_FILTERS), random_graph(edge_features="rows")
    order, edge_order = torch.randperm(12), torch.randperm(30)
    other = renumbered(graph, order, edge_order)
    torch.testing.assert_close(model(other).z, model(graph).z[order], **EXACT)
    torch.testing.assert_close(model(sorted_by_target(other)).z, model(graph).z[order], **EXACT)


@each_kind
@pytest.mark.parametrize("experts", [2, 3, 7])
def test_gradients_reach_every_parameter_and_are_the_same_without_the_fast_way(kind: str, experts: int) -> None:
    model, graph = encoder(kind, experts=experts, filters=ALL_FILTERS), random_graph(edge_features="rows")
    parameters = dict(model.named_parameters())
    fast = torch.autograd.grad(model(graph).z.square().sum(), parameters.values())
    slow = torch.autograd.grad(model(graph, keep_outputs=True).z.square().sum(), parameters.values())
    for name, one, other in zip(parameters, fast, slow, strict=True):
        assert one.any(), name
        torch.testing.assert_close(one, other, **EXACT, msg=lambda text, name=name: f"{name}: {text}")


@each_kind
def test_gradients_of_states_are_right(kind: str) -> None:
    model, graph = encoder(kind, experts=6, filters=ALL_FILTERS), sorted_by_target(random_graph(nodes=5, edges=9))

    def output(x: Tensor) -> Tensor:
        gathered = model.gathered(0, x, graph)
        return mixture(torch.softmax(x, 1), model.layers[0].expert_outputs(gathered, x))

    assert gradcheck(output, graph.x[:, :6].clone().requires_grad_())


@each_kind
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_every_task_is_learnt_in_single_precision(kind: str, precision: str, task: Task) -> None:
    split, train = task.split("random"), TrainConfig(lr=0.01, epochs=15, precision=precision)
    model = build(small_model(expert=kind, filters="low mean high"), task)
    history = fit(model, task, split, train, 0).history
    assert history[-1]["loss"] < history[0]["loss"]
    assert all(value.isfinite().all() for value in model.parameters())


@each_kind
def test_a_saved_model_is_the_same(kind: str, tmp_path: Path) -> None:
    task = TASKS["node"]()
    model = build(small_model(expert=kind, filters="ppr self high"), task).eval()
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.config == model.config
    assert torch.equal(loaded.encode(task.graph).z, model.encode(task.graph).z)
    copied = deepcopy(model)
    with torch.no_grad():
        for value in copied.parameters():
            value.zero_()
    assert torch.equal(loaded.encode(task.graph).z, model.encode(task.graph).z)
    assert not copied.encode(task.graph).z.any()  # a copy has no part in the original


@each_kind
def test_a_receptive_field_is_enough_where_no_more_is_read(kind: str) -> None:
    model, graph = encoder(kind, **LOCAL), sorted_by_target(random_graph(edge_features="types"))
    assert model.reach == 2
    seeds = torch.tensor([7, 3])
    part = neighbourhood(graph, seeds, [None] * model.reach)
    torch.testing.assert_close(model(part).z, model(graph).z[seeds], **EXACT)


@each_kind
@pytest.mark.parametrize("kind_of_task", TASKS)
def test_deployed_it_is_the_model_and_with_top1_that_of_one_hot_gates(kind: str, kind_of_task: str) -> None:
    task = random_task(kind_of_task)
    model = random_model(task, expert=kind)
    (batch,) = batches(task, torch.arange(task.instances))
    soft, gates = model.encode(batch.graph).gates, [None, None]
    for level in range(2):
        logits = model.encode(batch.graph, gates).gate_logits[level]
        gates[level] = torch.nn.functional.one_hot(logits.argmax(-1), 3).double()
    for how, used in (("soft", soft), ("top1", gates)):
        expected = model(batch.graph, batch.instances, used).logits
        torch.testing.assert_close(deploy(model, how)(batch.graph, batch.instances), expected, **EXACT)


@each_kind
@pytest.mark.parametrize("kind_of_task", TASKS)
def test_the_decompositions_add_up(kind: str, kind_of_task: str) -> None:
    task = random_task(kind_of_task)
    model = random_model(task, expert=kind)
    for scope in {"graph", "graph" if kind_of_task == "graph" else "node"}:
        found = coverage(model, condition(task), scope)
        torch.testing.assert_close(found.covered + found.selection + found.mixing, found.routed, **EXACT)
        assert (found.selection >= 0).all()
    clean, perturbed = condition(task), damaged(task)
    before, after = model.encode(task.graph), model.encode(perturbed.task.graph)
    held = model.encode(perturbed.task.graph, before.gates)
    if kind_of_task == "node":
        found = sensitivity(model, clean, perturbed).sequential
        assert found.residual.max() < 1e-9
        torch.testing.assert_close(found.base, (held.z - before.z).square().sum(1), **EXACT)
        torch.testing.assert_close(found.total, (after.z - before.z).square().sum(1), **EXACT)


@each_kind
@pytest.mark.parametrize("kind_of_task", ["node", "link"])
def test_forcing_an_instance_is_what_a_whole_pass_does(kind: str, kind_of_task: str) -> None:
    """In a network of one routed layer, and a dense one before it."""
    task = without_returns(random_task(kind_of_task, edge_features="rows"))
    settings = {"experts": 1} if kind == "reuse" else {"experts": 3}  # with one layer there is nothing to reuse
    model = random_model(task, expert=kind, layers=2, routed="last", filters="low two ppr", **settings)
    index = torch.arange(task.instances)
    found = path_losses(model, task, index, "node").forced["ce"]
    with torch.no_grad():
        (routed,) = model.encode(task.graph).gates
        for i in index.tolist():
            own = task.select(torch.tensor([i]))
            for expert in range(settings["experts"]):
                gates = routed.clone()
                gates[own.flatten()] = torch.eye(settings["experts"]).double()[expert]
                expected = instance_loss(model(task.graph, own, [gates]).logits, task.labels[i : i + 1], "ce")
                torch.testing.assert_close(found[i : i + 1, expert], expected, **EXACT)


def test_reusing_in_one_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="expert='reuse' needs two routed layers; this encoder has one"):
        encoder("reuse", routed="last")
