"""One pretraining run, step by step: network, optimiser, journal, and what several processes add together."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from stemlib.presets import ModelConfig, PretrainConfig
from stemlib.training import processes
from stemlib.training.journal import COLUMNS, LOSSES, Journal
from stemlib.training.loop import Loop, cosine
from stemlib.training.pool import Pool
from stemlib.training.pretrain_batches import PretrainBatch, draw_batch, draws
from stemlib.training.pretrained import Pretrained, load_pretrained
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
        ValueError: no objective has a weight; an architecture other than that of the starting checkpoint; or several
            processes with batch norm, whose statistics are not shared, or more processes than there is work for.
    """

    def __init__(
        self,
        pool: Pool,
        model: ModelConfig,
        config: PretrainConfig,
        seed: int,
        device: torch.device | str,
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
        self.pool, self.model, self.config, self.seed, self.device = pool, model, config, seed, torch.device(device)
        self.steps = config.steps or config.epochs * pool.epoch_steps(config.batch_size)
        torch.manual_seed(seed)
        network = Pretrained(model, pool.width) if start is None else load_pretrained(start)
        if (network.config, network.width) != (model, pool.width):
            raise ValueError(
                f"the starting checkpoint is {network.config} of width {network.width}, "
                f"but the run is {model} of width {pool.width}"
            )
        self.student = Student(network, config.teacher_decay).to(device).train()
        self.parameters = [value for value in self.student.parameters() if value.requires_grad]
        # The scheduler multiplies: with 1.0 in the optimiser, its factor is the rate, to the bit.
        self.optimiser = torch.optim.AdamW(self.parameters, 1.0, weight_decay=config.weight_decay, fused=True)
        self.schedule = LambdaLR(self.optimiser, lambda step: learning_rate(step, self.steps, config))
        codes = (model.heads, model.codes) if network.tokens else (0, 0)
        load = (len(pool.members), network.encoder.routed_layers, model.experts)
        self.journal = Journal(self.steps, config.log_every, codes, load, device)
        self.loop = Loop(
            file, student=self.student, optimiser=self.optimiser, schedule=self.schedule, journal=self.journal
        )
        self._checked = self.journal.done
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
            (self.config.feature_dropout, self.config.edge_dropout),
            layered=bool(self.student.network.encoder.reach),
        ).to(self.device)

    def step(self) -> None:
        """Take the next step and write it down; no number is read back from a GPU."""
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
        norm = nn.utils.clip_grad_norm_(self.parameters, config.clip).double()
        weighed = (values * values.new_tensor([getattr(config, name) for name in LOSSES])).nansum()
        about = values.new_tensor([member, self.schedule.get_last_lr()[0]])
        row = torch.cat([about, weighed.unsqueeze(0), norm.unsqueeze(0), values])
        self.optimiser.step()
        self.schedule.step()
        self.student.update_teacher()
        processes.average_codes(self.student.network.tokens)
        self._note(member, row, outcome, len(batch.seeds))

    def _together(self, outcome: Outcome) -> tuple[Tensor, Tensor]:
        """This process's share of the weighted loss, whose gradients average to those of the whole; the whole's terms.

        A term is a mean over a number of items that differs from process to process, and is weighted by it. The terms
        `[len(LOSSES)]` are NaN where no process has one.
        """
        counts, losses = outcome.counts, outcome.losses
        of_items = torch.tensor([float(counts.get(name, 0)) for name in LOSSES], dtype=torch.double).to(self.device)
        zero = torch.zeros((), dtype=torch.double, device=self.device)
        terms = torch.stack([losses[name].detach().double() if name in losses else zero for name in LOSSES])
        items, sums = processes.total(torch.stack([of_items, of_items * terms]))
        shares = of_items * processes.world() / items
        loss = sum(
            getattr(self.config, name) * (value if processes.world() == 1 else shares[place].to(value) * value)
            for place, name in enumerate(LOSSES)
            if (value := losses.get(name)) is not None
        )
        return loss, sums / items

    def _note(self, member: int, row: Tensor, outcome: Outcome, seeds: int) -> None:
        """Write down a step, with token usage and expert load summed over processes."""
        journal = self.journal
        codes, load = torch.zeros_like(journal.codes[0]), torch.zeros_like(journal.load[0, 0])
        if outcome.tokens is not None:
            codes = F.one_hot(outcome.tokens, self.model.codes).sum(0)
        if outcome.gate_logits:
            load = torch.stack([logits.softmax(-1).sum(0) for logits in outcome.gate_logits]).double()
        codes, load = (processes.total(value) for value in (codes, load))
        nodes = processes.total(torch.tensor(seeds, device=self.device)) if processes.together() else seeds
        journal.note(row, member, codes, load, nodes)

    def checked(self) -> dict[str, float]:
        """The last step's row, once all rows since the last check are found finite.

        Raises:
            FloatingPointError: one is not; says where.
        """
        rows = self.journal.steps[self._checked : self.journal.done].cpu()
        wrong = ~rows[:, [COLUMNS.index("loss"), COLUMNS.index("gradient_norm")]].isfinite().all(1)
        if wrong.any():
            first = int(wrong.nonzero()[0])
            row = dict(zip(COLUMNS, rows[first].tolist(), strict=True))
            raise FloatingPointError(
                f"step {self._checked + first} on {self.pool.names[int(row['data_set'])]}: loss {row['loss']:g}, "
                f"gradient norm {row['gradient_norm']:g}; lower the learning rate"
            )
        self._checked = self.journal.done
        return dict(zip(COLUMNS, rows[-1].tolist(), strict=True)) if len(rows) else {}
