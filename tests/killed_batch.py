"""Grids of light jobs in the folder that is named: killed at several moments, interrupted, run by two at once.

A script of its own, since SIGKILL ends a process; it prints what it saw as JSON for tests/study/test_batch.py. Nothing
here waits for a time: jobs (of `grid_samples.STAND_IN`) stand still as long as a file says so, and the script waits for
what it sees.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from grid_samples import write_grid, write_notebook

from study import paths
from study.batch import __main__ as batch
from study.batch.jobs import collect


class Scene:
    """A repository with a grid of light jobs."""

    def __init__(self, root: Path, jobs: int) -> None:
        self.root = paths.ROOT = root
        paths.NOTEBOOKS, paths.RUNS = root / "notebooks", root / "runs"
        write_notebook(paths.NOTEBOOKS / "06_tiny.ipynb")
        self.grid = write_grid(root, *range(jobs))
        os.environ["STEMLIB_ROOT"] = str(root)

    def start(self) -> int:
        """A runner in a process of its own."""
        child = os.fork()
        if child == 0:
            # In a shell's background job Ctrl-C is ignored, and so it would be in all that the job starts.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(os.open(self.root / "stderr", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
            batch.CAN_FORK = False  # what light jobs would never need is not imported for every runner
            os._exit(batch.main([self.grid, "--workers", "1"]))
        return child

    def hold(self, moment: str) -> None:
        (self.root / f"hold-{moment}").touch()

    def go_on(self, moment: str) -> None:
        (self.root / f"hold-{moment}").unlink()

    def reached(self, moment: str) -> bool:
        return (self.root / f"at-{moment}").exists()

    def done(self) -> list[int]:
        return sorted(int(file.parent.name.split("n=")[1]) for file in paths.RUNS.glob("*/*/DONE"))

    def executions(self) -> list[tuple[int, int]]:
        """Each job that was started, in order: its `n` and its process."""
        file = self.root / "executions"
        return [tuple(map(int, line.split())) for line in file.read_text().splitlines()] if file.exists() else []

    def all_ended(self) -> bool:
        """Whether no job is going on."""
        return not any(is_alive(process) for _, process in self.executions())


def is_alive(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(condition: Callable[[], bool], runner: int | None = None) -> None:
    """Until it holds, while a runner goes on; the bound is only there so that a failure does not hang."""
    for _ in range(30_000):
        if condition():
            return
        assert runner is None or os.waitpid(runner, os.WNOHANG) == (0, 0), "the runner has ended by itself"
        time.sleep(0.02)
    raise AssertionError("what was waited for did not come")


def status(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed(root: Path) -> dict[str, object]:
    """A runner killed while a job works, between its metrics and its DONE, at its DONE, and before any job."""
    scene, kills = Scene(root, 3), []

    def kill_when(condition: Callable[[], bool]) -> None:
        child = scene.start()
        wait_for(condition, child)
        os.kill(child, signal.SIGKILL)
        ended = status(child)
        wait_for(scene.all_ended)
        kills.append({"status": ended, "done": scene.done(), "started": len(scene.executions())})

    scene.hold("started-0")
    kill_when(lambda: scene.reached("started-0"))
    scene.go_on("started-0")
    scene.hold("measured-0")
    kill_when(lambda: scene.reached("measured-0"))
    scene.go_on("measured-0")
    kill_when(lambda: 0 in scene.done())
    logs = len(list(root.glob(".snakemake/log/*")))
    kill_when(lambda: len(list(root.glob(".snakemake/log/*"))) > logs)
    last = status(scene.start())
    table = collect("06_tiny")[["n", "square"]].to_numpy().tolist()
    return {"kills": kills, "status": last, "table": table, "executions": [n for n, _ in scene.executions()]}


def interrupted(root: Path) -> dict[str, object]:
    """Ctrl-C while the second job works."""
    scene = Scene(root, 2)
    scene.hold("started-1")
    child = scene.start()
    wait_for(lambda: scene.reached("started-1"), child)
    os.kill(child, signal.SIGINT)
    ended = status(child)
    wait_for(scene.all_ended)
    return {"status": ended, "done": scene.done(), "stderr": (root / "stderr").read_text()}


def both(root: Path) -> dict[str, object]:
    """Two runners of one grid; the second finds the first at work."""
    scene = Scene(root, 2)
    scene.hold("started-0")
    first = scene.start()
    wait_for(lambda: scene.reached("started-0"), first)
    second = scene.start()
    wait_for(lambda: any("waiting" in log.read_text() for log in paths.RUNS.glob("*/*/papermill.log")), second)
    scene.go_on("started-0")
    ended = [status(first), status(second)]
    return {"status": ended, "done": scene.done(), "executions": sorted(n for n, _ in scene.executions())}


if __name__ == "__main__":
    importlib.import_module("snakemake.cli")  # once, for all runners that are forked
    here = Path(sys.argv[1]).resolve()
    print(json.dumps({scene.__name__: scene(here / scene.__name__) for scene in (killed, interrupted, both)}))
