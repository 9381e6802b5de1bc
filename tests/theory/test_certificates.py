"""A certificate is a promise: by hand, at its edge, and against a search for counter-examples inside it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from routed_samples import seeds
from samples import small_model
from torch import Tensor
from torch.nn import functional as F

from stemlib.model.head import AveragedHead
from stemlib.model.tokens import TIE, TokenInterface, best_codes, centred
from stemlib.theory.certificates import DecisionCertificate, TokenCertificate

TRIES = 10_000
PRECISIONS = [torch.float32, torch.float64]
INSIDE = 1 - 1e-6  # of the radius
some = settings(max_examples=20)


def token_interface(codes: int = 16, width: int = 12, seed: int = 0, unit: bool = True) -> TokenInterface:
    torch.manual_seed(seed)
    tokens = TokenInterface(small_model(heads=3, codes=codes, code_width=width), 8).eval()
    if not unit:
        tokens.codebook.data *= 0.2 + 2 * torch.rand(3, codes, 1)
    return tokens


def codes_of(tokens: TokenInterface, queries: Tensor) -> Tensor:
    """Which codes queries `[M, H, d_c]` get, by the model's own rule."""
    return best_codes(torch.einsum("mhd,hcd->mhc", queries, centred(tokens.codebook)))


def rescaled(direction: Tensor, length: Tensor) -> Tensor:
    """Vectors `[..., d]` of the given lengths `[...]`."""
    return F.normalize(direction, dim=-1) * length.unsqueeze(-1)


def test_margins_by_hand() -> None:
    """Codes at 0, 90 and 180 degrees, query at 30: the border is at 45 degrees, `sin 15` away."""
    codebook = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]]).double()
    angle = math.radians(30)
    query = torch.tensor([[[math.cos(angle), math.sin(angle)]]]).double()
    margin = TokenCertificate(codebook).margins(query, torch.tensor([[0]]))
    assert margin.item() == pytest.approx(math.sin(math.radians(15)), abs=3 * TIE)


def test_equal_codes_are_one_token_and_close_ones_none() -> None:
    codebook = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]]).double()
    query, first = torch.tensor([[[1.0, 0.0]]]).double(), torch.tensor([[0]])
    assert TokenCertificate(codebook).margins(query, first).item() == pytest.approx(math.sqrt(0.5), abs=3 * TIE)
    assert TokenCertificate(codebook[:, :2]).margins(query, first).item() == math.inf
    codebook[0, 1, 1] = 1e-16
    assert TokenCertificate(codebook).margins(query, first).item() == 0


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("unit", [True, False])
def test_no_query_inside_the_margin_changes_its_code(dtype: torch.dtype, unit: bool) -> None:
    """Random perturbations, and projected gradient ascent on the rival codes' scores."""
    tokens = token_interface(unit=unit).to(dtype)
    with torch.no_grad():
        queries = tokens.queries(torch.randn(TRIES, 8, dtype=dtype))
        best = codes_of(tokens, queries)
        margin = TokenCertificate(tokens.codebook).margins(queries, best)
        assert (margin > 0).double().mean() > 0.99
        random = queries + rescaled(torch.randn_like(queries), INSIDE * margin)
        assert torch.equal(codes_of(tokens, random), best)
    assert torch.equal(codes_of(tokens, ascent(tokens.codebook, queries, best, margin)), best)


def ascent(codebook: Tensor, queries: Tensor, best: Tensor, margin: Tensor, steps: int = 20) -> Tensor:
    """Queries pushed towards the nearest rival code's win, projected onto the ball of the certified radius."""
    shift = rescaled(torch.randn_like(queries), INSIDE * margin * torch.rand_like(margin))
    codebook = codebook.detach()
    for _ in range(steps):
        shift.requires_grad_()
        score = torch.einsum("mhd,hcd->mhc", queries + shift, codebook)
        own = score.gather(2, best.unsqueeze(2)).squeeze(2)
        rival = score.scatter(2, best.unsqueeze(2), -math.inf).amax(2)
        (slope,) = torch.autograd.grad((rival - own).sum(), shift)
        shift = shift.detach() + rescaled(slope, margin / 4)
        length = torch.linalg.vector_norm(shift, dim=-1)
        shift = torch.where((length > INSIDE * margin).unsqueeze(-1), rescaled(shift, INSIDE * margin), shift)
    return (queries + shift).detach()


@some
@given(seeds, st.integers(2, 9), st.integers(1, 7), st.booleans())
def test_the_margin_is_tight(seed: int, codes: int, width: int, unit: bool) -> None:
    """The nearest border lies on the way to one rival: beyond the margin, and a tie, that rival wins; before it not."""
    tokens = token_interface(codes, width, seed, unit).double()
    with torch.no_grad():
        queries = tokens.queries(torch.randn(30, 8).double())
        best = codes_of(tokens, queries)
        margin = TokenCertificate(tokens.codebook).margins(queries, best)
        away = tokens.codebook.unsqueeze(0) - tokens.lookup(best).unsqueeze(2)  # [M, H, C, d_c]
        length = margin.view(30, 3, 1, 1)
        longest = torch.linalg.vector_norm(centred(tokens.codebook), dim=-1).amax(1).view(3, 1, 1)
        tie = 4 * TIE * longest * (1 + length) / torch.linalg.vector_norm(away, dim=-1, keepdim=True).clamp(min=1e-9)
        for stretch, flips in (((1 - 1e-6) * length, False), ((1 + 1e-6) * length + tie, True)):
            moved = (queries.unsqueeze(2) + stretch * F.normalize(away, dim=-1)).flatten(0, 1)  # [M H, C, d_c]
            score = moved @ centred(tokens.codebook).repeat(30, 1, 1).mT
            flipped = (best_codes(score) != best.flatten().unsqueeze(1)).any(1)
            reached = (margin > 1e-9).flatten() & margin.flatten().isfinite()
            assert (flipped[reached] == flips).all()


def decision(classes: int, seed: int = 0, heads: int = 3) -> AveragedHead:
    torch.manual_seed(seed)
    head = AveragedHead(12, classes, heads)
    head.linear.weight.data *= 3
    return head


def test_radii_by_hand() -> None:
    """Logits (3, 0) with weights (1, 0) and (0, 1): the border is `3 / sqrt(2)` away."""
    head = AveragedHead(2, 2, 1).double()
    head.linear.weight.data = torch.eye(2).double()
    head.linear.bias.data.zero_()
    inputs = torch.tensor([[3.0, 0.0]]).double()
    radius = DecisionCertificate(head, binary=False).radii(inputs, head(inputs))
    assert radius.item() == pytest.approx(3 / math.sqrt(2))
    inputs = torch.tensor([[3.0, -0.5]]).double()
    radius = DecisionCertificate(head, binary=True).radii(inputs, head(inputs))
    assert radius.item() == pytest.approx(0.5)


def test_a_single_class_never_changes() -> None:
    head = decision(1)
    inputs = torch.randn(2, 12)
    assert DecisionCertificate(head, binary=False).radii(inputs, head(inputs)).tolist() == [math.inf] * 2


def decide(logits: Tensor, binary: bool) -> Tensor:
    return (logits > 0).long() if binary else logits.argmax(-1, keepdim=True)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize(("binary", "bias"), [(False, 0.0), (True, 0.0), (False, 1000.0)])
def test_no_input_inside_the_radius_changes_the_decision(dtype: torch.dtype, binary: bool, bias: float) -> None:
    """Random perturbations, and steps straight at the border of every other class; also far from zero."""
    head = decision(5).to(dtype)
    head.linear.bias.data += bias
    with torch.no_grad():
        inputs = torch.randn(TRIES, 12, dtype=dtype)
        logits = head(inputs)
        radius = DecisionCertificate(head, binary).radii(inputs, logits)
        assert (radius > 0).double().mean() > 0.99
        random = inputs + rescaled(torch.randn_like(inputs), INSIDE * radius)
        assert torch.equal(decide(head(random), binary), decide(logits, binary))
        for moved in at_the_borders(head, inputs, logits, INSIDE * radius, binary):
            assert torch.equal(decide(head(moved), binary), decide(logits, binary))


def at_the_borders(head: AveragedHead, inputs: Tensor, logits: Tensor, length: Tensor, binary: bool) -> list[Tensor]:
    """The inputs moved by `length` towards each class's border: the gradient of a linear map is its weight."""
    weight = head.effective_weight
    if binary:
        directions = [-logits[:, t : t + 1].sign() * weight[t] for t in range(len(weight))]
    else:
        directions = [weight[c] - weight[logits.argmax(-1)] for c in range(len(weight))]
    return [inputs + rescaled(direction, length) for direction in directions]


@some
@given(seeds, st.integers(2, 6), st.booleans())
def test_the_radius_is_tight(seed: int, classes: int, binary: bool) -> None:
    head = decision(classes, seed).double()
    with torch.no_grad():
        inputs = torch.randn(40, 12).double()
        logits = head(inputs)
        radius = DecisionCertificate(head, binary).radii(inputs, logits)
        moved = at_the_borders(head, inputs, logits, (1 + 1e-6) * radius, binary)
        changed = [(decide(head(x), binary) != decide(logits, binary)).any(1) for x in moved]
        assert torch.stack(changed).any(0)[radius > 1e-6].all()


def test_rounding_shortens_the_radii() -> None:
    """In float32 the promise is weaker than in float64, by about a rounding error and no more."""
    tokens = token_interface()
    with torch.no_grad():
        queries = tokens.queries(torch.randn(200, 8))
        best = codes_of(tokens, queries)
        single = TokenCertificate(tokens.codebook).margins(queries, best)
        double = TokenCertificate(tokens.codebook.double()).margins(queries.double(), best)
    assert (single <= double).all()
    assert (double - single).max() < 1e-4
