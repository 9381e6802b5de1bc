"""Where networks are computed: by name, and that nothing on the way is made elsewhere or waited for.

PyTorch's device `meta` has shapes and no values. A tensor that is made on the CPU in the middle of a step, or a number
that a step asks for (`.item()`, a mask of unknown size), is an error there: on a GPU it would be one too, or a wait.
"""

from __future__ import annotations

import dataclasses
import os
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from pretrain_samples import MODEL, WIDTH, config, tiny_pool
from samples import TASKS, small_baseline, small_model
from torch import Tensor

from stemlib.data.tasks import Task
from stemlib.devices import DEVICES, device, device_of, generators
from stemlib.model import messages
from stemlib.presets import TrainConfig
from stemlib.stress.conditions import Condition, corrupt
from stemlib.theory.coverage import coverage
from stemlib.theory.sensitivity import sensitivity
from stemlib.training import finetune
from stemlib.training.evaluation import answer, evaluation_batches, predict
from stemlib.training.finetune import fit, start_tokens, train_epoch, training_batches
from stemlib.training.pool import Member
from stemlib.training.pretrain_batches import draw_batch, draws
from stemlib.training.pretrained import Pretrained
from stemlib.training.student import Student
from study import computing
from study.families import build
from study.first_results import main

HERE = device("auto")
FORMS = {
    "stem": small_model(),
    "reference": small_model(codebook="reference", expert_init="reference", routed_edge_features=False),
    "learnable": small_model(codebook="learnable", layers=3),
    "dense": small_model(routed="none"),
    "mlp": small_baseline("mlp"),
    "sage": small_baseline("sage"),
    "gin": small_baseline("gin"),
}  # PyG's GCN and GAT look for loops among the edges, and wait


def test_devices_have_names() -> None:
    assert device("cpu") == torch.device("cpu")
    assert device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ValueError, match=f"unknown device 'gpu'; there are {', '.join(DEVICES)}"):
        device("gpu")
    assert device_of(torch.nn.Linear(2, 2)) == device_of(torch.nn.Identity()) == torch.device("cpu")
    assert list(generators(torch.device("cpu"))) == ["noise"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_in_words(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(ValueError, match=r"needs an NVIDIA GPU and a CUDA build of PyTorch, but .*; use 'cpu'"):
        device("cuda")
    with pytest.raises(SystemExit):
        main(["cora", "--device", "cuda"])
    assert "argument --device: device 'cuda' needs an NVIDIA GPU" in capsys.readouterr().err


def test_a_choice_is_for_the_whole_process_and_its_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(computing.VARIABLE, raising=False)
    computing.choose("auto")
    assert computing.VARIABLE not in os.environ
    computing.choose("cpu")
    assert os.environ[computing.VARIABLE] == "cpu"
    assert computing.chosen() == torch.device("cpu")
    monkeypatch.delenv(computing.VARIABLE)


@pytest.fixture
def without_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `meta` lacks: sparse products, autocast, and a loss to look at."""

    def product(matrix: Tensor, x: Tensor) -> Tensor:
        assert matrix.device == x.device
        return x.new_empty(matrix.size(0), x.size(1))

    def transposed(spread: messages.Spread) -> Tensor:
        return torch.empty(spread.matrix.size(1), spread.matrix.size(0), device=spread.matrix.device)

    monkeypatch.setattr(messages, "_product", product)
    monkeypatch.setattr(messages.Spread, "transposed", property(transposed))
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)
    monkeypatch.setattr(finetune, "finite", lambda values, _: torch.zeros(len(values)))


@pytest.mark.parametrize("form", FORMS)
def test_a_training_step_makes_nothing_elsewhere_and_waits_for_nothing(
    form: str, task: Task, without_values: None
) -> None:
    split = next(iter(task.splits.values()))
    model = build(FORMS[form], task)
    if getattr(model, "tokens", None) is not None:
        start_tokens(model, task, split)
        model.tokens._knows_started = True
    model = model.to("meta")
    train = TrainConfig(batch_size=16 if task.kind == "link" else 0, commitment=0.1, orthogonality=0.1)
    shown = list(training_batches(model, task, split, train)(torch.Generator().manual_seed(0)))
    assert shown[0].graph.x.device.type == shown[0].labels.device.type == "meta"
    optimiser = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad])
    train_epoch(model, shown, train, optimiser)
    assert all(value.device.type == "meta" for state in optimiser.state.values() for value in (state["exp_avg"],))


@pytest.mark.parametrize("member", tiny_pool().members, ids=["node", "link", "graph"])
def test_a_step_of_pretraining_makes_nothing_elsewhere_and_waits_for_nothing(
    member: Member, without_values: None
) -> None:
    student = Student(Pretrained(MODEL, WIDTH), 0.99).train()
    batch = draw_batch(member, 40, (3, 3), 0.5, draws(0, 0), (0.5, 0.5))
    student.start_tokens([batch])
    student.network.tokens._knows_started = True
    student, batch = student.to("meta"), batch.to("meta")
    losses = student(batch, config()).losses
    sum(losses.values()).backward()
    student.update_teacher()
    assert {value.device.type for value in losses.values()} == {"meta"}


def test_a_check_that_cannot_fail_is_none(without_values: None) -> None:
    """A step that makes a tensor elsewhere, or asks for a number, is refused on `meta`."""
    values = torch.empty(3, device="meta")
    with pytest.raises(RuntimeError, match=r"cpu|meta"):
        values + torch.ones(3)
    with pytest.raises(RuntimeError, match="item"):
        float(values.sum())
    with pytest.raises(NotImplementedError, match="nonzero"):
        values[values > 0]


@pytest.mark.skipif(HERE.type == "cpu", reason="no GPU")
def test_a_gpu_gives_the_same_bits_twice_and_the_cpu_s_numbers(task: Task, tmp_path: Path) -> None:
    split = next(iter(task.splits.values()))
    train = TrainConfig(epochs=3, batch_size=16 if task.kind == "link" else 0)
    states = []
    for _ in range(2):
        torch.manual_seed(0)
        model = build(small_model(), task).to(HERE)
        fit(model, task, split, train, 0)
        states.append({name: value.cpu() for name, value in model.state_dict().items()})
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    on_cpu = build(small_model(), task).cpu()
    on_cpu.load_state_dict(states[0])
    torch.testing.assert_close(predict(model, task), predict(on_cpu, task), rtol=1e-3, atol=1e-4)


def test_answers_and_reports_come_back_to_the_cpu() -> None:
    task = TASKS["node"]()
    model = build(small_model(), task).to(HERE)
    everyone = torch.arange(task.instances)
    assert answer(model, evaluation_batches(model, task, everyone)(None), task.name).device.type == "cpu"
    clean = Condition("clean", task, everyone)
    damaged, _ = corrupt(clean, "masked", rate=0.4, seed=0)
    for found in (coverage(model, clean), sensitivity(model, clean, damaged, "tokens")):
        values = [getattr(found, item.name) for item in dataclasses.fields(found)]
        assert all(value.device.type == "cpu" for value in values if isinstance(value, Tensor))
