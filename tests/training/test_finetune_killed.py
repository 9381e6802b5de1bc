"""A run that was killed, at whatever stage, continues and ends with the same bits."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from killed_run import STAGES
from kills import left_behind
from run_samples import NOISY, TRAIN, equal, history, method, untimed, weights
from samples import link_task

from stemlib.data.tasks import Task
from stemlib.training import finetune, loop
from study.trained import run, run_folder


def test_a_run_killed_at_every_stage_ends_with_the_bits_of_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = left_behind("killed_run.py", tmp_path / "killed", STAGES)
    for name, files in stages:
        assert "training.checked" in files, name
        assert "record.json" not in files, name
    assert {"model.json", "history.csv"} <= set(stages[-1][1])

    task = link_task()
    resumed_from, results = [], []
    steps = loop.Loop.steps
    monkeypatch.setattr(
        loop.Loop, "steps", lambda self, done, *rest: resumed_from.append(done) or steps(self, done, *rest)
    )
    for folder in ("killed", "whole"):
        monkeypatch.setattr("study.trained.RUNS", tmp_path / folder)
        record = run("t", task, "random", NOISY, 3)
        results.append((untimed(record), weights(task, NOISY, 3), history(task, NOISY, 3)))
    assert resumed_from == [14, 0]  # nothing was trained twice
    killed, whole = results
    assert killed[0] == whole[0]
    assert equal(killed[1], whole[1])
    pd.testing.assert_frame_equal(killed[2], whole[2], check_exact=True)


@pytest.mark.parametrize("batch_size", [0, 7])
def test_a_training_state_continues_with_the_same_bits(
    task: Task, batch_size: int, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted by an error this time, for every kind of task."""
    what = method(batch_size=batch_size)
    run("t", task, "random", what, 0)
    expected = weights(task, what), history(task, what)
    monkeypatch.setattr("study.trained.RUNS", runs / "again")
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_STATES", -1.0)
    epochs = []

    def stops(*args: object) -> float:
        epochs.append(len(epochs))
        if len(epochs) == 4:
            raise KeyboardInterrupt
        return train_epoch(*args)

    train_epoch = finetune.train_epoch
    monkeypatch.setattr(finetune, "train_epoch", stops)
    with pytest.raises(KeyboardInterrupt):
        run("t", task, "random", what, 0)
    folder = run_folder("t", task, task.split("random"), what, 0)
    assert [file.name for file in folder.glob("[!.]*")] == ["training.checked"]
    run("t", task, "random", what, 0)
    assert len(epochs) == 4 + (TRAIN.epochs - 3)
    assert equal(weights(task, what), expected[0])
    pd.testing.assert_frame_equal(history(task, what), expected[1], check_exact=True)
    assert not (folder / "training.checked").exists()
