"""Pathways: their distance against Levenshtein's, their spread against all pairs, and what is refused."""

from __future__ import annotations

from functools import cache
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import few, node_task, small_model
from torch import Tensor

from stemlib.model.encoder import path_gates
from stemlib.theory.pathways import pathway_distance, pathway_spread, pathways
from study.families import build

shapes = {"layers": st.integers(1, 5), "experts": st.integers(1, 4), "seed": st.integers(0, 2**31)}


def levenshtein(one: list, other: list) -> int:
    """Insertions, deletions and substitutions, by the definition."""

    @cache
    def least(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        kept = least(i - 1, j - 1) + (one[i - 1] != other[j - 1])
        return min(kept, least(i - 1, j) + 1, least(i, j - 1) + 1)

    return least(len(one), len(other))


def drawn(layers: int, experts: int, seed: int, nodes: int = 9) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(nodes, experts, generator=generator) for _ in range(layers)]


def letters(gates: list[Tensor], node: int) -> list[tuple[int, int]]:
    """A node's string: an expert is a letter of its layer."""
    return [(layer, int(gate[node].argmax())) for layer, gate in enumerate(gates)]


@few
@given(**shapes)
def test_the_distance_is_levenshteins_over_the_length(layers: int, experts: int, seed: int) -> None:
    one, other = drawn(layers, experts, seed), drawn(layers, experts, seed + 1)
    expected = [levenshtein(letters(one, node), letters(other, node)) / layers for node in range(9)]
    assert pathway_distance(one, other).tolist() == pytest.approx(expected)


@few
@given(**shapes)
def test_the_spread_is_the_mean_over_pairs_of_a_class(layers: int, experts: int, seed: int) -> None:
    gates, labels = drawn(layers, experts, seed), torch.tensor([0, 0, 0, 2, 2, 3, 0, 2, 2])
    pairs = [pair for pair in combinations(range(9), 2) if labels[pair[0]] == labels[pair[1]]]
    distances = [levenshtein(*(letters(gates, node) for node in pair)) / layers for pair in pairs]
    assert pathway_spread(gates, labels) == pytest.approx(sum(distances) / len(pairs))


def test_of_a_network_before_and_after_a_change() -> None:
    task = node_task()
    model = build(small_model(), task).eval()
    before = model.encode(task.graph).gates
    assert pathways(before).shape == (80, 2)
    assert not pathway_distance(before, before).any()
    forced = [path_gates(path, 80, 3) for path in ((0, 1), (0, 2), (1, 2))]
    assert pathway_distance(forced[0], forced[1]).eq(0.5).all()
    assert pathway_distance(forced[0], forced[2]).eq(1).all()
    assert pathway_spread(forced[0], task.labels) == pytest.approx(0)


def test_what_does_not_compare_is_refused() -> None:
    gates = drawn(2, 3, 0)
    with pytest.raises(ValueError, match="this network has none"):
        pathways([])
    with pytest.raises(ValueError, match=r"\(9, 2\) and \(9, 1\)"):
        pathway_distance(gates, gates[:1])
    with pytest.raises(ValueError, match="no two of these nodes"):
        pathway_spread(gates, torch.arange(9))
