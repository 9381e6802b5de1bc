"""What the benchmarks share: medians, and a process of its own for every row of a table."""

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
from typing import Any

import pandas as pd
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, mm_flop

from study.interrupt import ANEW, interruptible

Row = dict[str, float | str]
CPU = torch.device("cpu")


def median_seconds(action: Callable[[], object], repeats: int) -> float:
    """Median over `repeats` calls after one to warm up."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def seconds_by_turns(actions: dict[str, Callable[[], object]], repeats: int) -> pd.DataFrame:
    """Seconds of each action (a column), taken in turns (a row each, the first left out), for ratios within a row."""
    rows = []
    for _ in range(repeats + 1):
        times = [time.perf_counter()]
        for action in actions.values():
            action()
            times.append(time.perf_counter())
        rows.append([after - before for before, after in pairwise(times)])
    return pd.DataFrame(rows[1:], columns=list(actions))


class Traffic(TorchDispatchMode):
    """Counts the `bytes` that PyTorch's operations read and write; views cost nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **kwargs or {})
        if not func.is_view:
            tensors = [one for one in tree_leaves((args, kwargs, found)) if isinstance(one, torch.Tensor)]
            self.bytes += sum(one.numel() * one.element_size() for one in tensors if one.layout == torch.strided)
        return found


def traffic(action: Callable[[], object]) -> float:
    """Gigabytes that `action` reads from and writes to memory, if none of it were in a cache."""
    with Traffic() as counter:
        action()
    return counter.bytes / 1e9


def _dense(a: torch.Tensor, b: torch.Tensor, **_: Any) -> int:
    # On a GPU a sparse product is the same operation, and would be counted as if no entry were zero.
    return mm_flop(a.shape, b.shape) if a.layout == b.layout == torch.strided else 0


_dense._get_raw = True  # the counter gives the tensors, not their shapes


def flops(action: Callable[[], object]) -> float:
    """Floating-point operations, in 10^9, of the dense matrix products that `action` does."""
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.mm: _dense}) as counter:
        action()
    counts = counter.get_flop_counts()["Global"]
    return sum(count for operation, count in counts.items() if "sparse" not in str(operation)) / 1e9


def synchronised(device: torch.device) -> float:
    """The time, once a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def matrix_peak(size: int = 4096, repeats: int = 5, device: torch.device = CPU, dtype: Any = torch.float32) -> float:
    """GFLOP/s of the best of several matrix products."""
    a, b = torch.randn(2, size, size, device=device, dtype=dtype)
    return 2 * size**3 / _best(lambda: a @ b, repeats, device) / 1e9


def bandwidth(megabytes: int = 512, repeats: int = 5, device: torch.device = CPU) -> float:
    """GB/s of the best of several copies; a copied byte is read and written."""
    a = torch.ones(megabytes * 2**18, device=device)  # what was never written is not read from memory
    b = torch.empty_like(a).copy_(a)
    return 2 * a.numel() * 4 / _best(lambda: b.copy_(a), repeats, device) / 1e9


def _best(action: Callable[[], object], repeats: int, device: torch.device) -> float:
    seconds = []
    for _ in range(repeats):
        start = synchronised(device)
        action()
        seconds.append(synchronised(device) - start)
    return min(seconds)


def peak_mb() -> float:
    """Peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def table(
    file: str, cases: Iterable[tuple], measure: Callable[..., Row], finish: Callable[[pd.DataFrame], pd.DataFrame]
) -> None:
    """The command line of a benchmark: measure every case in a process of its own, print and keep the table.

    Args:
        file: the benchmark's; its table is kept beside it.
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
