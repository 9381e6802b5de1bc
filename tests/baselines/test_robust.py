"""Robust message passing: what the soft median does, by hand and by brute force."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import EXACT, few, graphs, random_graph
from torch import Tensor

from stemlib.baselines.networks import adjacency
from stemlib.baselines.robust import soft_median, weighted_median
from stemlib.data.graph import Graph


def median_by_hand(values: Tensor, weights: Tensor) -> Tensor:
    """Column by column: walk up the values until half of the weight is reached."""
    medians = []
    for column in values.T:
        carried = 0.0
        for place in column.argsort().tolist():
            carried += weights[place].item()
            if carried >= weights.sum().item() / 2 - 1e-9:
                medians.append(column[place])
                break
    return torch.stack(medians)


@few
@given(groups=st.integers(1, 5), more=st.integers(0, 20), seed=st.integers(0, 1000), even=st.booleans())
def test_the_weighted_median_is_the_one_by_hand(groups: int, more: int, seed: int, even: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    index = torch.cat([torch.arange(groups), torch.randint(groups, (more,), generator=generator)]).sort().values
    pointer = torch.cat([torch.zeros(1, dtype=torch.long), torch.bincount(index).cumsum(0)])
    x = torch.randint(-3, 4, (len(index), 3), generator=generator).double()  # with ties
    weight = torch.ones(len(index)) if even else torch.rand(len(index), generator=generator) + 0.1
    expected = [median_by_hand(x[index == group], weight[index == group]) for group in range(groups)]
    torch.testing.assert_close(weighted_median(x, weight, pointer), torch.stack(expected))


@few
@given(graph=graphs)
def test_a_hot_soft_median_is_gcns_sum(graph: Graph) -> None:
    matrix = adjacency("softmedian", graph, torch.double).matrix
    torch.testing.assert_close(soft_median(graph.x, matrix, 1e12), matrix @ graph.x, **EXACT)


def star(values: list[float]) -> tuple[Tensor, Tensor]:
    """A hub with leaves of these values, states in two dimensions; the hub has that of the first leaf."""
    leaves = torch.arange(1, len(values) + 1)
    graph = Graph(
        x=torch.tensor([values[0], *values], dtype=torch.double).unsqueeze(1).repeat(1, 2),
        edge_index=torch.stack([leaves, torch.zeros_like(leaves)]),
    )
    return graph.x, adjacency("softmedian", graph, torch.double).matrix


def test_one_outlier_moves_the_mean_and_not_the_soft_median() -> None:
    x, matrix = star([0.9, 1.0, 1.1, 1.0, 1.0])
    far_x, _ = star([0.9, 1.0, 1.1, 1.0, 1000.0])
    moved_mean = ((matrix @ far_x) - (matrix @ x))[0].abs().max()
    moved = (soft_median(far_x, matrix, 0.2) - soft_median(x, matrix, 0.2))[0].abs().max()
    assert moved_mean > 100
    assert moved < 0.5


def test_a_cold_soft_median_is_the_neighbour_in_the_middle() -> None:
    x, matrix = star([0.0, 5.0, 2.0, 9.0])
    # Hub (0, heavier by its self-loop) and leaves 0, 5, 2, 9: whichever has half the weight below it.
    weights = matrix.to_dense()[0]
    middle = median_by_hand(x, weights)
    torch.testing.assert_close(soft_median(x, matrix, 1e-6)[0], weights.sum() * middle, **EXACT)


def test_gradients_are_those_of_finite_differences_and_finite_where_nodes_are_alone() -> None:
    graph = random_graph(8, 20)
    matrix = adjacency("softmedian", graph, torch.double).matrix
    x = graph.x.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: soft_median(z, matrix, 0.5), (x,))
    alone = Graph(x=torch.randn(3, 6), edge_index=torch.empty(2, 0, dtype=torch.long))
    x = alone.x.clone().requires_grad_()
    out = soft_median(x, adjacency("softmedian", alone, torch.float).matrix, 0.2)
    torch.testing.assert_close(out, alone.x)
    out.sum().backward()
    assert x.grad.isfinite().all()
