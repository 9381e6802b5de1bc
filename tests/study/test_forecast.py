"""What trainings may take is said before they start, and of finished ones nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from run_samples import method
from samples import node_task

from study import forecast as module
from study.forecast import forecast
from study.trained import run


def test_long_trainings_are_announced_and_finished_ones_are_not(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, what = node_task(), method()
    planned = [(task, task.split("random"), seed) for seed in (0, 1)]
    state = torch.get_rng_state()
    monkeypatch.setattr(module, "LONG", 0.0)
    assert forecast("t", planned, [what]) > 0
    assert torch.equal(torch.get_rng_state(), state)
    said = capsys.readouterr().out
    assert said.startswith("at most about ")
    assert "for 2 trainings on this machine" in said


def test_what_is_finished_takes_no_time(runs: Path) -> None:
    task, what = node_task(), method()
    run("t", task, "random", what, 0)
    assert forecast("t", [(task, task.split("random"), 0)], [what]) == 0
    assert forecast("t", [(task, task.split("random"), 1)], [what]) > 0
