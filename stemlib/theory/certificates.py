"""Certificates: radii inside which nothing can change, Statements 3.6, 3.9 and 3.13 of docs/theory.md.

They are promises about what is computed, not only about real numbers (Statement 3.10): with numbers of precision `eps`
an inner product of `n`-vectors `a, b` is off by less than `n eps ||a|| ||b||` in any order of summation (twice the
standard bound; the other half pays for the rounding of norms). Every radius is shortened by what that error could do on
both sides of the comparison, and to the distances compared with it. This needs products in the tensors' own precision,
torch's default on a CPU.

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
from stemlib.model.stem import StemGNN
from stemlib.model.tokens import TIE, centred

BLOCK = 128  # instances whose codes are compared at once
FAR = 1e12  # a radius in which every code can be reached


def rounding(width: int, dtype: torch.dtype) -> float:
    """Bound on the relative error of an inner product of `width` numbers, and of a norm."""
    return width * torch.finfo(dtype).eps


class TokenCertificate:
    """`m = min_{c != best} <u, c_best - c> / ||c_best - c||`: no query nearer to `u` than `m` has another code.

    Codes need not be unit vectors. Equal codes are one token: exchanging them changes nothing, so they do not count as
    different, and a head whose codes are all equal has an infinite margin. Codes that all but coincide cannot be told
    apart in finite precision, or count as equal by `stemlib.model.tokens.TIE`: they give margin 0.

    Args:
        codebook: `[H, C, d_c]`.

    Attributes:
        apart: distances of all codes of a head, float64 `[H, C, C]`.
    """

    def __init__(self, codebook: Tensor) -> None:
        self.codebook, exact = codebook, codebook.double()
        # Distances from differences: by ||c||^2 - 2 <c, c'> + ||c'||^2 close codes could wrongly seem equal, or apart.
        self.apart = torch.cdist(exact, exact, compute_mode="donot_use_mm_for_euclid_dist")
        apart = self.apart.to(codebook)
        length = torch.linalg.vector_norm(codebook, dim=-1)
        error = rounding(codebook.size(2), codebook.dtype) * (length.unsqueeze(1) + length.unsqueeze(2))
        # Among codes that tie the first wins: any other must stay behind by more than a tie.
        longest = torch.linalg.vector_norm(centred(codebook), dim=-1).amax(1)
        error = error + TIE * longest.view(-1, 1, 1)
        # The gap of a query at distance r is at least gap - r apart, and off by error (1 + r); the gap of the
        # query itself is off by error: so r (apart + error) < gap - 2 error.
        same = apart == 0
        self.slope = (1 / (apart + error)).masked_fill(same, 0.0)  # [H, C, C]
        self.offset = (2 * error * self.slope).masked_fill(same, -torch.inf)

    def distances(self, one: Tensor, other: Tensor) -> Tensor:
        """Distances between the codes that indices `[..., H]` name, head by head, float64 `[..., H]`."""
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
        head: the model's.
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
            inputs: the head's `[M, width]`: concatenated codes, or embeddings if there are no tokens.
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
            radius = radius.scatter(1, best.unsqueeze(1), torch.inf)  # the class itself is not another
        return radius.amin(-1).clamp(min=0) / (1 + 2 * rounding(inputs.size(1), inputs.dtype))


class ReachCertificate:
    """Whether a decision stays, wherever the embedding goes within a ball: Statement 3.13.

    Tokens and head are taken together. A head's scores are linear in the embedding, so within a ball only some codes
    can win; the decision stays if even the worst choice among them, head by head, leaves it unchanged. Tokens may flip.

    Args:
        model: for classes, in float64.
        dtype: that in which the deployed model computes; what its rounding can do is subtracted.

    Raises:
        ValueError: the model is not in float64, or its tokens are rounded.
    """

    def __init__(self, model: StemGNN, dtype: torch.dtype = torch.float32) -> None:
        if model.tokens is not model.coded:
            raise ValueError("the certificate needs the codes that can win; codebook='rounded' has no codebook")
        weight, head = model.head.effective_weight.detach(), model.head
        if weight.dtype != torch.double:
            raise ValueError(f"the certificate takes a copy of the model in float64, got {weight.dtype}")
        self.tokens, self.bias, self.dtype = model.tokens, head.effective_bias.detach(), dtype
        self.by_head = weight.unflatten(1, (head.heads, -1))  # [classes, H, d_c]; one head without tokens
        terms = 2 * rounding(head.linear.in_features + head.heads + 1, dtype)
        size = torch.linalg.vector_norm(head.linear.weight.detach().unflatten(0, (head.heads, -1)), dim=-1).mean(0)
        bias = head.linear.bias.detach().unflatten(0, (head.heads, -1))
        self.error, self.constant = terms * size, terms * bias.abs().mean(0)
        if self.tokens is None:
            self.slope = torch.cdist(weight, weight, compute_mode="donot_use_mm_for_euclid_dist")
            return
        codes, project = centred(self.tokens.codebook.detach()), self.tokens.project_in
        maps = project.weight.detach().unflatten(0, (self.tokens.heads, -1))  # [H, d_c, d]
        offset = project.bias.detach().unflatten(0, (self.tokens.heads, -1))
        self.match, self.offset = codes @ maps, torch.einsum("hcd,hd->hc", codes, offset)
        self.steepness = torch.cdist(self.match, self.match, compute_mode="donot_use_mm_for_euclid_dist")  # [H, C, C]
        longest = torch.linalg.vector_norm(self.tokens.codebook.detach(), dim=-1).amax(1)
        terms = 2 * rounding(sum(maps.shape[1:]) + 1, dtype)
        self.token_error = terms * longest * torch.linalg.matrix_norm(maps)  # [H], per length of embedding
        self.token_constant = terms * longest * torch.linalg.vector_norm(offset, dim=-1)
        self.logits = torch.einsum("khd,hcd->hck", self.by_head, self.tokens.codebook.detach())

    def reachable(self, z: Tensor, move: Tensor) -> Tensor:
        """Which codes can win for some embedding within `move` `[M]` of `z` `[M, d]`: mask `[M, H, C]`."""
        scores = torch.einsum("md,hcd->mhc", z, self.match) + self.offset
        best, move = scores.argmax(-1), move.view(-1, 1, 1)
        steepness = self.steepness[torch.arange(scores.size(1)), best]  # [M, H, C]
        length = torch.linalg.vector_norm(z, dim=-1).view(-1, 1) + move.squeeze(2)
        top = (scores.abs() + move * torch.linalg.vector_norm(self.match, dim=-1)).amax(-1)
        error = TIE * top + 2 * (self.token_error * length + self.token_constant)
        return scores.amax(-1, keepdim=True) - scores <= move * steepness + error.unsqueeze(2)

    def stays(self, z: Tensor, move: Tensor) -> Tensor:
        """Whether the class is the same for every embedding within `move` of `z`.

        Args:
            z: embeddings `[M, d]` in float64.
            move: radii `[M]`; infinite where nothing is known.

        Returns:
            Mask `[M]`.
        """
        move = move.clamp(max=FAR)  # infinity times 0 has no value
        parts = zip(z.split(BLOCK), move.split(BLOCK), strict=True)
        return torch.cat([self._gaps(*part).amin(-1) > 0 for part in parts])

    def _gaps(self, z: Tensor, move: Tensor) -> Tensor:
        """By how much at least the class stays ahead of every other, `[M, classes]`; infinity for itself."""
        if self.tokens is None:
            logits = z @ self.by_head.flatten(1).T + self.bias
            best = logits.argmax(-1, keepdim=True)
            gap = logits.gather(1, best) - logits - move.unsqueeze(1) * self.slope[best.squeeze(1)]
            length = torch.linalg.vector_norm(z, dim=-1) + move
        else:
            chosen = (torch.einsum("md,hcd->mhc", z, self.match) + self.offset).argmax(-1)
            own = self.logits[torch.arange(chosen.size(1)), chosen].sum(1) + self.bias
            best = own.argmax(-1, keepdim=True)
            ahead = self.logits[:, :, best.squeeze(1)].permute(2, 0, 1).unsqueeze(3) - self.logits  # [M, H, C, classes]
            closed = ~self.reachable(z, move).unsqueeze(3)
            gap = ahead.masked_fill(closed, torch.inf).amin(2).sum(1) + self.bias[best] - self.bias
            lengths = torch.linalg.vector_norm(self.tokens.codebook.detach(), dim=-1).amax(1)
            length = torch.linalg.vector_norm(lengths).expand(len(z))
        error = length.unsqueeze(1) * (self.error[best] + self.error) + self.constant[best] + self.constant
        return (gap - error).scatter(1, best, torch.inf)
