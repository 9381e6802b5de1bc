"""The Lipschitz-regularised head: one linear map of the concatenated codes, logits averaged over heads.

Averaging makes the heads one linear map, `logits = W_eff codes + b_eff` with `W_eff = mean_h W_h`, so

    ||d logits|| <= ||W_eff||_2 ||d codes||,   ||W_eff||_2 <= ||W_eff||_F <= ||W||_F / sqrt(H).

The training penalty, Eq. 22 of the paper, limits `||W||_F^2`, and so the last and loosest of these: Statement 3.8 of
docs/theory.md.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class AveragedHead(nn.Module):
    """Linear head `[M, width] -> [M, classes]` with `heads` sets of logits, averaged."""

    def __init__(self, width: int, classes: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.linear = nn.Linear(width, heads * classes)

    def logits_per_head(self, codes: Tensor) -> Tensor:
        """The logits before averaging, `[M, H, classes]`."""
        return self.linear(codes).unflatten(-1, (self.heads, -1))

    def forward(self, codes: Tensor) -> Tensor:
        """Logits `[M, classes]`, the mean over heads of `logits_per_head`; the paper's prediction head.

        Args:
            codes: of all heads, concatenated, `[M, width]`; embeddings if there are no tokens.

        Example:
            >>> head = AveragedHead(width=8, classes=3, heads=2)
            >>> head(torch.randn(5, 8)).shape
            torch.Size([5, 3])
        """
        # The heads' mean logits are the logits of their mean weights: one product in place of H.
        return F.linear(codes, self.effective_weight, self.effective_bias)

    @property
    def effective_weight(self) -> Tensor:
        """`W_eff` `[classes, width]`: what averaging the heads amounts to."""
        return self.linear.weight.unflatten(0, (self.heads, -1)).mean(0)

    @property
    def effective_bias(self) -> Tensor:
        """`b_eff` `[classes]`."""
        return self.linear.bias.unflatten(0, (self.heads, -1)).mean(0)

    def penalty(self) -> Tensor:
        """`||W||_F^2`, a scalar: Eq. 22 of the paper, which training weighs by `TrainConfig.lipschitz`."""
        return self.linear.weight.square().sum()

    def norms(self) -> dict[str, float]:
        """The three Lipschitz constants of Statement 3.8, from tightest to loosest."""
        weight = self.effective_weight.detach()
        return {
            "spectral": torch.linalg.matrix_norm(weight, 2).item(),
            "frobenius": torch.linalg.matrix_norm(weight).item(),
            "penalised": (self.linear.weight.detach().norm() / self.heads**0.5).item(),
        }
