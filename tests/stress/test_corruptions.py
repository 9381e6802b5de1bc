"""Corruptions: what is damaged, how much of it, and what is left alone. Parity is in `test_parity.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import few, graph_task, graphs, link_task, node_task, random_graph
from torch.nn import functional as F
from torch_geometric.utils import to_undirected

from stemlib.data.feature_source import FeatureSource, Step
from stemlib.data.features import unit_features
from stemlib.data.graph import Graph, node_features, plain, sorted_by_target
from stemlib.data.tasks import Task
from stemlib.stress.conditions import Condition, alone
from stemlib.stress.corruptions import Corruption, delete_edges, mask_features, touched_nodes

Corrupt = Callable[[Graph, torch.Tensor, float, int], Corruption]
both = pytest.mark.parametrize("corrupt", [mask_features, delete_edges])
rates = st.floats(0, 1)
seeds = st.integers(0, 2**31)


def some_nodes(graph: Graph, seed: int) -> torch.Tensor:
    mask = torch.rand(graph.num_nodes, generator=torch.Generator().manual_seed(seed)) < 0.5
    mask[0] = True
    return mask


@few
@given(graphs, rates, seeds)
def test_masking_hits_features_of_the_nodes_under_test_alone(graph: Graph, rate: float, seed: int) -> None:
    nodes, before = some_nodes(graph, seed), graph.x.clone()
    damage = mask_features(graph, nodes, rate, seed)
    changed = damage.graph.x != graph.x
    assert damage.graph.x[changed].eq(0).all()
    assert not changed[~nodes].any()
    assert (damage.hit, damage.candidates) == (int(changed.sum()), int(nodes.sum()) * graph.x.size(1))
    assert damage.realised == damage.hit / damage.candidates
    assert torch.equal(graph.x, before)
    assert damage.graph.edge_index is graph.edge_index


def made_features(seed: int = 0, typed: bool = False) -> Graph:
    """Thirty nodes, or six types of them, with counts of eight words, of which an SVD makes rows of three."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(0, 3, (6 if typed else 30, 8), generator=generator).float()
    step = Step(3, torch.linalg.svd(words, full_matrices=False).Vh[:3], unit=True)
    node_type = torch.randint(6, (30,), generator=generator) if typed else None
    source = FeatureSource(scipy.sparse.csr_matrix(words.numpy()), (step,), node_type)
    edges = torch.randint(30, (2, 60), generator=generator)
    return Graph(source.encode(source.raw), edges, node_type=node_type, source=source)


@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_words_are_masked_where_features_were_made_of_words(typed: bool, rate: float) -> None:
    graph, every = made_features(typed=typed), torch.arange(30)
    nodes, before = some_nodes(graph, 1), node_features(graph)
    words = graph.source.raw_of(every).toarray()
    damage = mask_features(graph, nodes, rate, 0)
    left = damage.graph.source.raw_of(every).toarray()
    gone = (left == 0) & (words != 0)
    assert np.array_equal(left, np.where(gone, 0, words))
    assert not gone[~nodes].any()
    assert (damage.hit, damage.candidates) == (gone.sum(), (words[nodes] != 0).sum())
    # Encoded by hand: the map, then length 1.
    by_hand = F.normalize(torch.from_numpy(left) @ graph.source.steps[0].components.T, dim=-1)
    assert torch.allclose(damage.graph.x, by_hand, atol=1e-6)
    same = torch.from_numpy(~gone.any(1))
    assert torch.equal(damage.graph.x[same], before[same])
    assert damage.graph.node_type is None
    assert torch.equal(node_features(graph), before)
    if rate == 1:
        assert damage.graph.x[nodes].eq(0).all()
    elif rate == 0:
        assert torch.equal(damage.graph.x, before)


def test_types_share_no_fate() -> None:
    graph = made_features(typed=True)
    of_one_type = mask_features(graph, torch.ones(30, dtype=torch.bool), 0.5, 0).graph.x[graph.node_type == 0]
    assert len(of_one_type.unique(dim=0)) > 1


def test_masking_twice_masks_words_twice() -> None:
    graph, nodes = made_features(), torch.ones(30, dtype=torch.bool)
    once = mask_features(graph, nodes, 0.5, 0)
    twice = mask_features(once.graph, nodes, 0.5, 1)
    assert twice.candidates == once.candidates - once.hit
    assert torch.allclose(twice.graph.source.encode(twice.graph.source.raw_of(torch.arange(30))), twice.graph.x)


def test_of_words_too_the_seed_decides_and_a_higher_rate_hits_what_a_lower_one_hit() -> None:
    graph, nodes = made_features(), torch.ones(30, dtype=torch.bool)
    first, again, other = (mask_features(graph, nodes, 0.4, seed).graph.x for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    mild, harsh = (mask_features(graph, nodes, rate, 0).graph.source for rate in (0.2, 0.6))
    every = torch.arange(30)
    assert harsh.raw_of(every).toarray()[mild.raw_of(every).toarray() == 0].sum() == 0


def test_features_that_their_source_did_not_make_are_refused() -> None:
    graph = made_features()
    with pytest.raises(ValueError, match="not what its source makes"):
        mask_features(replace(graph, x=graph.x + 0.1), some_nodes(graph, 0), 0.5, 0)
    plain_features = replace(graph, x=graph.x + 0.1, source=None)
    assert mask_features(plain_features, some_nodes(graph, 0), 0.5, 0).graph.source is None


def test_one_s_own_graphs_keep_their_words() -> None:
    """`alone` renumbers the molecules of a condition; a mask of all their words leaves nothing."""
    task = unit_features(graph_task(), 4)
    condition = alone(Condition("clean", task, torch.tensor([5, 2])))
    nodes = touched_nodes(condition.task, condition.index)
    damage = mask_features(condition.task.graph, nodes, 1.0, 0)
    assert damage.candidates == 4 * nodes.numel()
    assert damage.graph.x.eq(0).all()


@few
@given(graphs, rates, seeds)
def test_deletion_hits_undirected_edges_at_the_nodes_under_test_alone(graph: Graph, rate: float, seed: int) -> None:
    nodes = some_nodes(graph, seed)
    before = graph.edge_index.clone()
    damage = delete_edges(graph, nodes, rate, seed)

    def undirected(data: Graph) -> set[tuple[int, ...]]:
        return {tuple(sorted(edge)) for edge in data.edge_index.T.tolist()}

    candidates = {edge for edge in undirected(graph) if nodes[list(edge)].any()}
    gone = undirected(graph) - undirected(damage.graph)
    assert gone <= candidates
    assert (damage.hit, damage.candidates) == (len(gone), len(candidates))
    assert damage.realised == (len(gone) / len(candidates) if candidates else 0.0)
    assert torch.equal(graph.edge_index, before)

    # Every edge between two nodes shares one fate, and what is stored edge by edge goes with its edge.
    keep = [tuple(sorted(edge)) not in gone for edge in graph.edge_index.T.tolist()]
    assert torch.equal(damage.graph.edge_index, graph.edge_index[:, keep])
    for name in graph.per_edge:
        assert torch.equal(getattr(damage.graph, name), getattr(graph, name)[keep])
    if graph.edge_type is not None:
        assert damage.graph.edge_attr is graph.edge_attr


@both
def test_rate_0_does_nothing_and_rate_1_everything(corrupt: Corrupt) -> None:
    graph, nodes = random_graph(edges=40), some_nodes(random_graph(), 1)
    nothing, all_of_it = corrupt(graph, nodes, 0.0, 3), corrupt(graph, nodes, 1.0, 3)
    assert (nothing.hit, nothing.realised) == (0, 0.0)
    assert torch.equal(nothing.graph.x, graph.x)
    assert torch.equal(nothing.graph.edge_index, graph.edge_index)
    assert (all_of_it.hit, all_of_it.realised) == (all_of_it.candidates, 1.0)
    if corrupt is mask_features:
        assert all_of_it.graph.x[nodes].eq(0).all()
    else:
        assert not nodes[all_of_it.graph.edge_index].any()


@both
def test_the_realised_rate_is_near_the_rate_and_the_seed_decides(corrupt: Corrupt) -> None:
    graph = random_graph(2000, 8000)
    graph.edge_index = to_undirected(graph.edge_index, num_nodes=2000)
    nodes = torch.arange(2000) < 1000
    damage = corrupt(graph, nodes, 0.3, 0)
    assert abs(damage.realised - 0.3) < 4 * (0.21 / damage.candidates) ** 0.5
    again, other = (corrupt(graph, nodes, 0.3, seed).graph for seed in (0, 1))
    for name in ("x", "edge_index"):
        assert torch.equal(getattr(again, name), getattr(damage.graph, name))
    assert not (torch.equal(other.x, again.x) and torch.equal(other.edge_index, again.edge_index))


@both
def test_a_higher_rate_hits_what_a_lower_one_hit(corrupt: Corrupt) -> None:
    graph, nodes = random_graph(50, 200), torch.ones(50, dtype=torch.bool)
    mild, harsh = corrupt(graph, nodes, 0.2, 0).graph, corrupt(graph, nodes, 0.6, 0).graph
    assert harsh.x[mild.x == 0].eq(0).all()
    kept, left = ({tuple(edge) for edge in data.edge_index.T.tolist()} for data in (mild, harsh))
    assert left <= kept


@both
def test_a_sorted_graph_is_damaged_the_same_way(corrupt: Corrupt) -> None:
    graph, nodes = random_graph(30, 90), torch.ones(30, dtype=torch.bool)
    slow, fast = corrupt(graph, nodes, 0.4, 5), corrupt(sorted_by_target(graph), nodes, 0.4, 5)
    assert slow.hit == fast.hit
    assert torch.equal(slow.graph.x, fast.graph.x)
    assert sorted(slow.graph.edge_index.T.tolist()) == sorted(plain(fast.graph.edge_index).T.tolist())


def test_a_self_loop_is_one_edge_and_a_graph_may_have_none() -> None:
    nodes = torch.tensor([True, False])
    loop = Graph(x=torch.ones(2, 1), edge_index=torch.tensor([[0, 1], [0, 1]]))
    damage = delete_edges(loop, nodes, 1.0, 0)
    assert (damage.hit, damage.candidates) == (1, 1)
    assert damage.graph.edge_index.tolist() == [[1], [1]]
    empty = Graph(x=torch.ones(2, 1), edge_index=torch.empty(2, 0, dtype=torch.long))
    assert (delete_edges(empty, nodes, 1.0, 0).candidates, delete_edges(empty, nodes, 1.0, 0).realised) == (0, 0.0)


def test_the_nodes_of_instances() -> None:
    index = torch.tensor([2, 5])
    assert touched_nodes(node_task(), index).nonzero().flatten().tolist() == [2, 5]
    links, graphs_ = link_task(), graph_task()
    expected = sorted(set(links.pairs[index].flatten().tolist()))
    assert touched_nodes(links, index).nonzero().flatten().tolist() == expected
    assert torch.equal(touched_nodes(graphs_, index), torch.isin(graphs_.graph.batch, index))


def test_a_damaged_task_is_a_task(task: Task) -> None:
    nodes = touched_nodes(task, task.split("random").test)
    for corrupt in (mask_features, delete_edges):
        damaged = task.with_graph(corrupt(task.graph, nodes, 0.5, 0).graph)
        assert damaged.graph.num_nodes == task.graph.num_nodes
        assert damaged.labels is task.labels


@both
@pytest.mark.parametrize(
    ("nodes", "rate", "message"),
    [
        (torch.ones(12, dtype=torch.bool), 1.5, r"rate must lie in \[0, 1\], got 1.5"),
        (torch.ones(12, dtype=torch.bool), -0.1, r"rate must lie in \[0, 1\]"),
        (torch.ones(12, dtype=torch.bool), float("nan"), r"rate must lie in \[0, 1\], got nan"),
        (torch.arange(12), 0.5, r"boolean mask \[12\], got torch.int64"),
        (torch.ones(5, dtype=torch.bool), 0.5, r"boolean mask \[12\], got torch.bool \(5,\)"),
        (torch.zeros(12, dtype=torch.bool), 0.5, "no node to corrupt: the mask of nodes under test is empty"),
    ],
)
def test_a_senseless_corruption_is_refused(corrupt: Corrupt, nodes: torch.Tensor, rate: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        corrupt(random_graph(), nodes, rate, 0)
