"""Tasks: read-outs, scores, split hashes, and what the checks note. Refusals are in `test_bad_input.py`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import few, graph_task, link_task, node_task, random_graph
from sklearn.metrics import roc_auc_score
from torch_geometric import EdgeIndex

from stemlib.data.checks import checked
from stemlib.data.graph import Graph
from stemlib.data.scores import score
from stemlib.data.tasks import Split, Task, read_out

NAN = float("nan")


def test_read_out_of_nodes_links_and_graphs_by_hand() -> None:
    z = torch.tensor([[1.0, 0.0], [3.0, 2.0], [5.0, -4.0]])
    graph = Graph(x=z, batch=torch.tensor([0, 0, 1]), ptr=torch.tensor([0, 2, 3]))
    assert read_out(z, graph, torch.tensor([2, 0]), "node").tolist() == [[5, -4], [1, 0]]
    assert read_out(z, graph, torch.tensor([[0, 1], [2, 2]]), "link").tolist() == [[2, 1], [5, -4]]
    for pool, first in (("mean", [2, 1]), ("sum", [4, 2]), ("max", [3, 2])):
        assert read_out(z, graph, None, "graph", pool).tolist() == [first, [5, -4]]


def test_a_task_knows_its_size_outputs_and_metric() -> None:
    nodes, links, graphs = node_task(), link_task(), graph_task()
    assert (nodes.instances, nodes.outputs, nodes.metric, nodes.edge_width) == (80, 3, "accuracy", None)
    assert (links.instances, links.outputs, links.metric, links.edge_width) == (60, 2, "accuracy", 5)
    assert (graphs.instances, graphs.outputs, graphs.metric, graphs.edge_width) == (32, 2, "roc_auc", 3)
    index = torch.tensor([3, 1])
    assert nodes.select(index) is index
    assert torch.equal(links.select(index), links.pairs[index])


def test_a_split_is_found_by_name(task: Task) -> None:
    assert task.split("random") is task.splits["random"]
    with pytest.raises(ValueError, match=f"{task.name} has no split 'public'; it has random"):
        task.split("public")
    more = task.with_split(replace(task.split("random"), name="again"))
    assert list(more.splits) == ["random", "again"]
    assert list(task.splits) == ["random"]


def test_split_hash_sees_instances_and_their_part_but_no_name() -> None:
    split = Split("a", torch.tensor([0, 1]), torch.tensor([2]), torch.tensor([3, 4]))
    assert split.hash == "02a579df638b"  # two people, two machines: one hash
    assert replace(split, name="b").hash == split.hash
    assert replace(split, train=split.train.int()).hash == split.hash
    assert replace(split, train=split.val, val=split.train).hash != split.hash
    moved = replace(split, train=torch.tensor([0]), val=torch.tensor([1, 2]))
    assert moved.hash != split.hash


def test_another_graph_is_sorted_and_leaves_the_task_alone() -> None:
    task = node_task()
    graph = Graph(x=task.graph.x, edge_index=torch.tensor([[0, 1, 2], [5, 3, 4]]))
    other = task.with_graph(graph)
    assert isinstance(other.graph.edge_index, EdgeIndex)
    assert other.graph.edge_index[1].tolist() == [3, 4, 5]
    assert task.graph.num_edges == 4 * 80


def test_accuracy_by_hand() -> None:
    logits = torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0], [0.0, 1.0]])
    assert score(logits, torch.tensor([0, 1, 1, 1])) == 0.75


@few
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_roc_auc_is_sklearns_mean_over_labels_that_have_both_classes(seed: int, labels: int) -> None:
    random = np.random.default_rng(seed)
    logits = torch.from_numpy(random.normal(size=(30, labels)).round(1))  # some are equal
    truth = random.integers(0, 2, (30, labels)).astype(float)
    truth[random.random(truth.shape) < 0.3] = NAN
    truth[:2, 0] = [0, 1]
    truth[:, labels:] = 1
    one_sided = np.ones((30, 1))  # a label without both classes does not count
    known = ~np.isnan(truth)
    areas = [
        roc_auc_score(truth[known[:, i], i], logits[known[:, i], i].numpy())
        for i in range(labels)
        if len(set(truth[known[:, i], i])) == 2
    ]
    ours = score(torch.cat([logits, logits[:, :1]], 1), torch.from_numpy(np.hstack([truth, one_sided])))
    assert ours == pytest.approx(np.mean(areas), abs=1e-12)


def test_a_score_that_would_mean_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no instances to score: the split or bucket is empty"):
        score(torch.empty(0, 2), torch.empty(0, dtype=torch.long))
    with pytest.raises(ValueError, match="no label has both classes"):
        score(torch.randn(3, 2), torch.tensor([[1.0, NAN], [1.0, 0.0], [NAN, 0.0]]))
    with pytest.raises(ValueError, match="1 of 2 logits to be scored are not finite; lower"):
        score(torch.tensor([[1.0], [NAN]]), torch.tensor([[1.0], [0.0]]))


def bare(edges: list[list[int]]) -> Task:
    graph = Graph(x=torch.randn(6, 2), edge_index=torch.tensor(edges, dtype=torch.long).reshape(2, -1))
    parts = torch.arange(6).split([2, 2, 2])
    return Task("bare", "node", graph, torch.tensor([0, 1, 0, 1, 0, 1]), {"s": Split("s", *parts)})


def test_checks_note_what_is_legal_but_worth_knowing() -> None:
    assert checked(bare([[], []])).notes == ("no edges: every neighbourhood mean is zero",)
    notes = checked(bare([[0, 0, 0, 2], [1, 1, 0, 3]])).notes
    assert notes == (
        "isolated nodes: their neighbourhood mean is zero",
        "self-loops: kept as edges",
        "1 repeated edges: each counts in the mean",
    )
    assert checked(bare([[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 0]])).notes == ()


def test_checks_note_classes_that_training_never_sees() -> None:
    task = replace(bare([[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 0]]), labels=torch.tensor([0, 0, 1, 1, 0, 1]))
    assert checked(task).notes == ("classes without a training instance in: s",)


def test_checks_name_every_problem_at_once() -> None:
    task = bare([[0, 1], [1, 9]])
    task.graph.x[3, 1] = NAN
    broken = replace(task, labels=task.labels - 2)
    with pytest.raises(ValueError, match="the data of 'bare' cannot be used:") as refusal:
        checked(broken)
    assert str(refusal.value).splitlines()[1:] == [
        "  - x has 1 NaN or infinite values, first in row 3, column 1; impute or drop them",
        "  - `edge_index` names nodes 0..9, but there are 6",
        "  - class labels must be long: 0, 1, ..., or -1 for none",
    ]


def test_checks_sort_the_edges_and_change_nothing_else(task: Task) -> None:
    again = checked(task)
    assert isinstance(again.graph.edge_index, EdgeIndex)
    assert again.notes[: len(task.notes)] == task.notes
    assert torch.equal(again.graph.x, task.graph.x)
    assert torch.equal(again.graph.edge_index, task.graph.edge_index)


def test_random_graphs_of_the_tests_have_self_loops_and_repeats() -> None:
    """The properties held elsewhere would say less if they had not."""
    graph = random_graph()
    assert (graph.edge_index[0] == graph.edge_index[1]).any()
    assert graph.edge_index.unique(dim=1).size(1) < graph.num_edges
