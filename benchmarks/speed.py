"""Seconds per training step and per evaluation, memory, and share of this machine's matrix-product peak.

    python benchmarks/speed.py [--cases cora-768 cora-128 ...] [--repeats 7]

Every case runs in a process of its own, so that peak memory is its own. Floating-point operations are
counted by torch on the step itself; the peak is the best of several 4096^3 float32 products in this run.
The table is printed and kept in `benchmarks/speed.csv`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from copy import copy
from pathlib import Path

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from stemlib.checkpoints import build
from stemlib.finetune import predict, train_epoch
from stemlib.graphs import built_in
from stemlib.messages import plain
from stemlib.presets import ModelConfig, TrainConfig
from stemlib.splits import per_class_split
from stemlib.tasks import Task

# name: nodes, in-degree, width of features and of the hidden layers
CASES = {
    "cora-768": (2708, 4, 768),
    "cora-128": (2708, 4, 128),
    "built-in-20k": (20_000, 10, 128),
    "built-in-170k": (170_000, 14, 128),
}
CLASSES = 7


def task_of(nodes: int, degree: int, width: int) -> Task:
    """A built-in graph of that size with 20 training nodes per class, 500 to validate, the rest to test."""
    task = built_in(nodes, classes=CLASSES, degree=degree, noise_features=width - CLASSES)
    return task.with_split(per_class_split(task.labels, seed=0, name="public"))


def median_seconds(action: Callable[[], object], repeats: int) -> float:
    """Median over `repeats` calls after two to warm up."""
    seconds = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[2:])


def flops(action: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products that `action` does."""
    with FlopCounterMode(display=False) as counter:
        action()
    return counter.get_total_flops()


def measure(name: str, repeats: int) -> dict[str, float | str]:
    """One row of the table."""
    nodes, degree, width = CASES[name]
    task = task_of(nodes, degree, width)
    split, train = task.split("public"), TrainConfig()
    torch.manual_seed(0)
    model = build(ModelConfig(hidden=width), task)
    optimiser = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad])
    shuffle = torch.Generator().manual_seed(0)

    def step(task: Task = task) -> None:
        train_epoch(model, task, split, train, optimiser, shuffle)

    def evaluation(task: Task = task) -> None:
        predict(model, task)

    row: dict[str, float | str] = {"case": name, "nodes": nodes, "edges": task.graph.num_edges, "width": width}
    row["train_s"], row["evaluate_s"] = median_seconds(step, repeats), median_seconds(evaluation, repeats)
    row["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    # The counter takes a sparse product for a dense one; on plain edges the same step has dense products only.
    graph = copy(task.graph)
    graph.edge_index = plain(graph.edge_index)
    unsorted = dataclasses.replace(task, graph=graph)
    row["train_gflop"] = flops(lambda: step(unsorted)) / 1e9
    row["evaluate_gflop"] = flops(lambda: evaluation(unsorted)) / 1e9
    return row


def matrix_peak(size: int = 4096, repeats: int = 5) -> float:
    """GFLOP/s of the best of several float32 matrix products."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--one", choices=CASES, help="measure one case in this process and print it as JSON")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.repeats)))
        return
    peak, rows = matrix_peak(), []
    for name in arguments.cases:
        command = [sys.executable, __file__, "--one", name, "--repeats", str(arguments.repeats)]
        rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        print(f"{name}: {rows[-1]['train_s']:.3f} s a training step", flush=True)
    table = pd.DataFrame(rows)
    for what in ("train", "evaluate"):
        table[f"{what}_peak_share"] = table[f"{what}_gflop"] / table[f"{what}_s"] / peak
    table.to_csv(Path(__file__).with_suffix(".csv"), index=False, float_format="%.4g")
    print(f"\n{torch.get_num_threads()} threads, matrix-product peak {peak:.0f} GFLOP/s, torch {torch.__version__}")
    print(table.to_string(index=False, float_format="%.3g"))


if __name__ == "__main__":
    main()
