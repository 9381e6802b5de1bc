"""A frozen encoder under a linear head: frozen, and never blind to what happened to a graph."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from run_samples import TRAIN
from samples import node_task

from stemlib.data.batches import batches
from stemlib.data.tasks import Task
from stemlib.stress.corruptions import delete_edges, mask_features
from stemlib.training.finetune import fit
from study.families import build, load_model, save_model
from study.rivals.probe import GAT, INITIAL_GAIN, Probe
from study.rivals.settings import ProbeConfig

KINDS = [ProbeConfig("gcn", hidden=8, norm="batch"), ProbeConfig("gat", hidden=8, heads=2)]
EVERYONE = torch.arange(80)


def fresh(model: Probe) -> Probe:
    """The same weights, of which nothing is kept."""
    return deepcopy(model)


@pytest.mark.parametrize("config", KINDS, ids=lambda config: config.encoder)
def test_fine_tuning_leaves_the_encoder_as_it_is(task: Task, config: ProbeConfig) -> None:
    model = build(config, task)
    before = deepcopy(model.state_dict())
    fit(model, task, task.split("random"), TRAIN, seed=0)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"head.weight", "head.bias"}
    assert not model.train().encoder.training


def test_a_damaged_graph_is_encoded_as_it_is() -> None:
    task = node_task()
    model = build(KINDS[0], task).eval()
    clean = model(task.graph, EVERYONE).logits
    for damage in (mask_features, delete_edges):
        met = task.with_graph(damage(task.graph, torch.ones(80, dtype=torch.bool), 0.6, 0).graph)
        answered = model(met.graph, EVERYONE).logits
        assert torch.equal(answered, fresh(model)(met.graph, EVERYONE).logits)
        assert not torch.allclose(answered, clean)
    assert torch.equal(model(task.graph, EVERYONE).logits, clean)
    task.graph.x[:40] = 0  # in place: the same tensor with other values
    assert torch.equal(model(task.graph, EVERYONE).logits, fresh(model)(task.graph, EVERYONE).logits)
    assert not torch.allclose(model(task.graph, EVERYONE).logits, clean)


def test_new_weights_are_used_at_once() -> None:
    task = node_task()
    model, other = build(KINDS[0], task).eval(), build(KINDS[0], task).eval()
    model(task.graph, EVERYONE)
    model.encoder.load_state_dict(other.encoder.state_dict())
    assert torch.equal(model.encode(task.graph), other.encode(task.graph))
    model.encoder.norms[0].running_mean.add_(1)
    assert torch.equal(model.encode(task.graph), fresh(model).encode(task.graph))


def test_a_graph_that_comes_again_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    task = node_task()
    model = build(KINDS[0], task)
    encoded = []
    monkeypatch.setattr(model.encoder, "forward", lambda x, edges: encoded.append(x) or x.new_ones(80, 8))
    for _ in range(3):
        model.train()(task.graph, EVERYONE)
        model.eval()(task.graph, EVERYONE[:5])
    assert len(encoded) == 1


def test_an_evaluation_first_leaves_nothing_that_training_cannot_use() -> None:
    task = node_task()
    model = build(KINDS[0], task)
    with torch.inference_mode():
        model(task.graph, EVERYONE)
    with torch.no_grad():
        model(task.graph, EVERYONE)
    model(task.graph, EVERYONE).logits.sum().backward()
    assert model.head.weight.grad.abs().sum() > 0


def test_gradients_reach_the_features() -> None:
    task = node_task()
    model = build(KINDS[1], task).eval()
    model(task.graph, EVERYONE)
    task.graph.x.requires_grad_()
    for _ in range(2):  # nothing that has a gradient is kept
        model(task.graph, EVERYONE).logits.sum().backward()
    assert task.graph.x.grad.abs().sum() > 0


@pytest.mark.parametrize("config", KINDS, ids=lambda config: config.encoder)
def test_it_comes_back_bit_by_bit(task: Task, config: ProbeConfig, tmp_path: Path) -> None:
    model = build(config, task).eval()
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    graph, instances, *_ = next(batches(task, torch.arange(task.instances)))
    output = model(graph, instances)
    assert torch.equal(again(graph, instances).logits, output.logits)
    assert output.logits.shape == (task.instances, task.outputs)
    assert not any(value.requires_grad for value in again.encoder.parameters())


def test_the_head_reads_embeddings_of_the_norm_that_is_set() -> None:
    task = node_task()
    model = build(replace(KINDS[1], embedding_norm=3.0), task).eval()
    output = model(task.graph, EVERYONE)
    torch.testing.assert_close(output.embedding, 3 * model.encode(task.graph))
    torch.testing.assert_close(output.logits, model.head(output.embedding))


def test_embeddings_that_are_all_the_same_are_only_centred() -> None:
    encoder = build(KINDS[1], node_task()).encoder
    encoder.standardise(torch.full((5, 8), 3.0))
    assert (encoder.centre == 3).all()
    assert encoder.scale == 1


def test_heads_that_do_not_share_the_units_evenly_are_refused() -> None:
    with pytest.raises(ValueError, match="hidden=10 cannot be shared evenly by heads=4"):
        build(ProbeConfig("gat", hidden=10, heads=4), node_task())


def test_a_gats_weights_are_normal_at_first_with_the_gain_of_graphmaes() -> None:
    torch.manual_seed(0)
    layer = GAT(300, 50, heads=4)
    expected = INITIAL_GAIN * math.sqrt(2 / (300 + 200))
    assert abs(layer.lin.weight.std().item() / expected - 1) < 0.02
    assert (layer.lin.weight.abs() > 2 * expected).any()  # PyG's are uniform, within a bound
    assert layer.att_src.abs().min() > 0
