"""A pretraining that was killed, at whatever stage, continues and ends with the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest
from killed_pretraining import STAGES
from kills import left_behind
from pretrain_samples import MODEL, config, tables, tiny_pool, weights
from run_samples import equal
from samples import small_model

from stemlib.training import loop
from stemlib.training.pretrain import pretrain, pretraining_folder
from stemlib.training.pretrain_run import Run


def test_a_pretraining_killed_at_every_stage_ends_with_the_bits_of_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = left_behind("killed_pretraining.py", tmp_path / "killed", STAGES)
    for name, files in stages:
        assert "model.json" not in files, name
        assert ("training.checked" in files) == (name != "before_anything_is_kept"), name
    assert {"losses.csv", "tokens.csv", "experts.csv", "model.safetensors"} <= set(stages[-1][1])

    taken = []
    step = Run.step
    monkeypatch.setattr(Run, "step", lambda self: taken.append(self.journal.done) or step(self))
    results = []
    for folder in ("killed", "whole"):
        done = pretrain(tiny_pool(), MODEL, config(steps=12), seed=3, root=tmp_path / folder)
        assert sorted(file.name for file in done.glob("[!.]*")) == [
            "experts.csv", "losses.csv", "model.json", "model.safetensors", "tokens.csv",
        ]  # fmt: skip
        results.append((weights(done), tables(done)))
    assert taken == list(range(12))  # the killed run's steps were all taken before
    killed, whole = results
    assert equal(killed[0], whole[0])
    assert killed[1] == whole[1]


@pytest.mark.parametrize("codebook", ["reference", "learnable", "none"])
def test_an_interrupted_pretraining_continues_with_the_same_bits(
    codebook: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model(codebook=codebook, dropout=0.3)
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_STATES", -1.0)
    whole = pretrain(tiny_pool(), model, config(), root=tmp_path / "whole")
    step = Run.step
    calls = iter(range(5))

    def stops(self: Run) -> dict[str, float]:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Run, "step", stops)
    with pytest.raises(KeyboardInterrupt):
        pretrain(tiny_pool(), model, config(), root=tmp_path / "again")
    monkeypatch.setattr(Run, "step", step)
    again = pretrain(tiny_pool(), model, config(), root=tmp_path / "again")
    assert equal(weights(again), weights(whole))
    assert tables(again) == tables(whole)


def test_a_damaged_state_is_refused_by_name(tmp_path: Path) -> None:
    folder = pretraining_folder(tiny_pool(), MODEL, config(), 0, root=tmp_path)
    folder.mkdir(parents=True)
    (folder / "training.checked").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"training.checked is damaged: .*; delete it to start over"):
        pretrain(tiny_pool(), MODEL, config(), root=tmp_path)
