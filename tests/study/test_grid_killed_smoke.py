"""The smoke grid itself, its notebooks, papermill, kernels and trainings: killed again and again, its table stays."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from study.batch.notebook_run import InUse, locked
from study.paths import DATA, NOTEBOOKS, ROOT

KILLS, SEED = 10, 11
GRID = ROOT / "grids" / "smoke.yaml"


def start(home: Path) -> subprocess.Popen:
    """A runner of the smoke grid whose repository is `home`."""
    environment = {**os.environ, "STEMLIB_ROOT": str(home), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "study.batch.grid", str(GRID), "--workers", "2"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


def wait_until_free(home: Path, seconds: float = 20) -> None:
    """Until no run of a killed runner is going on any more."""
    end = time.monotonic() + seconds
    for folder in home.glob("runs/00_start_here/*/"):
        while True:
            try:
                locked(folder).close()
                break
            except InUse:
                assert time.monotonic() < end, f"{folder.name} goes on without its runner"
                time.sleep(0.05)


def measured(home: Path) -> dict[str, list[dict]]:
    """What the finished runs have kept, by run."""
    files = sorted(home.glob("runs/00_start_here/*/metrics.json"))
    return {file.parent.name: json.loads(file.read_text()) for file in files if (file.parent / "DONE").exists()}


@pytest.fixture
def homes(tmp_path: Path) -> tuple[Path, Path]:
    """Two repositories without runs."""
    homes = tmp_path / "undisturbed", tmp_path / "killed"
    for home in homes:
        home.mkdir()
        for folder in (NOTEBOOKS, DATA):
            (home / folder.name).symlink_to(folder)
    return homes


@pytest.mark.slow
def test_ten_kills_at_random_moments_leave_the_smoke_grid_s_table_as_it_is(homes: tuple[Path, Path]) -> None:
    undisturbed, killed = homes
    began = time.monotonic()
    assert start(undisturbed).wait() == 0
    whole = time.monotonic() - began
    moments, ends, done = random.Random(SEED), [], []
    for _ in range(KILLS):
        runner = start(killed)
        time.sleep(moments.uniform(0.05, 0.4) * whole)
        runner.kill()
        ends.append(runner.wait())
        wait_until_free(killed)
        done.append({file: file.stat().st_mtime_ns for file in killed.glob("runs/00_start_here/*/DONE")})
    assert set(ends) <= {-signal.SIGKILL, 0}  # a slow first run makes late kills: all may be done by then
    assert -signal.SIGKILL in ends
    assert start(killed).wait() == 0
    for file, written in done[-1].items():
        assert file.stat().st_mtime_ns == written, "a finished run was repeated"
    expected = measured(undisturbed)
    assert len(expected) == 2
    assert measured(killed) == expected
