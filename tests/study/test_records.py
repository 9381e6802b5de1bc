"""Records: whole or not there, keyed by everything that determines a run, and read as a table."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from stemlib.cache import run_key
from stemlib.files import installed_versions
from study import records
from study.records import (
    Record,
    kept_results,
    read_all_results,
    read_record,
    read_results,
    save_finding,
    save_results,
    table,
    write_record,
)

HISTORY = pd.DataFrame({"epoch": [0, 1], "loss": [1.5, 0.1 + 0.2]})


def record(seed: int = 0, test: float = 0.5) -> Record:
    return Record(
        experiment="trial",
        task="tiny",
        split="random",
        split_hash="0123456789ab",
        model="stem",
        seed=seed,
        settings={"model": {"hidden": 8}, "train": {"lr": 0.1}},
        metrics={"val": 0.1 + 0.2, "test": test},
        best_epoch=1,
        epochs=2,
        seconds=1.25,
        peak_memory_mb=300.0,
        parameters=10,
        data_checksum="made up",
        content="made up",
        threads=1,
    )


def test_a_record_comes_back_equal(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None
    write_record(tmp_path / "run", record(), HISTORY)
    assert read_record(tmp_path / "run") == record()
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == ["history.csv", "record.json"]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "run" / "history.csv"), HISTORY, check_exact=True)


def test_the_record_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_record(tmp_path, record(), HISTORY)
    assert read_record(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_record_says_how_it_was_selected_and_with_which_versions() -> None:
    assert record().selection == "validation"
    assert record().versions == installed_versions()
    assert installed_versions()["torch"] == torch.__version__
    assert {"python", "torch", "torch_geometric", "numpy", "scikit-learn"} <= installed_versions().keys()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"seed": 1}'])
def test_a_damaged_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(ValueError, match=r"record.json is not a record of this version .*; delete its folder"):
        read_record(tmp_path)


def test_a_record_of_another_version_is_refused(tmp_path: Path) -> None:
    settings = dataclasses.asdict(record())
    for changed in (settings | {"loss": 1.0}, {key: settings[key] for key in list(settings)[1:]}):
        (tmp_path / "record.json").write_text(json.dumps(changed))
        with pytest.raises(ValueError, match="not a record of this version"):
            read_record(tmp_path)


def test_the_key_depends_on_everything_that_determines_a_run_and_on_no_order() -> None:
    settings = {"model": {"hidden": 8, "layers": 2}, "train": {"lr": 0.1}}
    key = run_key(settings, "split", "data")
    assert len(key) == 8
    assert run_key({"train": {"lr": 0.1}, "model": {"layers": 2, "hidden": 8}}, "split", "data") == key
    others = [
        run_key({**settings, "model": {"hidden": 9, "layers": 2}}, "split", "data"),
        run_key({**settings, "train": {"lr": 0.1 + 1e-12}}, "split", "data"),
        run_key(settings, "another split", "data"),
        run_key(settings, "split", "other data"),
    ]
    assert len({key, *others}) == 5


def test_the_table_is_in_per_cent() -> None:
    frame = table([record(0, 0.25), record(1, 0.75)])
    assert list(frame["test"]) == [25, 75]
    assert list(frame["seed"]) == [0, 1]
    assert list(frame.columns[:4]) == ["task", "split", "model", "seed"]
    assert {"best_epoch", "epochs", "seconds"} <= set(frame.columns)
    assert table([]).empty


def test_a_finding_names_its_figures_from_the_root(runs: Path) -> None:
    save_finding("00_start", "it works", [records.ROOT / "figures" / "a.png"], [Path("trial/run")])
    finding = json.loads((runs / "findings" / "00_start.json").read_text())
    assert finding == {"headline": "it works", "figures": ["figures/a.png"], "records": ["trial/run"]}


def test_results_are_kept_and_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(records, "DATA", tmp_path)
    frame = pd.DataFrame({"model": ["stem", "gcn"], "test": [81.23456, 80.0]})
    assert save_results(frame, "cora") == tmp_path / "results" / "cora.csv"
    pd.testing.assert_frame_equal(read_results("cora"), frame.round(4))
    long = pd.concat([frame] * records.LONGEST_CSV, ignore_index=True)
    assert save_results(long, "cora") == tmp_path / "results" / "cora.parquet"
    pd.testing.assert_frame_equal(read_results("cora"), long)
    assert [file.name for file in (tmp_path / "results").iterdir()] == ["cora.parquet"]
    save_results(frame, "cora")
    pd.testing.assert_frame_equal(read_results("cora"), frame.round(4))
    with pytest.raises(FileNotFoundError, match=r"no results 'citeseer' .*; docs/running.md has"):
        read_results("citeseer")
    with pytest.raises(FileNotFoundError, match=r"no results '02-\.\.\.' in .*; docs/running.md has"):
        read_all_results("02")
    for name in ("02-pubmed", "02-cora", "02_other-cora"):
        save_results(frame.assign(task=name), name)
    save_results(long.assign(task="02-dblp"), "02-dblp")
    assert list(read_all_results("02").task.unique()) == ["02-cora", "02-dblp", "02-pubmed"]
    own = pd.DataFrame({"test": [1.0]})
    assert kept_results("citeseer", own) is own
    assert capsys.readouterr().out == "no results 'citeseer' are kept yet: this run's own are shown\n"
    pd.testing.assert_frame_equal(kept_results("cora", own), frame.round(4))
