"""What training gives away is counted, and a filtered test is without it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from samples import link_task, node_task
from staged import published_splits, staged
from torch_geometric.data import Data

from stemlib.data.graph import Graph
from stemlib.data.leaks import _twin_groups, filtered, leaks
from stemlib.data.own_data import from_data
from stemlib.data.public import load
from stemlib.data.raw_files import listed_sums
from stemlib.data.tasks import Split, Task


def links(edges: list[list[int]], **fields: object) -> Task:
    """Eight pairs: 0 to 3 train, 4 and 5 validate, 6 and 7 test; the last is the reverse of the first."""
    pairs = torch.tensor([[0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [0, 5], [2, 5], [1, 0]])
    graph = Graph(torch.randn(6, 2), torch.tensor(edges).T.contiguous())
    split = Split("s", torch.arange(4), torch.tensor([4, 5]), torch.tensor([6, 7]))
    return Task("links", "link", graph, torch.tensor([0, 1, 0, 1, 0, 1, 0, 0]), {"s": split}, pairs=pairs, **fields)


def test_a_test_pair_whose_reverse_trains_with_its_label_is_filtered() -> None:
    task = links([[3, 5]])
    split = task.split("s")
    assert filtered(task, split.train, split.test).tolist() == [6]
    (note,) = leaks(task)
    assert note.startswith("test pairs that are in training with the same label")
    assert note.endswith("s 50.0%")
    other = replace(task, labels=task.labels.index_fill(0, torch.tensor([7]), 1))
    assert filtered(other, split.train, split.test).tolist() == [6, 7]
    assert leaks(other) == []


def test_pairs_that_an_edge_stands_for_are_known_too() -> None:
    task = links([[2, 5], [3, 5]])
    task.graph.edge_pair = torch.tensor([6, -1])
    split = task.split("s")
    assert filtered(task, split.train, split.test).tolist() == []


def test_test_pairs_along_edges_of_the_graph_are_counted() -> None:
    (note,) = [note for note in leaks(links([[5, 2], [3, 5]])) if "an edge" in note]
    assert note.startswith("test pairs joined by an edge that carries messages, in either direction")
    assert note.endswith("s 50.0%")


def test_random_pairs_that_are_the_message_graph_are_noted_by_from_data() -> None:
    pairs = torch.randint(0, 300, (2, 1500), generator=torch.Generator().manual_seed(0))
    data = Data(
        x=torch.randn(300, 4), edge_index=pairs, edge_label_index=pairs.clone(), edge_label=torch.arange(1500) % 4
    )
    notes = from_data(data, kind="link").notes
    assert any("joined by an edge that carries messages" in note and "100.0%" in note for note in notes)


def test_twins_have_equal_features_and_equal_neighbours() -> None:
    edges = torch.tensor([[0, 0, 1, 3], [1, 2, 3, 4]])
    graph = Graph(torch.tensor([[0.0], [1], [1], [1], [1]]), edges)
    split = Split("s", torch.tensor([1]), torch.tensor([3]), torch.tensor([2, 4]))
    task = Task("t", "node", graph, torch.zeros(5, dtype=torch.long), {"s": split})
    assert leaks(task) == ["test nodes with a twin in training (equal features and neighbours): s 50.0%"]
    graph.x[2] = 2
    assert leaks(replace(task, graph=graph)) == []


def test_a_split_whose_test_stands_in_train_is_refused() -> None:
    for task in (node_task(), link_task()):
        split = task.split("random")
        with pytest.raises(ValueError, match="instances appear more than once"):
            task.with_split(replace(split, name="leaky", test=split.train))


def test_wn18rr_s_reverse_triples_are_counted() -> None:
    staged("wn18rr")
    task = load("wn18rr", width=8)
    split = task.split("given")
    assert split.test.numel() - filtered(task, split.train, split.test).numel() == 1086
    assert any("are in training with the same label" in note and "34.7%" in note for note in task.notes)


def test_what_is_published_as_cornell_is_not_taken_for_it() -> None:
    staged("cornell-as-published")
    staged("cornell")
    published, true, texas = (load(name, width=None) for name in ("cornell-as-published", "cornell", "texas"))
    assert torch.equal(published.labels, texas.labels)
    assert torch.equal(published.graph.x, texas.graph.x)
    assert published.notes[0].startswith("not Cornell")
    assert (true.instances, true.graph.num_edges) == (191, 293)
    assert {name: split.hash for name, split in true.splits.items()} == published_splits("cornell")


def test_no_other_raw_files_are_the_same_under_two_names() -> None:
    by_sum: dict[str, list[str]] = {}
    for name, found in listed_sums().items():
        if not name.endswith(("README.md", "readme")):
            by_sum.setdefault(found, []).append(name)
    same = {tuple(sorted(names)) for names in by_sum.values() if len({name.rsplit("/raw/")[0] for name in names}) > 1}
    assert same == {("WebKB/cornell/raw/out1_node_feature_label.txt", "WebKB/texas/raw/out1_node_feature_label.txt")}


def test_cora_s_twins_are_those_that_its_texts_name() -> None:
    """25 nodes in 10 groups have equal features and neighbours, as the column `twin` of its texts says."""
    staged("cora")
    _, sizes = _twin_groups(load("cora", width=None).graph).unique(return_counts=True)
    assert (int((sizes > 1).sum()), int(sizes[sizes > 1].sum())) == (10, 25)
