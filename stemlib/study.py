"""Run the study's notebooks: `python -m stemlib.study --preset smoke`.

Every notebook runs through papermill in an operating-system process of its own, from the repository's root.
`runs/study/<preset>/<notebook>/` then holds `params.yaml`, `executed.ipynb`, `papermill.log` and, written
last, `DONE`. A notebook whose code, parameters and library are still those of its `DONE` is not run again.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml

from stemlib import paths
from stemlib.atomic import write_atomically
from stemlib.presets import PRESETS

MAX_THREADS = 4  # of one notebook, so that it does not take the whole of a large machine
VALUE_OF = {"str": str, "int": int, "float": float, "bool": {"true": True, "false": False}.__getitem__}
EXECUTE = """
import sys
from pathlib import Path
import papermill, yaml
notebook, output, parameters = sys.argv[1:]
try:
    papermill.execute_notebook(
        notebook, output, yaml.safe_load(Path(parameters).read_text()),
        kernel_name="python3", progress_bar=sys.stderr.isatty(),
    )
except papermill.PapermillExecutionError:
    sys.exit(1)  # the executed notebook holds the error
"""


class StudyError(Exception):
    """What was asked for does not exist; the message says what does."""


class NotebookFailure(Exception):
    """A notebook did not run to its end; the message holds the error's last lines."""


@dataclass(frozen=True)
class Job:
    """One notebook with the parameters it is given, and the folder that its run fills."""

    notebook: Path
    parameters: dict[str, Any]
    folder: Path

    @property
    def fingerprint(self) -> str:
        """SHA-256 over what decides the outcome: the notebook's code cells, the library, the parameters."""
        cells = nbformat.read(self.notebook, as_version=4).cells
        package = Path(__file__).parent
        parts = [
            json.dumps([cell.source for cell in cells if cell.cell_type == "code"]),
            *(f"{p.relative_to(package)}\n{p.read_text()}" for p in sorted(package.rglob("*.py"))),
            json.dumps(self.parameters, sort_keys=True),
        ]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def done(self) -> dict[str, Any] | None:
        """What `DONE` says, or None where the run is missing, unfinished or out of date."""
        file = self.folder / "DONE"
        record = json.loads(file.read_text()) if file.exists() else {}
        return record if record.get("fingerprint") == self.fingerprint else None


def find_notebooks(names: Sequence[str] = ()) -> list[Path]:
    """The chapters in reading order, or those of them that `names` lists (`00_start_here`).

    Raises:
        StudyError: There is no notebook, or none of that name.
    """
    chapters = {path.stem: path for path in sorted(paths.NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}
    if not chapters:
        raise StudyError(f"no notebooks (NN_name.ipynb) in {paths.NOTEBOOKS}")
    wanted = {Path(name).name.removesuffix(".ipynb") for name in names}
    if unknown := sorted(wanted - chapters.keys()):
        raise StudyError(f"no notebook {', '.join(unknown)}; there are {', '.join(chapters)}")
    return [path for name, path in chapters.items() if not wanted or name in wanted]


def make_job(notebook: Path, preset: str, given: dict[str, str]) -> Job:
    """Check `given` (name to text) against the notebook's `parameters` cell and read each value as its type.

    Raises:
        StudyError: The notebook has no such parameter, or the text is no value of its type.
    """
    known = papermill.inspect_notebook(notebook)
    texts = {**given, "preset": preset}
    if unknown := sorted(texts.keys() - known.keys()):
        names = ", ".join(known) or "none: it lacks a cell tagged 'parameters'"
        raise StudyError(f"{notebook.stem} has no parameter {', '.join(unknown)}; its parameters: {names}")
    parameters = {}
    for name, text in sorted(texts.items()):
        kind = known[name]["inferred_type_name"]
        try:
            parameters[name] = VALUE_OF.get(kind, yaml.safe_load)(text)
        except (ValueError, KeyError, yaml.YAMLError) as error:
            raise StudyError(f"{notebook.stem}: parameter {name} is of type {kind}, got {text!r}") from error
    settings = "".join(f",{name}={text}" for name, text in sorted(given.items()))
    folder = paths.RUNS / "study" / preset / (notebook.stem + re.sub(r"[^\w.,=+-]", "_", settings))
    return Job(notebook, parameters, folder)


def run(job: Job) -> dict[str, Any]:
    """Run one notebook and write its folder; returns what `DONE` says.

    Raises:
        NotebookFailure: A cell raised, the kernel died, or the same run is still going on elsewhere.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    with (job.folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotebookFailure(
                "this run is still going on in another process; wait for it or end it"
            ) from None
        for stale in ("DONE", "executed.ipynb", "executing.ipynb"):
            (job.folder / stale).unlink(missing_ok=True)
        with write_atomically(job.folder / "params.yaml") as file:
            file.write_text(yaml.safe_dump(job.parameters))

        fingerprint, started = job.fingerprint, time.time()
        _execute(job, lock.fileno())
        finding = paths.RUNS / "findings" / f"{job.notebook.stem}.json"
        written = finding.exists() and finding.stat().st_mtime >= started
        record = {
            "fingerprint": fingerprint,
            "seconds": round(time.time() - started, 1),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "finding": json.loads(finding.read_text()) if written else None,
        }
        with write_atomically(job.folder / "DONE") as file:
            file.write_text(json.dumps(record, indent=2))
    return record


def _execute(job: Job, lock: int) -> None:
    """papermill on the job's notebook; `executed.ipynb` takes its name when papermill has ended, well or not.

    The process inherits the `lock`: a notebook that outlives a killed runner keeps its folder.
    """
    unfinished, executed = job.folder / "executing.ipynb", job.folder / "executed.ipynb"
    arguments = [str(job.notebook), str(unfinished), str(job.folder / "params.yaml")]
    environment = {
        "OMP_NUM_THREADS": str(min(MAX_THREADS, os.cpu_count() or 1)),
        "STEMLIB_PROGRESS": "off",  # bars inside a notebook would only fill its outputs
        **os.environ,
        "JUPYTER_PREFER_ENV_PATH": "1",  # this environment's kernel, not the home folder's of the same name
    }
    with (job.folder / "papermill.log").open("wb") as log:
        code = subprocess.run(
            [sys.executable, "-c", EXECUTE, *arguments],
            cwd=paths.ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=None if sys.stderr.isatty() else log,  # a terminal shows papermill's bar of cells
            pass_fds=[lock],
        ).returncode
    if unfinished.exists():
        unfinished.replace(executed)
    if code != 0:
        raise NotebookFailure(_last_words(job.folder) or f"papermill ended with exit code {code}")


def _last_words(folder: Path, lines: int = 8) -> str:
    """The last lines of the cell error in the executed notebook, else of papermill's log."""
    text = (folder / "papermill.log").read_text(errors="replace")
    if (folder / "executed.ipynb").exists():
        cells = nbformat.read(folder / "executed.ipynb", as_version=4).cells
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        errors = [output for output in outputs if output.output_type == "error"]
        text = "\n".join(errors[0].traceback) if errors else text
    return "\n".join(re.sub(r"\x1b\[[0-9;]*m", "", text).strip().splitlines()[-lines:])


def run_all(jobs: Sequence[Job], force: bool = False) -> int:
    """Run what is not done, tell progress and findings; returns how many notebooks failed."""
    done: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    watched = sys.stderr.isatty()  # then papermill's bar of cells takes the line, and the line is said again
    for number, job in enumerate(jobs, start=1):
        name = job.folder.name
        line = f"[{number}/{len(jobs)}] {name} ... "
        print(line, end="", flush=True)
        start = f"\r{line}" if watched else ""
        if not force and (record := job.done()):
            done[name] = record
            print(f"{start}up to date")
            continue
        try:
            done[name] = run(job)
            print(f"{start}{done[name]['seconds']:.0f} s", flush=True)
        except NotebookFailure as error:
            failed[name] = str(error)
            print(f"{start}failed", flush=True)
            print(f"{error}\nThe notebook as far as it came is in {job.folder}", file=sys.stderr)
    _tell_findings(done, failed, jobs[0].folder.parent)
    return len(failed)


def _tell_findings(done: dict[str, dict[str, Any]], failed: dict[str, str], folder: Path) -> None:
    print("\nWhat was found")
    for name, record in done.items():
        finding = record["finding"] or {"headline": "(no finding recorded)"}
        print(f"- {name}: {finding['headline']}")
        for file in [*finding.get("figures", []), *finding.get("records", [])]:
            print(f"    {file}")
    for name in failed:
        print(f"- {name}: failed, see above")
    print(f"Executed notebooks: {folder.relative_to(paths.ROOT)}/<notebook>/executed.ipynb")
    print("Figures: figures/; records of every run: runs/")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m stemlib.study", description="Run the study's notebooks.")
    add = parser.add_argument
    add("--preset", choices=PRESETS, default="smoke", help="the budget (default: %(default)s)")
    add("--notebooks", nargs="+", default=[], metavar="NAME", help="only these, such as 00_start_here")
    add("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="a notebook parameter")
    add("--force", action="store_true", help="run again what is up to date")
    options = parser.parse_args(arguments)
    given = dict(options.p)
    try:
        if "preset" in given:
            raise StudyError("preset is not given by -p but by --preset")
        jobs = [make_job(path, options.preset, given) for path in find_notebooks(options.notebooks)]
    except StudyError as error:
        parser.error(str(error))
    return 1 if run_all(jobs, options.force) else 0


if __name__ == "__main__":
    sys.exit(main())
