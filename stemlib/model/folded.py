"""Tokens and head folded into tables, for passes that ask for tokens or logits and nothing else.

Which code wins does not depend on a query's length, so projection and codebook become one matrix; and each code of each
head adds a fixed vector to the logits. Equal to the model's own up to rounding, several times cheaper.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from stemlib.model.experts import blocks
from stemlib.model.stem import StemGNN
from stemlib.model.tokens import TokenInterface, best_codes, centred

Classify = Callable[[Tensor], Tensor]


def folded_tokens(tokens: TokenInterface) -> Callable[[Tensor], Tensor]:
    """The function from embeddings `[M, d]` to token indices `[M, H]`."""
    project = tokens.project_in.weight.unflatten(0, (tokens.heads, -1))  # [H, d_c, d]
    offset = tokens.project_in.bias.unflatten(0, (tokens.heads, -1))
    codes = centred(tokens.codebook)
    match = (codes @ project).flatten(0, 1).T  # [d, H C]
    match_offset = torch.einsum("hcd,hd->hc", codes, offset).flatten()

    def best(z: Tensor) -> Tensor:
        return best_codes(torch.addmm(match_offset, z, match).unflatten(-1, (tokens.heads, -1)))

    return lambda z: torch.cat([best(z[rows]) for rows in blocks(z)])  # scores are not kept for all at once


def folded_classifier(model: StemGNN) -> Classify:
    """The function `model.classify` from embeddings `[M, d]` to logits `[M, classes]`; rounded tokens have no table."""
    if model.tokens is None:
        return model.head
    if model.coded is None:
        return lambda z: model.classify(z)[0]
    indices_of = folded_tokens(model.tokens)
    weight = model.head.effective_weight.unflatten(1, (model.tokens.heads, -1))  # [classes, H, d_c]
    logits_of = torch.einsum("khd,hcd->hck", weight, model.tokens.codebook)
    first = torch.arange(0, logits_of[..., 0].numel(), logits_of.size(1), device=logits_of.device)  # row of each head
    table, bias = logits_of.flatten(0, 1), model.head.effective_bias
    return lambda z: F.embedding_bag(indices_of(z) + first, table, mode="sum") + bias
