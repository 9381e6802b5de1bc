"""Training terms: their values by hand, whom they teach, who is refused, and trainings that stay reproducible."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args, get_type_hints

import pytest
import torch
from run_samples import TRAIN
from samples import TASKS, node_task, small_model
from torch import Tensor

from stemlib.data.batches import Batch
from stemlib.data.graph import Graph
from stemlib.data.tasks import Task
from stemlib.model.encoder import Encoding
from stemlib.model.network import Output
from stemlib.model.stem import StemGNN
from stemlib.presets import TrainConfig
from stemlib.training.finetune import training_batches
from stemlib.training.terms import TERMS, _scattered, anchor, balance, coupling, prior, teacher
from study.families import build

SHORT = replace(TRAIN, epochs=3, patience=3, term_weight=0.1)
TOLERANCE = {"rtol": 1e-9, "atol": 1e-12}


def model_for(term: str, task: Task, **settings: object) -> StemGNN:
    torch.manual_seed(0)
    return build(small_model(router="anchored" if term == "prior" else "linear", dropout=0.3, **settings), task)


def tiny(width: int = 2, **settings: object) -> StemGNN:
    """One routed layer without noise, in float64."""
    config = small_model(hidden=width, layers=1, codebook="none", **settings)
    return StemGNN(config, in_width=width, classes=2).double().eval()


def pair(x: Tensor) -> Batch:
    """Nodes that read themselves alone."""
    graph = Graph(x, torch.arange(len(x)).expand(2, -1))
    return Batch(graph, torch.arange(len(x)), torch.zeros(len(x), dtype=torch.long))


def given(logits: list[Tensor], **memory: Tensor) -> Output:
    """An output of which the routers' part alone is there."""
    none = torch.zeros(0)
    return Output(none, none, None, Encoding(none, [one.softmax(1) for one in logits], logits, [], memory=memory))


def test_the_registry_and_the_setting_know_the_same_terms() -> None:
    assert ("none", *TERMS) == get_args(get_type_hints(TrainConfig)["term"])


def test_balance_by_hand() -> None:
    logits = torch.tensor([[3.0, 1.0], [2.0, 0.0], [0.0, 1.0], [1.0, 0.0]]).log_softmax(1)
    p = logits.exp()
    expected = 2 * (0.75 * p[:, 0].mean() + 0.25 * p[:, 1].mean())
    torch.testing.assert_close(balance(None, None, given([logits]), SHORT), expected)
    even = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    both = balance(None, None, given([logits, even]), SHORT)
    torch.testing.assert_close(both, (expected + 1) / 2)


def test_balance_is_least_at_uniform_use_and_k_where_one_expert_has_all() -> None:
    even = 5 * torch.eye(3).repeat(4, 1)
    assert balance(None, None, given([even]), SHORT).item() == pytest.approx(1)
    alone = torch.tensor([[60.0, 0.0, 0.0]]).repeat(12, 1)
    assert balance(None, None, given([alone]), SHORT).item() == pytest.approx(3)
    for uneven in (torch.tensor([[5.0, 0, 0], [5.0, 0, 0], [0, 5.0, 0]]), even[:10]):
        assert balance(None, None, given([uneven]), SHORT) > 1


def test_balance_follows_the_gates_that_were_used() -> None:
    output = given([torch.tensor([[1.0, 0.0]])])
    quiet = balance(None, None, output, SHORT)
    output.encoding.gates = [torch.tensor([[0.2, 0.8]])]  # noise has sent the node to the other
    torch.testing.assert_close(balance(None, None, output, SHORT), 2 - quiet)


def set_coupling(model: StemGNN, answers: Tensor) -> None:
    """Rows are unit vectors; expert `j` maps row `k` to a vector of length `answers[k, j]`, of which half is own."""
    with torch.no_grad():
        model.encoder.routers[0].weight.copy_(torch.eye(2))
        weight = model.encoder.layers[0].weight.zero_()
        for k in range(2):
            weight[:, k, 0] = weight[:, 2 + k, 0] = answers[k] / 2


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_coupling_by_hand(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers `[[1, 3], [0.5, 2]]`: for expert 0, `3 - a` and `0.5 - a`; for expert 1, `0.5 - 2 a` and `3 - 2 a`."""
    monkeypatch.setattr("stemlib.training.terms._scattered", lambda rows: rows)
    model = tiny(experts=2)
    set_coupling(model, torch.tensor([[1.0, 3.0], [0.5, 2.0]]).double())
    by_hand = sum(max(value, 0) for value in (3 - share, 0.5 - share, 0.5 - 2 * share, 3 - 2 * share)) / 4
    found = coupling(model, None, None, replace(SHORT, coupling_share=share)).item()
    assert found == pytest.approx(by_hand)


def test_coupling_is_zero_where_each_expert_answers_its_own_row_most_by_the_margin() -> None:
    """With the noise: nearest rows are `sqrt(2)` apart, so that answers stay above `1 - sqrt(2) / 2` of theirs."""
    model = tiny(experts=2)
    set_coupling(model, torch.tensor([[1.0, 0.1], [0.1, 1.0]]).double())
    assert coupling(model, None, None, replace(SHORT, coupling_share=0.0)) > 0
    assert [coupling(model, None, None, SHORT).item() for _ in range(20)] == [0.0] * 20
    set_coupling(model, torch.tensor([[1.0, 1.5], [1.5, 1.0]]).double())
    assert coupling(model, None, None, SHORT) > 0


def test_the_noise_of_coupling_keeps_a_row_on_its_side() -> None:
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.5], [-3.0, 4.0]])
    drawn = torch.stack([_scattered(rows) for _ in range(200)])
    nearest = torch.cdist(drawn, rows.expand(200, -1, -1)).argmin(2)
    assert (nearest == torch.arange(3)).all()
    assert not torch.equal(drawn[0], drawn[1])
    alone = torch.ones(1, 3)
    assert _scattered(alone) is alone


def test_teacher_by_hand() -> None:
    """Expert outputs 0, 1 and 5 (times the state): 1 is closest to their mean, 2."""
    model = tiny(experts=3)
    model.encoder.layers[0].weight.data.zero_()[:, 2, 0] = torch.tensor([0.0, 1.0, 5.0]).double()
    batch = pair(torch.tensor([[1.0, 0.0], [2.0, 1.0]]).double())
    output = model(batch.graph, batch.instances)
    expected = -output.encoding.gate_logits[0].log_softmax(1)[:, 1].mean()
    torch.testing.assert_close(teacher(model, batch, output, SHORT), expected)


def test_prior_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    q = torch.tensor([[0.5, 0.5], [0.25, 0.75]])
    output = given([logits])
    output.encoding.memory["prior", 0] = q.log()
    pi = math.e / (1 + math.e)
    expected = (0.25 * math.log(0.25 / pi) + 0.75 * math.log(0.75 / (1 - pi))) / 2
    assert prior(None, None, output, SHORT).item() == pytest.approx(expected, abs=1e-6)
    output.encoding.memory["prior", 0] = logits.log_softmax(1)
    assert prior(None, None, output, SHORT).item() == pytest.approx(0, abs=1e-7)


def test_anchor_by_hand() -> None:
    """With all columns hidden but by luck, the damaged logits are the router's bias."""
    model = tiny(experts=3)
    batch = pair(torch.tensor([[1.0, -1.0], [2.0, 1.0]]).double())
    output = model(batch.graph, batch.instances)
    train = replace(SHORT, anchor_features=0.5, anchor_edges=0.0)
    torch.manual_seed(3)
    columns = torch.rand(2) >= 0.5
    assert not columns.all()
    torch.manual_seed(3)
    found = anchor(model, batch, output, train)
    after = model.encoder.routers[0](batch.graph.x * columns).log_softmax(1)
    expected = -(output.encoding.gates[0].detach() * after).sum(1).mean()
    torch.testing.assert_close(found, expected, **TOLERANCE)


@pytest.mark.parametrize("rates", [(0.5, 0.0), (0.0, 0.5)])
def test_the_view_of_anchor_reads_nothing_that_was_cached(rates: tuple[float, float]) -> None:
    task = node_task()
    model = build(small_model(), task).eval()
    train = replace(SHORT, anchor_features=rates[0], anchor_edges=rates[1])
    (batch,) = training_batches(model, task, task.split("random"), SHORT)(None)
    assert batch.graph.hops[0].mean is not None
    bare = replace(batch.graph, hops=tuple(replace(hop, mean=None) for hop in batch.graph.hops))
    values = []
    for one in (batch, batch._replace(graph=bare)):
        torch.manual_seed(1)
        values.append(anchor(model, one, model(one.graph, one.instances), train))
    torch.testing.assert_close(*values)


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("term", TERMS)
def test_a_term_teaches_the_routers(term: str, kind: str) -> None:
    """And what they read; never the head, nor what only the task reads."""
    task = TASKS[kind]()
    model = model_for(term, task).train()
    (batch,) = training_batches(model, task, task.split("random"), SHORT)(None)
    output = model(batch.graph, batch.instances)
    value = TERMS[term](model, batch, output, SHORT)
    assert value.shape == ()
    value.backward()
    reached = {name for name, one in model.named_parameters() if one.grad is not None and one.grad.any()}
    for level, router in enumerate(model.encoder.routers):
        assert any(name.startswith(f"encoder.routers.{level}.") for name in reached), router
    assert all(name.startswith("encoder.") for name in reached)
    last_experts = "encoder.layers.1.weight"  # no router reads what they give
    assert (last_experts in reached) == (term == "coupling")


def test_anchor_holds_the_gates_of_the_graph_as_it_is() -> None:
    task = node_task()
    model = model_for("anchor", task)
    (batch,) = training_batches(model, task, task.split("random"), SHORT)(None)
    output = model(batch.graph, batch.instances)
    before = output.encoding.gate_logits[0]
    before.retain_grad()
    anchor(model, batch, output, SHORT).backward()
    assert before.grad is None
