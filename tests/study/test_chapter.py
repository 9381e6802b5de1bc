"""A chapter's parameters are checked before anything runs, and only its own run touches what is committed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from study import chapter, figures, paths, records
from study.notebooks import parameters

CHAPTERS = sorted(paths.NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
DEFAULTS = {path.stem: {name: value for name, (_, value) in parameters(path).items()} for path in CHAPTERS}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(chapter, "_OUTSIDE", None)
    monkeypatch.setenv(paths.RUN, "")
    return tmp_path / "runs"


@pytest.mark.parametrize("name", DEFAULTS)
def test_every_chapter_s_defaults_are_allowed_and_make_what_is_committed(name: str) -> None:
    chapter.begin(name, DEFAULTS[name])
    assert paths.run_folder() is None
    assert "refresh" in DEFAULTS[name]


WRONG = [
    ({"preset": "huge"}, "preset: unknown huge; there are smoke, laptop, paper"),
    ({"seeds": "two"}, "seeds must be of type int, got 'two'"),
    ({"seeds": True}, "seeds must be of type int, got True"),
    ({"seeds": -3}, "seeds: 0 for the preset's, or at least 2 (a difference needs pairs), got -3"),
    ({"seeds": 1}, "got 1"),
    ({"dataset": "frog"}, "dataset: unknown frog; there are built-in, cora"),
    ({"dataset": "esol"}, "dataset: esol is a regression; this chapter decomposes the risk of classes"),
    ({"methods": "gcn toad"}, "methods: unknown toad; there are stem, routed"),
    ({"methods": ""}, "methods: name at least one, and each once"),
    ({"methods": "gcn gcn"}, "methods: name at least one, and each once"),
    ({"draws": 0}, "draws: must be at least 1, got 0"),
    ({"worst": 1}, "worst must be of type bool, got 1"),
    ({"In": ["# Parameters\nsedes = 3\n"]}, "there is no parameter sedes; there are preset, dataset, methods, seeds"),
]


@pytest.mark.parametrize(("given", "told"), WRONG)
def test_wrong_parameters_are_refused_with_what_is_allowed(given: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match="cannot run with these parameters") as refusal:
        chapter.begin("09_feature_masking", DEFAULTS["09_feature_masking"] | given)
    assert told in str(refusal.value)


def test_all_that_is_wrong_is_told_at_once() -> None:
    given = DEFAULTS["09_feature_masking"] | {"seeds": -1, "draws": 0, "In": ["# Parameters\ndataste = 'cora'\n"]}
    with pytest.raises(ValueError, match="cannot run") as refusal:
        chapter.begin("09_feature_masking", given)
    assert str(refusal.value).count("\n  - ") == 3


def test_a_chapter_about_nodes_names_the_data_sets_that_it_takes() -> None:
    with pytest.raises(ValueError, match="hiv is a graph task; this chapter is about nodes: built-in, cora"):
        chapter.begin("00_start_here", DEFAULTS["00_start_here"] | {"dataset": "hiv"})


def test_another_run_keeps_its_files_for_itself(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chapter.begin("00_start_here", DEFAULTS["00_start_here"] | {"covariate": "degree"})
    folder = elsewhere / "00_start_here/covariate=degree"
    assert str(folder) in capsys.readouterr().out
    figure, _ = figures.panels()
    assert figures.save(figure, "line") == folder / "line.png"
    frame = pd.DataFrame({"score": [1.0]})
    assert records.save_results(frame, "table") == folder / "results/table.csv"
    records.save_finding("00_start_here", "found", [folder / "line.png"])
    assert (folder / "finding.json").is_file()
    chapter.begin("00_start_here", DEFAULTS["00_start_here"] | {"covariate": "degree", "refresh": True})
    assert paths.run_folder() is None
    monkeypatch.setattr(chapter, "_OUTSIDE", str(elsewhere / "job"))
    chapter.begin("00_start_here", DEFAULTS["00_start_here"])
    assert paths.run_folder() == elsewhere / "job"


def test_where_the_checkout_is_read_only_files_go_to_the_run_s_folder(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    chapter.begin("00_start_here", DEFAULTS["00_start_here"])
    assert paths.run_folder() == elsewhere / "00_start_here/default"


def test_a_claim_about_nothing_is_not_made(capsys: pytest.CaptureFixture[str]) -> None:
    chapter.say("all are small", pd.Series([1.0, 2.0]) < 3)
    chapter.say("all are small", np.array([1.0, 4.0]) < 3)
    chapter.say("all are small", pd.Series(dtype=float) < 3)
    chapter.say("it is so", True)
    assert capsys.readouterr().out.splitlines() == [
        "all are small: True",
        "all are small: False",
        "all are small: not checked: nothing that it is about ran",
        "it is so: True",
    ]
