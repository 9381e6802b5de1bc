"""What is forked from a process that has imported already works as if it had been started by itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Listener
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
import pytest
from grid_samples import write_grid, write_notebook
from killed_batch import is_alive, wait_for

from study.batch import __main__ as batch
from study.batch.warm import CAN_FORK, answer, fork

pytestmark = pytest.mark.skipif(not CAN_FORK, reason="jobs are not forked here")


def told(arguments: list[str]) -> None:
    print(arguments, os.environ["WORD"], os.environ.get("HOME"), Path.cwd().name, flush=True)
    print("aside", file=sys.stderr)


def stops(arguments: list[str]) -> None:
    sys.exit(int(arguments[0]) if arguments[0].isdigit() else arguments[0])


def fails(arguments: list[str]) -> None:
    raise ValueError(arguments[0])


def is_killed(arguments: list[str]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("work", "status", "out", "err"),
    [
        (told, 0, "['4'] yes None here\n", "aside\n"),
        (stops, 4, "", ""),
        (lambda _: stops(["too large"]), 1, "", "too large\n"),
        (fails, 1, "", "ValueError: 4\n"),
        (is_killed, 1, "", ""),
    ],
)
def test_what_is_asked_for_is_done_as_the_one_who_asks_would(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    work: Callable[[list[str]], None],
    status: int,
    out: str,
    err: str,
) -> None:
    (tmp_path / "here").mkdir()
    environment = {"WORD": "yes", "PYTHONPATH": str(Path(batch.__file__).parents[2])}
    with Listener(family="AF_UNIX") as listener, capfd.disabled():  # so that what is printed goes to streams 1 and 2
        child = fork(lambda: answer(listener.accept(), work))
        command = [sys.executable, "-m", "study.batch.warm", str(listener.address), "4"]
        asked = subprocess.run(
            command, cwd=tmp_path / "here", env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    os.waitpid(child, 0)
    assert (asked.returncode, asked.stdout) == (status, out)
    assert asked.stderr.endswith(err)
    assert bool(asked.stderr) == bool(err)


def test_a_fork_ends_with_its_parent(tmp_path: Path) -> None:
    inner = tmp_path / "inner"

    def parent() -> None:
        inner.write_text(str(fork(signal.pause)))
        signal.pause()

    child = fork(parent)
    wait_for(lambda: inner.exists() and inner.read_text() != "")
    assert is_alive(int(inner.read_text()))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    wait_for(lambda: not is_alive(int(inner.read_text())))


ASKS = """
import torch
def asked(*_, **__): raise SystemExit("asks for a GPU")
for name in ("is_available", "device_count", "init", "_lazy_init"):
    setattr(torch.cuda, name, asked)
from importlib import import_module
from study.batch.warm import IMPORTED
for module in ("study.batch.jobs", *IMPORTED):
    import_module(module)
"""


@pytest.mark.slow
def test_nothing_that_is_imported_before_a_fork_asks_for_a_gpu() -> None:
    """CUDA cannot be used in a fork of a process that has asked for it."""
    asked = subprocess.run([sys.executable, "-c", ASKS], capture_output=True, text=True, check=False)
    assert asked.returncode == 0, asked.stderr


COMPUTES = """
import os, sys
before = "study.stress_figures" in sys.modules
import matplotlib.pyplot as plt, torch
from study import records
rows = torch.rand(300, 300, generator=torch.manual_seed(n))
plt.plot(rows[0])
"""
RECORD = """
import pandas as pd
found = {"seed": 0, "before": before, "threads": torch.get_num_threads(), "sum": float((rows @ rows).sum()),
         "random": float(torch.rand(()))}
records.save_run(pd.DataFrame([found]))
"""


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder of a short name, for names of sockets are."""
    with TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


@pytest.mark.slow
def test_a_forked_job_finds_everything_imported_and_computes_the_same_bits(tmp_path: Path, temporary: Path) -> None:
    found = {}
    for workers in (1, 3):  # three jobs: with a worker for each, every one imports for itself
        root = tmp_path / str(workers)
        write_notebook(root / "notebooks" / "06_tiny.ipynb", COMPUTES, RECORD)
        grid = write_grid(root, {"notebook": "06_tiny", "parameters": {"n": [1, 2, 3]}})
        repository = Path(batch.__file__).parents[2]
        environment = {**os.environ, "STEMLIB_ROOT": str(root), "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "2"}
        environment |= {"TMPDIR": str(temporary)}
        command = [sys.executable, "-m", "study.batch", grid, "--workers", str(workers)]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        jobs = sorted((root / "runs" / "06_tiny").iterdir())
        found[workers] = [json.loads((job / "metrics.json").read_text())[0] for job in jobs]
        assert not list(temporary.glob("**/*socket*")), "nothing is left behind"
        for job in jobs:
            assert ("TCP" in (job / "papermill.log").read_text()) == (workers == 3), "no port that another may take"
            outputs = nbformat.read(job / "executed.ipynb", as_version=4).cells[2].outputs
            assert any("image/png" in output.get("data", {}) for output in outputs)
    assert len(found[1]) == 3
    assert [row.pop("before") for row in found[1]] == [True] * 3
    assert [row.pop("before") for row in found[3]] == [False] * 3
    assert found[1] == found[3]
