"""Experts that are different graph filters: each against its matrix, and what of it is a node's own."""

from __future__ import annotations

import pytest
import torch
from samples import EXACT, random_graph, small_model
from torch import Tensor

from stemlib.data.graph import Graph, plain, sorted_by_target
from stemlib.model.encoder import Encoder
from stemlib.model.kinds.filters import FILTERS, WHOLE, Filters

WIDTH = 6


def encoder(filters: str, **settings: object) -> Encoder:
    """In float64 and evaluation mode."""
    return Encoder(small_model(expert="filters", filters=filters, **settings), WIDTH).double().eval()


@pytest.mark.parametrize("name", FILTERS)
def test_filters_that_read_more_are_given_whole_graphs(name: str) -> None:
    assert encoder(f"self {name}").reach == (0 if name in WHOLE else 2)
    assert encoder(f"mean {name}", experts=1).reach == 2  # a filter without an expert


def dense_filters(graph: Graph) -> dict[str, Tensor]:
    """The filters as matrices `[N, N]`, entry by entry."""
    nodes = graph.num_nodes
    counts, loops = torch.zeros(2, nodes, nodes, dtype=torch.double)
    for source, target in plain(graph.edge_index).T.tolist():
        counts[target, source] += 1
    mean = counts / counts.sum(1, keepdim=True).clamp(min=1)
    loops.fill_diagonal_(1)
    hat = counts * (1 - loops) + loops
    root = torch.diag(hat.sum(1).rsqrt())
    low = root @ hat @ root
    ppr = loops
    for _ in range(8):
        ppr = 0.9 * low @ ppr + 0.1 * loops
    out = counts.T / counts.T.sum(1, keepdim=True).clamp(min=1)
    patterns = {"out": out, "in_out": mean @ out, "out_in": out @ mean, "out_out": out @ out}
    return {"self": loops, "low": low, "mean": mean, "high": loops - mean, "two": mean @ mean, "ppr": ppr} | patterns


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("is_sorted", [True, False])
def test_a_filter_is_its_matrix(name: str, is_sorted: bool) -> None:
    graph = random_graph(nodes=14, edges=40)  # loops and repeated edges among them
    isolated = ~torch.isin(plain(graph.edge_index)[1], torch.tensor([4, 5]))
    graph = graph.with_edges(graph.edge_index[:, isolated], isolated)
    graph, dense = sorted_by_target(graph) if is_sorted else graph, dense_filters(graph)[name]
    model = encoder(name, experts=2)
    read = torch.cat([dense @ graph.x, graph.x], 1)
    expected = torch.stack([read @ weight for weight in model.layers[0].maps], 1)
    torch.testing.assert_close(model(graph, keep_outputs=True).outputs[0], expected, **EXACT)


@pytest.mark.parametrize("name", FILTERS)
def test_what_a_filter_keeps_of_the_own_state_is_its_own(name: str) -> None:
    """Without edges from others all of `low` and `ppr` is the node's own, and nothing is left to be gathered."""
    graph = random_graph(nodes=4, edges=0)
    gathered = encoder(name).gathered(0, graph.x, graph)[:, 0]
    share = torch.full((4, 1), float(name in ("self", "low", "high", "ppr"))).double()
    torch.testing.assert_close(gathered, torch.cat([torch.zeros(4, WIDTH).double(), share], 1), **EXACT)


def test_filters_go_round_the_experts() -> None:
    layer = Filters(4, 8, small_model(experts=5, filters="high self"))
    assert [layer.names[place] for place in layer.places] == ["high", "self", "high", "self", "high"]
    assert not layer.whole


@pytest.mark.parametrize("filters", ["", "low medium", "low,mean"])
def test_filters_that_do_not_exist_are_refused(filters: str) -> None:
    with pytest.raises(ValueError, match=r"filters must be some of self, low, mean, high, two, ppr, .*; got '"):
        encoder(filters)
