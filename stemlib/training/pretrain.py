"""Pretraining on a pool of graphs: one loop for a CPU, a GPU and several processes, interruptible at any point.

A step's random numbers follow from seed, step and process, so that a killed run, which continues at its last saved
state, ends with the same bits. What it leaves in `<root>/<key>/seed-<s>/`: `losses.csv` (a row per step),
`tokens.csv` and `experts.csv` (rows per window of steps), and the checkpoint (`stemlib.training.pretrained`), whose
settings are written last and say that the run is finished.
"""

from __future__ import annotations

import dataclasses
import math
import resource
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from stemlib.files import installed_versions, run_key, write_atomically
from stemlib.paths import cache_folder
from stemlib.presets import ModelConfig, PretrainConfig
from stemlib.training import processes
from stemlib.training.journal import LOSSES, Journal
from stemlib.training.loop import Loop, cosine
from stemlib.training.pool import Pool
from stemlib.training.pretrain_batches import PretrainBatch, draw_batch, draws
from stemlib.training.pretrained import Pretrained, load_pretrained, pretrained_settings, save_pretrained
from stemlib.training.student import Outcome, Student


def learning_rate(step: int, steps: int, config: PretrainConfig) -> float:
    """The rate of a step, counted from 0.

    `cosine` falls from `lr` to 0 once over the run. `reference` is the authors': their period is a number of
    epochs, but their schedule moves with every batch, so that the rate is 0 at step `epochs`, `lr` again at twice
    that, and so on.
    """
    return config.lr * cosine(step, steps if config.schedule == "cosine" else config.epochs)


class Run:
    """A pretraining run: network, optimiser, journal, and the loop that keeps them.

    Args:
        pool, model, config, seed, device, start: see `pretrain`.
        file: of the state.

    Raises:
        ValueError: no objective has a weight; another architecture than the checkpoint's to start from; or several
            processes with batch norm, of which each has statistics of its own, or more of them than there is work for.
    """

    def __init__(
        self,
        pool: Pool,
        model: ModelConfig,
        config: PretrainConfig,
        seed: int,
        device: str,
        file: Path,
        start: Path | None = None,
    ) -> None:
        if not any(getattr(config, name) for name in LOSSES):
            raise ValueError(f"nothing to learn: all of {', '.join(LOSSES)} have weight 0")
        if model.norm == "batch" and processes.world() > 1:
            raise ValueError("norm='batch' needs one process: statistics are not shared; use norm='layer'")
        smallest = min(member.units for member in pool.members)
        if processes.world() > min(config.batch_size, smallest):
            raise ValueError(
                f"{processes.world()} processes need batches and data sets of at least as many nodes or molecules: "
                f"batch_size={config.batch_size}, the smallest data set has {smallest}"
            )
        self.pool, self.model, self.config, self.seed, self.device = pool, model, config, seed, device
        self.steps = config.steps or config.epochs * pool.epoch_steps(config.batch_size)
        torch.manual_seed(seed)
        network = Pretrained(model, pool.width) if start is None else load_pretrained(start)
        if (network.config, network.width) != (model, pool.width):
            raise ValueError(
                f"the checkpoint to start from is {network.config} of width {network.width}, "
                f"the run is {model} of width {pool.width}"
            )
        self.student = Student(network, config.teacher_decay).to(device).train()
        self.parameters = [value for value in self.student.parameters() if value.requires_grad]
        # The scheduler multiplies: with 1.0 in the optimiser, its factor is the rate, to the bit.
        self.optimiser = torch.optim.AdamW(self.parameters, 1.0, weight_decay=config.weight_decay, fused=True)
        self.schedule = LambdaLR(self.optimiser, lambda step: learning_rate(step, self.steps, config))
        codes = (model.heads, model.codes) if network.tokens else (0, 0)
        load = (len(pool.members), network.encoder.routed_layers, model.experts)
        self.journal = Journal(self.steps, config.log_every, codes, load)
        self.loop = Loop(
            file, student=self.student, optimiser=self.optimiser, schedule=self.schedule, journal=self.journal
        )
        if start is None and not self.loop.resumed:
            # One batch of every data set, the same in all processes.
            self.student.start_tokens([self.batch(member, self.steps + member) for member in range(len(pool.members))])
        self.parallel = processes.parallel(self.student)
        processes.wait()  # until all have read the state, which the first one will replace

    def batch(self, member: int, step: int, rank: int = 0, world: int = 1) -> PretrainBatch:
        """A process's part of a step's batch."""
        return draw_batch(
            self.pool.members[member],
            self.config.batch_size,
            [self.config.fanout] * self.model.layers,
            self.config.edge_share if self.config.edge or self.config.edge_feature else 0.0,
            draws(self.seed, step, rank, world),
            layered=bool(self.student.network.encoder.reach),
        ).to(self.device)

    def step(self) -> dict[str, float]:
        """Take the next step; returns its losses, of all processes together, and writes them down."""
        number, config = self.journal.done, self.config
        member = self.pool.drawn(number, self.seed)
        batch = self.batch(member, number, processes.rank(), processes.world())
        outcome = self.parallel(batch, config)
        if not outcome.losses:
            where = f"step {number}: {self.pool.names[member]}"
            raise ValueError(f"{where} has no data for the objectives with a weight; leave it out of the pool")
        loss, values = self._together(outcome)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, config.clip)
        row = {"rate": self.schedule.get_last_lr()[0], "gradient_norm": float(norm)} | values
        row["loss"] = sum(getattr(config, name) * value for name, value in values.items())
        if not math.isfinite(row["loss"] + row["gradient_norm"]):
            raise FloatingPointError(
                f"step {number} on {self.pool.names[member]}: loss {row['loss']:g}, gradient norm "
                f"{row['gradient_norm']:g}; lower the learning rate"
            )
        self.optimiser.step()
        self.schedule.step()
        self.student.update_teacher()
        processes.average_codes(self.student.network.tokens)
        self._note(member, row, outcome, len(batch.seeds))
        return row

    def _together(self, outcome: Outcome) -> tuple[Tensor, dict[str, float]]:
        """This process's share of the weighted loss, whose gradients average to the whole's; the whole's terms.

        A term is a mean over a number of items that differs from process to process, and counts accordingly.
        """
        counts, losses = outcome.counts, outcome.losses
        mine = [(counts[name], counts[name] * losses[name].item()) if name in losses else (0, 0) for name in LOSSES]
        sums = processes.total(torch.tensor(mine, dtype=torch.double, device=self.device)).tolist()
        whole = {name: (count, total / count) for name, (count, total) in zip(LOSSES, sums, strict=True) if count}
        loss = sum(
            getattr(self.config, name) * (counts[name] * processes.world() / whole[name][0]) * value
            for name, value in losses.items()
        )
        return loss, {name: mean for name, (_, mean) in whole.items()}

    def _note(self, member: int, row: dict[str, float], outcome: Outcome, seeds: int) -> None:
        """Write down a step, token usage and expert load summed over processes."""
        journal = self.journal
        codes, load = torch.zeros_like(journal.codes[0]), torch.zeros_like(journal.load[0, 0])
        if outcome.tokens is not None:
            codes = F.one_hot(outcome.tokens, self.model.codes).sum(0)
        if outcome.gate_logits:
            load = torch.stack([logits.softmax(-1).sum(0) for logits in outcome.gate_logits]).double()
        sums = (codes, load, torch.tensor(seeds))
        codes, load, nodes = (processes.total(value.to(self.device)).cpu() for value in sums)
        journal.note(member, row, codes, load, int(nodes))


def pretraining_folder(
    pool: Pool,
    model: ModelConfig,
    config: PretrainConfig,
    seed: int,
    start: Path | None = None,
    root: Path | None = None,
    device: str = "cpu",
) -> Path:
    """Where a run's checkpoint is or will be; see `pretrain`."""
    settings = {"model": dataclasses.asdict(model), "pretrain": dataclasses.asdict(config)}
    if start is not None:
        settings["start"] = pretrained_settings(start)["sha256"]
    return (root or cache_folder() / "pretraining") / run_key(settings, "", pool.checksum, device) / f"seed-{seed}"


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
        ValueError: settings that make no sense together, or a damaged state.
        FloatingPointError: the loss is not finite; says where.
    """
    folder = pretraining_folder(pool, model, config, seed, start, root, device)
    if (folder / "model.json").is_file():
        return folder
    state_file = folder / "training.checked"
    run = Run(pool, model, config, seed, device, state_file, start)
    for bar in run.loop.steps(run.journal.done, run.steps, "pretraining"):
        row = run.step()
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
