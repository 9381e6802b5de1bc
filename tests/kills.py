"""Processes that are killed again and again, at one stage after the other, and what they leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

Stage = Callable[[], None]


def kill(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def after(calls: int, function: Callable) -> Callable:
    """The function, for so many calls; the next one kills."""
    left = iter(range(calls))
    return lambda *args: kill() if next(left, None) is None else function(*args)


def second_file_of(module: object, name: str) -> None:
    """Make the module's function of that name die after it has put the first of its files in place."""
    writes = getattr(module, name)

    def killed(*args: object) -> None:
        os.replace = after(1, os.replace)
        writes(*args)

    setattr(module, name, killed)


def die_at_every_stage(stages: Sequence[Stage], act: Callable[[], object], folder: Path) -> None:
    """Run `act` once per stage; print the stage's name, the signal that ended it, and the files in `folder`."""
    for stage in stages:
        child = os.fork()  # a fresh process that need not import everything again
        if child == 0:
            stage()
            act()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        files = sorted(file.name for file in folder.rglob("*") if file.is_file())
        print(stage.__name__, os.WTERMSIG(status), *files, flush=True)


def left_behind(script: str, folder: Path, stages: Sequence[Stage]) -> list[tuple[str, list[str]]]:
    """The name and the files of every stage of a script in this folder, all of which SIGKILL has ended."""
    tests = Path(__file__).parent
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tests.parent)}
    command = [sys.executable, str(tests / script), str(folder)]
    lines = subprocess.check_output(command, env=environment, text=True).splitlines()
    report = [line.split() for line in lines]
    assert [name for name, *_ in report] == [stage.__name__ for stage in stages]
    for name, signalled, *_ in report:
        assert int(signalled) == signal.SIGKILL, name
    return [(name, files) for name, _, *files in report]
