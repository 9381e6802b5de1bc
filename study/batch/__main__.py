"""Run the study, `python -m study.batch`, or a grid, `python -m study.batch study/grids/laptop.yaml`.

Either is a list of jobs, which Snakemake runs, here or on a cluster. After an interruption the same command continues.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from textwrap import indent

import joblib
import psutil
import yaml

from stemlib.files import write_atomically
from stemlib.presets import PRESETS
from study import paths
from study.batch.jobs import BatchError, Job, end_children, library_fingerprint, read_grid, study_jobs
from study.batch.warm import CAN_FORK, LONGEST
from study.computing import add_device


class Batch(logging.Handler):
    """Jobs, some of them done and some failed; as a handler of Snakemake's log it reports each job that ends.

    Snakemake does not say how long a job took, nor how long the others may take.
    """

    def __init__(self, jobs: list[Job], workers: int, force: bool) -> None:
        super().__init__()
        self.jobs, self.workers = jobs, workers
        self.done = {job: record for job in jobs if not force and (record := job.done())}
        self.seconds = {job: record["seconds"] for job in jobs if (record := job.kept())}  # of any version
        self.left = [job for job in jobs if job not in self.done]
        self.failed: list[Job] = []
        self.names: dict[int, str | None] = {}  # by Snakemake's job numbers; None is its rule `all`
        self.error = ""  # Snakemake's own

    def __str__(self) -> str:
        """Counts by state, and how long those left may take, from the same notebook's finished jobs or from all."""
        other = sum(record["library"] != library_fingerprint() for record in self.done.values())
        by = f" ({other} by another library version; --force reruns them)" if other else ""
        total, known = 0.0, self.seconds.items()
        for job in self.left if known else ():
            total += fmean([took for done, took in known if done.notebook == job.notebook] or self.seconds.values())
        about = f", about {timedelta(seconds=round(total / self.workers))}" if total else ""
        return f"{len(self.done)} done{by}, {len(self.failed)} failed, {len(self.left)} to run{about}"

    def emit(self, record: logging.LogRecord) -> None:
        """Learn from Snakemake which job starts, and how it ends."""
        event = getattr(record, "event", None)
        if event == "job_info":
            self.names[record.jobid] = record.wildcards.get("job")
        elif record.levelno >= logging.ERROR:
            self.error = record.getMessage()
        number = {"job_finished": "job_id", "job_error": "jobid"}.get(event)
        for job in [job for job in self.left if number and job.name == self.names[getattr(record, number)]]:
            self.left.remove(job)
            if event == "job_error":
                self.failed.append(job)
            else:
                self.done[job] = job.kept()
                self.seconds[job] = self.done[job]["seconds"]
            took = f"{self.seconds[job]:.0f} s" if job in self.done else "failed"
            print(f"[{len(self.jobs) - len(self.left)}/{len(self.jobs)}] {job.name}: {took}   ({self})", flush=True)

    def run(self, options: list[str], threads: int, mem_mb: int, start: str) -> None:
        """Have Snakemake run what is left, each by the module that `start` names."""
        from snakemake.cli import main as snakemake  # takes two seconds, wasted if all is done

        for job in self.left:
            (job.folder / "DONE").unlink(missing_ok=True)
            with write_atomically(job.folder / "params.yaml") as file:
                file.write_text(yaml.safe_dump(job.parameters))
        # A job is done when its DONE exists, which is written last and atomically. Snakemake's own lock and its notion
        # of incomplete files would only call for repair by hand after SIGKILL.
        always = ["--nolock", "--ignore-incomplete", "--rerun-triggers=mtime", "--keep-going", "--scheduler=greedy"]
        jobs = json.dumps([job.name for job in self.left])
        config = [f"jobs={jobs}", f"runs={paths.RUNS.name}", f"threads={threads}", f"mem_mb={mem_mb}", f"start={start}"]
        where = ["--snakefile", str(Path(__file__).with_name("Snakefile")), "--directory", str(paths.RUNS.parent)]
        logging.getLogger("snakemake").addHandler(self)
        with suppress(SystemExit):
            snakemake([*where, "--config", *config, *always, *options])

    def tell(self) -> None:
        """Print what the study's chapters found, and the last lines of failed jobs."""
        findings = {job: found for job in self.jobs if (found := self.done.get(job, {}).get("finding"))}
        print("\nWhat was found" if findings else "")
        for job, finding in findings.items():
            files = [*finding["figures"], *finding["records"]]
            print("\n    ".join([f"- {job.folder.name}: {finding['headline']}", *files]))
        for job in self.failed:
            log = job.folder / "papermill.log"  # missing if a cluster did not accept the job
            said = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(errors="replace") if log.exists() else self.error)
            last = "\n".join(said.strip().splitlines()[-8:])
            print(f"\n{job.name} failed:\n{indent(last, '    ')}", file=sys.stderr)
        print(f"Executed notebooks, as far as they got: {os.path.relpath(paths.RUNS)}/<job>/executed.ipynb")
        if self.left or self.failed:
            print(f"{'' if self.failed else self.error}\nThe same command tries again.", file=sys.stderr)


def stop(folder: str) -> None:
    """End all that is running, and this process; all is left as after SIGKILL, except that the folder is removed."""
    end_children()
    shutil.rmtree(folder, ignore_errors=True)
    print("\nStopped, with every running job. The same command continues.", file=sys.stderr, flush=True)
    os._exit(130)


@contextmanager
def started(threads: int, profile: str | None, alone: bool) -> Iterator[str]:
    """The module that starts a job, with its argument: alone, or as a fork of a process that ends with the context."""
    with TemporaryDirectory() as folder:  # nobody else's
        if not profile and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, lambda *_: stop(folder))
        address = Path(folder, "socket")
        if profile or alone or not CAN_FORK or len(str(address)) > LONGEST:
            yield "study.batch.jobs"
            return
        command = [sys.executable, "-m", "study.batch.warm", str(address)]
        with subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": str(threads)}) as process:
            while process.poll() is None and not address.exists():
                time.sleep(0.02)
            yield f"study.batch.warm {address}" if process.poll() is None else "study.batch.jobs"
            process.kill()


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m study.batch", description="Run the study's chapters, or a grid.")
    add = parser.add_argument
    add("grid", nargs="?", help="a grid file, such as study/grids/smoke.yaml; without one the chapters run")
    add("--preset", choices=PRESETS, help="the chapters' budget (default: smoke)")
    add("--notebooks", nargs="+", default=[], metavar="NAME", help="only these chapters, such as 00_start_here")
    add("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="a parameter of the chapters")
    cores = joblib.cpu_count()
    add("--workers", type=int, default=min(2, cores), help="jobs at once, which share the cores (default: %(default)s)")
    add("--memory-gb", type=float, help="bound on a job's memory (default: its share of 80 %% of all)")
    add("--profile", help="a Snakemake profile, such as study/cluster/slurm: where jobs run, and how many at once")
    add("--dry-run", action="store_true", help="only list what is done and what will run")
    add("--force", action="store_true", help="run finished jobs again")
    add_device(parser)
    options = parser.parse_args(arguments)
    workers, memory = options.workers, options.memory_gb
    if workers < 1 or (memory is not None and memory <= 0):
        parser.error("--workers and --memory-gb must be positive")
    if options.grid and (options.preset or options.notebooks or options.p):
        parser.error("--preset, --notebooks and -p are for the chapters; a grid file has its own")
    try:
        chapters = (options.preset or "smoke", options.notebooks, dict(options.p))
        jobs = read_grid(options.grid) if options.grid else study_jobs(*chapters)
    except BatchError as error:
        parser.error(str(error))
    batch = Batch(jobs, workers, options.force)
    for job in jobs if options.dry_run else ():
        print("done:  " if job in batch.done else "to run:", job.name)
    print(f"Jobs: {batch}", flush=True)
    if options.dry_run:
        return 0
    if batch.left:
        # At most four cores per job, so that one notebook does not take up a whole large machine.
        threads = int(os.environ.get("OMP_NUM_THREADS") or max(1, min(4, cores // workers)))
        memory = memory or 0.8 * psutil.virtual_memory().total / 1e9 / workers
        here = [f"--cores={workers * threads}", "--quiet=all", "--profile=none"]
        here = [f"--profile={options.profile}"] if options.profile else here
        # Each worker's first job has to import in any case; only later ones gain from a fork.
        with started(threads, options.profile, alone=len(batch.left) <= workers) as start:
            batch.run(here, threads, round(memory * 1000), start)
        print(f"Jobs: {batch}")
    batch.tell()
    return int(bool(batch.left or batch.failed))


if __name__ == "__main__":
    sys.exit(main())
