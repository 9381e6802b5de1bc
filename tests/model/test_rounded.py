"""Rounded tokens: levels, limit cases, gradients, and what works of a model that has them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from samples import EXACT, TASKS, node_task, small_model
from torch.nn import functional as F

from stemlib.data.tasks import Task
from stemlib.model.deployed import deploy
from stemlib.model.rounded import RoundedTokens
from stemlib.model.stem import StemGNN
from stemlib.presets import TrainConfig
from stemlib.stress.conditions import Condition, corrupt
from stemlib.theory.certificates import ReachCertificate
from stemlib.theory.replay import change_under
from stemlib.theory.sensitivity import sensitivity
from stemlib.training.finetune import fit
from stemlib.training.pretrained import Pretrained
from study.families import build, load_model, save_model

BITS = (1, 4, 8, 16)


def rounded(bits: int, **settings: object) -> RoundedTokens:
    torch.manual_seed(0)
    return RoundedTokens(small_model(codebook="rounded", token_bits=bits, **settings), 5).double()


def batch_of(task: Task) -> tuple:
    return task.graph, None if task.kind == "graph" else task.select(torch.arange(task.instances))


@pytest.mark.parametrize("bits", BITS)
def test_a_coordinate_goes_to_the_nearest_of_equally_distant_levels(bits: int) -> None:
    tokens, z = rounded(bits), torch.randn(40, 5, dtype=torch.double)
    out = tokens(z)
    u = F.normalize(tokens.project_in(z).view(40, 2, 5), dim=-1)
    torch.testing.assert_close(out.queries, u, **EXACT)
    grid = torch.linspace(-1, 1, 2**bits, dtype=torch.double)
    above = torch.searchsorted(grid, u.detach()).clamp(1, 2**bits - 1)
    nearest = torch.where(u - grid[above - 1] < grid[above] - u, above - 1, above).flatten(1)
    assert torch.equal(out.indices, nearest)
    torch.testing.assert_close(out.codes, grid[nearest], **EXACT)
    torch.testing.assert_close(tokens.levels(out.codes).long(), out.indices)  # rounded once more, nothing changes


def test_of_one_bit_signs_are_left() -> None:
    tokens, z = rounded(1), torch.randn(40, 5, dtype=torch.double)
    assert torch.equal(tokens(z).codes, tokens.project_in(z).sign())


def test_with_sixteen_bits_logits_are_those_of_the_queries() -> None:
    task = node_task()
    logits = {}
    for bits in (4, 16):
        torch.manual_seed(0)
        model = build(small_model(codebook="rounded", token_bits=bits), task).eval()
        output = model(*batch_of(task))
        logits[bits] = (output.logits - model.head(output.tokens.queries.flatten(1))).abs().max()
    assert logits[16] < 1e-4 < 1e-3 < logits[4]


def test_gradients_are_those_of_the_queries() -> None:
    tokens, z = rounded(4), torch.randn(7, 5, dtype=torch.double)
    weight = torch.randn(7, 10, dtype=torch.double)
    (tokens(z).codes * weight).sum().backward()
    found = tokens.project_in.weight.grad.clone()
    tokens.zero_grad()
    (F.normalize(tokens.project_in(z).view(7, 2, 5), dim=-1).flatten(1) * weight).sum().backward()
    torch.testing.assert_close(found, tokens.project_in.weight.grad, **EXACT)


@pytest.mark.parametrize("bits", [0, 17])
def test_bits_are_bounded(bits: int) -> None:
    with pytest.raises(ValueError, match=r"token_bits must lie in 1\.\.16"):
        small_model(codebook="rounded", token_bits=bits)


@pytest.mark.parametrize("kind", TASKS)
def test_it_trains_comes_back_and_is_deployed(kind: str, tmp_path: Path) -> None:
    task = TASKS[kind]()
    torch.manual_seed(0)
    model = build(small_model(codebook="rounded", token_bits=4), task)
    train = TrainConfig(
        lr=0.02, epochs=3, batch_size=16, commitment=0.1, orthogonality=0.1, freeze_tokens=kind == "link"
    )
    before = model.tokens.project_in.weight.clone()
    fit(model, task, task.split("random"), train, seed=0)
    assert torch.equal(before, model.tokens.project_in.weight) == (kind == "link")
    save_model(model, tmp_path)
    again, shown = load_model(tmp_path), batch_of(task)
    expected = model(*shown).logits
    assert torch.equal(again(*shown).logits, expected)
    torch.testing.assert_close(deploy(again)(*shown), expected)


def damaged(task: Task) -> tuple[Condition, Condition]:
    clean = Condition("clean", task, torch.arange(task.instances))
    return clean, corrupt(clean, "masked", rate=0.4, seed=0)[0]


@pytest.mark.parametrize("readout", ["embedding", "tokens", "logits", "loss"])
def test_its_sensitivity_has_every_read_out_and_no_columns_of_codes(readout: str) -> None:
    clean, perturbed = damaged(node_task())
    torch.manual_seed(0)
    model = build(small_model(codebook="rounded", token_bits=3), clean.task).eval()
    found = sensitivity(model, clean, perturbed, readout)
    assert found.tokens is None
    assert "token_flip_rate" not in found.summary()
    assert found.sequential.residual.max() < 1e-9
    if readout in ("tokens", "logits"):
        ends = [model(each.task.graph, each.index) for each in (clean, perturbed)]
        one, other = (end.tokens.codes if readout == "tokens" else end.logits for end in ends)
        torch.testing.assert_close(change_under(model, clean, perturbed, readout).total.float(), other - one)


def test_what_needs_a_codebook_is_refused_by_name() -> None:
    config = small_model(codebook="rounded")
    with pytest.raises(ValueError, match="codebook='rounded' has none"):
        Pretrained(config, 6)
    with pytest.raises(ValueError, match="codebook='rounded' has no codebook"):
        ReachCertificate(StemGNN(config, 6, 2).double())
