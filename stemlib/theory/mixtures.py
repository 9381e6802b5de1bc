"""The best mixture of experts for every instance: what soft gates could reach, and paths alone may not.

Statement 2.7 of docs/theory.md. An instance's nodes all take the same gates `g = (g_1, ..., g_L)`, each on the simplex,
forced as a path is (`stemlib.theory.forcing`); a path is a vertex. `C_mix <= min(C, R)`.

The minimum is searched for: on a grid of the simplex in every layer, then from each instance's best point by moving
weight between two experts, in steps that are halved when no move helps (a pattern search, which needs no gradient: with
tokens the loss is constant between jumps). What is found is an upper bound on the minimum: the minimum itself for one
layer without tokens or norm, where the cross-entropy is convex in the gates; at best a local one elsewhere.

Cost. Per instance at most `GRID + ROUNDS L K (K - 1)` runs of tokens, head and the last layer's mixing, in scope `node`
without a pass over the graph: some 700 read-outs for three experts in two layers, where all paths take 9.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations, product
from typing import NamedTuple

import torch
from torch import Tensor

from stemlib.data.batches import batches
from stemlib.data.tasks import Task
from stemlib.devices import device_of
from stemlib.model.experts import mixture
from stemlib.model.folded import Classify, folded_classifier
from stemlib.model.losses import LOSSES, Loss
from stemlib.model.network import require_fit
from stemlib.model.stem import StemGNN
from stemlib.theory.coverage import Coverage
from stemlib.theory.forcing import Forceable, end_losses, forceable, path_ends
from stemlib.theory.paths import all_paths
from stemlib.theory.routing import GRAPHS_PER_BATCH, evaluating, labelled

GRID = 256  # at most so many points of the grid, over all layers together
ROUNDS = 40  # of the search from the best of them
FINEST = 1e-3  # the step at which it ends: where the loss is smooth it is then some 1e-6 from its minimum


class BestMixture(NamedTuple):
    """The best mixture that was found for each of `M` instances.

    Attributes:
        losses: with it, or as routed or on a path if that is lower still, `[M]`: the terms of `C_mix`.
        gates: the best shared ones `[M, L, K]`; if an instance's nodes differ, those as routed may be better.
        searched: the losses on `gates`, `[M]`.
    """

    losses: Tensor
    gates: Tensor
    searched: Tensor


def best_mixture(model: StemGNN, task: Task, found: Coverage) -> BestMixture:
    """Search for the best mixture of every instance; see the module's docstring for what that is, and the cost.

    Args:
        model: the one that was decomposed.
        task: the condition's.
        found: by `coverage`, in one loss.

    Raises:
        ValueError: nodes or links in scope `graph`, where each instance would take passes over the whole graph; a task
            of another shape, or without the labels of what was decomposed.
    """
    require_fit(model, task)
    if labelled(task, found.index).numel() < found.index.numel():
        raise ValueError(f"{task.name!r} lacks labels of {found.condition!r}: give the task that was decomposed")
    if found.scope == "graph" and task.kind != "graph":
        raise ValueError(
            f"{task.name!r} has {task.kind}s in one graph: with all gates forced, every instance would need its own "
            "passes; decompose it in scope 'node'"
        )
    gates, searched = [], []
    with evaluating(model):
        classify = folded_classifier(model)
        for batch in batches(task, found.index, GRAPHS_PER_BATCH if task.kind == "graph" else 0):
            batch = batch.to(device_of(model))
            for part in forceable(model, batch, model.encode(batch.graph), found.scope, apart=True):
                start = found.gates[sum(map(len, gates)) :][: len(part.labels)].to(part.first.device)
                best = _best_of_grid(model, classify, part, found.loss, start)
                for kept, values in zip((gates, searched), best, strict=True):
                    kept.append(values.cpu())
    searched = torch.cat(searched)
    return BestMixture(torch.stack([searched, found.covered, found.routed]).amin(0), torch.cat(gates), searched)


def simplex_grid(experts: int, layers: int) -> Tensor:
    """Evenly spaced points of the simplex `[P, K]`, vertices included: the finest grid with `P^L <= GRID`."""
    grid = torch.eye(experts, dtype=torch.double)
    for parts in range(2, GRID):
        finer = [counts for counts in product(range(parts + 1), repeat=experts) if sum(counts) == parts]
        if len(finer) ** layers > GRID:
            break
        grid = torch.tensor(finer, dtype=torch.double) / parts
    return grid


def _best_of_grid(
    model: StemGNN, classify: Classify, part: Forceable, loss: Loss, start: Tensor
) -> tuple[Tensor, Tensor]:
    """Gates `[M, L, K]` and losses `[M]`: the best of the grid and of the gates `start`, then searched from there."""
    encoder, (_, layers, experts) = model.encoder, start.shape
    instances, nodes = torch.arange(len(start), device=start.device), len(part.first)
    owner = part.graph.batch if part.instances is None else instances.repeat_interleave(nodes // len(start))

    def losses_of(z: Tensor) -> Tensor:
        return end_losses(model, classify, z, part)[LOSSES.index(loss)]

    def losses_on(gates: Tensor) -> Tensor:
        outputs, x = part.first, None
        for level, index in enumerate(part.layers):
            if level > 0:
                outputs = part.outputs(index, x)
            x = encoder.finish_layer(index, mixture(gates[owner, level].to(outputs.dtype), outputs))
        return losses_of(x.unsqueeze(1)).squeeze(1)

    grid = simplex_grid(experts, layers).to(start.device)
    found, place, before = losses_on(start), torch.full_like(instances, -1), 0
    for z in path_ends(encoder, part, grid.to(part.first.dtype)):
        lowest, where = losses_of(z).min(1)
        place = torch.where(lowest < found, before + where, place)
        found = torch.minimum(lowest, found)
        before += z.size(1)
    on_grid = grid[all_paths(len(grid), layers)][place]
    gates = torch.where((place < 0).view(-1, 1, 1), start, on_grid)
    return _search(losses_on, gates, found, grid[grid > 0].amin().item() / 2)


def _search(losses_on: Callable[[Tensor], Tensor], gates: Tensor, found: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """Pattern search from given gates `[M, L, K]` and their losses `[M]`: exchange weight between two experts."""
    _, layers, experts = gates.shape
    steps = torch.full_like(found, step)
    moves = list(product(range(layers), permutations(range(experts), 2)))
    for _ in range(ROUNDS):
        best, lowest = gates, found
        for layer, (giver, taker) in moves:
            moved = gates.clone()
            amount = torch.minimum(steps, gates[:, layer, giver])
            moved[:, layer, giver] -= amount
            moved[:, layer, taker] += amount
            losses = losses_on(moved)
            best = torch.where((losses < lowest).view(-1, 1, 1), moved, best)
            lowest = torch.minimum(losses, lowest)
        steps = torch.where(lowest < found, steps, steps / 2)
        gates, found = best, lowest
        if steps.amax() < FINEST:
            break
    return gates, found
