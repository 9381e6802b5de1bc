"""Pretrain on a pool of graphs, and release the checkpoint.

python -m study.pretrain --preset laptop --release laptop
torchrun --nproc-per-node 4 -m study.pretrain --preset paper --device cuda
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stemlib.files import write_atomically
from stemlib.presets import PRESETS, ModelConfig, change, preset
from stemlib.training import processes
from stemlib.training.pretrain import pretrain
from study.computing import add_device, chosen
from study.interrupt import interruptible
from study.paths import DATA, RUNS
from study.pool import load_pool
from study.records import save_results

POINTS = 40  # of a released run's curves


def release(folder: Path, name: str) -> Path:
    """Put a finished run where notebooks start from it: `data/checkpoints/<name>`, a few MB.

    Its tables go to `data/results/05_<name>-<table>.csv`, thinned to `POINTS` points along the run: losses as every
    data set's means over a stretch of steps, token usage and expert load as they were at its end.
    """
    target = DATA / "checkpoints" / name
    for file in ("model.safetensors", "model.json"):
        with write_atomically(target / file) as temporary:
            shutil.copyfile(folder / file, temporary)
    losses = pd.read_csv(folder / "losses.csv")
    stretch = max(1, len(losses) // POINTS)
    losses["step"] = (losses.step // stretch + 1) * stretch
    save_results(losses.groupby(["step", "data_set"], sort=False, as_index=False).mean(), f"05_{name}-losses")
    for table in ("tokens", "experts"):
        frame = pd.read_csv(folder / f"{table}.csv")
        windows = frame.step.unique()[:: -max(1, frame.step.nunique() // POINTS)]  # the last one among them
        save_results(frame[frame.step.isin(windows)], f"05_{name}-{table}")
    return target


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m study.pretrain", description="Pretrain on a pool of graphs.")
    add = parser.add_argument
    add("--preset", choices=PRESETS, default="smoke", help="the budget (default: %(default)s)")
    add("--data", nargs="+", metavar="NAME", help="data sets (default: all that are at hand)")
    add("--width", type=int, help="of features (default: the preset's hidden width)")
    add_device(parser)
    add("--seed", type=int, default=0)
    add("--steps", type=int, help="instead of the preset's number")
    add("--release", metavar="NAME", help="put the checkpoint into data/checkpoints/NAME, its tables into data/results")
    for name in ("codebook", "schedule", "precision"):
        add(f"--{name}", help=f"see `{name}` in stemlib/presets.py")
    options = parser.parse_args(arguments)
    budget = preset(options.preset)
    given = {name: getattr(options, name) for name in ("steps", "schedule", "precision")}
    try:
        model = ModelConfig(hidden=budget.hidden, codes=min(128, budget.hidden))
        model = change(model, codebook=options.codebook or model.codebook)
        config = budget.pretrain(**{name: value for name, value in given.items() if value is not None})
        width = budget.hidden if options.width is None else options.width
        pool = load_pool(width, options.data, nodes=budget.nodes, whole=not budget.limited)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    with processes.joined(chosen()):
        folder = pretrain(pool, model, config, options.seed, chosen(), root=RUNS / "pretraining")
        if processes.rank() == 0:
            print(release(folder, options.release) if options.release else folder)
    return 0


if __name__ == "__main__":
    sys.exit(interruptible(main))
