"""Where the time of a step goes: matrix products, means over neighbours, the optimiser, all other operations, the rest.

    python benchmarks/shares.py [--repeats 10]

PyTorch's profiler notes the seconds of every operation, without those of the operations that it calls. The rest of a
step is `between` them: Python, and what the profiler itself costs. So the shares are those of profiled steps, which
take some tenths longer where operations are short. Training steps and evaluations take turns, as in `speed.py`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import pandas as pd
from measuring import Row, table
from pretraining import run_of
from speed import CASES, our_epoch, setting
from torch.profiler import ProfilerActivity, profile

KINDS = {
    "products": ("aten::mm", "aten::addmm", "aten::bmm"),
    "means": ("aten::_sparse_mm_reduce_impl",),
    "optimiser": ("aten::_fused_adamw_",),
}
PRETRAINING = "pretraining-128"
STEPS = [(name, what) for name in CASES for what in ("training step", "evaluation")] + [(PRETRAINING, "training step")]


def profiled(action: Callable[[], object]) -> dict[str, float]:
    """Shares of one call by kind, which sum to 1, and how many `operations` it starts."""
    with profile(activities=[ProfilerActivity.CPU]) as noted:
        start = time.perf_counter()
        action()
        seconds = time.perf_counter() - start
    events = [event for event in noted.key_averages() if event.key.startswith("aten::")]
    taken = {event.key: event.self_cpu_time_total / 1e6 for event in events}
    shares = {kind: sum(taken.pop(name, 0.0) for name in names) / seconds for kind, names in KINDS.items()}
    shares["other"] = sum(taken.values()) / seconds
    return shares | {"between": 1 - sum(shares.values()), "operations": sum(event.count for event in events)}


def in_turn(name: str, what: str) -> Iterator[Callable[[], object]]:
    """The requested step, again and again; what belongs between two steps is done before each."""
    if name == PRETRAINING:
        before, step = (lambda: None), run_of(128).step
    else:
        before, step = our_epoch(name, *setting(name))[:: 1 if what == "evaluation" else -1]
    while True:
        before()
        yield step


def measure(name: str, what: str, repeats: int) -> Row:
    """One row of the table: medians over `repeats` steps, after three to warm up."""
    steps = in_turn(name, what)
    for _ in range(3):
        next(steps)()
    found = [profiled(next(steps)) for _ in range(repeats)]
    medians = {column: statistics.median(row[column] for row in found) for column in found[0]}
    return {"case": name, "what": what, **medians}


if __name__ == "__main__":
    table(__file__, STEPS, measure, pd.DataFrame)
