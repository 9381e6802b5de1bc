"""Pretraining on a pool of graphs: one loop for a CPU, a GPU and several processes, interruptible at any point.

A step's random numbers follow from seed, step and process, so that a killed run, which continues at its last saved
state, ends with the same bits. What it leaves in `<root>/<key>/seed-<s>/`: `losses.csv` (a row per step),
`tokens.csv` and `experts.csv` (rows per window of steps), and the checkpoint (`stemlib.training.pretrained`), whose
settings are written last and say that the run is finished.
"""

from __future__ import annotations

import dataclasses
import resource
import time
from pathlib import Path

from tqdm.auto import tqdm

from stemlib.files import installed_versions, quiet, run_key, write_atomically
from stemlib.paths import cache_folder
from stemlib.presets import ModelConfig, PretrainConfig
from stemlib.training import processes
from stemlib.training.pool import Pool
from stemlib.training.pretrain_run import Run
from stemlib.training.pretrained import pretrained_settings, save_pretrained

SECONDS_BETWEEN_STATES = 15.0


def pretraining_folder(
    pool: Pool, model: ModelConfig, config: PretrainConfig, seed: int, start: Path | None = None, root: Path | None = None
) -> Path:
    """Where a run's checkpoint is or will be."""
    settings = {"model": dataclasses.asdict(model), "pretrain": dataclasses.asdict(config)}
    if start is not None:
        settings["start"] = pretrained_settings(start)["sha256"]
    return (root or cache_folder() / "pretraining") / run_key(settings, "", pool.checksum) / f"seed-{seed}"


def pretrain(
    pool: Pool,
    model: ModelConfig,
    config: PretrainConfig,
    seed: int = 0,
    device: str = "cpu",
    start: Path | None = None,
    root: Path | None = None,
) -> Path:
    """Pretrain encoder and tokens, or continue a killed run, or do nothing where the run is finished.

    Several processes, each of which calls this inside `stemlib.training.processes.joined`, train one model together.

    Args:
        pool: what to pretrain on; its features' width is the model's input.
        model: the architecture.
        config: how.
        seed: of weights and all draws.
        device: `cpu`, or `cuda` for one GPU (in several processes, one for each).
        start: folder of a checkpoint to go on from, of the same architecture, with a fresh teacher and optimiser.
        root: folder of all runs; None for the user's cache.

    Returns:
        The folder of the checkpoint, for `stemlib.training.pretrained.from_pretrained`.

    Raises:
        ValueError: settings that make no sense together.
        FloatingPointError: the loss is not finite; says where.
    """
    folder = pretraining_folder(pool, model, config, seed, start, root)
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
