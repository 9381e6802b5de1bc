"""The best mixture against brute force by whole passes, on tiny networks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from routed_samples import architectures, condition, kinds, random_model, random_task, seeds, without_returns
from samples import EXACT
from scipy.optimize import minimize
from torch import Tensor

from stemlib.data.batches import batches
from stemlib.data.tasks import Task
from stemlib.model.losses import LOSSES, Loss, instance_loss
from stemlib.model.stem import StemGNN
from stemlib.theory.coverage import coverage
from stemlib.theory.coverage_report import report
from stemlib.theory.mixtures import GRID, best_mixture, simplex_grid
from stemlib.theory.paths import all_paths

some = settings(max_examples=8)


@torch.no_grad()
def forced(model: StemGNN, task: Task, i: int, gates: Tensor, loss: Loss = "ce") -> float:
    """The loss of one instance by a whole pass with the gates `[L, K]` of its own nodes alone."""
    if task.kind == "graph":
        (batch,) = batches(task, torch.tensor([i]))
        given = [gate.expand(batch.graph.num_nodes, -1) for gate in gates]
        return instance_loss(model(batch.graph, None, given).logits, batch.labels, loss).item()
    own = task.select(torch.tensor([i]))
    given = model.encode(task.graph).gates
    for gate, mine in zip(given, gates, strict=True):
        gate[own.flatten()] = mine
    return instance_loss(model(task.graph, own, given).logits, task.labels[i : i + 1], loss).item()


def tiny_task(kind: str, seed: int) -> Task:
    """A task in which scope `node` is what forcing gates does to the whole network of two layers."""
    task = random_task(kind, seed)
    return task if kind == "graph" else without_returns(task)


@some
@given(kinds, architectures, st.sampled_from(LOSSES), seeds)
def test_it_is_attained_and_below_paths_and_routing(kind: str, architecture: dict, loss: Loss, seed: int) -> None:
    task = tiny_task(kind, seed)
    model = random_model(task, seed, **architecture)
    found = coverage(model, condition(task), loss=loss)
    best = best_mixture(model, task, found)
    assert (best.losses <= torch.minimum(found.covered, found.routed)).all()
    assert (best.searched <= found.covered + 1e-9).all()  # the vertices are on the grid
    if kind == "node":
        assert (best.searched <= found.routed + 1e-9).all()
    assert (best.gates >= 0).all()
    torch.testing.assert_close(best.gates.sum(-1), torch.ones_like(found.entropy), **EXACT)
    if model.encoder.routed_layers <= 2 or kind == "graph":
        for place, i in enumerate(found.index[:4].tolist()):
            value = forced(model, task, i, best.gates[place], loss)
            assert best.searched[place].item() == pytest.approx(value, rel=1e-9, abs=1e-9)


@some
@given(st.sampled_from(["node", "link", "graph"]), st.integers(2, 4), seeds)
def test_one_layer_without_tokens_is_solved(kind: str, experts: int, seed: int) -> None:
    """The cross-entropy is convex in the gates: a solver of its own finds the same minimum."""
    task = tiny_task(kind, seed)
    model = random_model(task, seed, experts=experts, layers=1, codebook="none", norm="none")
    found = coverage(model, condition(task))
    best = best_mixture(model, task, found)
    for place, i in enumerate(found.index[:3].tolist()):
        # It ends early where the loss is flat; from where the search ended it can only find less.
        starts = torch.full((experts,), 1 / experts).double(), best.gates[place, 0].double()
        solved = min(
            minimize(
                lambda gates, i=i: forced(model, task, i, torch.from_numpy(gates).unsqueeze(0)),
                start.numpy(),
                bounds=[(0, 1)] * experts,
                constraints={"type": "eq", "fun": lambda gates: gates.sum() - 1},
                options={"ftol": 1e-12},
            ).fun
            for start in starts
        )
        assert best.searched[place].item() == pytest.approx(solved, abs=1e-4)


@pytest.mark.parametrize("kind", ["node", "link", "graph"])
@pytest.mark.parametrize("codebook", ["none", "ema"])
def test_two_layers_against_a_grid_of_whole_passes(kind: str, codebook: str) -> None:
    task = tiny_task(kind, 3)
    model = random_model(task, 3, experts=2, layers=2, codebook=codebook)
    found = coverage(model, condition(task))
    best = best_mixture(model, task, found)
    # Between the jumps of tokens only what is tried is known: the search's own grid.
    first = torch.linspace(0, 1, 14).double()
    grid = simplex_grid(2, 2) if codebook == "ema" else torch.stack([first, 1 - first], 1)
    for place, i in enumerate(found.index[:2].tolist()):
        brute = min(forced(model, task, i, grid[list(pair)]) for pair in all_paths(len(grid), 2).tolist())
        assert best.searched[place].item() <= brute + 1e-6


def test_two_wrong_experts_make_a_right_mixture() -> None:
    """Logits (5, 3, 0) and (0, 3, 5) are wrong about class 1; half of each gives (2.5, 3, 2.5)."""
    task = random_task("node")
    task.graph.x[:, 0], task.labels[1:] = 1.0, 1  # the first label is 2, so that there are three classes
    model = random_model(task, experts=2, layers=1, hidden=3, codebook="none", norm="none")
    with torch.no_grad():
        for value in model.parameters():
            value.zero_()
        outputs = torch.tensor([[5.0, 3.0, 0.0], [0.0, 3.0, 5.0]]).double()
        model.encoder.layers[0].weight[:, task.graph.x.size(1)] = outputs
        model.encoder.routers[0].bias[0] = 50.0
        model.head.linear.weight.copy_(torch.eye(3))
    wrong, right = coverage(model, condition(task), loss="zero_one"), coverage(model, condition(task))
    best = best_mixture(model, task, wrong)
    assert (wrong.covered[1:] == 1).all()
    assert (wrong.routed[1:] == 1).all()
    assert (best.losses[1:] == 0).all()
    smooth = best_mixture(model, task, right)
    torch.testing.assert_close(smooth.gates[1:], torch.full_like(smooth.gates[1:], 0.5), atol=1e-3, rtol=0)
    table = report([wrong, right], mixtures=[best, smooth])
    assert table.C_mix.tolist() == [best.losses.mean().item(), smooth.losses.mean().item()]


def test_the_grid_is_even_has_the_vertices_and_is_not_too_large() -> None:
    assert simplex_grid(3, 2).shape == (15, 3)  # quarters
    assert simplex_grid(8, 2).tolist() == torch.eye(8).tolist()
    for experts, layers in ((1, 2), (2, 1), (2, 3), (3, 1), (4, 2)):
        grid = simplex_grid(experts, layers)
        assert len(grid) ** layers <= GRID
        torch.testing.assert_close(grid.sum(1), torch.ones(len(grid)).double())
        assert {tuple(vertex) for vertex in torch.eye(experts).tolist()} <= {tuple(point) for point in grid.tolist()}


def test_nodes_with_all_gates_forced_are_refused() -> None:
    task = random_task("node")
    model = random_model(task)
    with pytest.raises(ValueError, match=r"'random' has nodes in one graph: .* decompose it in scope 'node'"):
        best_mixture(model, task, coverage(model, condition(task), "graph"))
