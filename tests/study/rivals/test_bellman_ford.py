"""NBFNet: against sums over walks, and against a dense pass over all nodes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import EXACT, few, graphs, random_graph
from torch import Tensor, nn

from stemlib.data.graph import Graph, plain
from study.rivals import bellman_ford
from study.rivals.bellman_ford import BellmanFord, Routes
from study.rivals.settings import NBFNetConfig

MANY = 10**6


def network(graph: Graph, rounds: int, hub: int = MANY) -> BellmanFord:
    config = NBFNetConfig(hidden=8, width=4, rounds=rounds, hub=hub, dropout=0.0, input_dropout=0.0)
    edge_width = None if graph.edge_attr is None else graph.edge_attr.size(1)
    model = BellmanFord(config, graph.x.size(1), 5, edge_width=edge_width).double().eval()
    torch.nn.init.normal_(model.start)
    return model


def relations(model: BellmanFord, graph: Graph) -> list[Tensor]:
    """What each round multiplies by along every edge, `[E, d]`."""
    if graph.edge_attr is None:
        return [one.relation.expand(graph.edge_index.size(1), -1) for one in model.rounds]
    table = graph.edge_attr if graph.edge_type is None else graph.edge_attr[graph.edge_type]
    return [one.relation(table) for one in model.rounds]


def dense(model: BellmanFord, graph: Graph, head: int) -> Tensor:
    """States `[N, d]` of all nodes, from one head."""
    source, target = plain(graph.edge_index)
    degree = torch.bincount(source, minlength=graph.num_nodes)
    passes = (degree <= model.config.hub) | (torch.arange(graph.num_nodes) == head)
    boundary = torch.zeros(graph.num_nodes, 4, dtype=torch.double)
    boundary[head] = model.start
    h = boundary
    for one, w in zip(model.rounds, relations(model, graph), strict=True):
        messages = h[source] * w * passes[source, None]
        h = h + one.update(torch.cat([h, boundary.index_add(0, target, messages)], 1))
    return h


class OnlyTheSum(nn.Module):
    """In the place of a round's map: the new state is the sum of messages and boundary."""

    def forward(self, both: Tensor) -> Tensor:
        h, total = both.chunk(2, 1)
        return total - h


def walk_sum(model: BellmanFord, graph: Graph, head: int, tail: int) -> Tensor:
    """Over all walks, the start times the relations along it; a walk of `l` edges is gone in the last `l` rounds."""
    weights, edges = relations(model, graph), graph.edge_index.T.tolist()

    def back_from(node: int, rounds: int) -> Tensor:
        own = model.start if node == head else torch.zeros_like(model.start)
        if rounds == 0:
            return own
        steps = [weights[rounds - 1][e] * back_from(i, rounds - 1) for e, (i, j) in enumerate(edges) if j == node]
        return own + sum(steps, torch.zeros_like(own))

    return back_from(tail, len(weights))


@pytest.mark.parametrize("rounds", [1, 2, 3, 4])
@pytest.mark.parametrize("edge_features", ["none", "rows", "types"])
def test_linear_rounds_sum_over_walks(edge_features: str, rounds: int) -> None:
    graph = random_graph(6, 9, edge_features=edge_features)
    model = network(graph, rounds)
    for one in model.rounds:
        one.update = OnlyTheSum()
    pairs = torch.cartesian_prod(torch.arange(6), torch.arange(6))
    expected = torch.stack([walk_sum(model, graph, *pair) for pair in pairs.tolist()])
    assert expected.any(1).sum() > 6
    torch.testing.assert_close(model.walked(graph, pairs), expected, **EXACT)


def test_a_walk_by_hand() -> None:
    graph = Graph(torch.ones(3, 1, dtype=torch.double), torch.tensor([[0, 1, 0], [1, 2, 2]]))
    model = network(graph, 2)
    for k, one in enumerate(model.rounds):
        one.update = OnlyTheSum()
        torch.nn.init.constant_(one.relation, 2.0 + k)
    # 0 -> 1 -> 2 is 2 times 3, 0 -> 2 in the second round is 3; back there is no walk.
    found = model.walked(graph, torch.tensor([[0, 2], [2, 0]]))
    torch.testing.assert_close(found, torch.stack([9 * model.start, 0 * model.start]), **EXACT)


@few
@given(graph=graphs, draw=st.integers(0, 2**31), rounds=st.integers(1, 5), hub=st.sampled_from([0, 1, 3, MANY]))
def test_the_states_are_a_dense_passes(graph: Graph, draw: int, rounds: int, hub: int) -> None:
    generator = torch.Generator().manual_seed(draw)
    pairs = torch.randint(graph.num_nodes, (6, 2), generator=generator)
    model = network(graph, rounds, hub)
    expected = torch.stack([dense(model, graph, head)[tail] for head, tail in pairs.tolist()])
    torch.testing.assert_close(model.walked(graph, pairs), expected, **EXACT)


def test_gradients_are_a_dense_passes() -> None:
    graph = random_graph(edge_features="types")
    model, pairs = network(graph, 3), torch.tensor([[0, 1], [2, 5], [0, 7]])
    factor = torch.randn(3, 4, dtype=torch.double)
    expected = torch.stack([dense(model, graph, head)[tail] for head, tail in pairs.tolist()])
    weights = [model.start, *model.rounds.parameters()]
    one, other = (torch.autograd.grad((x * factor).sum(), weights) for x in (model.walked(graph, pairs), expected))
    for mine, theirs in zip(one, other, strict=True):
        torch.testing.assert_close(mine, theirs, **EXACT)


def test_pairs_in_parts_have_the_states_of_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, pairs = random_graph(), torch.randint(12, (20, 2))
    model = network(graph, 3)
    expected = model.walked(graph, pairs)
    monkeypatch.setattr(bellman_ford, "CHUNK", 3)
    torch.testing.assert_close(model.walked(graph, pairs), expected, **EXACT)


def test_a_detour_to_a_node_that_was_nearer_is_a_walk_too() -> None:
    """From 0 to 5 one goes 2, 3, 4, in four steps, or first to 1 and then to 2, in five."""
    graph = Graph(torch.ones(6, 1), torch.tensor([[0, 0, 1, 2, 3, 4], [1, 2, 2, 3, 4, 5]]))
    pairs = torch.tensor([[0, 5]])
    assert Routes(graph, MANY).walks(pairs, 4).edges.tolist() == [1, 3, 4, 5]
    assert Routes(graph, MANY).walks(pairs, 5).edges.tolist() == [0, 1, 2, 3, 4, 5]


def test_what_no_walk_passes_is_not_kept() -> None:
    """On a long path only the nodes between head and tail have a state, and no hub but an end is among them."""
    path = Graph(torch.ones(50, 1), torch.stack([torch.arange(49), torch.arange(1, 50)]))
    found = Routes(path, MANY).walks(torch.tensor([[10, 13], [20, 25]]), 4)
    assert (found.nodes, found.edges.tolist(), found.tails.tolist()) == (5, [10, 11, 12], [3, 5])  # 5: not reached
    star = Graph(torch.ones(5, 1), torch.tensor([[1, 0, 0, 0], [0, 2, 3, 4]]))
    assert Routes(star, 2).walks(torch.tensor([[1, 2], [0, 2]]), 2).edges.tolist() == [1]
    assert Routes(star, 3).walks(torch.tensor([[1, 2]]), 2).edges.tolist() == [0, 1]
