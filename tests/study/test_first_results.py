"""The first results: complete, read back, kept as soon as they are there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from run_samples import SHORT, TINY
from samples import link_task

import stemlib
from stemlib.data.public import DATA_SETS
from stemlib.data.tasks import Task
from stemlib.presets import Preset
from study import first_results, protocols, records
from study.first_results import METHODS, PUBLISHED, kept_runs, results, task_results
from study.protocols import CANDIDATES, PROTOCOLS
from study.records import read_results, save_results


def test_results_say_what_was_run_and_are_read_back(task: Task, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = task_results(task, SHORT, TINY)
    assert found.model.tolist() == [name for name in METHODS for _ in SHORT.runs]
    assert found.seed.tolist() == [0, 1] * len(METHODS)
    assert set(found.hash) == {task.split("random").hash}
    assert set(found.metric) == {task.metric}
    assert set(found.preset) == {"tiny"}
    assert set(found.library) == {stemlib.__version__}
    assert set(zip(found.lr, found.weight_decay, found.dropout, strict=True)) <= {
        candidate[:3] for candidate in SHORT.candidates
    }
    assert found.test.between(0, 100).all()

    def again(*arguments: object) -> None:
        raise AssertionError("a finished run was run again")

    monkeypatch.setattr("study.trained.fit", again)
    pd.testing.assert_frame_equal(task_results(task, SHORT, TINY), found)


def test_a_link_data_set_is_learnt_in_both_forms(monkeypatch: pytest.MonkeyPatch, runs: Path) -> None:
    asked = []

    def load(name: str, **options: object) -> Task:
        asked.append(options.get("message_edges"))
        return replace(link_task(), name=name, checksum=str(options))

    monkeypatch.setattr(protocols, "load", load)
    monkeypatch.setitem(PROTOCOLS, "wn18rr", replace(SHORT, name="wn18rr", candidates=CANDIDATES[:1]))
    assert results("wn18rr", TINY).task.unique().tolist() == ["wn18rr", "wn18rr-all"]
    assert asked == [None, "all"]


def test_the_command_keeps_each_data_set_as_soon_as_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def found(name: str, preset: Preset) -> pd.DataFrame:
        if name == "texas":
            raise FileNotFoundError("missing")
        return pd.DataFrame({"task": [name], "preset": [preset.name]})

    monkeypatch.setattr(first_results, "results", found)
    monkeypatch.setattr(records, "DATA", tmp_path)
    with pytest.raises(FileNotFoundError):
        first_results.main(["cornell", "texas", "cora", "--preset", "paper"])
    assert read_results("02_data_sets-cornell").values.tolist() == [["cornell", "paper"]]
    assert not (tmp_path / "results/02_data_sets-cora.csv").exists()
    with pytest.raises(SystemExit):
        first_results.main(["corra"])
    assert "corra" in capsys.readouterr().err


def test_kept_runs_come_in_the_order_of_the_protocols(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "DATA", tmp_path)
    for name in ("actor", "fb15k237", "cora"):
        tasks = [name, f"{name}-all"] if name == "fb15k237" else [name]
        rows = [{"task": task, "split": split} for task in tasks for split in ("draw-0", "draw-11", "public")]
        save_results(pd.DataFrame(rows), f"02_data_sets-{name}")
    rows = [{"task": "wn18rr", "split": "given", "test": 80.0, "test_filtered": 70.0, "test_best": 81.0}]
    save_results(pd.DataFrame(rows), "02_data_sets-wn18rr")
    kept = kept_runs()
    filtered = kept[kept.task == "wn18rr-filtered"]
    assert (filtered.test.tolist(), filtered.test_best.isna().tolist()) == ([70.0], [True])
    kept = kept[~kept.task.str.startswith("wn18rr")]
    assert kept.task.unique().tolist() == ["cora", "fb15k237", "fb15k237-all", "actor"]
    assert kept.splits.tolist() == ["draw", "draw", "public"] * 4
    assert set(kept.library) == {"0.2"}  # the rows do not say theirs
    save_results(kept[kept.task == "cora"].assign(library="0.3.0"), "02_data_sets-cora")
    assert kept_runs().groupby("task").library.first()[["cora", "actor"]].tolist() == ["0.3.0", "0.2"]


def test_an_unknown_data_set_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no protocol for 'chembl'; there are built-in, cora, pubmed"):
        results("chembl", TINY)


def test_published_figures_belong_to_data_sets_that_there_are() -> None:
    known = set(PROTOCOLS) | {f"{name}-all" for name, entry in DATA_SETS.items() if entry.kind == "link"}
    assert {figure.task for figure in PUBLISHED} <= known
    assert all(50 < figure.score < 100 and figure.differs for figure in PUBLISHED)
