"""The reference's size from end to end: pretrain 768 wide on the whole pool, then fine-tune on the paper's benchmarks.

    python -m study.paper --estimate        # how long and how much memory on this device, measured on a few steps
    python -m study.paper --device cuda     # both; after an interruption the same command goes on

This is `study.pretrain --preset paper --release paper`, then `study.transfer` from that checkpoint. Of the nine
benchmarks, those are taken whose raw files are available.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from stemlib.data.public import available
from stemlib.presets import PRESETS, ModelConfig, Preset, preset
from stemlib.stress.conditions import shift_protocol
from stemlib.stress.shifts import instance_covariate, tail_buckets
from stemlib.training.pretrain_run import Run
from study import pretrain, transfer
from study.computing import add_device, chosen
from study.forecast import forecast
from study.interrupt import interruptible
from study.methods import named
from study.pool import at_hand, load_pool
from study.protocols import protocol_of
from study.records import KEPT

# The paper's nine; topics named by a language model replace ogbn-arxiv's features where these are unavailable.
NINE = [
    "cora", "pubmed", "wikics", "ogbn-arxiv", "ogbn-arxiv-predictions",
    "wn18rr", "fb15k237", "hiv", "pcba", "chembl-activities",
]  # fmt: skip
STEPS = 5  # of pretraining that are timed, after one to warm up


def benchmarks() -> list[str]:
    """Those of `NINE` that are at hand, with ogbn-arxiv in one form."""
    there = [name for name in NINE if name in available()]
    return [name for name in there if name != "ogbn-arxiv-predictions" or "ogbn-arxiv" not in there]


def pretraining_estimate(budget: Preset, data: Sequence[str] | None) -> tuple[int, float]:
    """Steps of the whole run, and seconds of one step, the mean over steps on drawn data sets."""
    pool = load_pool(budget.hidden, data, nodes=budget.nodes, whole=not budget.limited)
    model = ModelConfig(hidden=budget.hidden, codes=min(128, budget.hidden))
    run = Run(pool, model, budget.pretrain(), 0, chosen(), Path("not kept"))
    run.step()
    run.checked()
    start = time.perf_counter()
    for _ in range(STEPS):
        run.step()
    run.checked()  # waits for a GPU
    return run.steps, (time.perf_counter() - start) / STEPS


def fine_tuning_estimate(budget: Preset, name: str, seeds: int) -> float:
    """The most seconds that one data set's runs take: all that `study.transfer` compares, with every candidate once."""
    protocol, task = protocol_of(name), transfer.unit_task(name, budget)
    buckets = tail_buckets(instance_covariate(task, transfer.COVARIATE))
    runs = [shift_protocol(task, buckets, seed)[:2] for seed in range(seeds)]
    runs = [(inside, split, seed) for seed, (inside, split) in enumerate(runs)]
    whole, *rivals = (protocol.methods(each, budget)[0] for each in named(budget, "stem", "routed", *transfer.RIVALS))
    runs += runs[:1] * (len(protocol.candidates) - 1)
    return 2 * forecast("none", runs, [whole]) + forecast("none", runs, rivals)


def estimate(budget: Preset, names: Sequence[str], data: Sequence[str] | None, seeds: int) -> None:
    """Print what all of it takes on this device."""
    where = chosen()
    steps, step = pretraining_estimate(budget, data)
    total = steps * step
    print(f"pretraining: {steps} steps of {step:.2f} s, {total / 3600:.1f} hours, {memory(where)}", flush=True)
    for name in names:
        seconds = fine_tuning_estimate(budget, name, seeds)
        total += seconds
        print(f"{name}: at most {seconds / 3600:.2f} hours, {memory(where)}", flush=True)
    card = torch.cuda.get_device_name(where) if where.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"all on {card}: at most {total / 3600:.1f} hours; with other numbers of labels as long again for each")


def memory(where: torch.device) -> str:
    """The most memory that was used so far."""
    if where.type == "cuda":
        return f"{torch.cuda.max_memory_allocated(where) / 1e9:.1f} GB of the GPU's memory so far"
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB of memory so far"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m study.paper", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--estimate", action="store_true", help="only measure a few steps, and say how long all takes")
    add("--preset", choices=PRESETS, default="paper", help="another budget (default: %(default)s)")
    add("--names", nargs="+", metavar="NAME", help="benchmarks (default: of the nine those at hand)")
    add("--data", nargs="+", metavar="NAME", help="pool of pretraining (default: all that is at hand)")
    add("--seeds", type=int, default=5, help="runs of each kind (default: %(default)s)")
    add_device(parser)
    options = parser.parse_args(arguments)
    names = options.names or benchmarks()
    if options.estimate:
        estimate(preset(options.preset), names, options.data or at_hand(options.preset == "paper"), options.seeds)
        return 0
    if options.preset not in KEPT:
        parser.error(f"results are kept of {' and '.join(KEPT)}; --preset {options.preset} is for --estimate")
    data = ["--data", *options.data] if options.data else []
    pretrain.main(["--preset", options.preset, "--release", options.preset, *data])
    transfer.main([*names, "--preset", options.preset, "--seeds", str(options.seeds)])
    return 0


if __name__ == "__main__":
    sys.exit(interruptible(main))
