"""Where features came from: what the data say, encoded anew, is the graph's features."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import raw_samples
import scipy.sparse
import torch
from samples import TASKS, graph_task, node_task
from threadpoolctl import threadpool_limits

from stemlib.data.batches import union_of_graphs
from stemlib.data.feature_source import FeatureSource, Step
from stemlib.data.features import encode_texts, reduced, unit_features
from stemlib.data.graph import Graph, node_features
from stemlib.data.public import load

WORDS = scipy.sparse.csr_matrix(np.array([[3.0, 0, 4], [0, 2, 0], [0, 0, 0]], dtype=np.float32))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("stemlib.data.raw_files.listed_sums", dict)
    monkeypatch.setattr("stemlib.cache.cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setenv("STEMLIB_DATA", str(tmp_path))
    return tmp_path


def encoded(graph: Graph) -> torch.Tensor:
    return graph.source.encode(graph.source.raw_of(torch.arange(graph.num_nodes)))


def test_steps_by_hand() -> None:
    components = torch.tensor([[1.0, 0, 1], [0, 1, 0]])
    assert Step(4, components)(WORDS).tolist() == [[7, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0]]
    assert Step(3, unit=True)(WORDS) == pytest.approx(np.array([[0.6, 0, 0.8], [0, 1, 0], [0, 0, 0]]))
    both = FeatureSource(WORDS, (Step(2, components),)).then(Step(3, unit=True))
    assert both.encode(WORDS).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert both.encode(WORDS[:0]).shape == (0, 3)


def test_rows_follow_the_nodes() -> None:
    source = FeatureSource(WORDS, (Step(3),), torch.tensor([1, 1, 0]))
    assert source.of(torch.tensor([2, 0])).rows.tolist() == [0, 1]
    assert FeatureSource(WORDS, ()).of(torch.tensor([2, 0])).rows.tolist() == [2, 0]
    assert (source.raw_of(torch.tensor([2])) != WORDS[:1]).nnz == 0
    changed = source.with_raw(torch.tensor([1]), 10 * WORDS[:1], 3)
    assert changed.raw_of(torch.arange(3)).toarray().tolist() == [[0, 2, 0], [30, 0, 40], [3, 0, 4]]
    assert source.raw is WORDS


def test_a_known_svd_is_the_map() -> None:
    """Columns of lengths 3, 2 and 1, at right angles: the first two directions are the first two axes, up to signs."""
    x, source = reduced(torch.diag(torch.tensor([3.0, 2.0, 1.0])), 2, "test")
    assert torch.allclose(source.steps[0].components.abs(), torch.eye(3)[:2], atol=1e-5)
    assert torch.allclose(x.abs(), torch.tensor([[3.0, 0], [0, 2], [0, 0]]), atol=1e-5)
    assert torch.equal(source.encode(source.raw), x)
    assert not source.encode(scipy.sparse.csr_matrix((1, 3), dtype=np.float32)).any()


@pytest.mark.parametrize("width", [3, 30])
def test_texts_are_encoded_from_their_terms(width: int) -> None:
    x, source = encode_texts(["a red apple", "a green apple", "steam engine", "engine of a ship"], width)
    assert torch.equal(source.encode(source.raw), x)
    assert torch.allclose(source.encode(2 * source.raw), x, atol=1e-6)  # rows of length 1
    assert source.raw.nnz > 4


def test_features_of_their_own_have_no_source_and_sentences_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(8, 5)
    assert all(reduced(x, width, "test").source is None for width in (None, 5, 7))
    monkeypatch.setattr("stemlib.data.features.sentence_vectors", lambda texts, encoder: torch.randn(len(texts), 6))
    assert encode_texts(["a", "b", "c"], 2, "minilm").source is None


@pytest.mark.parametrize("width", [2, 6, 9])
@pytest.mark.parametrize("kind", TASKS)
def test_unit_features_are_one_step_more(kind: str, width: int) -> None:
    task = TASKS[kind]()
    graph = unit_features(task, width).graph
    assert torch.allclose(encoded(graph), graph.x, atol=1e-6)
    assert torch.allclose(torch.from_numpy(graph.source.raw.toarray()).to(task.graph.x.dtype), task.graph.x)
    again = unit_features(unit_features(task, width), 2).graph
    assert len(again.source.steps) == 2
    assert torch.allclose(encoded(again), again.x, atol=1e-5)


@pytest.mark.parametrize(("name", "width"), [("wikics", 3), ("wn18rr", 5), ("pcba", 4), ("pcba", 200)])
def test_public_data_sets_come_with_their_source(name: str, width: int, folder: Path) -> None:
    raw_samples.WRITERS[name](folder)
    task = load(name, width=width)
    for graph in (task.graph, unit_features(task, width).graph, unit_features(task, 2).graph):
        assert torch.allclose(encoded(graph), node_features(graph), atol=1e-6)
    assert graph.source.rows is graph.node_type or graph.node_type is None
    assert replace(task.graph, source=None).content == task.graph.content


def test_graphs_that_are_renumbered_keep_their_source(folder: Path) -> None:
    raw_samples.pcba(folder)
    graphs = [load("pcba", width=4).graph, unit_features(graph_task(), 4).graph]
    for graph in graphs:
        union = union_of_graphs(graph, torch.tensor([3, 0, 5]))
        assert union.node_type is None
        assert torch.allclose(encoded(union), union.x, atol=1e-6)


def test_a_source_is_copied_moved_and_pickled_with_its_graph() -> None:
    graph = unit_features(node_task(), 4).graph
    for other in (copy.deepcopy(graph), graph.to("cpu"), pickle.loads(pickle.dumps(graph))):
        assert torch.equal(encoded(other), encoded(graph))


def test_the_number_of_threads_changes_no_bit(folder: Path) -> None:
    raw, made = torch.randn(400, 90), []
    for threads in (1, 2):
        for file in (folder / "cache").glob("*"):
            file.unlink()
        with threadpool_limits(threads):
            made.append(reduced(raw, 60, "test").x)
    assert torch.equal(*made)


def test_a_changed_x_is_not_its_sources() -> None:
    graph = unit_features(node_task(), 4).graph
    nodes = torch.tensor([0, 3])
    graph.source.require(graph.x[nodes], nodes)
    for x in (graph.x[nodes] * 1.1, graph.x[nodes, :3]):
        with pytest.raises(ValueError, match=r"is not what its source makes.*source=None"):
            graph.source.require(x, nodes)
