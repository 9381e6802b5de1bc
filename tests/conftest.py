"""What every test gets: one thread, no progress bars, a folder of its own for runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from samples import TASKS

from stemlib.data.tasks import Task
from study import records

os.environ["STEMLIB_PROGRESS"] = "off"
os.environ["STEMLIB_DEVICE"] = "cpu"  # what tests hold to the bit; `test_devices.py` takes a GPU where there is one
torch.set_num_threads(1)  # results are compared bit by bit, and pytest-xdist runs one process per core


@pytest.fixture(autouse=True)
def seeded() -> None:
    """No test depends on which ones ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The runs folder, in the place of the repository's."""
    folder = tmp_path / "runs"
    monkeypatch.setattr("study.trained.RUNS", folder)
    monkeypatch.setattr(records, "RUNS", folder)
    return folder


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest) -> Task:
    """A tiny task of every kind."""
    return TASKS[request.param]()
