"""Encoder and tokens while they are pretrained: with decoders, and a teacher that slowly follows the encoder."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stemlib.model.losses import routing_regulariser
from stemlib.model.tokens import Tokens
from stemlib.presets import PretrainConfig
from stemlib.training.pretrain_batches import PretrainBatch
from stemlib.training.pretrained import Pretrained

INSIDE_LOG = 1e-15  # the reference's guard; part of its numbers


@dataclass(frozen=True)
class Outcome:
    """The outcome of one batch.

    Attributes:
        losses: the objectives that the batch has, not weighted, each a mean.
        counts: of how many items each is a mean: seeds or edges.
        tokens: which code each head chose for the seeds, `[B, H]`; None without tokens.
        gate_logits: the router's for the seeds, `[B, K]` per routed layer, without gradient.
    """

    losses: dict[str, Tensor]
    counts: dict[str, int]
    tokens: Tensor | None
    gate_logits: list[Tensor]


class Decoders(nn.Module):
    """What reads the quantised embeddings `[N, d]` during pretraining, and is thrown away afterwards.

    Args:
        width: of embeddings.
        feature_width: of node features.
        edge_width: of edge features.
    """

    def __init__(self, width: int, feature_width: int, edge_width: int) -> None:
        super().__init__()
        self.feature = nn.Linear(width, feature_width)
        self.edge = nn.Linear(width, width)
        self.edge_feature = nn.Linear(2 * width, edge_width)
        self.teacher = nn.Linear(width, width)

    def feature_loss(self, quantised: Tensor, x: Tensor) -> Tensor:
        """Mean squared error of the clean features `[N, d_x]`."""
        return F.mse_loss(self.feature(quantised), x)

    def edge_loss(self, quantised: Tensor, edges: Tensor, negatives: Tensor) -> Tensor:
        """Binary cross-entropy of inner products, edges `[2, E]` and drawn pairs `[2, E']`: the sum of two means."""
        projected = self.edge(quantised)

        def probability(pairs: Tensor) -> Tensor:
            return (projected[pairs[0]] * projected[pairs[1]]).sum(-1).sigmoid()

        missed = -(probability(edges) + INSIDE_LOG).log().mean()
        return missed - (1 - probability(negatives) + INSIDE_LOG).log().mean()

    def edge_feature_loss(self, quantised: Tensor, edges: Tensor, features: Tensor) -> Tensor:
        """Mean squared error of the edges' features `[E, d_e]` from their two ends."""
        ends = torch.cat([quantised[edges[0]], quantised[edges[1]]], dim=-1)
        return F.mse_loss(self.edge_feature(ends), features)

    def teacher_loss(self, quantised: Tensor, target: Tensor) -> Tensor:
        """Mean cosine distance to the teacher's embeddings `[N, d]` of the clean graph; no gradient to it."""
        return (1 - F.cosine_similarity(self.teacher(quantised), target.detach(), dim=-1)).mean()


class Student(nn.Module):
    """The network, its decoders and its teacher.

    The teacher is the exponential moving average of the encoder. It sees the clean graph, in evaluation mode:
    in the reference it is in training mode, so that noise, dropout and batch statistics make two passes differ.

    Args:
        network: encoder and tokens, fresh or pretrained before.
        decay: the share of itself that the teacher keeps in a step.
    """

    def __init__(self, network: Pretrained, decay: float) -> None:
        super().__init__()
        self.network = network
        self.decoders = Decoders(network.config.hidden, network.width, network.width)
        self.teacher = deepcopy(network.encoder).requires_grad_(False).eval()
        self.decay = decay

    def train(self, mode: bool = True) -> Student:
        """Training mode for the student alone: the teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, batch: PretrainBatch, config: PretrainConfig) -> Outcome:
        """The objectives of one batch; those with weight 0 or without data in it are left out.

        Objectives about nodes (features, teacher, tokens, routes) are measured on the seeds.
        """
        graph, seeds, network = batch.graph, batch.seeds, self.network
        with torch.autocast(graph.x.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            shown = graph.x if batch.columns is None else graph.x * batch.columns
            encoding = network.encoder(replace(batch.seen, x=shown))
            with torch.no_grad():
                target = self.teacher(graph).z[seeds].float() if config.teacher else None
        quantised, tokens = self.quantise(encoding.z[: batch.computed].float())
        gates = [layer[seeds].float() for layer in encoding.gates]
        logits = [layer[seeds].float() for layer in encoding.gate_logits]

        losses: dict[str, Tensor] = {}
        if config.feature:
            losses["feature"] = self.decoders.feature_loss(quantised[seeds], graph.x[seeds])
        if config.teacher:
            losses["teacher"] = self.decoders.teacher_loss(quantised[seeds], target)
        if config.edge and batch.non_edges.numel():
            losses["edge"] = self.decoders.edge_loss(quantised, batch.edges, batch.non_edges)
        if config.edge_feature and batch.edges.numel() and batch.edge_features is not None:
            losses["edge_feature"] = self.decoders.edge_feature_loss(quantised, batch.edges, batch.edge_features)
        if tokens is not None:
            tokens = Tokens(*(getattr(tokens, item.name)[seeds] for item in fields(tokens)))
            if config.commitment:
                losses["commitment"] = network.tokens.commitment(tokens)
            if config.orthogonality and network.tokens.codebook.requires_grad:
                losses["orthogonality"] = network.tokens.orthogonality()
        if config.routing and gates:
            losses["routing"] = routing_regulariser(gates, logits)
        counts = {name: batch.edges.size(1) if name.startswith("edge") else len(seeds) for name in losses}
        indices = None if tokens is None else tokens.indices
        return Outcome(losses, counts, indices, [layer.detach() for layer in logits])

    def quantise(self, z: Tensor) -> tuple[Tensor, Tokens | None]:
        """What the decoders read, `[M, d]`, given embeddings `[M, d]`: the embeddings themselves without tokens."""
        if self.network.tokens is None:
            return z, None
        tokens = self.network.tokens(z)
        return self.network.tokens.reconstruct(tokens), tokens

    @torch.no_grad()
    def start_tokens(self, batches: list[PretrainBatch]) -> None:
        """Start the codebooks by k-means on the queries of some batches' computed nodes."""
        tokens = self.network.tokens
        if tokens is None:
            return
        self.eval()
        queries = [tokens.queries(self.network.encoder(batch.graph).z[: batch.computed]) for batch in batches]
        tokens.start(torch.cat(queries))
        self.train()

    @torch.no_grad()
    def update_teacher(self) -> None:
        """`teacher = decay * teacher + (1 - decay) * encoder`; running statistics are copied.

        PyTorch's `AveragedModel` would wait for a GPU in every step.
        """
        own, encoder = self.teacher, self.network.encoder
        torch._foreach_lerp_(list(own.parameters()), list(encoder.parameters()), 1 - self.decay)
        for mine, theirs in zip(own.buffers(), encoder.buffers(), strict=True):
            mine.copy_(theirs)
