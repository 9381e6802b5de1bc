"""The token interface: round trips, gradients, how each kind of codebook learns, an independent oracle."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import EXACT, few, small_model
from torch.nn import functional as F

from stemlib.model.tokens import TokenInterface, perplexity

KINDS = ("reference", "ema", "learnable")
WIDTH = 5


def interface(kind: str = "reference", *, seed: int = 0, **settings: object) -> TokenInterface:
    torch.manual_seed(seed)
    return TokenInterface(small_model(codebook=kind, **settings), WIDTH)


def clusters(points: int = 300, count: int = 4, noise: float = 0.05) -> torch.Tensor:
    """Embeddings `[points, WIDTH]` in a few directions."""
    centres = 3 * torch.randn(count, WIDTH)
    return centres[torch.arange(points) % count] + noise * torch.randn(points, WIDTH)


# Two dimensions at least: in one all codes are signs, and tie.
shapes = {"heads": st.integers(1, 4), "codes": st.integers(2, 9), "code_width": st.integers(2, 6)}


@few
@given(**shapes, seed=st.integers(0, 2**31))
def test_indices_name_the_codes_of_largest_inner_product(heads: int, codes: int, code_width: int, seed: int) -> None:
    tokens = interface(seed=seed, heads=heads, codes=codes, code_width=code_width).double().eval()
    z = torch.randn(11, WIDTH, dtype=torch.double)
    out = tokens(z)
    assert out.indices.shape == (11, heads)
    assert out.queries.shape == (11, heads, code_width)
    assert out.codes.shape == (11, heads * code_width)
    torch.testing.assert_close(out.queries.norm(dim=-1), torch.ones(11, heads).double(), **EXACT)
    projected = tokens.project_in(z).view(11, heads, code_width)
    for head in range(heads):
        similarity = F.cosine_similarity(projected[:, head, None], tokens.codebook[None, head], dim=-1)
        assert torch.equal(out.indices[:, head], similarity.argmax(-1))


@few
@given(**shapes, seed=st.integers(0, 2**31))
def test_index_to_code_and_back(heads: int, codes: int, code_width: int, seed: int) -> None:
    tokens = interface(seed=seed, heads=heads, codes=codes, code_width=code_width).double().eval()
    out = tokens(torch.randn(9, WIDTH, dtype=torch.double))
    looked_up = tokens.lookup(out.indices)
    torch.testing.assert_close(out.codes, looked_up.flatten(1), **EXACT)
    every = torch.arange(codes).unsqueeze(1).expand(codes, heads)
    assert torch.equal(tokens.lookup(every), tokens.codebook.transpose(0, 1))
    back = torch.einsum("mhd,hcd->mhc", looked_up, tokens.codebook).argmax(-1)
    assert torch.equal(back, out.indices)


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("code_width", [5, 3])
def test_evaluation_equals_vector_quantize_pytorch(heads: int, code_width: int) -> None:
    """An implementation by others, with the same weights: the same tokens, the same quantised output."""
    library = pytest.importorskip("vector_quantize_pytorch", reason="pip install vector-quantize-pytorch")
    oracle = library.VectorQuantize(
        dim=WIDTH,
        codebook_dim=code_width,
        codebook_size=6,
        heads=heads,
        separate_codebook_per_head=True,
        use_cosine_sim=True,
    ).eval()
    tokens = interface(heads=heads, code_width=code_width).eval()
    state = tokens.state_dict()
    embed = oracle.state_dict()["_codebook.embed"]
    assert embed.shape == tokens.codebook.shape
    theirs = {name: state[name] for name in state if name.startswith("project") and name in oracle.state_dict()}
    oracle.load_state_dict(theirs | {"_codebook.embed": state["codebook"]}, strict=False)
    if heads == 1 and code_width == WIDTH:  # the library then projects nothing
        torch.nn.init.eye_(tokens.project_in.weight)
        torch.nn.init.eye_(tokens.project_out.weight)
        torch.nn.init.zeros_(tokens.project_in.bias)
        torch.nn.init.zeros_(tokens.project_out.bias)
    z = torch.randn(40, WIDTH)
    quantised, indices, _ = oracle(z.unsqueeze(0))
    ours = tokens(z)
    assert torch.equal(ours.indices, indices.view(40, heads))
    assert ours.indices.unique().numel() > 2
    torch.testing.assert_close(tokens.reconstruct(ours), quantised[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_pass_straight_through_to_the_queries(kind: str) -> None:
    tokens = interface(kind).double().eval()
    z = torch.randn(7, WIDTH, dtype=torch.double, requires_grad=True)
    weight = torch.randn(7, 2 * WIDTH, dtype=torch.double)
    (through,) = torch.autograd.grad((tokens(z).codes * weight).sum(), z)
    (direct,) = torch.autograd.grad((tokens.queries(z).flatten(1) * weight).sum(), z)
    torch.testing.assert_close(through, direct, **EXACT)
    assert through.abs().sum() > 0


def data_gradient(tokens: TokenInterface, z: torch.Tensor) -> torch.Tensor | None:
    """The codebook's gradient from a task and from the commitment term."""
    out = tokens(z)
    (out.codes.square().sum() + tokens.reconstruct(out).sum() + tokens.commitment(out)).backward()
    return tokens.codebook.grad


def test_only_the_orthogonality_term_moves_a_code_of_the_reference() -> None:
    tokens, z = interface("reference"), torch.randn(20, WIDTH)
    assert data_gradient(tokens, z) is None
    tokens.orthogonality().backward()
    assert tokens.codebook.grad.abs().sum() > 0
    before = tokens.codebook.clone()
    tokens.train()(z)
    assert torch.equal(tokens.codebook, before)


def test_a_learnable_codebook_is_pulled_to_its_queries() -> None:
    tokens, z = interface("learnable").train(), clusters()
    assert data_gradient(tokens, z).abs().sum() > 0
    optimiser = torch.optim.SGD([tokens.codebook], lr=5.0)
    first = tokens.commitment(tokens(z)).item()
    for _ in range(50):
        optimiser.zero_grad()
        tokens.commitment(tokens(z)).backward()
        optimiser.step()
    assert tokens.commitment(tokens(z)).item() < 0.5 * first


def test_commitment_by_hand() -> None:
    for kind, times in (("reference", 1), ("ema", 1), ("learnable", 2)):
        tokens = interface(kind).eval()
        out = tokens(torch.randn(6, WIDTH))
        distance = (out.queries - tokens.lookup(out.indices)).square().mean()
        torch.testing.assert_close(tokens.commitment(out), times * distance)
        tokens.commitment(out).backward()
        assert tokens.project_in.weight.grad.abs().sum() > 0


def test_orthogonality_by_hand() -> None:
    tokens = interface("reference", heads=1, codes=3, code_width=3)
    tokens.codebook.data = 7 * torch.eye(3).unsqueeze(0)
    assert tokens.orthogonality().item() == pytest.approx(0, abs=1e-7)
    tokens.codebook.data = torch.ones(1, 3, 3)
    assert tokens.orthogonality().item() == pytest.approx(1 - 1 / 3)


def distance(tokens: TokenInterface, z: torch.Tensor) -> float:
    """Mean squared distance of queries and codes, in evaluation mode."""
    training = tokens.training
    out = tokens.eval()(z)
    tokens.train(training)
    return (out.queries - tokens.lookup(out.indices)).square().mean().item()


def test_an_ema_codebook_starts_by_k_means_and_follows_the_data() -> None:
    tokens, z = interface("ema", codes=8).train(), clusters()
    drawn = distance(tokens, z)
    assert not tokens.started
    assert not tokens.codebook.requires_grad  # no optimiser moves it
    tokens(z)
    assert tokens.started
    started = distance(tokens, z)
    assert started < 0.2 * drawn
    assert perplexity(tokens.eval()(z).indices, 8).min() > 3  # four clusters
    elsewhere = clusters()
    tokens.train()
    before = distance(tokens, elsewhere)
    for _ in range(40):
        tokens(elsewhere)
    assert distance(tokens, elsewhere) < 0.2 * before
    torch.testing.assert_close(tokens.codebook.norm(dim=-1), torch.ones(2, 8))


def test_k_means_improves_on_its_own_start() -> None:
    z = torch.randn(400, WIDTH)
    tokens = interface("ema", codes=6)
    queries = tokens.queries(z).detach()
    torch.manual_seed(3)
    picked = queries[torch.randperm(400)[:6], 0]  # what the first head starts from
    nearest = (queries[:, 0] @ picked.T).max(-1).values.mean()
    torch.manual_seed(3)
    tokens.start(queries)
    assert (queries[:, 0] @ tokens.codebook[0].T).max(-1).values.mean() > nearest + 0.02


def test_codes_that_nobody_uses_die_and_revive_as_queries() -> None:
    tokens, z = interface("ema", heads=1, codes=4).train(), clusters(count=4, noise=0.0)
    tokens(z)
    queries = tokens.queries(z).detach()[:, 0]
    far = F.normalize(-queries.mean(0), dim=-1)
    with torch.no_grad():
        tokens.codebook[0, 1] = tokens.total[0, 1] = far
        tokens.use[0, 1] = 1.0
    for step in range(60):
        tokens(z)
        if step == 10:  # unused, but not for long enough
            torch.testing.assert_close(tokens.codebook[0, 1], far)
    assert (queries @ tokens.codebook[0, 1]).max() > 1 - 1e-5
    assert (queries @ tokens.codebook[0].T).max(-1).values.min() > 1 - 1e-3  # every cluster has a code again


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_tokens_never_move(kind: str) -> None:
    tokens = interface(kind).train()
    tokens(clusters())
    tokens.freeze()
    before = {name: value.clone() for name, value in tokens.state_dict().items()}
    z = clusters().requires_grad_()
    tokens(z).codes.square().sum().backward()
    for name, value in tokens.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert z.grad is not None
    assert not any(value.requires_grad for value in tokens.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_moves_nothing(kind: str) -> None:
    tokens = interface(kind).eval()
    before = {name: value.clone() for name, value in tokens.state_dict().items()}
    tokens(clusters())
    assert all(torch.equal(value, before[name]) for name, value in tokens.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_more_codes_than_points_works(kind: str) -> None:
    tokens, z = interface(kind, codes=64).train(), torch.randn(5, WIDTH)
    tokens.start(tokens.queries(z).detach())
    for _ in range(5):
        out = tokens(z)
    assert out.codes.isfinite().all()
    assert tokens.codebook.isfinite().all()
    assert distance(tokens, z) < 1e-6  # a code for each
    assert tokens.eval()(z[:1]).indices.shape == (1, 2)


def test_perplexity_of_known_uses() -> None:
    one, even = torch.zeros(10, 1, dtype=torch.long), (torch.arange(12) % 4).unsqueeze(1)
    uneven = torch.tensor([[0], [0], [0], [1]])
    indices = torch.cat([one[:4], even[:4], uneven], 1)
    expected = torch.tensor([1.0, 4.0, (4 / 3) ** 0.75 * 4**0.25], dtype=torch.double)
    torch.testing.assert_close(perplexity(indices, 6), expected)
    assert perplexity(even, 4).item() == pytest.approx(4)


@few
@given(st.integers(1, 40), st.integers(2, 9), st.integers(1, 3), st.integers(0, 2**31))
def test_perplexity_lies_between_one_and_the_number_of_codes(points: int, codes: int, heads: int, seed: int) -> None:
    indices = torch.randint(codes, (points, heads), generator=torch.Generator().manual_seed(seed))
    value = perplexity(indices, codes)
    used = torch.tensor([indices[:, head].unique().numel() for head in range(heads)])
    assert value.shape == (heads,)
    assert (value >= 1 - 1e-12).all()
    assert (value <= used.double() + 1e-9).all()


def test_codes_are_exact_and_a_projection_of_length_zero_gets_a_finite_gradient() -> None:
    tokens = TokenInterface(small_model(codebook="reference"), 8).double().train()
    z = torch.randn(5, 8).double().requires_grad_()
    out = tokens(z)
    assert torch.equal(out.codes, tokens.lookup(out.indices).flatten(1))
    with torch.no_grad():
        tokens.project_in.weight.zero_(), tokens.project_in.bias.zero_()
    tokens(z).codes.sum().backward()
    assert z.grad.isfinite().all()
