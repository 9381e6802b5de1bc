"""Batches: every instance once, and a graph is the same graph in whatever batch it comes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import few, graph_task, link_task, node_task, small_model
from torch_geometric import EdgeIndex
from torch_geometric.data import Batch, Data

from stemlib.data.batches import batches, union_of_graphs
from stemlib.data.graph import Graph, node_features, plain, sorted_by_target
from stemlib.data.tasks import Task
from study.families import build


def drawn_graphs(seed: int, count: int, features: str) -> list[Data]:
    """Graphs of 1 to 4 nodes, some without an edge."""
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(3, 2, generator=generator)
    drawn = []
    for number in range(count):
        nodes, edges = (int(torch.randint(low, 5, (), generator=generator)) for low in (1, 0))
        graph = Data(x=torch.randn(nodes, 2, generator=generator) + number)
        graph.edge_index = torch.randint(nodes, (2, edges), generator=generator)
        if features == "rows":
            graph.edge_attr = torch.randn(edges, 2, generator=generator)
        elif features == "edge types":
            graph.edge_type = torch.randint(3, (edges,), generator=generator)
            graph.edge_attr = table
        elif features == "node types":
            graph.node_type = torch.randint(3, (nodes,), generator=generator)
            graph.x, graph.num_nodes = table, nodes
        drawn.append(graph)
    return drawn


def union(drawn: list[Data]) -> Graph:
    """PyG's own disjoint union, tables of types kept once."""
    tables = [name for name, kind in (("edge_attr", "edge_type"), ("x", "node_type")) if kind in drawn[0]]
    whole = Batch.from_data_list(drawn, exclude_keys=tables)
    types = {name: whole[name] for name in ("edge_type", "node_type") if name in whole}
    return replace(Graph.of(whole), **types, **{name: drawn[0][name] for name in tables})


def content(graph: Graph) -> tuple[object, ...]:
    """A union spelled out: its nodes, its edges in no order with their features, its graphs' borders."""
    rows = plain(graph.edge_index).T.double()
    if graph.edge_type is not None:
        rows = torch.cat([rows, graph.edge_attr[graph.edge_type]], 1)
    elif graph.edge_attr is not None:
        rows = torch.cat([rows, graph.edge_attr], 1)
    return node_features(graph).tolist(), sorted(rows.tolist()), graph.batch.tolist(), graph.ptr.tolist()


@few
@given(
    st.integers(0, 2**31),
    st.integers(1, 6),
    st.sampled_from(["none", "rows", "edge types", "node types"]),
    st.randoms(use_true_random=False),
)
def test_some_graphs_of_a_union_are_what_pyg_would_batch(seed: int, count: int, features: str, random: object) -> None:
    drawn = drawn_graphs(seed, count, features)
    chosen = random.sample(range(count), random.randint(1, count))
    some = union_of_graphs(sorted_by_target(union(drawn)), torch.tensor(chosen))
    assert content(some) == content(union([drawn[i] for i in chosen]))
    assert isinstance(some.edge_index, EdgeIndex)
    assert (plain(some.edge_index)[1].diff() >= 0).all()


@pytest.mark.parametrize("size", [0, 1, 7, 16, 100])
def test_batches_cover_the_instances_in_order(task: Task, size: int) -> None:
    index = task.split("random").train
    parts = list(batches(task, index, size))
    assert [len(part.labels) for part in parts] == [len(chunk) for chunk in index.split(size or len(index))]
    labels = torch.cat([part.labels for part in parts])
    torch.testing.assert_close(labels, task.labels[index], equal_nan=True)
    if task.kind != "graph":
        assert all(part.graph is task.graph for part in parts)
        assert torch.equal(torch.cat([part.instances for part in parts]), task.select(index))


def test_shuffling_is_a_permutation_that_the_generator_decides() -> None:
    task = node_task()
    index = task.split("random").train

    def order(seed: int, size: int = 8) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.cat([part.instances for part in batches(task, index, size, generator)])

    assert torch.equal(order(0), order(0))
    assert not torch.equal(order(0), order(1))
    assert torch.equal(order(0).sort().values, index)
    assert torch.equal(order(0, size=0), index)  # one batch needs no shuffling
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.cat([part.instances for part in batches(task, index, 8, generator)]) for _ in range(2))
    assert not torch.equal(first, second)  # another order every epoch


@pytest.mark.parametrize("size", [1, 5])
def test_predictions_do_not_depend_on_the_batch(size: int) -> None:
    for task in (link_task(), graph_task()):
        model = build(small_model(), task).eval()
        everyone = torch.arange(task.instances)
        (whole,) = batches(task, everyone)
        expected = model(whole.graph, whole.instances).logits
        parts = [model(part.graph, part.instances).logits for part in batches(task, everyone, size)]
        torch.testing.assert_close(torch.cat(parts), expected, atol=1e-5, rtol=0)
