"""Run the study's notebooks: `python -m study.batch.study --preset smoke`.

Every notebook runs through papermill in an operating-system process of its own, from the repository's root.
`runs/study/<preset>/<notebook>/` then holds `params.yaml`, `executed.ipynb`, `papermill.log` and, written
last, `DONE`. A notebook whose code, parameters and library are still those of its `DONE` is not run again.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from stemlib.presets import PRESETS
from study import paths
from study.batch.notebook_run import (
    SECONDS_BETWEEN_LOOKS,
    Job,
    NotebookFailure,
    Running,
    library_fingerprint,
    locked,
    parameter_types,
    unknown_parameters,
)
from study.batch.process_tree import interrupted_after

MAX_THREADS = 4  # of one notebook, so that it does not take the whole of a large machine
VALUE_OF = {"str": str, "int": int, "float": float, "bool": {"true": True, "false": False}.__getitem__}


class StudyError(Exception):
    """What was asked for does not exist; the message says what does."""


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
    known = parameter_types(notebook)
    texts = {**given, "preset": preset}
    if unknown := unknown_parameters(notebook, set(texts), known):
        raise StudyError(unknown)
    parameters = {}
    for name, text in sorted(texts.items()):
        kind = known[name]
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
    threads = min(MAX_THREADS, os.cpu_count() or 1)
    with ExitStack() as stack:
        with interrupted_after():
            running = Running(job, locked(job.folder), threads, watched=sys.stderr.isatty())
            stack.callback(running.close)
        while (record := running.record()) is None:
            time.sleep(SECONDS_BETWEEN_LOOKS)
    return record


def up_to_date(job: Job) -> dict[str, Any] | None:
    """What `DONE` says where the notebook's code, its parameters and the library are still those of the run."""
    record = job.done()
    return record if record and record["library"] == library_fingerprint() else None


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
        if not force and (record := up_to_date(job)):
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
    parser = argparse.ArgumentParser(prog="python -m study.batch.study", description="Run the study's notebooks.")
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
