"""Seconds of one pretraining step, ours against the authors' algorithm, on a graph of Cora's size.

    python benchmarks/pretraining.py [--repeats 7]

Both draw 1,024 seeds and at most 10 neighbours of a node in each of two hops, hide a fifth of the features and edges
from the student, and take a step of AdamW and of the teacher.

*Theirs* embeds every node of the batch in every layer, by gather and scatter, for student and teacher; tokens,
commitment, the projection back and the routing regulariser cover all these nodes; a tenth of all the batch's edges
is reconstructed, and their features too, although all edges share one constant vector.
*Ours* embeds in each layer what the next one reads, and asks for the seeds and for the far ends of a tenth of the
seeds' edges; commitment and routing are means over the seeds. So three terms cover fewer items than theirs: edges,
commitment and routing. On the same items they agree: `difference` is the largest relative difference of any loss, with
noise and hiding off and their algorithm read at our seeds and edges. Their edge features are left out there.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import pandas as pd
import torch
from measuring import Row, flops, matrix_peak, median_seconds, peak_mb, table
from reference_algorithm import encode
from speed import CLASSES
from torch import Tensor, nn
from torch.nn import functional as F

from stemlib.data.built_in import built_in
from stemlib.data.features import unit_features
from stemlib.data.graph import plain
from stemlib.model.losses import routing_regulariser
from stemlib.model.tokens import Tokens
from stemlib.presets import PretrainConfig, change, preset
from stemlib.stress.views import view
from stemlib.training.pool import Member, Pool
from stemlib.training.pretrain_batches import PretrainBatch, draw_batch, draws
from stemlib.training.pretrain_run import Run
from stemlib.training.student import Student
from study.methods import reference

CONFIG = PretrainConfig(steps=1000, fanout=10)


class ReferencePretraining:
    """A step as the authors do it, on our student's weights."""

    def __init__(self, student: Student, member: Member, config: PretrainConfig) -> None:
        self.student, self.member, self.config = student, member, config
        self.parameters = [value for value in student.parameters() if value.requires_grad]
        self.optimiser = torch.optim.AdamW(self.parameters, config.lr, weight_decay=config.weight_decay)
        self.number = 0

    def step(self) -> None:
        config, self.number = self.config, self.number + 1
        batch = draw_batch(
            self.member, config.batch_size, [config.fanout] * 2, 0.0, draws(0, self.number), layered=False
        )
        edges = plain(batch.graph.edge_index)
        some = edges[:, torch.randperm(edges.size(1))[: round(config.edge_share * edges.size(1))]]
        others = torch.randint(batch.graph.num_nodes, some.shape)
        losses = self.losses(replace(batch, edges=some, non_edges=others))
        constant = torch.zeros(some.size(1), self.member.task.graph.x.size(1))
        losses["edge_feature"] = self.student.decoders.edge_feature_loss(self.quantised, some, constant)
        loss = sum(getattr(config, name) * value for name, value in losses.items())
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, config.clip)
        self.optimiser.step()
        self.student.update_teacher()
        self.noted = {name: value.item() for name, value in losses.items()}

    def losses(self, batch: PretrainBatch) -> dict[str, Tensor]:
        """All objectives of a batch in one whole graph."""
        graph, seeds, student = batch.graph, batch.seeds, self.student
        decoders, interface = student.decoders, student.network.tokens
        hidden = view(graph, self.config.feature_dropout, self.config.edge_dropout)
        z, self.gates, self.logits = encode(student.network.encoder, hidden)
        self.tokens = interface(z)
        self.quantised = interface.reconstruct(self.tokens)
        with torch.no_grad():
            target = encode(student.teacher, graph)[0]
        guessed = decoders.teacher(self.quantised)[seeds]
        return {
            "feature": decoders.feature_loss(self.quantised[seeds], graph.x[seeds]),
            "teacher": (1 - F.cosine_similarity(guessed, target[seeds], dim=-1)).mean(),
            "edge": decoders.edge_loss(self.quantised, batch.edges, batch.non_edges),
            "commitment": interface.commitment(self.tokens),
            "orthogonality": interface.orthogonality(),
            "routing": routing_regulariser(self.gates, self.logits),
        }

    @torch.no_grad()
    def at_seeds(self, batch: PretrainBatch) -> dict[str, Tensor]:
        """The same with commitment and routing read at the seeds alone."""
        losses, seeds = self.losses(batch), batch.seeds
        tokens = Tokens(self.tokens.codes[seeds], self.tokens.indices[seeds], self.tokens.queries[seeds])
        losses["commitment"] = self.student.network.tokens.commitment(tokens)
        gates, logits = ([layer[seeds] for layer in layers] for layers in (self.gates, self.logits))
        losses["routing"] = routing_regulariser(gates, logits)
        return losses


def run_of(width: int) -> Run:
    task = built_in(2708, classes=CLASSES, degree=4, noise_features=width - CLASSES)
    model = reference(change(preset("paper"), hidden=width)).model
    model = change(model, expert_init="per_expert")  # experts that matter, so that `difference` can see them
    return Run(Pool([Member(unit_features(task, width), 1.0)]), model, CONFIG, 0, "cpu", Path("no state"))


def difference(run: Run, theirs: ReferencePretraining) -> float:
    """Largest relative difference of a loss on the same seeds and edges, without noise and hiding."""
    quiet = replace(CONFIG, feature_dropout=0.0, edge_dropout=0.0)
    run.student.eval()
    parts = [
        draw_batch(run.pool.members[0], 1024, [10, 10], CONFIG.edge_share, draws(0, 0), layered=layered)
        for layered in (True, False)
    ]
    with torch.no_grad():
        ours = run.student(parts[0], quiet).losses
    theirs.config = quiet
    expected = theirs.at_seeds(parts[1])
    theirs.config = CONFIG
    run.student.train()
    return max(abs((ours[name] / expected[name]).item() - 1) for name in expected)


def measure(width: int, algorithm: str, repeats: int) -> Row:
    """One row of the table."""
    run = run_of(width)
    theirs = ReferencePretraining(run.student, run.pool.members[0], CONFIG)
    step = theirs.step if algorithm == "reference" else run.step
    row: Row = {"width": width, "algorithm": algorithm}
    if algorithm == "ours":
        row["difference"] = difference(run, theirs)
        if row["difference"] > 1e-5:
            raise AssertionError(f"width {width}: losses differ by {row['difference']:.1e}")
    row["step_s"] = median_seconds(step, repeats)
    row["step_gflop"] = flops(step)
    return row | {"peak_mb": peak_mb(), "peak_gflops": matrix_peak()}


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """With the share of the matrix-product peak, and how many times faster than the reference's algorithm."""
    table["peak_share"] = table.step_gflop / table.step_s / table.peak_gflops
    table["times_faster"] = table.groupby("width").step_s.transform("first") / table.step_s
    return table


if __name__ == "__main__":
    table(__file__, product((768, 128), ("reference", "ours")), measure, compared)
