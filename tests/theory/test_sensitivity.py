"""Part 3 of docs/theory.md as identities and bounds, on random networks of every kind, against whole passes."""

from __future__ import annotations

import math
from copy import copy
from typing import get_args

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from routed_samples import architectures, condition, damaged, exact, kinds, random_model, random_task, seeds
from samples import EXACT, TASKS, node_task, small_model
from torch import Tensor

from stemlib.data.batches import batches
from stemlib.data.tasks import Task, read_out
from stemlib.model.encoder import Gates
from stemlib.model.losses import instance_loss
from stemlib.model.stem import StemGNN
from stemlib.stress.conditions import Condition, corrupt
from stemlib.theory.gate_bounds import expert_spread, tightness, total_variation, variation_bound
from stemlib.theory.replay import Readout, change_under
from stemlib.theory.sensitivity import sensitivity
from study.families import build

READOUTS = get_args(Readout)
some = settings(max_examples=15)
readouts = st.sampled_from(READOUTS)


def network(kind: str, architecture: dict, seed: int, readout: str) -> tuple[StemGNN, Task]:
    task = random_task(kind, seed)
    if readout == "tokens" and architecture["codebook"] == "none":
        architecture = architecture | {"codebook": "ema"}
    return random_model(task, seed, **architecture), task


def forward(model: StemGNN, met: Condition, gates: Gates | None, readout: str) -> Tensor:
    """A whole pass of the model, `[M, r]`."""
    (batch,) = batches(met.task, met.index)
    with torch.no_grad():
        output = model(batch.graph, batch.instances, gates)
    if readout == "loss":
        return instance_loss(output.logits, batch.labels, "ce").unsqueeze(1)
    return {"embedding": output.embedding, "logits": output.logits}.get(
        readout, output.tokens.codes if output.tokens else None
    )


def gates_of(model: StemGNN, met: Condition) -> Gates:
    (batch,) = batches(met.task, met.index)
    with torch.no_grad():
        return model.encode(batch.graph).gates


@some
@given(kinds, architectures, readouts, seeds)
def test_pieces_are_differences_of_whole_passes(kind: str, architecture: dict, readout: str, seed: int) -> None:
    model, task = network(kind, architecture, seed, readout)
    clean, perturbed = condition(task), damaged(task, seed)
    pi, pi_perturbed = gates_of(model, clean), gates_of(model, perturbed)
    change = change_under(model, clean, perturbed, readout)

    def f(met: Condition, gates: Gates | None = None) -> Tensor:
        return forward(model, met, gates, readout)

    def released(met: Condition, layers: int) -> Tensor:
        return f(met, [*pi_perturbed[:layers], *pi[layers:]])

    total = f(perturbed) - f(clean)
    torch.testing.assert_close(change.total, total, **EXACT)
    sequential = f(perturbed, pi) - f(clean), f(perturbed) - f(perturbed, pi)
    gates_first = f(perturbed) - f(clean, pi_perturbed), f(clean, pi_perturbed) - f(clean)
    symmetric = [(one + other) / 2 for one, other in zip(sequential, gates_first, strict=True)]
    for pieces, (base, amplification) in ((change.sequential, sequential), (change.symmetric, symmetric)):
        torch.testing.assert_close(pieces.base, base, **EXACT)
        torch.testing.assert_close(pieces.amplification, amplification, **EXACT)
        torch.testing.assert_close(base + amplification, total, **EXACT)
    for layer in range(len(pi)):
        on_perturbed = released(perturbed, layer + 1) - released(perturbed, layer)
        on_clean = released(clean, layer + 1) - released(clean, layer)
        torch.testing.assert_close(change.sequential.layers[:, layer], on_perturbed, **EXACT)
        torch.testing.assert_close(change.symmetric.layers[:, layer], (on_perturbed + on_clean) / 2, **EXACT)


# Of this network's nodes one changes by rounding alone.
UNMOVED = {"experts": 2, "layers": 3, "routed": "all", "norm": "batch", "codebook": "reference", "code_width": None}


@some
@given(kinds, architectures, readouts, seeds)
@example("node", UNMOVED, "logits", 3)
def test_energies_are_those_of_the_pieces(kind: str, architecture: dict, readout: str, seed: int) -> None:
    model, task = network(kind, architecture, seed, readout)
    clean, perturbed = condition(task), damaged(task, seed)
    found = sensitivity(model, clean, perturbed, readout)
    change = change_under(model, clean, perturbed, readout)
    for energies, pieces in ((found.sequential, change.sequential), (found.symmetric, change.symmetric)):
        torch.testing.assert_close(energies.total, change.total.square().sum(1), **EXACT)
        torch.testing.assert_close(energies.base, pieces.base.square().sum(1), **EXACT)
        torch.testing.assert_close(energies.amplification, pieces.amplification.square().sum(1), **EXACT)
        torch.testing.assert_close(energies.layers, pieces.layers.square().sum(2), **EXACT)
        parts = energies.base + energies.amplification + 2 * energies.cross
        torch.testing.assert_close(parts, energies.total, **EXACT)
        torch.testing.assert_close(energies.mean.sum(0), change.total.mean(0), **EXACT)
        assert energies.residual.max() < 1e-9
    apart = change.sequential.amplification - change.symmetric.amplification
    torch.testing.assert_close(found.order_gap, apart.square().sum(1), **EXACT)
    row = found.summary()
    if row["base"] > 0:
        assert row["factor"] ** 2 == pytest.approx(row["total"] / row["base"])
    if row["total"] > 0:
        assert row["cross, %"] == pytest.approx(200 * row["cross"] / row["total"])
        assert row["base, %"] + row["amplification, %"] + row["cross, %"] == pytest.approx(100)


@some
@given(kinds, architectures, seeds)
def test_the_bounds_hold(kind: str, architecture: dict, seed: int) -> None:
    model, task = network(kind, architecture, seed, "embedding")
    found = sensitivity(model, condition(task), damaged(task, seed))
    gates, slack = found.gates, 1 + 1e-9
    assert (gates.variation <= gates.variation_bound * slack + 1e-12).all()
    assert (gates.layer_change <= gates.layer_bound * slack + 1e-12).all()
    ratios = gates.variation_tightness + gates.layer_tightness
    assert all(math.isnan(ratio) or ratio <= slack for ratio in ratios)
    if architecture["experts"] == 2:  # two experts lie on a line
        torch.testing.assert_close(gates.layer_change, gates.layer_bound, rtol=1e-6, atol=1e-9)
    head = found.head
    norms = list(head.norms.values())
    assert norms == sorted(norms)
    for norm in norms:
        assert (head.logit_change <= norm * head.input_change * slack + 1e-12).all()


@some
@given(kinds, architectures, seeds)
def test_gates_are_compared_as_routed(kind: str, architecture: dict, seed: int) -> None:
    model, task = network(kind, architecture, seed, "embedding")
    clean, perturbed = condition(task), damaged(task, seed)
    found = sensitivity(model, clean, perturbed).gates
    (batch,) = batches(task, clean.index)
    pairs = zip(gates_of(model, clean), gates_of(model, perturbed), strict=True)
    for layer, (pi, pi_perturbed) in enumerate(pairs):
        l1 = read_out((pi_perturbed - pi).abs().sum(1, keepdim=True), batch.graph, batch.instances, kind)
        torch.testing.assert_close(found.l1[:, layer], l1.squeeze(1), **EXACT)
        flips = (pi.argmax(1) != pi_perturbed.argmax(1)).double().unsqueeze(1)
        flips = read_out(flips, batch.graph, batch.instances, kind)
        torch.testing.assert_close(found.flipped[:, layer], flips.squeeze(1), **EXACT)


@settings(max_examples=50)
@given(st.integers(1, 6), st.floats(0.01, 30), seeds)
def test_variation_is_bounded_by_the_oscillation(experts: int, size: float, seed: int) -> None:
    torch.manual_seed(seed)
    logits = 3 * torch.randn(50, experts).double()
    change = size * torch.randn(50, experts).double()
    variation = total_variation(logits.softmax(-1), (logits + change).softmax(-1))
    assert (variation <= variation_bound(change) + 1e-12).all()


def test_the_oscillation_bound_is_met() -> None:
    """Two experts, logits from -t to t: variation `tanh(t/2)`, oscillation `2 t`."""
    logits, change = torch.tensor([-0.7, 0.7]).double(), torch.tensor([1.4, -1.4]).double()
    found = total_variation(logits.softmax(0), (logits + change).softmax(0))
    assert found.item() == pytest.approx(math.tanh(0.7))
    assert variation_bound(change).item() == pytest.approx(math.tanh(0.7))


def test_spread_and_tightness_by_hand() -> None:
    outputs = torch.tensor([[[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]])
    assert expert_spread(outputs).tolist() == [5.0]
    assert expert_spread(outputs[:, :1]).tolist() == [0.0]
    assert tightness(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0])) == 0.5
    assert math.isnan(tightness(torch.zeros(2), torch.zeros(2)))


@some
@given(kinds, architectures, seeds)
def test_tokens_change_by_flipped_heads_alone(kind: str, architecture: dict, seed: int) -> None:
    """`||dq||^2 = sum over flipped heads ||c' - c||^2`, and nothing else reaches the logits."""
    model, task = network(kind, architecture, seed, "tokens")
    clean, perturbed = condition(task), damaged(task, seed, features=0.1, edges=0.05)
    found = sensitivity(model, clean, perturbed, "tokens")
    tokens, head = found.tokens, found.head
    flipped = tokens.clean != tokens.perturbed
    assert torch.equal(tokens.flipped, flipped)
    codes = tokens.code_change.square()
    torch.testing.assert_close((codes * flipped).sum(1), found.sequential.total, **EXACT)
    torch.testing.assert_close(head.input_change.square(), found.sequential.total, rtol=1e-9, atol=1e-12)
    assert (head.logit_change[tokens.kept] == 0).all()
    assert (tokens.explained <= tokens.kept).all()
    assert (head.explained <= head.same_decision).all()
    if tokens.query_change.any():
        assert tokens.gain == pytest.approx((codes.sum() / tokens.query_change.square().sum()).item())
    row = found.summary()
    assert row["token_flip_rate"] == pytest.approx(flipped.double().mean().item())
    assert 1 <= row["perplexity"] <= model.config.codes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_perturbation_of_the_features_breaks_a_certificate(dtype: torch.dtype) -> None:
    """Random features, and features moved along the gradient of the tokens' queries: 12,000 instances met."""
    task = exact(node_task(500)) if dtype == torch.float64 else node_task(500)
    model = random_model(task, seed=1, codes=3, layers=2).to(dtype)
    clean, explained, kept = condition(task), 0, 0
    for step, attack in [(10**power, attack) for power in (-5, -4, -3, -2, -1, 0) for attack in (0, 1, 2, 3)]:
        direction = torch.randn_like(task.graph.x) if attack % 2 else steepest(model, task, seed=attack)
        graph = copy(task.graph)
        graph.x = graph.x + step * direction / direction.norm(dim=1, keepdim=True).clamp(min=1e-12)
        found = sensitivity(model, clean, condition(task.with_graph(graph), "moved"), "logits")
        assert (found.tokens.explained <= found.tokens.kept).all()
        assert (found.head.explained <= found.head.same_decision).all()
        assert (found.head.logit_change[found.tokens.kept] == 0).all()
        explained += int(found.tokens.explained.sum())
        kept += int(found.tokens.kept.sum())
    assert 0.3 * 12_000 < explained <= kept < 12_000  # neither empty nor everything


def steepest(model: StemGNN, task: Task, seed: int) -> Tensor:
    """Direction of the features `[N, d]` that moves the instances' queries along a random direction."""
    graph = copy(task.graph)
    graph.x = graph.x.clone().requires_grad_()
    output = model(graph, torch.arange(task.instances))
    torch.manual_seed(seed)
    aim = torch.randn_like(output.tokens.queries)
    (slope,) = torch.autograd.grad((output.tokens.queries * aim).sum(), graph.x)
    return slope


@pytest.mark.parametrize("readout", READOUTS)
def test_nothing_perturbed_is_nothing_changed(readout: str) -> None:
    task = exact(node_task())
    found = sensitivity(random_model(task), condition(task), condition(task, "same"), readout)
    assert found.sequential.total.max() < 1e-18
    assert found.sequential.amplification.max() < 1e-18
    assert math.isnan(found.tokens.gain)
    assert found.tokens.flip_rate == 0
    assert found.tokens.explained.double().mean() > 0.99


@pytest.mark.parametrize("layers", [2, 3])
def test_deleting_edges_moves_no_route_of_the_first_layer_by_a_bit(layers: int) -> None:
    """Its router reads features alone; in float32 this holds only if all passes round alike."""
    task = node_task()
    clean = condition(task)
    torch.manual_seed(0)
    model = build(small_model(layers=layers), task).eval()
    change = change_under(model, clean, corrupt(clean, "deleted", 0.5, 0)[0], "embedding")
    assert change.total.abs().max() > 0.01
    for pieces in (change.sequential, change.symmetric):
        assert not pieces.layers[:, 0].any()
        assert pieces.layers[:, 1].any()


@pytest.mark.parametrize("kind", TASKS)
def test_chunks_and_batches_change_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = exact(TASKS[kind]())
    model = random_model(task, layers=2)
    clean, perturbed = condition(task), damaged(task)
    whole = sensitivity(model, clean, perturbed, "logits").summary()
    monkeypatch.setattr("stemlib.theory.replay.GRAPHS_PER_BATCH", 5)
    monkeypatch.setattr("stemlib.theory.sensitivity._instances_per_chunk", lambda model: 7)
    parts = sensitivity(model, clean, perturbed, "logits").summary()
    for name in ("condition", "readout", "residual", "symmetric_residual"):
        del whole[name]
    assert {name: parts[name] for name in whole} == pytest.approx(whole, rel=1e-9, nan_ok=True)


def test_a_loss_is_read_where_there_is_a_label() -> None:
    task = random_task("graph")
    task.labels[2] = float("nan")
    model = random_model(task)
    assert len(sensitivity(model, condition(task), damaged(task), "loss").order_gap) == 7
    assert len(sensitivity(model, condition(task), damaged(task), "logits").order_gap) == 8


def test_training_mode_comes_back() -> None:
    task = node_task()
    model = build(small_model(dropout=0.5), task).train()
    first = sensitivity(model, condition(task), damaged(task)).summary()
    assert model.training
    assert first == sensitivity(model, condition(task), damaged(task)).summary()


def test_refusals() -> None:
    task = random_task("node")
    clean, perturbed = condition(task), damaged(task)
    with pytest.raises(ValueError, match="readout must be one of embedding, tokens, logits, loss, got 'z'"):
        sensitivity(random_model(task), clean, perturbed, "z")
    with pytest.raises(ValueError, match="this model has no tokens"):
        sensitivity(random_model(task, codebook="none"), clean, perturbed, "tokens")
    with pytest.raises(ValueError, match="without routed layers"):
        sensitivity(random_model(task, routed="none"), clean, perturbed)
    with pytest.raises(ValueError, match="'clean' and 'damaged' must have the same instances on the same nodes"):
        sensitivity(random_model(task), Condition("clean", task, torch.arange(3)), perturbed)
    other = random_task("node", nodes=12)
    with pytest.raises(ValueError, match="9 on 9 nodes and 9 on 12"):
        sensitivity(random_model(task), clean, Condition("other", other, clean.index))
