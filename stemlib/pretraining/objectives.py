"""The four objectives of pretraining, on the quantised output; equal to the reference's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

INSIDE_LOG = 1e-15  # the reference's guard; part of its numbers


class Decoders(nn.Module):
    """What reads the quantised embeddings `[N, d]` while pretraining, and is thrown away after it.

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
        """Binary cross-entropy of inner products, edges `[2, E]` and drawn pairs `[2, E']`: two means added."""
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
