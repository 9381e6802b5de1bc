"""Losses on all paths against whole forward passes, one per instance and path."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from routed_samples import architectures, exact, kinds, random_model, random_task, seeds, without_returns
from samples import EXACT, TASKS, small_baseline
from torch import Tensor

from stemlib.data.batches import batches
from stemlib.data.tasks import Task, read_out
from stemlib.model.encoder import path_gates
from stemlib.model.folded import folded_classifier
from stemlib.model.losses import LOSSES, instance_loss, task_loss
from stemlib.model.stem import StemGNN
from stemlib.theory.paths import all_paths, path_losses
from stemlib.theory.routing import evaluating
from study.families import build

some = settings(max_examples=12)


def everything(task: Task) -> Tensor:
    return torch.arange(task.instances)


def forced_one_by_one(model: StemGNN, task: Task) -> dict[str, Tensor]:
    """One whole forward pass per instance and path, in which the gates of its nodes alone are forced."""
    routed = model.encode(task.graph).gates
    paths = all_paths(model.config.experts, model.encoder.routed_layers)
    table = {loss: torch.empty(task.instances, len(paths), dtype=torch.double) for loss in LOSSES}
    for i in range(task.instances):
        own = task.select(torch.tensor([i]))
        for p, path in enumerate(paths.tolist()):
            gates = [gate.clone() for gate in routed]
            for gate, expert in zip(gates, path, strict=True):
                gate[own.flatten()] = torch.eye(model.config.experts, dtype=gate.dtype)[expert]
            logits = model(task.graph, own, gates).logits
            for loss in LOSSES:
                table[loss][i, p] = instance_loss(logits, task.labels[i : i + 1], loss).item()
    return table


@pytest.mark.parametrize("kind", ["node", "link"])
@some
@given(
    st.integers(2, 3),
    st.sampled_from([(1, "all"), (2, "all"), (3, "last")]),
    st.sampled_from(["none", "batch", "layer"]),
    st.sampled_from(["none", "ema"]),
    st.sampled_from(["none", "rows", "types"]),
    seeds,
)
def test_node_scope_is_forcing_an_instances_own_gates(
    kind: str, experts: int, stack: tuple[int, str], norm: str, codebook: str, edges: str, seed: int
) -> None:
    task = without_returns(random_task(kind, seed, nodes=7, edges=16, edge_features=edges))
    layers, routed = stack
    architecture = {"experts": experts, "layers": layers, "routed": routed, "norm": norm, "codebook": codebook}
    model = random_model(task, seed, **architecture)
    found = path_losses(model, task, everything(task), "node").forced
    with torch.no_grad():
        expected = forced_one_by_one(model, task)
    for loss in LOSSES:
        torch.testing.assert_close(found[loss], expected[loss], **EXACT)


@some
@given(st.sampled_from(["node", "link"]), architectures, seeds)
def test_node_scope_keeps_messages_as_routed_at_any_depth(kind: str, architecture: dict, seed: int) -> None:
    """With self-loops, adjacent ends and three layers: the definition, written out for all nodes at once."""
    task = random_task(kind, seed)
    model = random_model(task, seed, **architecture)
    encoder = model.encoder
    found = path_losses(model, task, everything(task), "node")
    with torch.no_grad():
        routed = model.encode(task.graph)
        first = encoder.is_routed.index(True)
        for p, path in enumerate(found.paths.tolist()):
            state = routed.inputs[first]
            for index, expert in enumerate(path, first):
                mean = encoder.layer_mean(index, routed.inputs[index], task.graph)
                (gates,) = path_gates([expert], len(state), model.config.experts, like=state)
                state = encoder.finish_layer(index, encoder.layers[index](mean, state, gates))
            logits, _ = model.classify(read_out(state, task.graph, task.select(everything(task)), kind))
            torch.testing.assert_close(found.forced["ce"][:, p], instance_loss(logits, task.labels, "ce"), **EXACT)


@some
@given(kinds, architectures, st.sampled_from(["mean", "sum", "max"]), seeds)
def test_graph_scope_is_forcing_all_gates(kind: str, architecture: dict, pool: str, seed: int) -> None:
    task = random_task(kind, seed)
    model = random_model(task, seed, pool=pool, **architecture)
    found = path_losses(model, task, everything(task), "graph")
    assert len(found.paths) == architecture["experts"] ** model.encoder.routed_layers
    (batch,) = batches(task, everything(task))
    with torch.no_grad():
        for p, path in enumerate(found.paths.tolist()):
            gates = path_gates(path, batch.graph.num_nodes, architecture["experts"], like=batch.graph.x)
            logits = model(batch.graph, batch.instances, gates).logits
            for loss in LOSSES:
                expected = instance_loss(logits, batch.labels, loss)
                torch.testing.assert_close(found.forced[loss][:, p], expected, **EXACT)


@some
@given(kinds, architectures, seeds)
def test_the_routed_loss_is_the_deployed_one_and_gates_are_an_instances_own(
    kind: str, architecture: dict, seed: int
) -> None:
    task = random_task(kind, seed)
    model = random_model(task, seed, **architecture)
    found = path_losses(model, task, everything(task))
    (batch,) = batches(task, everything(task))
    with torch.no_grad():
        output = model(batch.graph, batch.instances)
    if task.labels.dim() == 1:  # the mean over labels is a mean over instances
        assert found.routed["ce"].mean().item() == pytest.approx(task_loss(output.logits, task.labels).item())
    torch.testing.assert_close(found.gates.sum(-1), torch.ones_like(found.entropy), **EXACT)
    for layer, gates in enumerate(output.encoding.gates):
        own = read_out(gates, batch.graph, batch.instances, kind)
        torch.testing.assert_close(found.gates[:, layer], own, **EXACT)
        if kind == "node":
            entropy = -(own * own.log()).nan_to_num().sum(-1)
            torch.testing.assert_close(found.entropy[:, layer], entropy, **EXACT)


@some
@given(kinds, architectures, seeds)
def test_the_folded_classifier_is_the_classifier(kind: str, architecture: dict, seed: int) -> None:
    model = random_model(random_task(kind, seed), seed, **architecture)
    embedding = torch.randn(40, model.config.hidden, dtype=torch.double)
    with torch.no_grad():
        torch.testing.assert_close(folded_classifier(model)(embedding), model.classify(embedding)[0], **EXACT)


@pytest.mark.parametrize("kind", TASKS)
def test_chunks_and_batches_change_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = exact(TASKS[kind]())
    model = random_model(task, layers=2)
    index = everything(task)[::2].flip(0)
    index = index[task.labels[index].double().isfinite().reshape(len(index), -1).any(1)]
    whole = path_losses(model, task, index)
    monkeypatch.setattr("stemlib.theory.paths.GRAPHS_PER_BATCH", 3)
    monkeypatch.setattr("stemlib.theory.forcing.instances_per_chunk", lambda model: 7)
    parts = path_losses(model, task, index)
    assert parts.index.tolist() == whole.index.tolist() == index.tolist()
    for loss in LOSSES:
        torch.testing.assert_close(parts.forced[loss], whole.forced[loss], **EXACT)
        torch.testing.assert_close(parts.rows(torch.tensor([1])).forced[loss], whole.forced[loss][1:2], **EXACT)


def test_instance_loss_of_missing_labels_by_hand() -> None:
    nan = float("nan")
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0], [1.0, 1.0]]).double()
    labels = torch.tensor([[1.0, 1.0], [nan, 0.0], [nan, nan]])
    assert instance_loss(logits, labels, "zero_one").tolist()[:2] == [0.5, 1.0]
    by_hand = [
        (torch.tensor(-2.0).exp().log1p() + torch.tensor(1.0).exp().log1p()) / 2,
        torch.tensor(3.0).exp().log1p(),
    ]
    torch.testing.assert_close(instance_loss(logits, labels, "ce")[:2], torch.stack(by_hand).double())
    assert instance_loss(logits, labels, "ce")[2].isnan()


def test_instances_without_any_label_are_left_out() -> None:
    task = random_task("graph")
    task.labels[2] = float("nan")
    model = random_model(task)
    found = path_losses(model, task, everything(task))
    assert found.index.tolist() == [0, 1, 3, 4, 5, 6, 7]
    assert found.forced["ce"].isfinite().all()
    with pytest.raises(ValueError, match="none of the 1 instances has a label"):
        path_losses(model, task, torch.tensor([2]))


def test_the_model_is_taken_in_evaluation_mode_and_given_back() -> None:
    task = random_task("node")
    model = random_model(task, dropout=0.5, input_dropout=0.5)
    expected = path_losses(model, task, everything(task)).routed["ce"]
    model.train()
    model.encoder.dropout.eval()
    found = path_losses(model, task, everything(task)).routed["ce"]
    assert torch.equal(found, expected)
    assert model.training
    assert not model.encoder.dropout.training
    with pytest.raises(RuntimeError, match="stop"), evaluating(model):
        raise RuntimeError("stop")
    assert model.training


def test_refusals() -> None:
    task, graphs = random_task("node"), random_task("graph")
    with pytest.raises(ValueError, match="StemGNN without routed layers"):
        path_losses(random_model(task, routed="none"), task, everything(task))
    with pytest.raises(ValueError, match="Baseline without routed layers"):
        path_losses(build(small_baseline("gcn"), task), task, everything(task))
    with pytest.raises(ValueError, match="scope must be node or graph, got 'edge'"):
        path_losses(random_model(task), task, everything(task), "edge")
    with pytest.raises(ValueError, match="no gates of its own"):
        path_losses(random_model(graphs), graphs, everything(graphs), "node")


def test_one_expert_is_one_path() -> None:
    task = random_task("node")
    found = path_losses(random_model(task, experts=1, layers=2), task, everything(task))
    assert found.paths.tolist() == [[0, 0]]
    torch.testing.assert_close(found.forced["ce"][:, 0], found.routed["ce"], **EXACT)


def test_all_paths_count_with_the_last_layer_fastest() -> None:
    assert all_paths(2, 2).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert all_paths(3, 1).tolist() == [[0], [1], [2]]
