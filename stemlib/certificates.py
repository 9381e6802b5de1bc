"""Certificates: radii inside which nothing can change (theory, statement 3, through tokens and head).

They are promises about what is computed, not only about real numbers: with numbers of precision `eps` an
inner product of `n`-vectors `a, b` is off by less than `n eps ||a|| ||b||` in any order of summation (twice the
standard bound; the other half pays for the rounding of the norms), and every radius is shortened by what that
could do on both sides of the comparison. It needs products in the tensors' own precision, which is torch's
default on a CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stemlib.head import AveragedHead


def rounding(width: int, dtype: torch.dtype) -> float:
    """Bound on the relative error of an inner product of `width` numbers, and of a norm."""
    return width * torch.finfo(dtype).eps


def token_margins(queries: Tensor, codebook: Tensor, indices: Tensor) -> Tensor:
    """`min_{c != best} <u, c_best - c> / ||c_best - c||`, `[M, H]`: no query closer than this has another code.

    Codes need not be unit vectors. Equal codes are one token: exchanging them changes nothing, so they do not
    count as another; a head all of whose codes are equal has margin infinity. Codes that all but coincide
    cannot be told apart in finite precision, and give margin 0.

    Args:
        queries: unit vectors `u` `[M, H, d_c]`.
        codebook: `[H, C, d_c]`.
        indices: the codes that won, `[M, H]`.
    """
    heads = torch.arange(codebook.size(0), device=codebook.device)
    # Distances from differences: by ||c||^2 - 2 <c, c'> + ||c'||^2 close codes would seem equal, or not.
    apart = torch.cdist(codebook, codebook, compute_mode="donot_use_mm_for_euclid_dist")  # [H, C, C]
    length = torch.linalg.vector_norm(codebook, dim=-1)  # [H, C]
    error = rounding(codebook.size(2), codebook.dtype) * (length.unsqueeze(1) + length.unsqueeze(2))
    similarity = torch.einsum("mhd,hcd->mhc", queries, codebook)
    gap = similarity.gather(2, indices.unsqueeze(2)) - similarity
    # For a query at distance r both gaps are off by `error`, the second by `error * (1 + r)`; so r must satisfy
    # gap - 2 error > r (apart + error).
    margin = (gap - 2 * error[heads, indices]) / (apart + error)[heads, indices]
    return margin.masked_fill((apart == 0)[heads, indices], torch.inf).amin(-1).clamp(min=0)


def decision_radius(head: AveragedHead, inputs: Tensor, binary: bool) -> Tensor:
    """How far the head's input can move before a decision changes, `[M]`.

    For classes `min_c (f_y - f_c) / ||w_y - w_c||` with the predicted class `y` and the rows `w` of `W_eff`; for
    binary labels `min_t |f_t| / ||w_t||`.

    Args:
        head: of the model.
        inputs: its inputs `[M, width]`: concatenated codes, or embeddings where there are no tokens.
        binary: whether logits are binary labels rather than classes.
    """
    weight, logits = head.effective_weight, head(inputs)
    per_head = head.linear.weight.unflatten(0, (head.heads, -1))  # rounding happens before averaging
    size = torch.linalg.vector_norm(per_head, dim=-1).mean(0)  # [classes]
    offset = head.linear.bias.abs().unflatten(0, (head.heads, -1)).mean(0)
    terms = rounding(weight.size(1) + head.heads + 1, weight.dtype)
    length = torch.linalg.vector_norm(inputs, dim=-1, keepdim=True)  # [M, 1]
    if binary:
        gap, slope = logits.abs(), torch.linalg.vector_norm(weight, dim=-1)
        error, constant = terms * size, terms * offset
    else:
        apart = torch.cdist(weight, weight, compute_mode="donot_use_mm_for_euclid_dist")
        best = logits.argmax(-1)
        gap, slope = logits.gather(1, best.unsqueeze(1)) - logits, apart[best]
        error, constant = (
            terms * (size + size[best].unsqueeze(1)),
            terms * (offset + offset[best].unsqueeze(1)),
        )
    radius = (gap - 2 * (error * length + constant)) / (slope + error)
    if not binary:
        radius = radius.scatter(1, best.unsqueeze(1), torch.inf)
    return radius.amin(-1).clamp(min=0)
