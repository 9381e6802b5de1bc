"""Pretraining as it is called: from Python and from the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from pretrain_samples import CONFIG, MODEL, checkpoint, config, tables, tiny_pool, weights
from run_samples import equal
from samples import small_model

from stemlib.training import pretrain as pretraining
from stemlib.training.pool import Pool
from stemlib.training.pretrain_run import Run
from stemlib.training.pretrained import pretrained_settings
from study import records


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(pretraining, "RUNS", tmp_path)
    return tmp_path


def test_a_run_leaves_a_checkpoint_and_its_tables() -> None:
    pool = tiny_pool()
    folder = pretraining.pretrain(pool, MODEL, CONFIG, seed=2)
    assert sorted(file.name for file in folder.iterdir()) == [
        "experts.csv", "losses.csv", "model.json", "model.safetensors", "tokens.csv",
    ]  # fmt: skip
    losses = pd.read_csv(folder / "losses.csv")
    assert losses.step.tolist() == list(range(8))
    assert set(losses.data_set) == set(pool.names)
    assert losses.groupby("data_set").edge_feature.count()["tiny"] == 0  # no edge features, no such objective
    assert pd.read_csv(folder / "tokens.csv").step.tolist() == [2, 2, 5, 5, 7, 7]
    assert pd.read_csv(folder / "experts.csv").largest.between(1 / 3, 1).all()
    about = pretrained_settings(folder)["about"]
    assert about["data"] == {"tiny": 1, "tiny-links": 2, "tiny-graphs": 3}
    assert about["pretrain"] == vars(CONFIG)
    assert (about["seed"], about["steps"], about["processes"]) == (2, 8, 1)
    assert about["seconds"] > 0


def test_a_finished_run_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pretraining.pretrain(tiny_pool(), MODEL, CONFIG)
    monkeypatch.setattr(Run, "__init__", lambda *_: pytest.fail("trained again"))
    assert pretraining.pretrain(tiny_pool(), MODEL, CONFIG) == folder


@pytest.mark.parametrize("progress", ["on", "off"])
def test_a_bar_shows_loss_rate_and_time_left(
    progress: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STEMLIB_PROGRESS", progress)
    pretraining.pretrain(tiny_pool(), MODEL, CONFIG)
    shown = capsys.readouterr().err
    if progress == "off":
        assert not shown
    else:
        assert re.search(r"pretraining: .*8/8 \[\d\d:\d\d<\d\d:\d\d, .*loss=[\d.]+, rate=\d\.\de-\d\d", shown)


def test_the_same_seed_gives_the_same_bits_and_another_one_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = []
    for place, seed in enumerate((0, 0, 1)):
        monkeypatch.setattr(pretraining, "RUNS", tmp_path / str(place))
        torch.manual_seed(place)  # what was drawn before does not matter
        folders.append(pretraining.pretrain(tiny_pool(), MODEL, CONFIG, seed))
    assert equal(weights(folders[0]), weights(folders[1]))
    assert tables(folders[0]) == tables(folders[1])
    assert not equal(weights(folders[0]), weights(folders[2]))


def test_a_runs_folder_depends_on_all_that_decides_it() -> None:
    pool = tiny_pool()
    fewer = Pool(pool.members[:2])
    folders = {
        pretraining.pretraining_folder(*what)
        for what in (
            (pool, MODEL, CONFIG, 0),
            (pool, MODEL, CONFIG, 1),
            (fewer, MODEL, CONFIG, 0),
            (pool, MODEL, config(teacher=2.0), 0),
        )
    }
    assert len(folders) == 4
    assert pretraining.pretraining_folder(tiny_pool(), MODEL, CONFIG, 0) in folders


def test_the_command_line(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def load_pool(width: int, names: list[str] | None, **settings: object) -> Pool:
        asked.append((width, names, settings))
        return tiny_pool()

    monkeypatch.setattr(pretraining, "load_pool", load_pool)
    words = (
        "--preset smoke --data cora built-in --width 6 --steps 2 --codebook learnable --schedule reference"
    )
    assert pretraining.main([*words.split(), "--seed", "4"]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert folder.is_relative_to(runs)
    settings = pretrained_settings(folder)
    assert settings["config"]["codebook"] == "learnable"
    assert settings["about"]["pretrain"]["schedule"] == "reference"
    assert (settings["about"]["steps"], settings["about"]["seed"]) == (2, 4)
    assert asked == [(6, ["cora", "built-in"], {"nodes": 2000, "whole": False})]
    assert json.loads((folder / "model.json").read_text()) == settings


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--data corra", "unknown data set 'corra'"),
        ("--codebook vq", "codebook must be one of"),
        ("--steps -1", "steps must lie in"),
        ("--width 0", "width must be at least 1"),
        ("--preset huge", "invalid choice: 'huge'"),
    ],
)
def test_the_command_line_says_what_is_wrong(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        pretraining.main(["--data", "built-in", *words.split()])
    assert message in capsys.readouterr().err


def test_a_run_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    first = checkpoint(tmp_path / "first", steps=3)
    before = weights(first)
    short = config(steps=1, lr=1e-9, weight_decay=0.0)
    folder = pretraining.pretrain(tiny_pool(), MODEL, short, seed=5, start=first)
    kept = {"tokens.codebook", "tokens.use", "tokens.total"}  # codes follow what they stand for, however small the step
    for name in before.keys() - kept:
        assert torch.allclose(weights(folder)[name], before[name], atol=1e-6), name
    assert folder != pretraining.pretraining_folder(tiny_pool(), MODEL, short, 5)
    assert pretraining.pretrain(tiny_pool(), MODEL, short, seed=5, start=first) == folder
    with pytest.raises(ValueError, match="the checkpoint to start from is ModelConfig"):
        pretraining.pretrain(tiny_pool(), small_model(experts=2), short, start=first)


def test_a_released_run_is_the_same_checkpoint_with_thinned_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoint(tmp_path / "runs", steps=9)
    for module in (pretraining, records):
        monkeypatch.setattr(module, "DATA", tmp_path)
    monkeypatch.setattr(pretraining, "POINTS", 3)
    target = pretraining.release(folder, "small")
    assert target == tmp_path / "checkpoints/small"
    assert equal(weights(target), weights(folder))
    whole, thinned = pd.read_csv(folder / "losses.csv"), records.read_results("05_small-losses")
    assert thinned.step.unique().tolist() == [3, 6, 9]
    first = whole[whole.step < 3].groupby("data_set").feature.mean()
    found = thinned[thinned.step == 3].set_index("data_set").feature
    assert found.to_dict() == pytest.approx(first.to_dict(), abs=1e-4)
    for table in ("tokens", "experts"):
        kept = records.read_results(f"05_small-{table}")
        assert kept.step.max() == 8
        assert set(kept.step) <= {2, 5, 8}
