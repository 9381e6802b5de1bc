"""What each kind of experts computes, written out expert by expert."""

from __future__ import annotations

import math

import pytest
import torch
from samples import EXACT, small_model
from torch import Tensor, nn

from stemlib.model.encoder import Encoder
from stemlib.model.kinds import EXPERTS

WIDTH, HIDDEN, EXPERTS_PER_LAYER = 6, 8, 5


def layer(kind: str, width: int = HIDDEN, experts: int = EXPERTS_PER_LAYER) -> nn.Module:
    """In float64, no parameter at a special value."""
    made = EXPERTS[kind](width, HIDDEN, small_model(experts=experts)).double()
    with torch.no_grad():
        for value in made.parameters():
            value.add_(torch.randn_like(value) / 3)
    return made


def read(width: int = HIDDEN) -> tuple[Tensor, Tensor]:
    return torch.randn(2, 7, width, dtype=torch.double).unbind()


def encoder(kind: str, experts: int = EXPERTS_PER_LAYER, layers: int = 3) -> Encoder:
    return Encoder(small_model(expert=kind, experts=experts, layers=layers), WIDTH).double()


def numbers(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


@pytest.mark.parametrize("kind", EXPERTS)
def test_the_own_state_is_added_where_widths_match(kind: str) -> None:
    first, second, _ = encoder(kind).layers
    assert not first.residual
    mean, own = read()
    gathered = torch.zeros(7, 3, HIDDEN + 1).double() if kind == "filters" else mean
    outputs = second.expert_outputs(gathered, own)
    assert outputs.shape == (7, EXPERTS_PER_LAYER, HIDDEN)
    second.residual = False
    alone = second.expert_outputs(gathered, own)
    torch.testing.assert_close(outputs - alone, own.unsqueeze(1).expand_as(outputs), **EXACT)


def test_modulated_scales_and_shifts_one_answer() -> None:
    made, (mean, own) = layer("modulated"), read()
    shared = torch.cat([mean, own], 1) @ made.shared[0]
    for k, found in enumerate(made.expert_outputs(mean, own).unbind(1)):
        torch.testing.assert_close(found, made.scale[k] * shared + made.shift[k] + own, **EXACT)


def test_prompts_are_added_to_what_is_read() -> None:
    made, (mean, own) = layer("prompted"), read()
    for k, found in enumerate(made.expert_outputs(mean, own).unbind(1)):
        prompt = made.prompts[k]
        torch.testing.assert_close(found, torch.cat([mean + prompt, own + prompt], 1) @ made.shared[0] + own, **EXACT)


def test_the_condensers_last_expert_is_part_of_every_mixture() -> None:
    made, (mean, own) = layer("condenser"), read()
    answers = [torch.cat([mean, own], 1) @ weight for weight in made.maps]
    always = torch.sigmoid(own @ made.gate.weight.T + made.gate.bias) * answers[-1]
    outputs, gates = made.expert_outputs(mean, own), torch.rand(7, EXPERTS_PER_LAYER).double().softmax(-1)
    mixed = sum(gates[:, [k]] * answer for k, answer in enumerate(answers[:-1])) + always + own
    torch.testing.assert_close(torch.einsum("nk,nkd->nd", gates, outputs), mixed, **EXACT)
    torch.testing.assert_close(outputs[:, -1], always + own, **EXACT)


def test_collaborators_read_each_other_in_a_small_space() -> None:
    made, (mean, own) = layer("collaborating"), read()
    outputs = made.expert_outputs(mean, own)
    for node in range(7):
        answers = torch.stack([torch.cat([mean[node], own[node]]) @ weight for weight in made.maps])
        queries, keys, values = (answers @ part.T for part in made.read.weight.chunk(3))
        attention = (queries @ keys.T / math.sqrt(16)).softmax(-1)
        expected = answers + attention @ values @ made.back.weight.T + own[node]
        torch.testing.assert_close(outputs[node], expected, **EXACT)


def test_the_last_expert_is_little() -> None:
    made = layer("big_little", experts=3)
    assert [torch.linalg.matrix_rank(weight).item() for weight in made.weight] == [8, 8, 1]
    assert numbers(made) == 2 * 16 * 8 + 16 + 8


def test_a_hypernetwork_is_as_large_for_any_number_of_experts_and_hits_the_same_indices() -> None:
    few, many = layer("hyper", experts=3), layer("hyper", experts=5)
    assert numbers(few) == numbers(many)
    many.load_state_dict({name: value for name, value in few.state_dict().items() if name != "index"}, strict=False)
    torch.testing.assert_close(many.weight[::2], few.weight, rtol=1e-6, atol=1e-6)  # indices 0, 1/2, 1 of 0, 1/4, ... 1
    torch.testing.assert_close(many.index.norm(dim=1), torch.ones(5).double(), rtol=1e-6, atol=1e-6)
    turned = many.index + many.network(many.index)
    turned = turned / turned.norm(dim=1, keepdim=True)
    for k, weight in enumerate(many.weight):
        expected = (many.bases[0] + turned[k, 0] * many.bases[1] + turned[k, 1] * many.bases[2]) / math.sqrt(2)
        torch.testing.assert_close(weight, expected, **EXACT)


def test_a_pool_is_one_for_all_layers_and_is_saved_once() -> None:
    model = encoder("shared_pool")
    first, second, third = model.layers
    assert torch.equal(second.weight, first.pool)
    assert torch.equal(third.weight, first.pool)
    assert sum("pool" in name for name in model.state_dict()) == 1
    assert numbers(model.layers) == EXPERTS_PER_LAYER * 2 * HIDDEN * HIDDEN + WIDTH * HIDDEN
    mean, own = read(WIDTH)
    projected = torch.cat([first.project(mean), first.project(own)], 1)
    expected = torch.stack([projected @ weight for weight in first.pool], 1)
    torch.testing.assert_close(first.expert_outputs(mean, own), expected, **EXACT)


def test_half_of_the_experts_are_the_next_layers() -> None:
    model = encoder("reuse")
    first, second, third = model.layers
    assert [len(one.pool) for one in model.layers] == [3, 3, 3]
    assert torch.equal(second.weight, torch.cat([second.pool, third.pool[:2]]))
    assert torch.equal(third.weight, torch.cat([third.pool, first.pool[:2]]))
    projected = [first.project.weight.T @ half for half in torch.cat([first.pool, second.pool[:2]]).chunk(2, dim=1)]
    torch.testing.assert_close(first.weight, torch.cat(projected, 1), **EXACT)
