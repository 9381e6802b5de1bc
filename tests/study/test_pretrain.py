"""The command line of pretraining, and the release of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from pretrain_samples import checkpoint, tiny_pool, weights
from run_samples import equal

from stemlib.training.pool import Pool
from stemlib.training.pretrained import pretrained_settings
from study import pretrain as command
from study import records


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked = []

    def load_pool(width: int, names: list[str] | None, **settings: object) -> Pool:
        asked.append((width, names, settings))
        return tiny_pool()

    monkeypatch.setattr(command, "load_pool", load_pool)
    monkeypatch.setattr(command, "RUNS", tmp_path)
    words = "--preset smoke --data cora built-in --width 6 --steps 2 --codebook learnable --schedule reference"
    assert command.main([*words.split(), "--seed", "4"]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert folder.is_relative_to(tmp_path / "pretraining")
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
def test_the_command_line_says_what_is_wrong(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--data", "built-in", *words.split()])
    assert message in capsys.readouterr().err


def test_a_released_run_is_the_same_checkpoint_with_thinned_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoint(tmp_path / "runs", steps=9)
    for module in (command, records):
        monkeypatch.setattr(module, "DATA", tmp_path)
    monkeypatch.setattr(command, "POINTS", 3)
    target = command.release(folder, "small")
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
