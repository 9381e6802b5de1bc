"""The vector-quantised token interface: each embedding becomes one code per head.

    a_h = P_h z + b_h,   u_h = a_h / ||a_h||,   token_h = argmax_c <u_h, C_h[c]>

The head reads the codes of all heads, concatenated, and gradients pass straight through to the queries. There are three
kinds of codebook: in the authors' implementation (`reference`) only the orthogonality term ever moves a code; `ema`
follows the data by an exponential moving average, with a k-means start and revival of dead codes; `learnable` follows
it by gradient. vector-quantize-pytorch computes the same tokens (a test compares the two); it is not used here because
it always computes its losses and the projection back, and returns neither queries nor codes, which the theory needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from stemlib.presets import ModelConfig

EMA_DECAY = 0.9
DEAD_BELOW = 0.05  # of the mean use of a code: below it a query replaces the code
KMEANS_STEPS = 10
TIE = 1e-6  # of the largest score: codes that are no further behind count as equal
TINY = 1e-12  # length below which a projection has no direction


@dataclass
class Tokens:
    """The tokens of `M` embeddings.

    Attributes:
        codes: the chosen codes of all heads, straight-through, `[M, H * d_c]`.
        indices: which code each head chose, `[M, H]`.
        projected: what the codes stand for, `a_h` above, `[M, H, d_c]`.
    """

    codes: Tensor
    indices: Tensor
    projected: Tensor

    @property
    def queries(self) -> Tensor:
        """`projected` as unit vectors `u_h`, `[M, H, d_c]`."""
        return F.normalize(self.projected, dim=-1)


class _StraightThrough(torch.autograd.Function):
    """The codes, whose gradient is passed on to `u = a / ||a||`.

    Like `u + (codes - u).detach()`, without its rounding and the six tensors `[M, H, d_c]` that it would write.
    """

    @staticmethod
    def forward(ctx: Any, projected: Tensor, codes: Tensor) -> Tensor:
        ctx.save_for_backward(projected)
        return codes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (a,) = ctx.saved_tensors
        length = torch.linalg.vector_norm(a, dim=-1, keepdim=True).clamp_(min=TINY)
        along = (grad.unsqueeze(-2) @ a.unsqueeze(-1)).squeeze(-1) / length.square()
        return torch.addcmul(grad, along, a, value=-1).div_(length), None


straight_through = _StraightThrough.apply  # of projections and codes `[M, H, d_c]`


class TokenInterface(nn.Module):
    """Multi-head cosine vector quantisation with one codebook per head, `[M, width] -> Tokens`."""

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        code_width = config.code_width or width
        self.kind = config.codebook
        self.project_in = nn.Linear(width, config.heads * code_width)
        self.project_out = nn.Linear(config.heads * code_width, width)
        start = F.normalize(torch.randn(config.heads, config.codes, code_width), dim=-1)
        self.codebook = nn.Parameter(start, requires_grad=config.codebook != "ema")
        self.register_buffer("use", torch.ones(config.heads, config.codes))
        self.register_buffer("total", start.clone())
        self.register_buffer("started", torch.tensor(False))
        self.frozen = False
        self._knows_started = False  # so that a GPU need not be asked in every step
        self.register_load_state_dict_post_hook(lambda module, _: setattr(module, "_knows_started", False))

    @property
    def heads(self) -> int:
        """Number of heads `H`, and so of codebooks."""
        return self.codebook.size(0)

    def freeze(self) -> None:
        """Freeze projection and codes for good, as the reference does while fine-tuning."""
        self.frozen = True
        self.requires_grad_(False)

    def queries(self, z: Tensor) -> Tensor:
        """Unit queries `[M, H, d_c]` of embeddings `[M, width]`."""
        return F.normalize(self.project_in(z).unflatten(-1, (self.heads, -1)), dim=-1)

    def lookup(self, indices: Tensor) -> Tensor:
        """The codes `[M, H, d_c]` that `indices` `[M, H]` name."""
        return self.codebook[torch.arange(self.heads, device=indices.device), indices]

    def forward(self, z: Tensor) -> Tokens:
        """The tokens of embeddings; in training an `ema` codebook steps towards their queries, unless it is frozen.

        The paper's token interface; for what it does to a perturbation see Statements 3.6 and 3.7 of docs/theory.md.

        Args:
            z: embeddings `[M, width]`.

        Example:
            >>> tokens = TokenInterface(ModelConfig(heads=4, codes=16, code_width=8), width=32).eval()
            >>> found = tokens(torch.randn(5, 32))
            >>> found.indices.shape, found.codes.shape
            (torch.Size([5, 4]), torch.Size([5, 32]))
            >>> torch.equal(found.codes, tokens.lookup(found.indices).flatten(1))
            True
        """
        projected = self.project_in(z).unflatten(-1, (self.heads, -1))
        learns = self.training and not self.frozen and self.kind == "ema"
        queries = F.normalize(projected.detach(), dim=-1) if learns else projected.detach()
        if learns and not self._knows_started:
            if not self.started:
                self.start(queries)
            self._knows_started = True
        # A query's length does not change which code is the best.
        indices = best_codes(torch.einsum("mhd,hcd->mhc", queries, centred(self.codebook.detach())))
        codes = straight_through(projected, self.lookup(indices).detach())
        if learns:
            self._follow(queries, indices)
        return Tokens(codes.flatten(1), indices, projected)

    def reconstruct(self, tokens: Tokens) -> Tensor:
        """The tokens mapped back to the embedding's space, `[M, width]`; only pretraining reads them."""
        return self.project_out(tokens.codes)

    def commitment(self, tokens: Tokens) -> Tensor:
        """Mean squared distance between queries and codes; a learnable codebook is also pulled towards its queries."""
        codes = self.lookup(tokens.indices)
        pull = F.mse_loss(tokens.queries, codes.detach())
        return pull + F.mse_loss(codes, tokens.queries.detach()) if self.kind == "learnable" else pull

    def orthogonality(self) -> Tensor:
        """`mean_h (||cos(C_h C_h^T)||_F^2 / codes^2 - 1 / codes)`: 0 where all codes are orthogonal."""
        unit = F.normalize(self.codebook, dim=-1)
        codes = unit.size(1)
        return (unit @ unit.mT).square().sum((1, 2)).mean() / codes**2 - 1 / codes

    @torch.no_grad()
    def start(self, queries: Tensor) -> None:
        """Spherical k-means on `[M, H, d_c]` queries; with fewer queries than codes some codes repeat.

        In double precision, lengths included: one point that changes its code by rounding moves codes by a hundredth.
        """
        codes = self.codebook.size(1)
        for head in range(self.heads):
            points = F.normalize(queries[:, head].double(), dim=-1)
            order = torch.randperm(len(points), device=points.device)
            centres = points[order[torch.arange(codes, device=points.device) % len(points)]]
            for _ in range(KMEANS_STEPS):
                nearest = best_codes(points @ centred(centres).T)
                sums = torch.zeros_like(centres).index_add_(0, nearest, points)
                centres = torch.where(sums.any(1, keepdim=True), F.normalize(sums, dim=-1), centres)
            self.codebook[head] = centres
        self.total.copy_(self.codebook)
        self.use.fill_(1.0)
        self.started.fill_(True)

    @torch.no_grad()
    def _follow(self, queries: Tensor, indices: Tensor) -> None:
        """One exponential-moving-average step of every code towards its queries; dead codes revive."""
        codes = self.codebook.size(1)
        chosen = (indices.unsqueeze(-1) == torch.arange(codes, device=indices.device)).to(queries.dtype)  # [M, H, C]
        share = chosen.mean(0) * codes  # 1 for a code of average use
        sums = torch.einsum("mhc,mhd->hcd", chosen, queries) * (codes / len(queries))
        self.use.lerp_(share, 1 - EMA_DECAY)
        self.total.lerp_(sums, 1 - EMA_DECAY)
        dead = self.use < DEAD_BELOW
        pick = torch.randint(len(queries), dead.shape, device=dead.device)
        fresh = queries[pick, torch.arange(self.heads, device=dead.device).unsqueeze(1)]
        self.total.copy_(torch.where(dead.unsqueeze(-1), fresh, self.total))
        self.use.masked_fill_(dead, 1.0)
        # A length that is wrong in the last digit favours a code over all of its neighbours.
        self.codebook.copy_(F.normalize(self.total.double(), dim=-1))


def centred(codes: Tensor) -> Tensor:
    """Codes `[..., C, d_c]` less their mean: their scores keep the same order, and more digits.

    Queries of one network are alike (cosines of 0.996 before training), so that all scores are close to one, and
    float32 rounds away the differences that decide.
    """
    return codes - codes.mean(-2, keepdim=True)


def best_codes(scores: Tensor) -> Tensor:
    """The code of largest score, the first of those that tie (see `TIE`), `[M, H]` from `[M, H, C]`.

    Args:
        scores: inner products with `centred` codes, or these times a length: the largest is at least 0.

    On a CPU largest values are found twenty times faster than their places (`argmax`); so places become values here.
    """
    places = torch.arange(scores.size(-1), 0, -1.0, device=scores.device)  # the first counts most
    scores = scores.detach()
    top = scores.amax(-1, keepdim=True)
    largest = torch.ge(scores, top - TIE * top.abs(), out=torch.empty_like(scores))
    return (scores.size(-1) - largest.mul_(places).amax(-1)).long().clamp_(max=scores.size(-1) - 1)  # for NaN the last


def perplexity(indices: Tensor, codes: int) -> Tensor:
    """How many codes each head uses in effect: `exp` of the entropy of its token frequencies, `[H]`.

    Args:
        indices: tokens `[M, H]`.
        codes: size of the codebook; the perplexity lies in 1..codes.
    """
    frequency = F.one_hot(indices, codes).double().mean(0)
    return torch.special.entr(frequency).sum(-1).exp()
