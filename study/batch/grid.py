"""Run a grid of notebooks: `python -m study.batch.grid grids/laptop.yaml`, and the same again after every interruption.

`runs/<notebook>/<name from the parameters>/` holds a run as `study.batch.notebook_run` describes, with what the
notebook itself measured in `metrics.json` and `history.csv` (`study.records.save_run`). A run is done when its `DONE`
is of the notebook's present code cells and of its parameters. The library may have changed since: a grid takes hours
over several sittings. `DONE` says by which library it was made, and the summary counts the runs made by another one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import textwrap
import time
import warnings
from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pandas as pd
import psutil
import yaml

from study import paths
from study.batch import notebook_run
from study.batch.grid_file import GridError, read_grid, run_name, shard, write_code
from study.batch.notebook_run import InUse, Job, NotebookFailure, Running, library_fingerprint, locked
from study.batch.process_tree import interrupted_after
from study.batch.study import find_notebooks

SHARE_OF_MEMORY = 0.8  # of the machine's, for all runs together, where --memory-gb is not given


class Grid:
    """The runs of a grid on this machine: which are done, going on, waiting, failed.

    Args:
        jobs: the runs.
        workers: how many run at once.
        memory_gb: bound on each of them.
        force: run again what is done.
    """

    def __init__(self, jobs: Sequence[Job], workers: int, memory_gb: float, force: bool = False) -> None:
        self.jobs, self.workers, self.memory, self.force = jobs, workers, memory_gb * 1e9, force
        self.done: dict[str, dict[str, Any]] = {}  # by run, what `DONE` says
        self.failed: dict[str, str] = {}  # by run, the error's last lines
        self.running: list[Running] = []
        self.waiting: deque[Job] = deque()
        for job in jobs:
            if not force and (record := job.done()):
                self.done[run_name(job)] = record
            else:
                self.waiting.append(job)

    def run(self) -> None:
        """Run what is waiting, and tell of each run that ends."""
        try:
            while self.waiting or self.running:
                for _ in range(min(self.workers - len(self.running), len(self.waiting))):
                    self._start(self.waiting.popleft())
                time.sleep(notebook_run.SECONDS_BETWEEN_LOOKS)
                for running in list(self.running):
                    self._look_at(running)
        finally:
            for running in self.running:
                running.close()

    def _start(self, job: Job) -> None:
        """Start a run, unless another runner has it now (it waits on) or has ended it meanwhile."""
        try:
            lock = locked(job.folder)
        except InUse:
            self.waiting.append(job)
            return
        if not self.force and (record := job.done()):
            lock.close()
            self.done[run_name(job)] = record
            self._tell(job, "done by another runner")
        else:
            write_code(job.notebook)  # before the run's results: to Snakemake, a later file makes them old
            threads = max(1, cores() // self.workers)
            with interrupted_after():
                self.running.append(Running(job, lock, threads, self.memory))

    def _look_at(self, running: Running) -> None:
        """Note whether a run has ended, and how."""
        job, name = running.job, run_name(running.job)
        try:
            record = running.record()
        except NotebookFailure as error:
            self.failed[name] = str(error)
            outcome = "failed"
        else:
            if record is None:
                return
            self.done[name] = record
            outcome = f"{record['seconds']:.0f} s"
        running.close()
        self.running.remove(running)
        self._tell(job, outcome)

    def _tell(self, job: Job, outcome: str) -> None:
        left, total = len(self.waiting) + len(self.running), len(self.jobs)
        counts = f"{len(self.done)} done, {len(self.failed)} failed, {left} to go{self._time_left()}"
        print(f"[{total - left}/{total}] {run_name(job)}: {outcome}   ({counts})", flush=True)

    def _time_left(self) -> str:
        """From the mean seconds of the same notebook's finished runs, else of all finished runs."""
        left = [*self.waiting, *(running.job for running in self.running)]
        if not (left and self.done):
            return ""
        seconds = pd.Series({name: record["seconds"] for name, record in self.done.items()})
        means = seconds.groupby(seconds.index.str.partition("/").get_level_values(0)).mean()
        total = sum(means.get(job.folder.parent.name, seconds.mean()) for job in left)
        return f", about {timedelta(seconds=round(total / self.workers))}"

    def tell_all(self, every_run: bool = False) -> None:
        """Print how many runs are done, by which library, and what has failed and why."""
        library = library_fingerprint()
        other = {name for name, record in self.done.items() if record["library"] != library}
        if every_run:
            for name in map(run_name, self.jobs):
                by = " by another version of the library" if name in other else ""
                print(f"{'done' + by if name in self.done else 'to run'}: {name}")
        of_these = f" ({len(other)} by another version of the library; --force repeats)" if other else ""
        total, done, failed = len(self.jobs), len(self.done), len(self.failed)
        to_run = f"{total - done - failed} to run{self._time_left()}"
        print(f"{total} runs: {done} done{of_these}, {failed} failed, {to_run}")
        for name, error in self.failed.items():
            print(f"\n{name} failed:\n{textwrap.indent(error, '    ')}", file=sys.stderr)
        if self.failed:
            print(
                f"\nWhat was executed of them is in {paths.RUNS.name}/<run>/executed.ipynb. The same command tries "
                "them again.",
                file=sys.stderr,
            )


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def collect(experiment: str) -> pd.DataFrame:
    """The metrics of an experiment's finished runs: the rows that `save_run` got, with the run's parameters before.

    `finished` says when the run was. A row that has a column of a parameter's name keeps its own value. Runs of another
    version of the notebook count as unfinished, which a warning tells.

    Args:
        experiment: the notebook's name, such as `07_degree_shift`.

    Raises:
        FileNotFoundError: no run is finished.
    """
    (notebook,) = find_notebooks([experiment])
    rows, outdated = [], 0
    for file in sorted((paths.RUNS / experiment).glob("*/DONE")):
        parameters = yaml.safe_load((file.parent / "params.yaml").read_text())
        record = Job(notebook, parameters, file.parent).done()
        if record is None:
            outdated += 1
            continue
        own = json.loads((file.parent / "metrics.json").read_text())
        about = {"run": file.parent.name, "finished": record["finished"]} | parameters
        rows += [about | row for row in own]
    if outdated:
        warnings.warn(f"{outdated} runs of {experiment} are of another version of it", stacklevel=2)
    if not rows:
        raise FileNotFoundError(f"no finished runs of {experiment} in {paths.RUNS}; run its grid")
    return pd.DataFrame(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m study.batch.grid", description="Run a grid of notebooks.")
    add = parser.add_argument
    add("grid", help="a grid file, such as grids/smoke.yaml")
    add("--workers", type=int, default=1, help="runs at once, which share the cores (default: %(default)s)")
    add("--memory-gb", type=float, help="bound on a run's memory (default: its share of 80 %% of all)")
    add("--shard", metavar="I/N", default="1/1", help="only the I-th of N parts of the grid, such as 2/4")
    add("--run", metavar="NAME", help="only this run, as --dry-run names it")
    add("--dry-run", action="store_true", help="only list what is done and what is to be run")
    add("--force", action="store_true", help="run again what is done")
    options = parser.parse_args(arguments)
    workers, memory_gb = options.workers, options.memory_gb
    if workers < 1 or (memory_gb is not None and memory_gb <= 0):
        parser.error("--workers and --memory-gb must be positive")
    if memory_gb is None:
        memory_gb = SHARE_OF_MEMORY * psutil.virtual_memory().total / 1e9 / workers
    try:
        jobs = selected(read_grid(options.grid), options.shard, options.run)
    except GridError as error:
        parser.error(str(error))
    grid = Grid(jobs, workers, memory_gb, options.force)
    if options.dry_run:
        grid.tell_all(every_run=True)
        return 0
    total, done = len(grid.jobs), len(grid.done)
    print(f"{total} runs, {done} of them done; {workers} at once, at most {memory_gb:.1f} GB each", flush=True)
    try:
        grid.run()
    except KeyboardInterrupt:
        print("\nStopped, with every run that was going on. The same command goes on.", file=sys.stderr)
        return 130
    grid.tell_all()
    return 1 if grid.failed else 0


def selected(jobs: list[Job], part: str, name: str | None) -> list[Job]:
    """The runs of a shard (`2/4`), or the one of that name.

    Raises:
        GridError: there is no such shard or run.
    """
    if name is not None:
        if not (found := [job for job in jobs if run_name(job) == name]):
            raise GridError(f"the grid has no run {name}; --dry-run lists its {len(jobs)} runs")
        return found
    if not (numbers := re.fullmatch(r"(\d+)/(\d+)", part)):
        raise GridError(f"a shard is given as I/N, such as 2/4; got {part!r}")
    return shard(jobs, *map(int, numbers.groups()))


if __name__ == "__main__":
    sys.exit(main())
