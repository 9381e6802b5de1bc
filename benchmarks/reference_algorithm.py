"""The authors' algorithm, step for step, on our model's weights: the yardstick of `benchmarks/speed.py`.

Written from what their implementation computes, not from its text: every edge's message is gathered and scattered,
every expert's output is materialised, tokens are projected back although nothing reads that, the tokens' losses are
computed although the tokens are frozen, and an evaluation computes all of it for every node. Its logits match those of
our model to 1e-5; otherwise `speed.py` keeps no table (see `agreement`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import scatter

from stemlib.data.graph import plain
from stemlib.data.tasks import Split, Task
from stemlib.model.encoder import Encoder, Gates
from stemlib.model.losses import task_loss
from stemlib.model.stem import StemGNN


def encode(encoder: Encoder, graph: Data) -> tuple[Tensor, Gates, list[Tensor]]:
    """Embeddings of all nodes `[N, d]`, and each layer's gates and the router's logits."""
    x, gates, logits = graph.x, [], []
    source, target = plain(graph.edge_index)
    for index, (layer, router) in enumerate(zip(encoder.layers, encoder.routers, strict=True)):
        logits.append(router(x))
        gates.append(encoder.route(logits[-1]))
        mean = scatter(x[source], target, dim_size=len(x), reduce="mean")
        inputs = torch.cat([mean, x], dim=1).unsqueeze(0).repeat(layer.experts, 1, 1)
        outputs = torch.matmul(inputs, layer.weight).transpose(0, 1)
        if layer.residual:
            outputs = outputs + x.unsqueeze(1)
        x = (gates[-1].unsqueeze(2).repeat(1, 1, outputs.size(2)) * outputs).sum(1)
        x = encoder.finish_layer(index, x)
    return x, gates, logits


@dataclass
class ReferenceAlgorithm:
    """One training step and one evaluation of a node task, as the authors do them."""

    model: StemGNN
    task: Task
    split: Split
    optimiser: torch.optim.Optimizer

    def encode(self) -> Tensor:
        """Embeddings of all nodes `[N, d]`."""
        return encode(self.model.encoder, self.task.graph)[0]

    def classify(self, z: Tensor) -> Tensor:
        """Logits `[M, classes]`, and on the way everything that is never read."""
        tokens = self.model.tokens
        read = tokens(z)
        self.unread = tokens.reconstruct(read), 10 * tokens.commitment(read) + tokens.orthogonality()
        return self.model.head.logits_per_head(read.codes).mean(1)

    def train_step(self) -> None:
        """On the training nodes, all nodes embedded."""
        self.model.train()
        logits = self.classify(self.encode()[self.split.train])
        loss = task_loss(logits, self.task.labels[self.split.train])
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()

    @torch.no_grad()
    def evaluate(self) -> Tensor:
        """Logits of all nodes."""
        self.model.eval()
        return self.classify(self.encode())


def agreement(reference: Tensor, ours: Tensor) -> float:
    """The largest difference of logits, relative to their largest, over all nodes except those near a tie of codes.

    A node whose two best codes are equal up to rounding may be given either: at most one in a thousand may differ.
    """
    difference = (reference - ours).abs().max(1).values / reference.abs().max()
    return torch.quantile(difference[: 2**20], 0.999).item()
