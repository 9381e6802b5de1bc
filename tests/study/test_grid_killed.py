"""A grid that is killed, shared or interrupted: nothing lost, nothing repeated, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from killed_grid import KILLS, RUNS


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    tests = Path(__file__).parent
    command = [sys.executable, str(tests / "killed_grid.py"), str(tmp_path_factory.mktemp("grids"))]
    environment = {**os.environ, "PYTHONPATH": str(tests.parent)}
    return json.loads(subprocess.check_output(command, env=environment, text=True))


def test_ten_kills_change_nothing_in_the_table(report: dict[str, Any]) -> None:
    killed, undisturbed = report["killed"], report["undisturbed"]
    assert [kill["status"] for kill in killed["kills"]] == [-signal.SIGKILL] * KILLS
    assert killed["status"] == undisturbed["status"] == 0
    assert [row["square"] for row in undisturbed["table"]] == [row["n"] ** 2 for row in undisturbed["table"]]
    assert len(undisturbed["table"]) == RUNS
    assert killed["table"] == undisturbed["table"]


def test_no_finished_run_is_repeated_after_a_kill(report: dict[str, Any]) -> None:
    kills, executions = report["killed"]["kills"], report["killed"]["executions"]
    for kill in kills:
        assert not set(kill["done"]) & set(executions[kill["started"] :])
    assert 0 < len(kills[-1]["done"]) < RUNS, "the kills must come while there is something done and to do"
    assert len(executions) > RUNS, "some kill must hit a run that is going on"


def test_what_a_killed_runner_has_started_ends(report: dict[str, Any]) -> None:
    assert all(kill["free"] for kill in report["killed"]["kills"])


def test_two_runners_share_a_grid_without_running_anything_twice(report: dict[str, Any]) -> None:
    assert report["both"]["status"] == [0, 0]
    assert sorted(report["both"]["executions"]) == list(range(RUNS))
    assert report["both"]["table"] == report["undisturbed"]["table"]


def test_an_interrupted_runner_ends_its_runs_before_itself(report: dict[str, Any]) -> None:
    interrupted = report["interrupted"]
    assert interrupted["status"] == 130
    assert interrupted["free"]
    assert len(interrupted["done"]) < RUNS
