"""Pretraining on a pool of graphs: one loop for a CPU, a GPU and several processes, interruptible at any point.

    python -m stemlib.pretrain --preset laptop --release laptop
    torchrun --nproc-per-node 4 -m stemlib.pretrain --preset paper --device cuda

A step's random numbers follow from seed, step and process, so that a killed run, which continues at its last saved
state, ends with the same bits. What it leaves in `runs/pretraining/<key>/seed-<s>/`: `losses.csv` (a row per step),
`tokens.csv` and `experts.csv` (rows per window of steps), and the checkpoint (`stemlib.pretraining.pretrained`), whose
settings are written last and say that the run is finished.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from stemlib.atomic import write_atomically
from stemlib.finetune import quiet
from stemlib.paths import DATA, RUNS
from stemlib.presets import PRESETS, ModelConfig, PretrainConfig, change, preset
from stemlib.pretraining import processes
from stemlib.pretraining.pool import Pool, load_pool
from stemlib.pretraining.pretrained import pretrained_settings, save_pretrained
from stemlib.pretraining.run import Run
from stemlib.records import installed_versions, run_key, save_results

SECONDS_BETWEEN_STATES = 15.0
POINTS = 40  # of a released run's curves


def pretraining_folder(
    pool: Pool, model: ModelConfig, config: PretrainConfig, seed: int, start: Path | None = None
) -> Path:
    """Where a run's checkpoint is or will be."""
    settings = {"model": dataclasses.asdict(model), "pretrain": dataclasses.asdict(config)}
    if start is not None:
        settings["start"] = pretrained_settings(start)["sha256"]
    return RUNS / "pretraining" / run_key(settings, "", pool.checksum) / f"seed-{seed}"


def pretrain(
    pool: Pool,
    model: ModelConfig,
    config: PretrainConfig,
    seed: int = 0,
    device: str = "cpu",
    start: Path | None = None,
) -> Path:
    """Pretrain encoder and tokens, or continue a killed run, or do nothing where the run is finished.

    Several processes, each of which calls this inside `stemlib.pretraining.processes.joined`, train one model together.

    Args:
        pool: what to pretrain on; its features' width is the model's input.
        model: the architecture.
        config: how.
        seed: of weights and all draws.
        device: `cpu`, or `cuda` for one GPU (in several processes, one for each).
        start: folder of a checkpoint to go on from, of the same architecture, with a fresh teacher and optimiser.

    Returns:
        The folder of the checkpoint, for `stemlib.pretraining.pretrained.from_pretrained`.

    Raises:
        ValueError: settings that make no sense together.
        FloatingPointError: the loss is not finite; says where.
    """
    folder = pretraining_folder(pool, model, config, seed, start)
    if (folder / "model.json").is_file():
        return folder
    state_file = folder / "training.safetensors"
    run = Run(pool, model, config, seed, device, state_file, start)
    first, journal = processes.rank() == 0, run.journal
    since_state = since = time.monotonic()
    bar = tqdm(
        total=run.steps, initial=journal.done, desc="pretraining", leave=False, disable=quiet() or not first
    )
    while journal.done < run.steps:
        row = run.step()
        now = time.monotonic()
        journal.seconds += now - since
        since = now
        bar.update()
        bar.set_postfix(loss=f"{row['loss']:.3g}", rate=f"{row['rate']:.1e}")
        if first and now - since_state > SECONDS_BETWEEN_STATES:
            run.keep(state_file)
            since_state = now
    bar.close()
    if first:
        _finish(run, folder)
        state_file.unlink(missing_ok=True)
    processes.wait()
    return folder


def _finish(run: Run, folder: Path) -> None:
    """Write tables, then weights, then settings."""
    names, journal = run.pool.names, run.journal
    tables = {"losses": journal.losses(names), "tokens": journal.usage(), "experts": journal.experts(names)}
    for name, frame in tables.items():
        with write_atomically(folder / f"{name}.csv") as temporary:
            frame.to_csv(temporary, index=False)
    about = {
        "data": dict(zip(names, (member.weight for member in run.pool.members), strict=True)),
        "data_checksum": run.pool.checksum,
        "pretrain": dataclasses.asdict(run.config),
        "seed": run.seed,
        "steps": run.steps,
        "processes": processes.world(),
        "seconds": round(journal.seconds, 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "versions": installed_versions(),
    }
    save_pretrained(run.student.network, folder, about)


def release(folder: Path, name: str) -> Path:
    """Put a finished run where notebooks start from it: `data/checkpoints/<name>`, a few MB.

    Its tables go to `data/results/05_<name>-<table>.csv`, thinned to `POINTS` points along the run: losses as means of
    every data set over a stretch of steps, token usage and expert load as they were at its end.
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
    parser = argparse.ArgumentParser(
        prog="python -m stemlib.pretrain", description="Pretrain on a pool of graphs."
    )
    add = parser.add_argument
    add("--preset", choices=PRESETS, default="smoke", help="the budget (default: %(default)s)")
    add("--data", nargs="+", metavar="NAME", help="data sets (default: all that are at hand)")
    add("--width", type=int, help="of features (default: the preset's hidden width)")
    add("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
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
    with processes.joined(options.device):
        folder = pretrain(pool, model, config, options.seed, options.device)
        if processes.rank() == 0:
            print(release(folder, options.release) if options.release else folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
