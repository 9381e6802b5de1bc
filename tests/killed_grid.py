"""Grids of light runs in the folder that is named: undisturbed, killed again and again, two at once, interrupted.

A script of its own, since SIGKILL ends a process; it prints what it saw as JSON for tests/test_grid_killed.py.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from grid_samples import executions, light, write_grid, write_notebook

from study import paths
from study.batch import grid, notebook_run
from study.batch.notebook_run import InUse, locked

RUNS, KILLS, SEED = 16, 10, 7


def at_home_in(folder: Path) -> str:
    """Make the folder the repository, with a grid of light runs; the path of its file."""
    paths.ROOT, paths.NOTEBOOKS, paths.RUNS = folder, folder / "notebooks", folder / "runs"
    write_notebook(paths.NOTEBOOKS / "06_tiny.ipynb")
    return write_grid(folder, list(range(RUNS)))


def start(file: str) -> int:
    """A runner in a process of its own, which need not import everything again."""
    child = os.fork()
    if child == 0:
        # In a shell's background job Ctrl-C is ignored, and so it would be in all that the job starts.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(grid.main([file, "--workers", "2"]))
    return child


def status(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def done() -> list[int]:
    return sorted(int(file.parent.name.split("n=")[1]) for file in paths.RUNS.glob("*/*/DONE"))


def are_free() -> bool:
    """Whether no run is going on in any folder."""
    try:
        for folder in paths.RUNS.glob("*/*/"):
            locked(folder).close()
    except InUse:
        return False
    return True


def wait_until_free(seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not (free := are_free()) and time.monotonic() < end:
        time.sleep(0.01)
    return free


def table() -> list[dict]:
    return grid.collect("06_tiny").drop(columns="finished").to_dict("records")


def killed(folder: Path) -> dict[str, object]:
    """A runner killed at random moments, then one that may end; what was done and started at every kill."""
    file, moments = at_home_in(folder), random.Random(SEED)
    kills = []
    for _ in range(KILLS):
        child = start(file)
        time.sleep(moments.uniform(0.05, 0.5))
        os.kill(child, signal.SIGKILL)
        kills.append({"status": status(child), "free": wait_until_free()})
        kills[-1] |= {"done": done(), "started": len(executions(folder))}
    last = status(start(file))
    return {"kills": kills, "status": last, "table": table(), "executions": executions(folder)}


def interrupted(folder: Path) -> dict[str, object]:
    """SIGINT to a runner when it has some runs behind it."""
    file = at_home_in(folder)
    child = start(file)
    while len(done()) < 3:
        time.sleep(0.02)
    os.kill(child, signal.SIGINT)
    return {"status": status(child), "free": are_free(), "done": done()}


def main(folder: Path) -> dict[str, object]:
    report: dict[str, object] = {}
    undisturbed = at_home_in(folder / "undisturbed")
    report["undisturbed"] = {"status": status(start(undisturbed)), "table": table()}
    report["killed"] = killed(folder / "killed")
    both = at_home_in(folder / "both")
    first, second = start(both), start(both)
    ended = [status(first), status(second)]
    report["both"] = {"status": ended, "table": table(), "executions": executions(folder / "both")}
    report["interrupted"] = interrupted(folder / "interrupted")
    return report


if __name__ == "__main__":
    notebook_run.SECONDS_BETWEEN_LOOKS, notebook_run.COMMAND = 0.02, light("time.sleep(0.1)")
    print(json.dumps(main(Path(sys.argv[1]).resolve())))
