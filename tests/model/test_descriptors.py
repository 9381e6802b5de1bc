"""Where a node lies: descriptors by hand and against a search, and the prior that `anchored` makes of them."""

from __future__ import annotations

from itertools import permutations
from math import log

import networkx as nx
import pytest
import torch
from samples import EXACT, random_graph
from torch import Tensor

from stemlib.data.graph import Graph
from stemlib.model.routers import ROUTERS, Seen
from stemlib.model.routers.descriptors import descriptors, motifs
from stemlib.presets import ModelConfig


def double(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.double)


def test_anchored_leaves_a_prior_of_what_a_node_is() -> None:
    x = double([[1, 0], [1, 0], [0, 1], [0, 0]])
    own = ROUTERS["anchored"](2, 3, ModelConfig(router="anchored"), 0, 2).double().eval()
    edges = torch.tensor([[0, 1, 1, 2, 2, 3], [1, 0, 2, 0, 1, 0]])
    seen = Seen(x, Graph(x, edges), x)
    torch.testing.assert_close(own(x, seen), own.gate(x))
    expected = double(
        [
            [log(4), 1 / 3, log(2), 0, log(3), 2**-0.5, 0.5],  # of 1, 2 and 3 only 1 and 2 are linked
            [log(3), 1, log(2), 0, log(4), 2**-0.5, 0.5],
            [log(2), 1, log(2), 0, log(4), 0, 0.5],
            [0, 0, 0, 0, log(3), 0, 1],
        ]
    )
    torch.testing.assert_close(descriptors(seen.graph), expected, rtol=0, atol=1e-7)
    torch.testing.assert_close(seen.memory["prior", 0], own.prior(descriptors(seen.graph)).log_softmax(-1))
    again = Graph(x, torch.cat([edges, edges[:, :2], torch.zeros(2, 1, dtype=torch.long)], 1))
    assert torch.equal(motifs(again), motifs(seen.graph))  # neither repeats nor loops


@pytest.mark.parametrize("edges", [0, 12, 30])
def test_motifs_are_those_that_a_search_finds(edges: int) -> None:
    graph = random_graph(nodes=9, edges=edges, seed=edges)
    whole = nx.Graph()
    whole.add_nodes_from(range(9))
    whole.add_edges_from((i, j) for i, j in graph.edge_index.T.tolist() if i != j)
    squares, paths = [0] * 9, [0] * 9
    for i, j, k in permutations(range(9), 3):
        if nx.is_path(whole, [i, j, k]):
            paths[i] += 1
            squares[i] += sum(nx.is_path(whole, [k, m, i]) for m in set(range(9)) - {i, j, k})
    expected = [[*nx.clustering(whole).values()], [*nx.triangles(whole).values()], squares, paths]
    found = motifs(graph).T
    found[1:] = found[1:].expm1()
    found[2] *= 2  # a cycle is met in both directions
    torch.testing.assert_close(found, double(expected), **EXACT)
