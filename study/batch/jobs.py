"""A job is one notebook with its parameters: which jobs there are, how one is run, and what finished ones measured.

A grid's job fills `runs/<notebook>/<parameters>/`, the study's `runs/study/<preset>/<notebook>/`: `params.yaml`,
`executed.ipynb`, `papermill.log`, in a grid what the notebook measured (`study.records.save_run`), and finally `DONE`.
`python -m study.batch.jobs FOLDER MEMORY_MB RUNNER` runs one, as the `Snakefile` does.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
import signal
import sys
import threading
import time
import warnings
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import papermill
import psutil
import yaml

import stemlib
import study
from stemlib.files import held, write_atomically
from stemlib.presets import PRESETS
from study import paths
from study.notebooks import parameters, told


class BatchError(Exception):
    """What was asked for does not exist; the message lists every such place, and what does exist."""


class Job:
    """A notebook with its parameters, and the folder that it fills, which names it."""

    def __init__(self, folder: Path, parameters: dict[str, Any]) -> None:
        self.folder, self.parameters = folder, parameters
        self.name = folder.relative_to(paths.RUNS).as_posix()
        self.of_grid = folder.parents[1] == paths.RUNS  # it must measure something
        name = folder.parent.name if self.of_grid else folder.name.partition("@")[0]
        self.notebook = paths.NOTEBOOKS / f"{name}.ipynb"

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the notebook's code cells and the parameters."""
        cells = json.loads(self.notebook.read_text())["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        return hashlib.sha256(json.dumps([code, self.parameters], sort_keys=True).encode()).hexdigest()

    def kept(self) -> dict[str, Any] | None:
        """What `DONE` says, whatever its version; None if the job has not run to its end."""
        file = self.folder / "DONE"
        return json.loads(file.read_text()) if file.exists() else None

    def done(self) -> dict[str, Any] | None:
        """What `DONE` says, if it is from these code cells and parameters and, in the study, from this library.

        A grid takes hours over several sittings, so a change of the library repeats none of its jobs.
        """
        record = self.kept()
        current = record and record["fingerprint"] == self.fingerprint
        return record if current and (self.of_grid or record["library"] == library_fingerprint()) else None


@functools.cache
def library_fingerprint() -> str:
    """SHA-256 over the files of `stemlib` and `study`, as they were when this process first asked."""
    files = [file for package in (stemlib, study) for file in sorted(Path(package.__file__).parent.rglob("*.py"))]
    return hashlib.sha256("\0".join(f"{file.name}\n{file.read_text()}" for file in files).encode()).hexdigest()


def read_job(folder: Path) -> Job:
    """The job whose `params.yaml` is in the folder."""
    return Job(folder, yaml.safe_load((folder / "params.yaml").read_text()))


def read_grid(file: str | Path) -> list[Job]:
    """The jobs of a grid file, in its order and multiplied out; a `BatchError` lists all that is wrong with it."""
    try:
        return _jobs(yaml.safe_load(Path(file).read_text()))
    except (OSError, yaml.YAMLError, BatchError) as error:
        raise BatchError(f"{file}: {error}") from error


def study_jobs(preset: str, names: list[str], given: dict[str, str]) -> list[Job]:
    """A job of every chapter, or of those that are named; `given` are further parameters, as text."""
    wanted = sorted({Path(name).name.removesuffix(".ipynb") for name in names}) or _chapters()
    return _jobs({"preset": preset, "jobs": [{"notebook": name, "parameters": given} for name in wanted]}, True)


def _chapters() -> dict[str, Path]:
    return {path.stem: path for path in sorted(paths.NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}


def _jobs(content: Any, of_study: bool = False) -> list[Job]:
    """What a grid file's content asks for, checked against the notebooks' `parameters` cells."""
    _check_keys("the grid", content, {"preset": str, "jobs": list})
    problems = [] if content["jobs"] else [f"there are no jobs; looked for notebooks in {paths.NOTEBOOKS}"]
    if content["preset"] not in PRESETS:
        problems.append(f"no preset {content['preset']!r}; there are {', '.join(PRESETS)}")
    jobs: list[Job] = []
    for number, entry in enumerate(content["jobs"], start=1):
        try:
            jobs += _multiplied_out(entry, content["preset"], of_study)
        except BatchError as error:
            problems += [f"entry {number}: {line}" for line in str(error).splitlines()]
    counts = Counter(job.name for job in jobs)
    problems += [f"{name} occurs {count} times" for name, count in counts.items() if count > 1]
    if problems:
        raise BatchError("\n".join(problems))
    return jobs


def _check_keys(where: str, given: Any, known: dict[str, type]) -> None:
    if not isinstance(given, dict) or {key: type(value) for key, value in given.items()} != known:
        keys = ", ".join(f"{key} ({kind.__name__})" for key, kind in known.items())
        raise BatchError(f"{where} must be a mapping with the keys {keys}; got {given!r}")


def _multiplied_out(entry: Any, preset: str, of_study: bool) -> list[Job]:
    """A job for every combination of an entry's values."""
    _check_keys("it", entry, {"notebook": str, "parameters": dict})
    name, chapters = entry["notebook"], _chapters()
    if name not in chapters:
        raise BatchError(f"no notebook {name}; there are {', '.join(chapters)}")
    kinds = {key: kind for key, (kind, _) in parameters(chapters[name]).items()}
    problems = ["preset is given once, for all jobs, not here"] if "preset" in entry["parameters"] else []
    choices: dict[str, list[Any]] = {}
    for key, value in (entry["parameters"] | {"preset": preset}).items():
        if (kind := kinds.get(key)) is None:
            problems.append(f"{name} has no parameter {key}; its parameters: {', '.join(kinds)}")
            continue
        choices[key] = [_read(item, kind) for item in (value if isinstance(value, list) else [value])]
        if {type(item) for item in choices[key]} != {kind}:
            problems.append(f"{name}: {key} must be of type {kind.__name__}, or a list of these; got {value!r}")
    if problems:
        raise BatchError("\n".join(problems))
    combinations = [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]
    return [Job(_folder(name, parameters, of_study), parameters) for parameters in combinations]


def _read(value: Any, kind: type) -> Any:
    """A text as the number or truth value that it spells, 1 as 1.0 (the same job); any other value as it is."""
    with suppress(ValueError, yaml.YAMLError):
        if isinstance(value, str) or (kind is float and type(value) is int):
            return yaml.safe_load(value) if kind is bool else kind(value)
    return value


def _folder(notebook: str, parameters: dict[str, Any], of_study: bool) -> Path:
    """`told` inside the notebook's folder; in the study's, `<notebook>@dataset=...`."""
    name = told(parameters)
    of_chapter = notebook + name.removeprefix(f"preset={parameters['preset']}")
    return paths.RUNS / "study" / parameters["preset"] / of_chapter if of_study else paths.RUNS / notebook / name


def end_children() -> None:
    """Send SIGKILL to all that this process has started."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.kill()


def _watch(runner: psutil.Process, bound: float, exceeded: list[str]) -> None:
    """End this process when its runner is gone, and the notebook when more memory is resident than the bound.

    Snakemake does neither: what it has started outlives it, and it only plans with a job's memory.
    """
    while True:
        time.sleep(0.5)
        if not runner.is_running() or runner.status() == psutil.STATUS_ZOMBIE:
            end_children()
            os._exit(1)
        taken, this = 0, psutil.Process()
        for process in [this, *this.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                taken += process.memory_info().rss
        if taken > bound:
            exceeded.append(f"ended because it used {taken / 1e9:.2f} GB of memory; the limit is {bound / 1e9:.2f} GB")
            end_children()


def run(job: Job, runner: psutil.Process, bound: float, **how: Any) -> None:
    """Run a job and fill its folder; a failure raises what its notebook or papermill raised, or `SystemExit`."""
    for stale in ("DONE", "executed.ipynb", "metrics.json", "history.csv", "finding.json"):
        (job.folder / stale).unlink(missing_ok=True)
    os.environ.setdefault("STEMLIB_PROGRESS", "off")  # bars in a notebook would only fill its outputs
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # this environment's kernel, not the home folder's of the same name
    defaults = {key: value for key, (_, value) in parameters(job.notebook).items()}
    own = job.of_grid or defaults | job.parameters != defaults  # if not, it makes the committed files
    os.environ[paths.RUN] = str(job.folder) if own else ""
    record = {"fingerprint": job.fingerprint, "library": library_fingerprint(), "finding": None}
    started, exceeded, executed = time.time(), [], job.folder / "executed.ipynb"
    threading.Thread(target=_watch, args=(runner, bound, exceeded), daemon=True).start()
    try:
        how |= {"kernel_name": "python3", "progress_bar": False}
        papermill.execute_notebook(job.notebook, executed, job.parameters, **how)
    except Exception:
        sys.exit(exceeded[0]) if exceeded else None
        raise
    if job.of_grid and not (job.folder / "metrics.json").exists():
        sys.exit("wrote no metrics.json: it must call study.records.save_run")
    for finding in (paths.RUNS / "findings" / f"{job.notebook.stem}.json", job.folder / "finding.json"):
        if finding.exists() and finding.stat().st_mtime >= started:
            record["finding"] = json.loads(finding.read_text())
    record |= {"seconds": round(time.time() - started, 1), "finished": datetime.now(UTC).isoformat(timespec="seconds")}
    with write_atomically(job.folder / "DONE") as file:
        file.write_text(json.dumps(record, indent=2))


def collect(notebook: str) -> pd.DataFrame:
    """The rows that `save_run` got from a notebook's finished grid jobs, each preceded by the job's parameters.

    `run` is the name of the job's folder, `finished` the time when it finished. A row that has a column with a
    parameter's name keeps its own value. Jobs of another version of the notebook count as unfinished, with a warning.

    Raises:
        FileNotFoundError: no job is finished.
    """
    jobs = [read_job(file.parent) for file in sorted((paths.RUNS / notebook).glob("*/DONE"))]
    rows, done = [], {job: record for job in jobs if (record := job.done())}
    for job, record in done.items():
        about = {"run": job.folder.name, "finished": record["finished"]} | job.parameters
        rows += [about | row for row in json.loads((job.folder / "metrics.json").read_text())]
    if len(jobs) > len(done):
        warnings.warn(f"{len(jobs) - len(done)} jobs of {notebook} ran another version of it", stacklevel=2)
    if not done:
        raise FileNotFoundError(f"no finished jobs of {notebook} in {paths.RUNS}; run its grid")
    return pd.DataFrame(rows)


def main(arguments: list[str], **how: Any) -> None:
    """Run a folder's job for a runner, within a bound in megabytes; `how` is for papermill."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the runner, which ends this process
    folder, memory_mb, runner = paths.RUNS.parent / arguments[0], int(arguments[1]), psutil.Process(int(arguments[2]))
    with held(folder):
        if not (job := read_job(folder)).done():  # another runner may have done it while this one waited
            run(job, runner, memory_mb * 1e6, **how)


if __name__ == "__main__":
    main(sys.argv[1:])
