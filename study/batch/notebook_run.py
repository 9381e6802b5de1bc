"""One notebook, run by papermill in an operating-system process of its own, and the folder that the run fills.

The folder holds `params.yaml`, `executed.ipynb`, `papermill.log`, what the notebook itself leaves there, and,
written last, `DONE`. The process holds the folder's lock for as long as it lives; it ends when its runner is gone.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import nbformat
import papermill
import yaml

from stemlib.files import write_atomically
from study import paths
from study.batch.process_tree import end_tree, end_with_parent, resident_memory

SECONDS_BETWEEN_LOOKS = 0.5  # at what is running: whether it has ended, and how much memory it takes
COMMAND = (sys.executable, "-m", "study.batch.notebook_run")
RESULTS = ("executing.ipynb", "executed.ipynb", "metrics.json", "history.csv")


class NotebookFailure(Exception):
    """A notebook did not run to its end; the message holds the error's last lines."""


class InUse(NotebookFailure):
    """The same run is still going on in another process."""


@dataclass(frozen=True)
class Job:
    """One notebook with the parameters it is given, and the folder that its run fills.

    Attributes:
        outputs: files that the notebook itself must write into the folder; `STEMLIB_RUN` then names the folder to it.
    """

    notebook: Path
    parameters: dict[str, Any]
    folder: Path
    outputs: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the notebook's code cells and the parameters."""
        parts = json.dumps([code_cells(self.notebook), self.parameters], sort_keys=True)
        return hashlib.sha256(parts.encode()).hexdigest()

    def done(self) -> dict[str, Any] | None:
        """What `DONE` says; None where the run is missing, unfinished, or of other code cells or parameters."""
        file = self.folder / "DONE"
        if not file.exists():
            return None
        record = json.loads(file.read_text())
        return record if record.get("fingerprint") == self.fingerprint else None


def code_cells(notebook: Path) -> list[str]:
    """The sources of a notebook's code cells."""
    cells = json.loads(notebook.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def library_fingerprint() -> str:
    """SHA-256 over the library's files, as they are now."""
    package = Path(__file__).parents[1]
    files = (f"{p.relative_to(package)}\n{p.read_text()}" for p in sorted(package.rglob("*.py")))
    return hashlib.sha256("\0".join(files).encode()).hexdigest()


def parameter_types(notebook: Path) -> dict[str, str]:
    """The names in the notebook's `parameters` cell and their types; `None` where the cell names no type."""
    known = papermill.inspect_notebook(notebook)
    return {name: parameter["inferred_type_name"] for name, parameter in known.items()}


def unknown_parameters(notebook: Path, given: set[str], known: dict[str, str]) -> str | None:
    """What is to be said about given names that the notebook does not have."""
    if not (unknown := sorted(given - known.keys())):
        return None
    names = ", ".join(known) or "none: it lacks a cell tagged 'parameters'"
    return f"{notebook.stem} has no parameter {', '.join(unknown)}; its parameters: {names}"


def locked(folder: Path) -> IO[str]:
    """The folder's lock file, made where it is missing; closing it gives the folder free again.

    Raises:
        InUse: another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise InUse("this run is still going on in another process; wait for it or end it") from None
    return lock


class Running:
    """A job that is going on in a locked folder; it must be closed.

    Args:
        job: what to run; the results of an earlier run in its folder are removed.
        lock: of its folder, see `locked`. The process inherits it, and so has the folder even without its runner.
        threads: of the notebook, unless `OMP_NUM_THREADS` is set.
        memory: bound in bytes on the resident memory of the process and all that it starts.
        watched: whether papermill's bar of cells goes to this process's terminal.
    """

    def __init__(self, job: Job, lock: IO[str], threads: int, memory: float = math.inf, watched: bool = False) -> None:
        self.job, self.lock, self.memory = job, lock, memory
        for stale in ("DONE", *RESULTS):
            (job.folder / stale).unlink(missing_ok=True)
        with write_atomically(job.folder / "params.yaml") as file:
            file.write_text(yaml.safe_dump(job.parameters))
        self.fingerprints = {"fingerprint": job.fingerprint, "library": library_fingerprint()}
        self.started = time.time()
        environment = {
            "OMP_NUM_THREADS": str(threads),
            "STEMLIB_PROGRESS": "off",  # bars inside a notebook would only fill its outputs
            **os.environ,
            "JUPYTER_PREFER_ENV_PATH": "1",  # this environment's kernel, not the home folder's of the same name
            "STEMLIB_RUN": str(job.folder) if job.outputs else "",
        }
        arguments = (job.notebook, job.folder / "executing.ipynb", job.folder / "params.yaml")
        with (job.folder / "papermill.log").open("wb") as log:
            self.process = subprocess.Popen(
                [*COMMAND, *map(str, arguments)],
                cwd=paths.ROOT,
                env=environment,
                stdin=subprocess.PIPE,  # nothing is written: its end tells the process that the runner is gone
                stdout=log,
                stderr=None if watched else log,
                pass_fds=[lock.fileno()],
                start_new_session=True,  # Ctrl-C goes to the runner, which ends the process and its kernel
            )

    def record(self) -> dict[str, Any] | None:
        """What `DONE` says now that the run has ended, or None while it is going on; also watches its memory.

        Raises:
            NotebookFailure: a cell raised, the kernel died, an output is missing, or the memory was exceeded.
        """
        folder, code = self.job.folder, self.process.poll()
        if code is None:
            if (taken := resident_memory(self.process.pid)) > self.memory:
                self._end()
                raise NotebookFailure(
                    f"ended because it took {taken / 1e9:.2f} GB of memory; the bound is {self.memory / 1e9:.2f} GB"
                )
            return None
        self._end()
        if code != 0:
            raise NotebookFailure(_last_words(folder, code))
        if missing := [name for name in self.job.outputs if not (folder / name).exists()]:
            raise NotebookFailure(f"wrote no {', '.join(missing)}: it must call study.records.save_run")
        finding = paths.RUNS / "findings" / f"{self.job.notebook.stem}.json"
        written = finding.exists() and finding.stat().st_mtime >= self.started
        record = self.fingerprints | {
            "seconds": round(time.time() - self.started, 1),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "finding": json.loads(finding.read_text()) if written else None,
        }
        with write_atomically(folder / "DONE") as file:
            file.write_text(json.dumps(record, indent=2))
        return record

    def _end(self) -> None:
        """End the process with all that it started; what was executed, well or not, takes its name."""
        if self.process.poll() is None:
            end_tree(self.process.pid)
            self.process.wait()
        self.process.stdin.close()
        if (unfinished := self.job.folder / "executing.ipynb").exists():
            unfinished.replace(self.job.folder / "executed.ipynb")

    def close(self) -> None:
        """End what is still going on, and give the folder free."""
        self._end()
        self.lock.close()


def _last_words(folder: Path, code: int, lines: int = 8) -> str:
    """The last lines of the cell error in the executed notebook, else of papermill's log and its exit code."""
    text = (folder / "papermill.log").read_text(errors="replace")
    if (folder / "executed.ipynb").exists():
        cells = nbformat.read(folder / "executed.ipynb", as_version=4).cells
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        errors = [output for output in outputs if output.output_type == "error"]
        if errors and code == 1:
            text = "\n".join(errors[0].traceback)
    if code != 1 or not text:
        text += f"\npapermill ended with exit code {code}"
    return "\n".join(re.sub(r"\x1b\[[0-9;]*m", "", text).strip().splitlines()[-lines:])


def execute(notebook: str, output: str, parameters: str) -> int:
    """papermill on one notebook; the exit status."""
    end_with_parent()
    try:
        papermill.execute_notebook(
            notebook,
            output,
            yaml.safe_load(Path(parameters).read_text()),
            kernel_name="python3",
            progress_bar=sys.stderr.isatty(),
        )
    except papermill.PapermillExecutionError:
        return 1  # the executed notebook holds the error
    return 0


if __name__ == "__main__":
    sys.exit(execute(*sys.argv[1:]))
