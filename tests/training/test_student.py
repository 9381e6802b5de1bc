"""Student and teacher: which objectives a batch has, who gets a gradient, who follows whom."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from pretrain_samples import MODEL, WIDTH, config, tiny_pool

from stemlib.model.tokens import perplexity
from stemlib.presets import change
from stemlib.training.pretrain_batches import PretrainBatch, draw_batch, draws
from stemlib.training.pretrained import Pretrained
from stemlib.training.student import Student

MEMBERS = dict(zip(("node", "link", "graph"), tiny_pool().members, strict=True))
ALL = {"feature", "edge", "edge_feature", "teacher", "commitment", "routing"}


def a_batch(kind: str = "link", seed: int = 0) -> PretrainBatch:
    return draw_batch(MEMBERS[kind], 40, (3, 3), 0.5, draws(seed, 0))


def a_student(decay: float = 0.99, **model: object) -> Student:
    torch.manual_seed(0)
    return Student(Pretrained(change(MODEL, **model), WIDTH), decay).train()


def total(student: Student, batch: PretrainBatch, **changes: object) -> torch.Tensor:
    settings = config(**changes)
    losses = student(batch, settings).losses
    return sum(getattr(settings, name) * value for name, value in losses.items())


@pytest.mark.parametrize(
    ("kind", "codebook", "expected"),
    [
        ("node", "ema", ALL - {"edge_feature"}),
        ("link", "ema", ALL),
        ("graph", "ema", ALL),
        ("graph", "reference", ALL | {"orthogonality"}),
        ("graph", "learnable", ALL | {"orthogonality"}),
        ("graph", "none", ALL - {"commitment"}),
    ],
)
def test_a_batch_has_the_objectives_that_it_has_data_for(kind: str, codebook: str, expected: set[str]) -> None:
    outcome = a_student(codebook=codebook)(a_batch(kind), config())
    assert outcome.losses.keys() == outcome.counts.keys() == expected
    assert all(value.isfinite() and value.dim() == 0 for value in outcome.losses.values())
    assert all(count > 0 for count in outcome.counts.values())


@pytest.mark.parametrize("name", sorted(ALL | {"orthogonality"}))
def test_an_objective_of_weight_zero_is_left_out(name: str) -> None:
    student = a_student(codebook="learnable")
    assert name not in student(a_batch(), config(**{name: 0.0})).losses


def test_objectives_read_the_view_and_aim_at_the_clean_batch() -> None:
    """In evaluation mode nothing but the view is random, and with nothing hidden it is the clean batch."""
    student, batch = a_student(codebook="none", dropout=0.0).eval(), a_batch("node")
    outcome = student(batch, config())
    z = student.network.encoder(batch.graph).z[: batch.computed]
    decoders = student.decoders
    expected = decoders.feature_loss(z[batch.seeds], batch.graph.x[batch.seeds])
    torch.testing.assert_close(outcome.losses["feature"], expected)
    torch.testing.assert_close(outcome.losses["edge"], decoders.edge_loss(z, batch.edges, batch.non_edges))
    clean = student.teacher(batch.graph).z
    torch.testing.assert_close(outcome.losses["teacher"], decoders.teacher_loss(z[batch.seeds], clean[batch.seeds]))
    dropped = student(draw_batch(MEMBERS["node"], 40, (3, 3), 0.5, draws(0, 0), (0.9, 0.9)), config())
    assert dropped.losses["feature"] != outcome.losses["feature"]
    assert outcome.gate_logits[0].shape == (len(batch.seeds), 3)
    assert not any(layer.requires_grad for layer in outcome.gate_logits)  # what is not in the loss must not lead back


def test_the_teacher_starts_as_a_copy_and_gets_no_gradient() -> None:
    student = a_student()
    before = deepcopy(student.teacher.state_dict())
    total(student, a_batch()).backward()
    assert all(value.grad is None and not value.requires_grad for value in student.teacher.parameters())
    assert all(torch.equal(before[name], value) for name, value in student.network.encoder.state_dict().items())
    assert any(value.grad is not None for value in student.network.encoder.parameters())


def test_the_teacher_is_in_evaluation_mode_whatever_the_student_is() -> None:
    student = a_student().train()
    assert not any(module.training for module in student.teacher.modules())
    first, second = (student.teacher(a_batch().graph).z for _ in range(2))
    assert torch.equal(first, second)


def test_the_teacher_follows_by_hand() -> None:
    student = a_student(norm="batch")
    mine, theirs = student.teacher, student.network.encoder
    before = deepcopy(mine.state_dict())
    with torch.no_grad():
        for value in theirs.parameters():
            value.add_(torch.randn_like(value))
    student(draw_batch(MEMBERS["link"], 40, (3, 3), 0.5, draws(0, 0), layered=False), config())
    student.update_teacher()
    for name, value in mine.named_parameters():
        expected = 0.99 * before[name] + 0.01 * theirs.state_dict()[name]
        torch.testing.assert_close(value.detach(), expected, rtol=1e-5, atol=1e-7)
    for name, value in mine.named_buffers():
        assert torch.equal(value, theirs.state_dict()[name])  # running statistics are taken over


def test_a_teacher_that_keeps_nothing_is_the_student() -> None:
    student = a_student(decay=0.0)
    with torch.no_grad():
        for value in student.network.encoder.parameters():
            value.add_(1.0)
    student.update_teacher()
    for one, other in zip(student.teacher.parameters(), student.network.encoder.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("codebook", ["reference", "learnable", "ema"])
def test_what_moves_a_code(codebook: str) -> None:
    """In the reference nothing but orthogonality; by gradient, the data; by moving averages, no gradient at all."""
    student = a_student(codebook=codebook)
    student.start_tokens([a_batch(kind) for kind in MEMBERS])
    codes = student.network.tokens.codebook
    before = codes.clone()
    total(student, a_batch(), orthogonality=0.0).backward()
    by_data = None if codes.grad is None else codes.grad.abs().sum().item()
    if codebook == "learnable":
        assert by_data > 0
    else:
        assert not by_data
    assert torch.equal(codes, before) == (codebook != "ema")
    if codebook == "reference":
        total(student, a_batch()).backward()
        assert codes.grad.abs().sum() > 0


@pytest.mark.parametrize("codebook", ["reference", "learnable", "ema"])
def test_codebooks_start_on_the_queries_of_all_batches(codebook: str) -> None:
    student = a_student(codebook=codebook)
    student.start_tokens([a_batch(kind) for kind in MEMBERS])
    tokens = student.network.tokens
    assert tokens.started
    assert student.training
    assert not student.teacher.training
    student.eval()
    for kind in MEMBERS:
        batch = a_batch(kind)
        indices = tokens(student.network.encoder(batch.graph).z[: batch.computed]).indices
        assert (perplexity(indices, 6) > 1.5).all()


def test_without_tokens_embeddings_are_reconstructed_from() -> None:
    student = a_student(codebook="none")
    z = torch.randn(3, 8)
    assert student.quantise(z) == (z, None)
    student.start_tokens([a_batch()])  # nothing to start
    assert student.network.tokens is None


def test_bf16_gives_nearly_the_same_losses_and_float32_gradients() -> None:
    losses = {}
    for precision in ("float32", "bf16"):
        student, batch = a_student(codebook="none").eval(), a_batch()
        settings = config(precision=precision, feature_dropout=0.0, edge_dropout=0.0)
        outcome = student(batch, settings)
        losses[precision] = {name: float(value.detach()) for name, value in outcome.losses.items()}
        sum(outcome.losses.values()).backward()
        assert all(
            value.grad.dtype == torch.float and value.grad.isfinite().all()
            for value in student.parameters()
            if value.grad is not None
        )
    assert losses["bf16"] == pytest.approx(losses["float32"], rel=0.05)
    assert losses["bf16"] != losses["float32"]
