"""Certificates: radii inside which nothing can change, Statements 3.6 and 3.9 of docs/theory.md.

They are promises about what is computed, not only about real numbers (Statement 3.10): with numbers of precision
`eps` an inner product of `n`-vectors `a, b` is off by less than `n eps ||a|| ||b||` in any order of summation (twice
the standard bound; the other half pays for the rounding of norms). Every radius is shortened by what that could do
on both sides of the comparison, and to the distances that are held against it. It needs products in the tensors'
own precision, which is torch's default on a CPU.

Example:
    >>> codebook = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])  # one head, two codes
    >>> query = torch.tensor([[[0.6, 0.8]]])
    >>> print(f"{TokenCertificate(codebook).margins(query, torch.tensor([[1]])).item():.4f}")  # 0.2 / sqrt(2)
    0.1414
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from stemlib.model.head import AveragedHead


def rounding(width: int, dtype: torch.dtype) -> float:
    """Bound on the relative error of an inner product of `width` numbers, and of a norm."""
    return width * torch.finfo(dtype).eps


class TokenCertificate:
    """`m = min_{c != best} <u, c_best - c> / ||c_best - c||`: no query nearer to `u` than `m` has another code.

    Codes need not be unit vectors. Equal codes are one token: exchanging them changes nothing, so that they do
    not count as another, and a head all of whose codes are equal has margin infinity. Codes that all but
    coincide cannot be told apart in finite precision: they give margin 0.

    Args:
        codebook: `[H, C, d_c]`.

    Attributes:
        apart: distances of all codes of a head, float64 `[H, C, C]`.
    """

    def __init__(self, codebook: Tensor) -> None:
        self.codebook, exact = codebook, codebook.double()
        # Distances from differences: by ||c||^2 - 2 <c, c'> + ||c'||^2 close codes would seem equal, or not.
        self.apart = torch.cdist(exact, exact, compute_mode="donot_use_mm_for_euclid_dist")
        apart = self.apart.to(codebook)
        length = torch.linalg.vector_norm(codebook, dim=-1)
        error = rounding(codebook.size(2), codebook.dtype) * (length.unsqueeze(1) + length.unsqueeze(2))
        # The gap of a query at distance r is at least gap - r apart, and off by error (1 + r); the gap of the
        # query itself is off by error: so r (apart + error) < gap - 2 error.
        same = apart == 0
        self.slope = (1 / (apart + error)).masked_fill(same, 0.0)  # [H, C, C]
        self.offset = (2 * error * self.slope).masked_fill(same, -torch.inf)

    def distances(self, one: Tensor, other: Tensor) -> Tensor:
        """How far the codes that indices `[..., H]` name lie apart, head by head, float64 `[..., H]`."""
        heads, codes, _ = self.apart.shape
        return self.apart.take((one + codes * torch.arange(heads, device=one.device)) * codes + other)

    def margins(self, queries: Tensor, indices: Tensor) -> Tensor:
        """`m` of every query `[M, H]`.

        Args:
            queries: unit vectors `[M, H, d_c]`.
            indices: the codes that won `[M, H]`.
        """
        heads, codes, _ = self.codebook.shape
        similarity = torch.einsum("mhd,hcd->mhc", queries, self.codebook)
        gap = similarity.gather(2, indices.unsqueeze(2)) - similarity
        rows = indices + codes * torch.arange(heads, device=indices.device)
        slope, offset = (F.embedding(rows, table.flatten(0, 1)) for table in (self.slope, self.offset))
        margin = (gap * slope - offset).amin(-1).clamp(min=0)
        return margin / (1 + 2 * rounding(self.codebook.size(2), self.codebook.dtype))


class DecisionCertificate:
    """How far the head's input can move before a decision changes.

    For classes `min_c (f_y - f_c) / ||w_y - w_c||` with the predicted class `y` and the rows `w` of `W_eff`; for
    binary labels `min_t |f_t| / ||w_t||`.

    Args:
        head: of the model.
        binary: whether logits are binary labels rather than classes.
    """

    def __init__(self, head: AveragedHead, binary: bool) -> None:
        weight = head.effective_weight
        self.binary = binary
        terms = rounding(weight.size(1) + head.heads + 1, weight.dtype)
        by_head = head.linear.weight.unflatten(0, (head.heads, -1))  # products are rounded before the average
        self.error = terms * torch.linalg.vector_norm(by_head, dim=-1).mean(0)  # [classes], per input length
        self.constant = terms * head.linear.bias.unflatten(0, (head.heads, -1)).abs().mean(0)
        if binary:
            self.slope = torch.linalg.vector_norm(weight, dim=-1)
        else:
            self.slope = torch.cdist(weight, weight, compute_mode="donot_use_mm_for_euclid_dist")
            self.error = self.error + self.error.unsqueeze(1)  # of a difference of logits, [classes, classes]
            self.constant = self.constant + self.constant.unsqueeze(1)

    def radii(self, inputs: Tensor, logits: Tensor) -> Tensor:
        """The radius of every decision `[M]`.

        Args:
            inputs: of the head `[M, width]`: concatenated codes, or embeddings where there are no tokens.
            logits: the head's outputs for them `[M, classes]`.
        """
        length = torch.linalg.vector_norm(inputs, dim=-1, keepdim=True)
        if self.binary:
            gap, slope, error, constant = logits.abs(), self.slope, self.error, self.constant
        else:
            best = logits.argmax(-1)
            gap = logits.gather(1, best.unsqueeze(1)) - logits
            slope, error, constant = self.slope[best], self.error[best], self.constant[best]
        radius = (gap - 2 * (error * length + constant)) / (slope + error)
        if not self.binary:
            radius = radius.scatter(1, best.unsqueeze(1), torch.inf)  # the class itself is no other class
        return radius.amin(-1).clamp(min=0) / (1 + 2 * rounding(inputs.size(1), inputs.dtype))
