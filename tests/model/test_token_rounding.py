"""Tokens that rounding does not choose: the start, the scores, the lengths, ties and what is revived."""

from __future__ import annotations

import pytest
import torch
from samples import EXACT, small_model
from torch.nn import functional as F

from stemlib.model.tokens import TokenInterface, best_codes, centred, perplexity

WIDTH = 5


def interface(*, codes: int, code_width: int) -> TokenInterface:
    torch.manual_seed(0)
    return TokenInterface(small_model(codebook="ema", codes=codes, code_width=code_width), WIDTH)


def alike(points: int, seed: int = 0, width: int = 32) -> torch.Tensor:
    """Queries `[points, 2, width]` with cosines of 0.997, as those of a network before training."""
    noise = torch.randn(points, 2, width, generator=torch.Generator().manual_seed(seed))
    return F.normalize(torch.ones(width) + 0.055 * noise, dim=-1)


def rounded_otherwise(values: torch.Tensor) -> torch.Tensor:
    """The same numbers with errors in the last digit, and of the length, that another order of sums would make."""
    noise = 1 + 1e-7 * torch.randn(values.shape, generator=torch.Generator().manual_seed(9))
    return values * noise * (1 + 1e-7 * torch.randn(len(values), 1, 1, generator=torch.Generator().manual_seed(10)))


@pytest.mark.parametrize("seed", range(3))
def test_rounding_moves_no_code_of_the_start(seed: int) -> None:
    tokens, queries = interface(codes=64, code_width=32), alike(800, seed)
    found = []
    for given_queries in (queries, rounded_otherwise(queries)):
        torch.manual_seed(seed)
        tokens.start(given_queries)
        indices = best_codes(torch.einsum("mhd,hcd->mhc", given_queries, centred(tokens.codebook.detach())))
        found.append((tokens.codebook.clone(), indices))
    (codes, indices), (moved, others) = found
    torch.testing.assert_close(moved, codes, atol=1e-5, rtol=0)
    assert torch.equal(indices, others)
    assert perplexity(indices, 64).min() > 40


def test_centred_codes_keep_the_order_and_lose_a_fiftieth_of_the_digits_that_others_lose() -> None:
    codes, queries = alike(64).transpose(0, 1), alike(500, seed=1)
    exact = torch.einsum("mhd,hcd->mhc", queries.double(), codes.double())

    def error(codes: torch.Tensor) -> float:
        """Of a difference between scores, in float32."""
        scores = torch.einsum("mhd,hcd->mhc", queries, codes).double()
        return ((scores - scores[..., :1]) - (exact - exact[..., :1])).abs().max().item()

    assert error(codes) > 1e-7
    assert error(centred(codes)) < 2e-8
    kept = torch.einsum("mhd,hcd->mhc", queries.double(), centred(codes.double()))
    torch.testing.assert_close(kept - kept[..., :1], exact - exact[..., :1], **EXACT)


def test_an_ema_step_leaves_no_code_longer_than_another() -> None:
    tokens = interface(codes=64, code_width=32).train()
    queries = alike(800)
    tokens.start(queries)
    tokens._follow(queries, best_codes(torch.einsum("mhd,hcd->mhc", queries, centred(tokens.codebook.detach()))))
    lengths = tokens.codebook.detach().double().norm(dim=-1)
    assert (lengths - 1).abs().max() < 2e-8  # the rounding of single entries, none of the length


def test_the_first_of_codes_that_tie_is_taken() -> None:
    scores = torch.tensor([[[0.2, 0.5, 0.5 * (1 + 1e-7), 0.5]], [[0.5, 0.5 * (1 + 1e-5), 0.1, 0.5]]])
    assert best_codes(scores).tolist() == [[1], [1]]
    assert torch.equal(best_codes(7 * scores), best_codes(scores))  # of a query of another length
    assert torch.equal(best_codes(scores.double()), best_codes(scores))
    assert best_codes(torch.zeros(1, 1, 3)).tolist() == [[0]]
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    many = torch.randn(40, 2, 9, generator=torch.Generator().manual_seed(1))
    assert torch.equal(best_codes(many[order]), best_codes(many)[order])


def test_a_code_that_lies_twice_in_the_codebook_is_always_the_first_of_the_two() -> None:
    tokens = interface(codes=8, code_width=32).eval()
    tokens.start(alike(3))  # three queries for eight codes
    found = tokens(3 * torch.randn(500, WIDTH)).indices
    twins = torch.einsum("hcd,hbd->hcb", tokens.codebook.double(), tokens.codebook.double()) > 1 - 1e-12
    first = twins.float().argmax(-1)  # of those that are equal
    assert torch.equal(first.gather(1, found.T).T, found)


def test_what_revives_is_drawn_alike_whatever_is_dead() -> None:
    drawn = []
    for dead in (0, 3):
        tokens, queries = interface(codes=8, code_width=32).train(), alike(50)
        tokens.start(queries)
        tokens.use[0, :dead] = 0.0
        torch.manual_seed(4)
        tokens._follow(queries, torch.full((50, 2), 7))
        drawn.append(torch.rand(3))
    assert torch.equal(*drawn)
