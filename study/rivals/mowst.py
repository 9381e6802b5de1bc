"""A mixture of a weak and a strong expert, gated by how sure the weak one is of itself.

Mowst* of Zeng et al., "Mixture of Weak and Strong Experts on Graphs" (ICLR 2024): an MLP answers from an instance's own
features; where its answer is undecided, a graph network's counts. The loss is the cross-entropy of the mixture.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data
from torch_geometric.nn.models import MLP

from stemlib.baselines.networks import Baseline
from stemlib.data.graph import Graph
from stemlib.data.tasks import Kind
from stemlib.model.network import Network, Output
from stemlib.presets import BaselineConfig
from study.rivals.settings import MowstConfig


def dispersion(logits: Tensor, binary: bool) -> Tensor:
    """How far predictions are from undecided, by variance and by entropy: `[M, 2]` in [0, 1].

    Both are 0 where all classes are equally likely, and 1 where one of them is certain.

    Args:
        logits: of classes `[M, C]`, or of binary labels `[M, T]`, of which the mean is taken.
        binary: whether they are of binary labels.
    """
    share = torch.stack([logits.sigmoid(), (-logits).sigmoid()], dim=-1) if binary else logits.softmax(-1)
    classes = share.size(-1)
    largest = (classes - 1) / classes**2  # the variance of a certain prediction's probabilities
    variance = share.var(-1, correction=0) / largest
    certainty = 1 - torch.special.entr(share).sum(-1) / math.log(classes)
    both = torch.stack([variance, certainty], dim=-1)
    return both.mean(1) if binary else both


def mixed_logits(weak: Tensor, strong: Tensor, gate: Tensor, binary: bool) -> Tensor:
    """Logits of the mixture `c p_weak + (1 - c) p_strong` of predicted probabilities, `[M, C]` or `[M, T]`.

    Args:
        weak, strong: logits of classes `[M, C]`, or of binary labels `[M, T]`.
        gate: logit of the confidence `c`, `[M, 1]`.
        binary: whether the logits are of binary labels.
    """

    def mixture(one: Tensor, other: Tensor) -> Tensor:
        return torch.logaddexp(F.logsigmoid(gate) + one, F.logsigmoid(-gate) + other)

    if not binary:
        return mixture(weak.log_softmax(-1), strong.log_softmax(-1))
    yes, no = (mixture(F.logsigmoid(s * weak), F.logsigmoid(s * strong)) for s in (1, -1))
    return yes - no


class Mowst(Network):
    """An MLP, a graph network, and a gate that reads the MLP's `dispersion`.

    What differs: experts and gate are trained together from scratch, whereas the authors start from trained experts;
    probabilities are mixed, as in the paper, not logits, as in the authors' code; for links and graphs the experts
    answer for the instance, so that it has one confidence. As in that code no gradient passes from the gate to the weak
    expert, and the gate's MLP is not forced to rise with the dispersion.

    Args:
        config: which strong expert, how large.
        in_width, classes, kind, edge_width: see `Network`.
        binary: whether the logits are of binary labels.
    """

    def __init__(
        self,
        config: MowstConfig,
        in_width: int,
        classes: int,
        kind: Kind = "node",
        edge_width: int | None = None,
        binary: bool = False,
    ) -> None:
        super().__init__(config, in_width, classes, kind, edge_width)
        self.binary = binary
        names = ("hidden", "layers", "input_dropout", "dropout", "pool")
        shared = {name: getattr(config, name) for name in names}
        weak, strong = (BaselineConfig(expert, **shared) for expert in ("mlp", config.strong))
        self.weak = Baseline(weak, in_width, classes, kind, edge_width)
        self.strong = Baseline(strong, in_width, classes, kind, edge_width)
        self.gate = MLP([2, config.gate_hidden, 1], norm=None)

    @property
    def last_maps(self) -> list[nn.Module]:
        """Those of both experts."""
        return self.weak.last_maps + self.strong.last_maps

    def forward(self, graph: Graph | Data, instances: Tensor | None) -> Output:
        """Logits of the instances, the weak and the strong expert's mixed by the gate; see `mixed_logits`."""
        weak, strong = (expert(graph, instances).logits for expert in (self.weak, self.strong))
        gate = self.gate(dispersion(weak.detach(), self.binary))
        logits = mixed_logits(weak, strong, gate, self.binary)
        return Output(logits, logits)
