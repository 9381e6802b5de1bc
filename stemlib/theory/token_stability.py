"""What tokens and head make of a perturbed embedding: absorbed, passed on, or amplified.

Tokens are a jump map. They absorb a perturbation only where the gain `sum ||dq||^2 / sum ||du||^2` from the queries'
change `du` to the codes' change `dq` is below 1, which is measured here, not assumed: Statement 3.7 of docs/theory.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from stemlib.model.stem import StemGNN
from stemlib.model.tokens import Tokens, perplexity
from stemlib.theory.certificates import DecisionCertificate, TokenCertificate
from stemlib.theory.gate_bounds import tightness


@dataclass(frozen=True)
class TokenStability:
    """The tokens of `M` instances, clean and perturbed.

    Attributes:
        clean, perturbed: token indices `[M, H]`.
        query_change: `||u' - u||` of every head `[M, H]`.
        code_change: `||c' - c||` of every head `[M, H]`; 0 where the head keeps its code. Equal codes count as one.
        margin: radius of every clean query `[M, H]`.
        codes: size of a codebook.
    """

    clean: Tensor
    perturbed: Tensor
    query_change: Tensor
    code_change: Tensor
    margin: Tensor
    codes: int

    @property
    def flipped(self) -> Tensor:
        """Which heads changed their code, `[M, H]`."""
        return self.code_change > 0

    @property
    def flip_rate(self) -> float:
        """Share of flipped heads."""
        return self.flipped.double().mean().item()

    @property
    def gain(self) -> float:
        """`sum ||dq||^2 / sum ||du||^2`; below 1 the tokens absorb. NaN where no query moved."""
        return tightness(self.code_change.square(), self.query_change.square())

    @property
    def explained(self) -> Tensor:
        """Instances whose heads all moved by less than their margin, `[M]`: why their logits did not change.

        An explanation afterwards, since it needs the perturbed pass; `stemlib.theory.a_priori` promises beforehand.
        """
        return (self.query_change < self.margin).all(1)

    @property
    def kept(self) -> Tensor:
        """Instances whose heads all kept their code, `[M]`; the explained ones are among them."""
        return ~self.flipped.any(1)

    @property
    def perplexities(self) -> tuple[float, float]:
        """Perplexity of clean and perturbed tokens, mean over heads."""
        clean, perturbed = (perplexity(tokens, self.codes).mean() for tokens in (self.clean, self.perturbed))
        return clean.item(), perturbed.item()

    def summary(self) -> dict[str, float]:
        """Rates, gain and perplexities as one row."""
        clean, perturbed = self.perplexities
        return {
            "token_flip_rate": self.flip_rate,
            "token_gain": self.gain,
            "tokens_explained": self.explained.double().mean().item(),
            "tokens_kept": self.kept.double().mean().item(),
            "perplexity": clean,
            "perplexity_perturbed": perturbed,
        }


@dataclass(frozen=True)
class HeadStability:
    """The head's input and output for `M` instances.

    Attributes:
        input_change: `||dq||` `[M]` of the concatenated codes, or of the embedding where there are no tokens.
        logit_change: `||d logits||` `[M]`.
        radius: radius of the clean decision `[M]`.
        same_decision: whether the perturbed instance gets the same class (all the same binary labels) `[M]`.
        norms: three Lipschitz constants of the head, from tightest to loosest.
    """

    input_change: Tensor
    logit_change: Tensor
    radius: Tensor
    same_decision: Tensor
    norms: dict[str, float]

    @property
    def explained(self) -> Tensor:
        """Instances whose input moved by less than the decision's radius, `[M]`: the decision had to stay."""
        return self.input_change < self.radius

    def tightness(self, norm: str) -> float:
        """Observed over bound, `sum ||d logits|| / sum norm ||dq||`; NaN where no input moved."""
        return tightness(self.logit_change, self.norms[norm] * self.input_change)

    def summary(self) -> dict[str, float]:
        """Norms, how tight each is, and decisions explained and kept, as one row."""
        row = {f"head_{norm}": value for norm, value in self.norms.items()}
        row |= {f"head_tightness_{norm}": self.tightness(norm) for norm in self.norms}
        row["decisions_explained"] = self.explained.double().mean().item()
        row["decisions_kept"] = self.same_decision.double().mean().item()
        return row


class Reading(NamedTuple):
    """What the model makes of embeddings.

    Attributes:
        tokens: None for a model without any.
        codes: the head's input `[M, H d_c]`: codes as they stand in the codebook, or the embeddings.
        logits: `[M, classes]`.
    """

    tokens: Tokens | None
    codes: Tensor
    logits: Tensor


def read(model: StemGNN, z: Tensor) -> Reading:
    """Tokens, codes and logits of embeddings `[M, d]`."""
    tokens = model.tokens(z) if model.tokens is not None else None
    codes = z if tokens is None else tokens.codes
    return Reading(tokens, codes, model.head(codes))


def compare_tokens(certificate: TokenCertificate, before: Reading, after: Reading) -> dict[str, Tensor]:
    """The per-instance fields of `TokenStability` from the clean and the perturbed reading."""
    queries = before.tokens.queries
    return {
        "clean": before.tokens.indices,
        "perturbed": after.tokens.indices,
        "query_change": torch.linalg.vector_norm(after.tokens.queries - queries, dim=-1),
        "code_change": certificate.distances(before.tokens.indices, after.tokens.indices),
        "margin": certificate.margins(queries, before.tokens.indices),
    }


def compare_head(certificate: DecisionCertificate, before: Reading, after: Reading) -> dict[str, Tensor]:
    """The per-instance fields of `HeadStability` from the clean and the perturbed reading."""
    if certificate.binary:
        same = ((before.logits > 0) == (after.logits > 0)).all(-1)
    else:
        same = before.logits.argmax(-1) == after.logits.argmax(-1)
    change = after.codes - before.codes
    return {
        "input_change": torch.linalg.vector_norm(change, dim=-1),
        "logit_change": torch.linalg.vector_norm(after.logits - before.logits, dim=-1),
        "radius": certificate.radii(before.codes, before.logits),
        "same_decision": same,
    }
