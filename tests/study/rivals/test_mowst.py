"""The mixture of a weak and a strong expert: who answers when, and its loss by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from stemlib.data.batches import batches
from stemlib.data.tasks import Task
from stemlib.model.losses import task_loss
from stemlib.presets import TrainConfig
from study.families import build, load_model, save_model
from study.rivals.mowst import dispersion, mixed_logits
from study.rivals.settings import MowstConfig

SMALL = MowstConfig(hidden=8, gate_hidden=4, dropout=0.0, input_dropout=0.0)
SURE = torch.tensor([[1e4]])


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


@pytest.mark.parametrize("binary", [False, True])
def test_a_sure_weak_expert_answers_and_an_unsure_one_leaves_it_to_the_strong(binary: bool) -> None:
    weak, strong = torch.randn(5, 3), torch.randn(5, 3)
    for gate, expert in ((SURE, weak), (-SURE, strong)):
        answered = mixed_logits(weak, strong, gate, binary)
        expected = expert if binary else expert.log_softmax(-1)
        torch.testing.assert_close(answered, expected)


def test_the_loss_is_the_mixtures_cross_entropy_by_hand() -> None:
    weak, strong = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.2, 0.8]]).log()
    logits = mixed_logits(weak, strong, torch.tensor([[logit(0.25)]]), binary=False)
    loss = task_loss(logits, torch.tensor([0]))
    assert loss.item() == pytest.approx(-math.log(0.25 * 0.9 + 0.75 * 0.2), rel=1e-5)


def test_the_loss_of_binary_labels_by_hand() -> None:
    weak, strong = torch.tensor([[logit(0.9), logit(0.5)]]), torch.tensor([[logit(0.2), logit(0.4)]])
    logits = mixed_logits(weak, strong, torch.tensor([[logit(0.25)]]), binary=True)
    loss = task_loss(logits, torch.tensor([[1.0, 0.0]]))
    yes = (0.25 * 0.9 + 0.75 * 0.2, 0.25 * 0.5 + 0.75 * 0.4)
    assert loss.item() == pytest.approx(-(math.log(yes[0]) + math.log(1 - yes[1])) / 2, rel=1e-5)


def test_dispersion_runs_from_undecided_to_certain() -> None:
    for binary in (False, True):
        torch.testing.assert_close(dispersion(torch.zeros(1, 4), binary), torch.zeros(1, 2))
        certain = torch.tensor([[1e4, -1e4, -1e4, -1e4]])
        torch.testing.assert_close(dispersion(certain, binary), torch.ones(1, 2))
    half = dispersion(torch.tensor([[0.5, 0.5, 1e-9]]).log(), binary=False)
    # Variance (1/6)/3 of 2/9 at most; entropy log 2 of log 3.
    torch.testing.assert_close(half, torch.tensor([[0.25, 1 - math.log(2) / math.log(3)]]))


def test_the_gate_reads_the_weak_expert_and_gives_it_no_gradient(task: Task) -> None:
    model = build(SMALL, task)
    graph, instances, *_ = next(batches(task, torch.arange(task.instances)))
    model.gate(dispersion(model.weak(graph, instances).logits.detach(), model.binary)).sum().backward()
    assert all(value.grad is None for value in model.weak.parameters())
    model.zero_grad()
    model(graph, instances).logits.square().sum().backward()
    assert all(value.grad is not None for value in model.parameters())


def test_the_weak_expert_reads_no_edge_and_the_strong_one_does(task: Task) -> None:
    model = build(SMALL, task).eval()
    assert model.binary == (task.metric == "roc_auc")
    assert (model.weak.config.kind, model.strong.config.kind) == ("mlp", "gcn")
    graph, instances, *_ = next(batches(task, torch.arange(task.instances)))
    with torch.no_grad():
        weak, strong = (expert(graph, instances).logits for expert in (model.weak, model.strong))
        gate = model.gate(dispersion(weak, model.binary))
        output = model(graph, instances)
    assert torch.equal(output.logits, mixed_logits(weak, strong, gate, model.binary))
    assert gate.shape == (task.instances, 1)
    assert model.penalty(output, TrainConfig(lipschitz=0.0)).item() == 0


def test_it_comes_back_bit_by_bit(task: Task, tmp_path: Path) -> None:
    model = build(SMALL, task).eval()
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    graph, instances, *_ = next(batches(task, torch.arange(task.instances)))
    assert torch.equal(again(graph, instances).logits, model(graph, instances).logits)
    assert again.binary == model.binary
