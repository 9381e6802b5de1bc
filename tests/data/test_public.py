from __future__ import annotations

from pathlib import Path

import pytest
import raw_samples
import torch
from staged import of_kind, published_splits, staged

from stemlib.data import raw_files
from stemlib.data.public import DATA_SETS, available, data_set, load, split_table
from stemlib.data.scores import score
from stemlib.data.tasks import standardised
from stemlib.paths import cache_folder
from stemlib.presets import ModelConfig, TrainConfig
from stemlib.training.evaluation import evaluate, predict
from stemlib.training.finetune import fit
from study.families import build

TINY = {
    "wikics": "fixed-0",
    "ogbn-arxiv": "time",
    "ogbn-arxiv-predictions": "time",
    "wn18rr": "given",
    "pcba": "scaffold",
    "lipo": "scaffold",
    "chembl-activities": "time",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(raw_files, "listed_sums", dict)
    monkeypatch.setattr("stemlib.cache.cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setenv("STEMLIB_DATA", str(tmp_path))
    return tmp_path


def test_the_paper_s_data_sets_are_there() -> None:
    assert {"cora", "pubmed", "wikics", "ogbn-arxiv"} <= set(of_kind("node"))
    assert {"wn18rr", "fb15k237"} == set(of_kind("link"))
    assert {"hiv", "pcba", "chembl"} <= set(of_kind("graph"))


def test_every_entry_says_what_it_is() -> None:
    for name, entry in DATA_SETS.items():
        assert entry.name == name
        assert entry.source.startswith(("http", "edges: http", "ChEMBL"))
        assert entry.licence
        assert entry.description
        assert entry.statistics


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown data set 'Coraa'; did you mean 'cora'.*There are: cora, citeseer"):
        load("Coraa")


def test_what_is_available_lies_in_the_data_folder(folder: Path) -> None:
    assert available() == []
    (folder / "Planetoid/Cora/raw").mkdir(parents=True)
    (folder / "MoleculeNet/bace/raw").mkdir(parents=True)
    assert available() == ["cora", "bace"]


def test_a_wrong_option_is_refused() -> None:
    with pytest.raises(ValueError, match="message_edges must be 'train' or 'all', got 'test'"):
        load("wn18rr", message_edges="test")


@pytest.mark.parametrize("name", TINY)
def test_a_task_of_every_format_loads_trains_and_is_scored(name: str, folder: Path) -> None:
    raw_samples.WRITERS[name](folder)
    task = load(name, width=16)
    split = task.split(TINY[name])
    task = standardised(task, split)
    model = build(ModelConfig(hidden=8, heads=2, codes=4), task)
    fit(model, task, split, TrainConfig(epochs=2, batch_size=2), seed=0)
    found = evaluate(model, task, split)
    if task.regression:
        assert found["test"] == pytest.approx(score(predict(model, task, split.test), task.labels[split.test], True))
    else:
        assert all(0 <= value <= 1 for value in found.values())


@pytest.mark.parametrize("name", ["wikics", "wn18rr", "pcba"])
def test_the_same_call_gives_the_same_task_and_the_width_is_part_of_it(name: str, folder: Path) -> None:
    raw_samples.WRITERS[name](folder)
    first, again, wider = load(name, width=16), load(name, width=16), load(name, width=17)
    assert first.checksum == again.checksum != wider.checksum
    assert torch.equal(first.graph.x, again.graph.x)
    assert [split.hash for split in first.splits.values()] == [split.hash for split in again.splits.values()]
    assert first.graph.x.size(1) == 16
    assert wider.graph.x.size(1) == 17


def test_a_split_table_has_sizes_and_hashes(folder: Path) -> None:
    raw_samples.wikics(folder)
    table = split_table(load("wikics", width=None))
    assert table.columns.tolist() == ["task", "split", "train", "val", "test", "hash"]
    assert table[["train", "val", "test"]].to_numpy().tolist() == [[4, 4, 4], [4, 4, 4]]


@pytest.mark.parametrize("name", [*of_kind("link"), *of_kind("graph")])
def test_splits_have_the_published_hashes(name: str) -> None:
    staged(name)
    published = published_splits(name)
    if not published:
        pytest.skip(f"{name} has no published split")
    links = data_set(name).kind == "link"
    if not links and not list(cache_folder().glob(f"{name}-molecules-*")):
        pytest.skip(f"{name} has not been parsed yet: load it once")
    splits = {"given": data_set(name).raw()[0].split} if links else load(name).splits
    assert {key: split.hash for key, split in splits.items()} == published
