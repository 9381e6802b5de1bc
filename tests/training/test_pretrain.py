"""Pretraining: what a run leaves, where, and that it is not repeated."""

from __future__ import annotations

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
from stemlib.training.pretrain import pretrain, pretraining_folder
from stemlib.training.pretrain_run import Run
from stemlib.training.pretrained import pretrained_settings


def test_a_run_leaves_a_checkpoint_and_its_tables(tmp_path: Path) -> None:
    pool = tiny_pool()
    folder = pretrain(pool, MODEL, CONFIG, seed=2, root=tmp_path)
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


def test_a_finished_run_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pretrain(tiny_pool(), MODEL, CONFIG, root=tmp_path)
    monkeypatch.setattr(Run, "__init__", lambda *_: pytest.fail("trained again"))
    assert pretrain(tiny_pool(), MODEL, CONFIG, root=tmp_path) == folder


def test_runs_lie_in_the_user_s_cache_unless_another_place_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretraining, "cache_folder", lambda: tmp_path / "cache")
    short = config(steps=1)
    assert pretrain(tiny_pool(), MODEL, short).is_relative_to(tmp_path / "cache" / "pretraining")
    assert pretraining_folder(tiny_pool(), MODEL, short, 0, root=tmp_path / "here").parents[1] == tmp_path / "here"


@pytest.mark.parametrize("progress", ["on", "off"])
def test_a_bar_shows_loss_rate_and_time_left(
    progress: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STEMLIB_PROGRESS", progress)
    pretrain(tiny_pool(), MODEL, CONFIG, root=tmp_path)
    shown = capsys.readouterr().err
    if progress == "off":
        assert not shown
    else:
        assert re.search(r"pretraining: .*8/8 \[\d\d:\d\d<\d\d:\d\d, .*loss=[\d.]+, rate=\d\.\de-\d\d", shown)


def test_the_same_seed_gives_the_same_bits_and_another_one_others(tmp_path: Path) -> None:
    folders = []
    for place, seed in enumerate((0, 0, 1)):
        torch.manual_seed(place)  # what was drawn before does not matter
        folders.append(pretrain(tiny_pool(), MODEL, CONFIG, seed, root=tmp_path / str(place)))
    assert equal(weights(folders[0]), weights(folders[1]))
    assert tables(folders[0]) == tables(folders[1])
    assert not equal(weights(folders[0]), weights(folders[2]))


def test_a_runs_folder_depends_on_all_that_decides_it() -> None:
    pool = tiny_pool()
    fewer = Pool(pool.members[:2])
    folders = {
        pretraining_folder(*what)
        for what in (
            (pool, MODEL, CONFIG, 0),
            (pool, MODEL, CONFIG, 1),
            (fewer, MODEL, CONFIG, 0),
            (pool, MODEL, config(teacher=2.0), 0),
        )
    }
    assert len(folders) == 4
    assert pretraining_folder(tiny_pool(), MODEL, CONFIG, 0) in folders


def test_a_run_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    first = checkpoint(tmp_path / "first", steps=3)
    before = weights(first)
    short = config(steps=1, lr=1e-9, weight_decay=0.0)
    folder = pretrain(tiny_pool(), MODEL, short, seed=5, start=first, root=tmp_path)
    kept = {"tokens.codebook", "tokens.use", "tokens.total"}  # codes follow what they stand for, however small the step
    for name in before.keys() - kept:
        assert torch.allclose(weights(folder)[name], before[name], atol=1e-6), name
    assert folder != pretraining_folder(tiny_pool(), MODEL, short, 5, root=tmp_path)
    assert pretrain(tiny_pool(), MODEL, short, seed=5, start=first, root=tmp_path) == folder
    with pytest.raises(ValueError, match="the starting checkpoint is ModelConfig"):
        pretrain(tiny_pool(), small_model(experts=2), short, start=first, root=tmp_path)
