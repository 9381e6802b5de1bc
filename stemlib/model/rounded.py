"""Tokens of low precision: each coordinate of a query is rounded, where a codebook would choose among whole vectors.

    u_h = a_h / ||a_h||,   token_hd = round((u_hd + 1) / 2 (2^b - 1)),   code_hd = 2 token_hd / (2^b - 1) - 1

There are `2^b` evenly spaced levels on [-1, 1], and gradients pass straight through, as with a codebook. Nothing about
the codes is learnt: only discretisation is left of the tokens. Source: LPGNAS.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from stemlib.model.tokens import Tokens, straight_through
from stemlib.presets import ModelConfig


class RoundedTokens(nn.Module):
    """The rounded queries, `[M, width] -> Tokens`; their `indices` are levels `[M, H * d_c]`, one per coordinate.

    Attributes:
        started: always True, as there is no codebook to start.
    """

    started = True

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        self.heads, self.steps = config.heads, 2**config.token_bits - 1
        self.project_in = nn.Linear(width, config.heads * (config.code_width or width))
        self.frozen = False

    def freeze(self) -> None:
        """Freeze the projection for good."""
        self.frozen = True
        self.requires_grad_(False)

    def levels(self, queries: Tensor) -> Tensor:
        """The nearest level of every coordinate in [-1, 1], counted from 0 at -1."""
        return ((queries + 1) / 2 * self.steps).round()

    def forward(self, z: Tensor) -> Tokens:
        """The tokens of embeddings `[M, width]`.

        Example:
            >>> import torch
            >>> tokens = RoundedTokens(ModelConfig(heads=4, code_width=8, token_bits=1), width=32)
            >>> found = tokens(torch.randn(5, 32))
            >>> found.codes.shape, found.indices.shape, found.codes.unique().tolist()
            (torch.Size([5, 32]), torch.Size([5, 32]), [-1.0, 1.0])
        """
        projected = self.project_in(z).unflatten(-1, (self.heads, -1))
        levels = self.levels(F.normalize(projected.detach(), dim=-1))
        codes = straight_through(projected, 2 * levels / self.steps - 1)
        return Tokens(codes.flatten(1), levels.long().flatten(1), projected)

    def commitment(self, tokens: Tokens) -> Tensor:
        """Mean squared distance between queries and what they are rounded to."""
        return F.mse_loss(tokens.queries, tokens.codes.detach().view_as(tokens.projected))
