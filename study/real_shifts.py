"""Real shifts: learnt in one place or until one year, tested in another.

    python -m study.real_shifts webkb airports --methods mlp gcn mixture --seeds 3

Every method has the same candidate settings and trainings; only the source's validation chooses, on the first seed. No
training sees any part of a target, see `stemlib.stress.domains`; features are fitted on the source. The results are
kept as `data/results/17_real-<name>.csv`. docs/real_shifts.md describes the data.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import pandas as pd
import torch

from stemlib.presets import PRESETS, Preset
from stemlib.stress.shifts import Buckets
from study.computing import add_device
from study.interrupt import interruptible
from study.method import Method
from study.methods import METHODS, named
from study.protocols import FAST, LARGE, MEDIUM, MOLECULES, NO_PENALTY, SMALL_MOLECULES, Protocol
from study.real_data import Shift, airports, arxiv, pubmed, scaffolds, webkb
from study.records import KEPT, save_results
from study.stress import StressTest

EXPERIMENT = "real_shifts"
COMPARED = ("mlp", "gcn", "sage", "gat", "acm", "ensemble", "averaged", "mixture", "routed", "filters", "stem")

OF_NODES = Protocol("", (), **MEDIUM)
OF_PAPERS = Protocol("", (), candidates=FAST, epochs=60, patience=60, **NO_PENALTY)
OF_MOLECULES = Protocol("", (), **MOLECULES | LARGE)
OF_FEW_MOLECULES = Protocol("", (), **SMALL_MOLECULES)
SHIFTS: dict[str, tuple[Callable[[], Iterator[Shift]], Protocol]] = {
    "webkb": (webkb, OF_NODES),
    "airports": (airports, OF_NODES),
    "pubmed": (pubmed, OF_NODES),
    **{name: (partial(arxiv, name=f"ogbn-{name}"), OF_PAPERS) for name in ("arxiv", "arxiv-predictions")},
    "hiv": (partial(scaffolds, name="hiv"), OF_MOLECULES),
    **{name: (partial(scaffolds, name=name), OF_FEW_MOLECULES) for name in ("bace", "bbbp", "esol", "lipo")},
}


def compared(
    shift: Shift, protocol: Protocol, preset: Preset, methods: Sequence[Method], seeds: Sequence[int]
) -> pd.DataFrame:
    """What each method scores where it was trained and where it was not.

    Args:
        shift: what to train and test on.
        protocol: gives candidates, batches, epochs.
        preset: the budget.
        methods: those that are trained.
        seeds: one run each; a seed also draws the split of a source's nodes.

    Returns:
        One row per target, method and seed: `task`, `target`, `method`, `seed`, and in per cent `score` there, `clean`
        at home, and `val`, the run's score on the source's validation part.
    """
    every = Buckets(torch.zeros(shift.source.instances), (), {"ID": torch.arange(shift.source.instances)})
    test = StressTest(shift.source, every, methods, seeds, EXPERIMENT, targets=shift.targets)
    found = test.tuned(replace(protocol, trained_alike=True), preset).scores(rates=())
    run, clean = ["task", "method", "seed", "val"], found.kind == "clean"
    at_home = found[clean].set_index(run).score.rename("clean")
    away = found[~clean].rename(columns={"condition": "target"}).join(at_home, on=run)
    return away[["task", "target", "method", "seed", "score", "clean", "val"]]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m study.real_shifts", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("names", nargs="+", choices=SHIFTS, metavar="NAME", help=", ".join(SHIFTS))
    add("--methods", nargs="+", choices=METHODS, default=COMPARED, metavar="METHOD", help=", ".join(METHODS))
    add("--preset", choices=KEPT, default="laptop", help="the budget (default: %(default)s)")
    add("--seeds", type=int, default=3, help="runs of each (default: %(default)s)")
    add_device(parser)
    options = parser.parse_args(arguments)
    preset = PRESETS[options.preset]
    for name in options.names:
        shifts, protocol = SHIFTS[name]
        rows = []
        for shift in shifts():
            rows.append(compared(shift, protocol, preset, named(preset, *options.methods), range(options.seeds)))
            print(f"{shift.source.name} to {', '.join(shift.targets)}: done", flush=True)
        print(f"{name}: {save_results(pd.concat(rows), f'17_real-{name}')}", flush=True)


if __name__ == "__main__":
    sys.exit(interruptible(main))
