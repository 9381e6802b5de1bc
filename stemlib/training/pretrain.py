"""Pretraining on a pool of graphs: one loop for a CPU, a GPU and several processes, interruptible at any point.

A step's random numbers follow from seed, step and process, so that a killed run, which continues at its last saved
state, ends with the same bits. What it leaves in `<root>/<key>/seed-<s>/`: `losses.csv` (a row per step),
`tokens.csv` and `experts.csv` (rows per window of steps), and the checkpoint (`stemlib.training.pretrained`), whose
settings are written last and say that the run is finished.
"""

from __future__ import annotations

import dataclasses
import resource
from pathlib import Path

import torch

from stemlib.cache import run_key
from stemlib.files import installed_versions, write_atomically
from stemlib.paths import cache_folder
from stemlib.presets import ModelConfig, PretrainConfig
from stemlib.training import processes
from stemlib.training.pool import Pool
from stemlib.training.pretrain_run import Run
from stemlib.training.pretrained import pretrained_settings, save_pretrained

STEPS_UNSEEN = 20  # that a GPU may be ahead of what is checked and shown


def pretraining_folder(
    pool: Pool,
    model: ModelConfig,
    config: PretrainConfig,
    seed: int,
    start: Path | None = None,
    root: Path | None = None,
    device: torch.device | str = "cpu",
) -> Path:
    """Where a run's checkpoint is or will be; see `pretrain`."""
    settings = {"model": dataclasses.asdict(model), "pretrain": dataclasses.asdict(config)}
    if start is not None:
        settings["start"] = pretrained_settings(start)["sha256"]
    return (
        (root or cache_folder() / "pretraining")
        / run_key(settings, "", pool.checksum, torch.device(device).type)
        / f"seed-{seed}"
    )


def pretrain(
    pool: Pool,
    model: ModelConfig,
    config: PretrainConfig,
    seed: int = 0,
    device: torch.device | str = "cpu",
    start: Path | None = None,
    root: Path | None = None,
) -> Path:
    """Pretrain encoder and tokens, or continue a killed run, or do nothing if the run is finished.

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
        ValueError: settings that make no sense together, or a damaged state.
        FloatingPointError: the loss is not finite; says where.
    """
    folder = pretraining_folder(pool, model, config, seed, start, root, device)
    if (folder / "model.json").is_file():
        return folder
    state_file = folder / "training.checked"
    run = Run(pool, model, config, seed, device, state_file, start)
    every = 1 if run.device.type == "cpu" else STEPS_UNSEEN
    for bar in run.loop.steps(run.journal.done, run.steps, "pretraining", run.checked):
        run.step()
        if run.journal.done % every == 0 or run.journal.done == run.steps:
            row = run.checked()
            bar.set_postfix(loss=f"{row['loss']:.3g}", rate=f"{row['rate']:.1e}", refresh=False)
    if processes.rank() == 0:
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
        "data": {member.task.name: member.weight for member in run.pool.members},
        "data_checksum": run.pool.checksum,
        "pretrain": dataclasses.asdict(run.config),
        "seed": run.seed,
        "steps": run.steps,
        "processes": processes.world(),
        "seconds": round(run.loop.seconds, 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "versions": installed_versions(),
    }
    save_pretrained(run.student.network, folder, about)
