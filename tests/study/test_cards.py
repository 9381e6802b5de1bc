"""Cards: every number of a five-node graph by hand, published homophilies, and what is drawn."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from samples import graph_task, link_task, node_task
from staged import staged

from stemlib import cache
from stemlib.data.checks import checked
from stemlib.data.graph import Graph, plain
from stemlib.data.molecules import featured
from stemlib.data.public import load
from stemlib.data.smiles import molecules
from stemlib.data.tasks import Split, Task
from study.cards import card, class_balance, distributions, draw_molecule, draw_neighbourhood, small_neighbourhood


def path_of_four() -> Task:
    """0 = 1 -> 2 -> 3 with a repeated edge and a self-loop, 4 alone; classes 0 0 1 1 0."""
    graph = Graph(
        x=torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0], [0.0, 1.0], [5.0, 5.0]]),
        edge_index=torch.tensor([[0, 1, 0, 1, 2, 3], [1, 0, 1, 2, 3, 3]]),
    )
    split = Split("own", *(torch.tensor(part) for part in ([0, 2], [1], [3, 4])))
    return checked(Task("path", "node", graph, torch.tensor([0, 0, 1, 1, 0]), {"own": split}))


def test_a_card_by_hand() -> None:
    found = card(path_of_four())
    counted = {"instances": 5, "nodes": 5, "edges": 6, "features": 2, "edge features": 0, "classes": 2}
    assert counted.items() <= found.items()
    assert (found["task"], found["kind"], found["metric"]) == ("path", "node", "accuracy")
    expected = {
        "mean degree": 6 / 5,
        "isolated": 20,
        "edge homophily": 2 / 3,
        "adjusted homophily": (2 / 3 - 1 / 2) / (1 - 1 / 2),  # each class has half of the degrees
        "feature homophily": (1 + 1 / 2 + 1 / 2 + 1) / 4,
        "largest class": 60,
        "smallest class": 40,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_distributions_by_hand() -> None:
    found = distributions(path_of_four())
    assert found.task.unique().tolist() == ["path"]
    rows = {
        name: rows[["low", "high", "share"]].to_numpy().round(6).tolist()
        for name, rows in found.groupby("quantity", sort=False)
    }
    halves = [[0.5, 0.55, 50], [0.95, 1, 50]]
    assert rows == {
        "degree": [[0, 1, 20], [1, 2, 40], [2, 4, 40]],
        "label homophily": halves,
        "feature homophily": halves,
    }


def test_one_binary_label_is_two_classes_for_homophily_alone() -> None:
    task = path_of_four()
    both = [card(t) for t in (task, Task("b", "node", task.graph, task.labels.float().unsqueeze(1), {}))]
    for name in ("edge homophily", "adjusted homophily"):
        assert both[0][name] == both[1][name]
    assert (both[1]["binary labels"], both[1]["positive"], both[1]["known"]) == (1, pytest.approx(40), 100)
    assert "classes" not in both[1]


def test_balance_of_many_labels_counts_the_known_ones() -> None:
    labels = torch.tensor([[1.0, math.nan], [0.0, 1.0], [0.0, math.nan]])
    assert class_balance(labels) == pytest.approx({"positive": 50, "known": 400 / 6})


def test_links_and_graphs_have_cards_without_label_homophily() -> None:
    link, graph = card(link_task()), card(graph_task())
    assert (link["classes"], link["edge features"], link["instances"]) == (2, 5, 60)
    assert (graph["binary labels"], graph["edge features"], graph["instances"]) == (2, 3, 32)
    for found, task in ((link, link_task()), (graph, graph_task())):
        assert "edge homophily" not in found
        assert set(distributions(task).quantity) == {"degree", "feature homophily"}


def test_shares_of_a_distribution_add_up(task: Task) -> None:
    assert distributions(task).groupby("quantity").share.sum().tolist() == pytest.approx(
        [100.0] * distributions(task).quantity.nunique()
    )


def test_a_graph_without_edges_has_a_card() -> None:
    whole = path_of_four()
    bare = Graph(x=whole.graph.x, edge_index=torch.empty(2, 0, dtype=torch.long))
    task = Task("bare", "node", bare, whole.labels, {})
    assert card(task)["isolated"] == 100
    assert not any("homophily" in name for name in card(task))
    assert distributions(task).quantity.tolist() == ["degree"]
    assert [part.tolist() for part in small_neighbourhood(task.graph)[:2]] == [[0], [[], []]]


@pytest.mark.parametrize(
    ("name", "edge", "adjusted"),
    [("minesweeper", 0.68, 0.01), ("tolokers", 0.59, 0.09), ("chameleon", 0.24, 0.03), ("squirrel", 0.21, 0.01)],
)
def test_homophilies_are_the_published_ones(name: str, edge: float, adjusted: float) -> None:
    """Platonov et al., A critical look at the evaluation of GNNs under heterophily (2023)."""
    staged(name)
    found = card(load(name, width=None))
    assert (round(found["edge homophily"], 2), round(found["adjusted homophily"], 2)) == (edge, adjusted)


def test_a_small_neighbourhood_is_the_largest_that_fits() -> None:
    """A star of 6 whose middle is 0, with a path 5 - 6 - 7 behind one of its ends."""
    ends = torch.tensor([[0, 0, 0, 0, 0, 5, 6], [1, 2, 3, 4, 5, 6, 7]])
    graph = Graph(edge_index=ends, num_nodes=9)
    nodes, edges, middle = small_neighbourhood(graph, most=7)
    assert nodes.tolist() == [0, 1, 2, 3, 4, 5, 6]  # within two hops of 0, not of 5, which has one more
    assert (middle, edges.size(1)) == (0, 12)
    nodes, edges, middle = small_neighbourhood(graph, most=4)
    assert nodes.tolist() == [0, 5, 6, 7]  # around 6
    assert middle == 2
    assert sorted(edges.T.tolist()) == [[0, 1], [1, 0], [1, 2], [2, 1], [2, 3], [3, 2]]
    nodes, edges, middle = small_neighbourhood(graph, most=2)  # nothing fits: some of one hop
    assert (nodes.numel(), edges.size(1)) == (2, 2)


@pytest.fixture
def axis() -> Axes:
    figure, axis = plt.subplots()
    yield axis
    plt.close(figure)


def test_a_neighbourhood_is_drawn_in_the_colours_of_its_classes(axis: Axes) -> None:
    task = node_task()
    nodes, edges, _ = small_neighbourhood(task.graph)
    draw_neighbourhood(task, axis)
    dots = [c for c in axis.collections if not isinstance(c, LineCollection)]
    lines = next(c for c in axis.collections if isinstance(c, LineCollection))
    assert sum(len(c.get_offsets()) for c in dots) == nodes.numel()
    assert len(lines.get_segments()) == edges.size(1) / 2
    colours = {tuple(colour) for c in dots for colour in c.get_facecolors()}
    assert len(colours) == task.labels[nodes].unique().numel()


def test_a_molecule_is_drawn_as_its_graph(axis: Axes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Acetic acid: four heavy atoms, three bonds, one of them double."""
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path)
    strings = ["CCO", "CC(=O)O"]
    graph = featured(molecules(strings), strings, 8, "tfidf-svd", "two")
    task = checked(Task("two", "graph", graph, torch.tensor([[0.0], [1.0]]), {}))
    draw_molecule(task, 1, axis)
    dots = [c for c in axis.collections if not isinstance(c, LineCollection)]
    bonds = [len(c.get_segments()) for c in axis.collections if isinstance(c, LineCollection)]
    assert [len(c.get_offsets()) for c in dots] == [4]
    assert bonds == [3, 1]
    assert [text.get_text() for text in axis.texts] == ["O", "O"]
    assert plain(task.graph.edge_index).size(1) == 2 * (2 + 3)
