"""Every node on its own top expert, against the network that is deployed and against whole passes."""

from __future__ import annotations

from copy import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from routed_samples import architectures, condition, kinds, random_model, random_task, seeds, without_returns
from samples import EXACT

from stemlib.data.tasks import Task
from stemlib.model.deployed import deploy
from stemlib.model.losses import LOSSES, instance_loss
from stemlib.theory.coverage import coverage
from stemlib.theory.paths import path_losses, top_paths

some = settings(max_examples=12)


@some
@given(kinds, architectures, seeds)
def test_in_scope_graph_it_is_the_network_deployed_as_top1(kind: str, architecture: dict, seed: int) -> None:
    task = random_task(kind, seed)
    model = random_model(task, seed, **architecture)
    found = path_losses(model, task, torch.arange(task.instances), "graph")
    logits = deploy(model, "top1")(task.graph, task.select(torch.arange(task.instances)) if kind != "graph" else None)
    for loss in LOSSES:
        torch.testing.assert_close(found.own_top[loss], instance_loss(logits, task.labels, loss), **EXACT)


@some
@given(st.integers(2, 4), st.sampled_from([(1, "all"), (2, "all"), (3, "last")]), seeds)
def test_in_scope_node_both_ends_of_a_link_take_their_own(experts: int, stack: tuple[int, str], seed: int) -> None:
    task = without_returns(random_task("link", seed, nodes=20, edges=60))
    layers, routed = stack
    model = random_model(task, seed, experts=experts, layers=layers, routed=routed)
    found = path_losses(model, task, torch.arange(task.instances), "node")
    with torch.no_grad():
        recorded = model.encode(task.graph).gates
        for i, ends in enumerate(task.pairs):
            gates = [gate.clone() for gate in recorded]
            for gate in gates:
                gate[ends] = torch.eye(experts, dtype=gate.dtype)[gate[ends].argmax(-1)]
            logits = model(task.graph, ends.unsqueeze(0), gates).logits
            expected = instance_loss(logits, task.labels[i : i + 1], "ce")
            torch.testing.assert_close(found.own_top["ce"][i : i + 1], expected, **EXACT)


@some
@given(architectures, seeds)
def test_a_node_s_own_top_is_its_top_path(architecture: dict, seed: int) -> None:
    task = random_task("node", seed)
    found = path_losses(random_model(task, seed, **architecture), task, torch.arange(task.instances), "node")
    for loss in LOSSES:
        at_top = found.forced[loss][torch.arange(task.instances), top_paths(found.gates)]
        assert torch.equal(found.own_top[loss], at_top)


def test_ends_that_need_different_experts_beat_every_shared_path() -> None:
    """One link 0 - 1; expert k answers `v_k` times the own state; only `v_0` for node 0 and `v_1` for node 1 are right.

    States are `(1, 0)` and `(0, 1)`, expert 0 keeps the first and turns the second round, expert 1 the other way.
    """
    task = random_task("link", nodes=4, edges=8)
    graph = copy(task.graph)
    graph.x = torch.eye(4, graph.x.size(1)).double()
    task = Task("one link", "link", graph, torch.tensor([2, 0, 1]), {}, torch.tensor([[0, 1], [0, 0], [1, 1]]))
    model = random_model(task, experts=2, layers=1, hidden=3, codebook="none", norm="none")
    width = graph.x.size(1)
    with torch.no_grad():
        for value in model.parameters():
            value.zero_()
        for expert in (0, 1):
            for node in (0, 1):
                model.encoder.layers[0].weight[expert, width + node, 2] = 1.0 if expert == node else -1.0
            model.encoder.routers[0].weight[expert, expert] = 2.0  # each end prefers its own, not quite surely
        model.head.linear.weight.copy_(torch.eye(3))
    found = coverage(model, condition(task))
    right, even = (-torch.tensor([0.0, 0.0, z]).double().log_softmax(0)[2].item() for z in (1.0, 0.0))
    assert found.forced[0].tolist() == pytest.approx([even, even])  # one end right, one wrong, on either path
    assert found.own_top[0].item() == pytest.approx(right)
    assert found.own_top[0] < found.covered[0]
    assert found.S_own >= 0
    assert found.C_own < found.C
    assert found.C_own + found.S_own + found.X_own == pytest.approx(found.R)
