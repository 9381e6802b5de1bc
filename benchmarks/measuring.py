"""What the benchmarks beside `speed.py` share: medians, and a process of its own for every row of a table."""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

import pandas as pd
import torch

from study.interrupt import ANEW, interruptible

Row = dict[str, float | str]


def median_seconds(action: Callable[[], object], repeats: int) -> float:
    """Median over `repeats` calls after one to warm up."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def seconds_by_turns(actions: dict[str, Callable[[], object]], repeats: int) -> pd.DataFrame:
    """Seconds of each action (a column), taken by turns (a row each, the first left out), for ratios within a row."""
    rows = []
    for _ in range(repeats + 1):
        times = [time.perf_counter()]
        for action in actions.values():
            action()
            times.append(time.perf_counter())
        rows.append([after - before for before, after in pairwise(times)])
    return pd.DataFrame(rows[1:], columns=list(actions))


def peak_mb() -> float:
    """Largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def table(
    file: str, cases: Iterable[tuple], measure: Callable[..., Row], finish: Callable[[pd.DataFrame], pd.DataFrame]
) -> None:
    """The command line of a benchmark: measure every case in a process of its own, print and keep the table.

    Args:
        file: the benchmark's, whose table lies beside it.
        cases: the arguments of `measure` before the number of repeats, each an int or a str.
        measure: one row of the table.
        finish: adds what is computed from several rows.
    """
    parser = argparse.ArgumentParser(description=f"{Path(file).name}: see its docstring.")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--one", type=int, metavar="CASE", help="measure that case in this process, print JSON")
    arguments = parser.parse_args()
    cases = list(cases)
    if arguments.one is not None:
        print(json.dumps(measure(*cases[arguments.one], arguments.repeats)))
        return
    sys.exit(interruptible(lambda: _table(file, cases, finish, arguments.repeats), ANEW))


def _table(file: str, cases: list[tuple], finish: Callable[[pd.DataFrame], pd.DataFrame], repeats: int) -> None:
    rows = []
    for number, _ in enumerate(cases):
        command = [sys.executable, file, "--one", str(number), "--repeats", str(repeats)]
        rows.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
        print(rows[-1], flush=True)
    frame = finish(pd.DataFrame(rows))
    frame.to_csv(Path(file).with_suffix(".csv"), index=False, float_format="%.4g")
    print(f"\n{torch.get_num_threads()} threads, torch {torch.__version__}")
    print(frame.to_string(index=False, float_format="%.3g"))
