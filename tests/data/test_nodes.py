from __future__ import annotations

from pathlib import Path

import pytest
import raw_samples
import torch
from staged import of_kind, published_splits, staged
from torch_geometric.data import Data

from stemlib.data import raw_files
from stemlib.data.arxiv import Arxiv
from stemlib.data.nodes import mask_splits, planetoid_splits
from stemlib.data.pages import Pages
from stemlib.data.public import data_set, load


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(raw_files, "listed_sums", dict)
    monkeypatch.setenv("STEMLIB_DATA", str(tmp_path))
    return tmp_path


def test_masks_become_splits() -> None:
    masks = torch.eye(3, dtype=torch.bool)
    graph = Data(train_mask=masks[0], val_mask=masks[1], test_mask=masks[2])
    split = mask_splits(graph, "public")["public"]
    assert [part.tolist() for part in (split.train, split.val, split.test)] == [[0], [1], [2]]


def test_one_test_mask_holds_for_many_training_masks() -> None:
    """As in WikiCS."""
    train = torch.tensor([[1, 0], [0, 1], [0, 0]], dtype=torch.bool)
    graph = Data(train_mask=train, val_mask=train.flip(1), test_mask=torch.tensor([False, False, True]))
    splits = mask_splits(graph)
    assert list(splits) == ["fixed-0", "fixed-1"]
    assert [split.train.tolist() for split in splits.values()] == [[0], [1]]
    assert [split.test.tolist() for split in splits.values()] == [[2], [2]]


def test_planetoid_splits() -> None:
    y = torch.arange(2000) % 4
    graph = Data(y=y, num_nodes=2000)
    for part, nodes in (("train", range(80)), ("val", range(80, 580)), ("test", range(1000, 2000))):
        graph[f"{part}_mask"] = torch.isin(torch.arange(2000), torch.tensor(nodes))
    splits = planetoid_splits(graph)
    assert list(splits) == ["public", "public-rest", *(f"draw-{i}" for i in range(10))]
    sizes = {name: (len(s.train), len(s.val), len(s.test)) for name, s in splits.items()}
    assert sizes.pop("public") == (80, 500, 1000)
    assert set(sizes.values()) == {(80, 500, 1420)}
    assert len({split.hash for split in splits.values()}) == 12
    assert all(torch.bincount(y[split.train]).tolist() == [20] * 4 for split in splits.values())


def test_wikics_by_its_own_format(tiny: Path) -> None:
    raw_samples.wikics(tiny)
    task = load("wikics", width=6)
    assert task.graph.x.shape == (12, 6)
    assert task.graph.num_edges == 24  # a ring, both ways
    assert list(task.splits) == ["fixed-0", "fixed-1"]
    assert task.split("fixed-0").test.tolist() == [8, 9, 10, 11]
    assert any("WikiCS/raw/data.json" in note for note in task.notes)


def test_ogbn_arxiv_by_its_own_format(tiny: Path) -> None:
    raw_samples.arxiv(tiny)
    task = load("ogbn-arxiv", width=None)
    assert task.graph.x.shape == (12, 4)
    assert task.graph.num_edges == 22
    assert task.graph.about["year"].tolist() == list(range(2000, 2012))
    split = task.split("time")
    assert [part.tolist() for part in (split.train, split.val, split.test)] == [[*range(6)], [6, 7, 8], [9, 10, 11]]


def test_predictions_are_ranked_and_the_description_says_what_they_are(tiny: Path) -> None:
    raw_samples.arxiv(tiny)
    task = load("ogbn-arxiv-predictions", width=None)
    assert task.graph.x.shape == (12, 40)
    assert task.graph.x[0, [0, 5, 7]].tolist() == pytest.approx([1, 1 / 2, 1 / 3])
    assert not task.graph.x[1].any()
    assert "NOT the official features" in task.description
    official = load("ogbn-arxiv", width=None)
    assert torch.equal(official.labels, task.labels)
    assert torch.equal(official.graph.edge_index, task.graph.edge_index)


@pytest.mark.parametrize("name", [name for name in of_kind("node") if not isinstance(data_set(name), Pages)])
def test_published_counts_and_splits(name: str) -> None:
    staged(name)
    entry = data_set(name)
    graph, *other = entry.raw()
    splits = {"time": other[0]} if isinstance(entry, Arxiv) else entry.splits(graph)
    counts = {"nodes": graph.num_nodes, "edges": graph.num_edges}
    counts |= {"features": graph.x.size(1), "classes": int(graph.y.max()) + 1}
    counts |= {part: len(getattr(next(iter(splits.values())), part)) for part in ("train", "val", "test")}
    assert entry.statistics.items() <= counts.items()
    assert {key: split.hash for key, split in splits.items()} == published_splits(name)


@pytest.mark.parametrize(("name", "train"), [("cora", 140), ("citeseer", 120), ("pubmed", 60)])
def test_planetoid_s_splits_are_the_published_ones(name: str, train: int) -> None:
    staged(name)
    graph, _ = data_set(name).raw()
    public, rest = (planetoid_splits(graph)[split] for split in ("public", "public-rest"))
    assert [len(part) for part in (public.train, public.val, public.test)] == [train, 500, 1000]
    assert len(rest.test) == graph.num_nodes - train - 500
    assert torch.isin(public.test, rest.test).all()


def test_pubmed_s_features_are_complete() -> None:
    staged("pubmed")
    graph, files = data_set("pubmed").raw()
    assert int(graph.x.count_nonzero()) == 988031
    assert torch.bincount(graph.y).tolist() == [4103, 7739, 7875]
    assert not files.unverified


@pytest.mark.parametrize("name", ["minesweeper", "tolokers"])
def test_two_classes_are_scored_by_roc_auc_as_published(name: str) -> None:
    staged(name)
    task = load(name, width=None)
    assert task.metric == "roc_auc"
    assert task.labels.shape == (task.graph.num_nodes, 1)
    assert len(task.splits) == 10


def test_classes_that_nobody_trains_on_are_noted() -> None:
    staged("texas")
    task = load("texas", width=None)
    assert any("without a training instance" in note for note in task.notes)


@pytest.mark.parametrize("name", ["texas", "cora"])
def test_rows_of_words_have_length_one_and_empty_rows_stay_empty(name: str) -> None:
    staged(name)
    length = load(name, width=None).graph.x.norm(dim=1)
    assert torch.all(((length - 1).abs() < 1e-5) | (length == 0))
    assert (length > 0).any()
