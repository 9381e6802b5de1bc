"""The steps of a pretraining run, and the state that lets a killed one continue with the same bits."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stemlib.files import load_state, save_state
from stemlib.presets import ModelConfig, PretrainConfig
from stemlib.training import processes
from stemlib.training.journal import LOSSES, Journal
from stemlib.training.pool import Pool
from stemlib.training.pretrain_batches import PretrainBatch, draw_batch, draws
from stemlib.training.pretrained import load_pretrained
from stemlib.training.student import Outcome, Student


def learning_rate(step: int, steps: int, config: PretrainConfig) -> float:
    """The rate of a step, counted from 0.

    `cosine` falls from `lr` to 0 once over the run. `reference` is the authors': their period is a number of
    epochs, but their schedule moves with every batch, so that the rate is 0 at step `epochs`, `lr` again at twice
    that, and so on.
    """
    period = steps if config.schedule == "cosine" else config.epochs
    return config.lr * 0.5 * (1 + math.cos(math.pi * step / period))


class Run:
    """A pretraining run: network, optimiser and journal.

    Args:
        pool, model, config, seed, device: see `stemlib.training.pretrain.pretrain`.
        file: of a state that `keep` wrote, to continue from where it is there.
        start: see `stemlib.training.pretrain.pretrain`.

    Raises:
        ValueError: no objective has a weight; or several processes with batch norm, of which each has statistics of
            its own, or more of them than there is work for.
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
        sizes = [
            member.task.instances if member.task.kind == "graph" else member.nodes for member in pool.members
        ]
        if processes.world() > min(config.batch_size, *sizes):
            raise ValueError(
                f"{processes.world()} processes need batches and data sets of at least as many nodes or molecules: "
                f"batch_size={config.batch_size}, the smallest data set has {min(sizes)}"
            )
        self.pool, self.model, self.config, self.seed, self.device = pool, model, config, seed, device
        self.steps = config.steps or config.epochs * pool.epoch_steps(config.batch_size)
        torch.manual_seed(seed)
        self.student = Student(model, pool.width)
        if start is not None:
            self.student.start_from(load_pretrained(start))
        self.student.to(device).train()
        self.parameters = [value for value in self.student.parameters() if value.requires_grad]
        self.optimiser = torch.optim.AdamW(
            self.parameters, config.lr, weight_decay=config.weight_decay, fused=True
        )
        encoder = self.student.network.encoder
        codes = (model.heads, model.codes) if self.student.network.tokens else (0, 0)
        load = (len(pool.members), encoder.routed_layers, model.experts)
        self.journal = Journal.blank(self.steps, config.log_every, codes, load)
        if file.is_file():
            state = load_state(file)
            self.student.load_state_dict(state["student"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.journal = Journal(**state["journal"])
        elif start is None:
            self.start_tokens()
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

    def start_tokens(self) -> None:
        """Start the codebooks from one batch of every data set, the same in all processes."""
        batches = [self.batch(member, self.steps + member) for member in range(len(self.pool.members))]
        self.student.start_tokens(batches)

    def step(self) -> dict[str, float]:
        """Take the next step; returns its losses, of all processes together, and writes them down."""
        number, config = self.journal.done, self.config
        member = self.pool.drawn(number, self.seed)
        batch = self.batch(member, number, processes.rank(), processes.world())
        rate = learning_rate(number, self.steps, config)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        outcome = self.student(batch, config)
        if not outcome.losses:
            raise ValueError(
                f"step {number}: {self.pool.names[member]} has no data for the objectives that have a weight; "
                "leave it out of the pool"
            )
        loss, values = self._together(outcome)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        processes.average_gradients(self.parameters)
        norm = nn.utils.clip_grad_norm_(self.parameters, config.clip)
        row = {"rate": rate, "gradient_norm": float(norm)} | values
        row["loss"] = sum(getattr(config, name) * value for name, value in values.items())
        if not math.isfinite(row["loss"] + row["gradient_norm"]):
            raise FloatingPointError(
                f"step {number} on {self.pool.names[member]}: loss {row['loss']:g}, gradient norm "
                f"{row['gradient_norm']:g}; lower the learning rate"
            )
        self.optimiser.step()
        self.student.update_teacher(config.teacher_decay)
        processes.average_codes(self.student.network.tokens)
        self._note(member, row, outcome, len(batch.seeds))
        return row

    def _together(self, outcome: Outcome) -> tuple[Tensor, dict[str, float]]:
        """This process's share of the weighted loss, whose gradients average to the whole's; the whole's terms.

        A term is a mean over a number of items that differs from process to process, and counts accordingly.
        """
        counts = torch.tensor([outcome.counts.get(name, 0) for name in LOSSES], dtype=torch.double)
        means = torch.tensor(
            [outcome.losses[name].item() if name in outcome.losses else 0.0 for name in LOSSES], dtype=torch.double
        )
        both = torch.stack([counts, counts * means]).to(self.device)
        all_counts, all_sums = processes.total(both).tolist()
        whole = dict(zip(LOSSES, all_counts, strict=True))
        loss = sum(
            getattr(self.config, name) * (outcome.counts[name] * processes.world() / whole[name]) * value
            for name, value in outcome.losses.items()
        )
        return loss, {
            name: total / whole[name] for name, total in zip(LOSSES, all_sums, strict=True) if whole[name]
        }

    def _note(self, member: int, row: dict[str, float], outcome: Outcome, seeds: int) -> None:
        """Write down a step, token usage and expert load summed over processes."""
        journal = self.journal
        codes, load = torch.zeros_like(journal.codes[0]), torch.zeros_like(journal.load[0, 0])
        if outcome.tokens is not None:
            codes = F.one_hot(outcome.tokens, self.model.codes).sum(0)
        if outcome.gate_logits:
            gates = [logits.softmax(-1).sum(0) for logits in outcome.gate_logits]
            load = torch.stack(gates).detach().double()
        sums = (codes, load, torch.tensor(seeds))
        codes, load, nodes = (processes.total(value.to(self.device)).cpu() for value in sums)
        journal.note(member, row, codes, load, int(nodes))

    def keep(self, file: Path) -> None:
        """Save the state, atomically; it is the same in all processes."""
        state = {"student": dict(self.student.state_dict()), "journal": vars(self.journal)}
        save_state(file, state | {"optimiser": self.optimiser.state_dict()})
