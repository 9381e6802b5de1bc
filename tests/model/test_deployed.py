"""The deployed model: the trained one's numbers, and hard routing by its definition."""

from __future__ import annotations

import pytest
import torch
from samples import TASKS, small_model
from torch import Tensor

from stemlib.data.batches import batches
from stemlib.data.tasks import Task, read_out
from stemlib.model.deployed import deploy
from stemlib.model.stem import StemGNN
from stemlib.training.finetune import hops

SETTINGS = [
    {},
    {"routed": "last"},
    {"layers": 3, "norm": "layer"},
    {"norm": "batch"},
    {"codebook": "none"},
    {"expert_init": "reference", "hidden": 4},
]


def trained(task: Task, **settings: object) -> StemGNN:
    """Weights in float64 as training might leave them: gates that differ, running means that are not 0."""
    edges = task.graph.edge_attr
    width = None if edges is None else edges.size(1)
    model = StemGNN(small_model(**settings), task.graph.x.size(1), task.outputs, task.kind, width).double()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn_like(value) / 2)
    shown = batch_of(task)
    model.train()(shown.graph, shown.instances)
    return model.eval()


def batch_of(task: Task, fanouts: tuple[None, ...] = ()):
    (batch,) = batches(task, torch.arange(task.instances), fanouts=fanouts)
    batch.graph.x = batch.graph.x.double()
    if batch.graph.edge_attr is not None:
        batch.graph.edge_attr = batch.graph.edge_attr.double()
    return batch


def hard_gates(model: StemGNN, graph) -> list[Tensor]:
    """One-hot gates of each layer's argmax, the layers before it hard-routed: the definition, pass by pass."""
    gates: list[Tensor | None] = [None] * model.encoder.routed_layers
    for level in range(len(gates)):
        logits = model.encode(graph, gates).gate_logits[level]
        gates[level] = torch.nn.functional.one_hot(logits.argmax(-1), model.config.experts).to(logits.dtype)
    return gates


@pytest.mark.parametrize("settings", SETTINGS)
def test_soft_is_the_model(task: Task, settings: dict[str, object]) -> None:
    model, batch = trained(task, **settings), batch_of(task)
    torch.testing.assert_close(deploy(model)(batch.graph, batch.instances), model(batch.graph, batch.instances).logits)


@pytest.mark.parametrize("settings", SETTINGS)
def test_top1_is_the_model_with_one_hot_gates(task: Task, settings: dict[str, object]) -> None:
    model, batch = trained(task, **settings), batch_of(task)
    gates = hard_gates(model, batch.graph)
    expected = model(batch.graph, batch.instances, gates).logits
    torch.testing.assert_close(deploy(model, "top1")(batch.graph, batch.instances), expected)
    assert not torch.allclose(model.encode(batch.graph).z, model.encode(batch.graph, gates).z)


def test_deeper_layers_choose_on_hard_routed_states() -> None:
    """Somewhere the second layer's choice is another one than soft routing's, and the first one is what counts."""
    task = TASKS["node"]()
    model, batch = trained(task), batch_of(task)
    hard, soft = hard_gates(model, batch.graph), model.encode(batch.graph).gates
    assert torch.equal(hard[0].argmax(-1), soft[0].argmax(-1))
    assert not torch.equal(hard[1].argmax(-1), soft[1].argmax(-1))


def test_one_expert_is_both() -> None:
    task = TASKS["node"]()
    model, batch = trained(task, experts=1), batch_of(task)
    torch.testing.assert_close(*(deploy(model, how)(batch.graph, batch.instances) for how in ("soft", "top1")))


@pytest.mark.parametrize("routing", ["soft", "top1"])
def test_a_receptive_field_is_enough(routing: str) -> None:
    task = TASKS["node"]()
    model, whole = trained(task), batch_of(task)
    part = batch_of(task, fanouts=(None,) * hops(model, task))
    deployed = deploy(model, routing)
    torch.testing.assert_close(deployed(part.graph, part.instances), deployed(whole.graph, whole.instances))


@pytest.mark.parametrize("routing", ["soft", "top1"])
def test_it_is_a_copy_without_noise_or_gradient(routing: str) -> None:
    task = TASKS["node"]()
    model, batch = trained(task, dropout=0.5), batch_of(task)
    deployed = deploy(model.train(), routing)
    assert model.training
    before = deployed(batch.graph, batch.instances)
    with torch.no_grad():
        for value in model.parameters():
            value.zero_()
    assert torch.equal(deployed(batch.graph, batch.instances), before)
    assert not before.requires_grad
    assert before.abs().sum() > 0


def test_single_precision_agrees_to_1e_5() -> None:
    """Near ties aside: here there are none."""
    task = TASKS["node"]()
    model, batch = trained(task), batch_of(task)
    for routing in ("soft", "top1"):
        exact = deploy(model, routing)(batch.graph, batch.instances)
        batch.graph.x, single = batch.graph.x.float(), model.float()
        found = deploy(single, routing)(batch.graph, batch.instances).double()
        batch.graph.x, model = batch.graph.x.double(), single.double()
        assert (found - exact).abs().max() <= 1e-5 * exact.abs().max()


def test_what_makes_no_sense_is_refused() -> None:
    task = TASKS["node"]()
    with pytest.raises(ValueError, match="routing must be one of soft, top1, got 'hard'"):
        deploy(trained(task), "hard")
    with pytest.raises(ValueError, match="top1 needs routed layers"):
        deploy(trained(task, routed="none"), "top1")
    batch = batch_of(task)
    assert deploy(trained(task, routed="none"))(batch.graph, batch.instances).shape == (80, task.outputs)


def test_read_out_is_the_models(task: Task) -> None:
    """Whatever an instance is: embeddings are read out before tokens and head."""
    model, batch = trained(task, codebook="none"), batch_of(task)
    gates = hard_gates(model, batch.graph)
    z = model.encode(batch.graph, gates).z
    embedding = read_out(z, batch.graph, batch.instances, task.kind, model.config.pool)
    torch.testing.assert_close(deploy(model, "top1")(batch.graph, batch.instances), model.head(embedding))
