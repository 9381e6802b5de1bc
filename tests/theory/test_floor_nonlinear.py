"""Model 1b of docs/theory.md: the floor against random capped predictors, the routed form against sampling."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlib.theory.floor import Samples
from stemlib.theory.floor_nonlinear import FrequencyModel, RouterContext
from study.floor_measured import empirical_risk, risks_in_both

MODEL = FrequencyModel(sigma=0.5)
CONTEXT = RouterContext(m=1.0, t=0.5)
COUNT = 200_000

caps = st.floats(0, 2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


CONDITIONS = MODEL.sample(COUNT, generator(0), 0), MODEL.sample(COUNT, generator(1), 1)
FEW = tuple(Samples(*(column[:20_000] for column in samples)) for samples in CONDITIONS)


def respects_the_floor(predictor, cap: float, conditions: tuple[Samples, Samples]) -> bool:
    worst = max(risks_in_both(predictor, *conditions))
    return worst.mean >= MODEL.floor(cap).item() - 4 * worst.stderr


def test_floor_in_both_regimes() -> None:
    cap = torch.tensor([0.0, 0.25, 0.5, 0.75, 3.0])
    assert MODEL.floor(cap).tolist() == pytest.approx([1.25, 0.875, 0.75, 0.75, 0.75])


@pytest.mark.parametrize("cap", [0.0, 0.2, 0.5, 0.9])
def test_the_floor_is_attained(cap: float) -> None:
    for estimate in risks_in_both(lambda u, v: min(cap, 0.5) * (u + v), *CONDITIONS):
        assert abs(estimate.mean - MODEL.floor(cap).item()) < 4 * estimate.stderr


@given(caps, st.floats(-1, 2), st.floats(-1, 1))
def test_the_floor_bounds_linear_predictors_exactly(cap: float, a: float, share: float) -> None:
    b = share * cap
    worst = MODEL.sigma**2 + max((1 - a) ** 2 + b**2, a**2 + (1 - b) ** 2)
    assert worst >= MODEL.floor(cap).item() - 1e-12


@settings(max_examples=30)
@given(caps, st.integers(0, 2**31), st.floats(-1, 1.5))
def test_random_networks_under_the_cap_respect_the_floor(cap: float, seed: int, offset: float) -> None:
    width, draw = 32, generator(seed)
    first = torch.randn(2, width, dtype=torch.float64, generator=draw)
    last = torch.randn(width, dtype=torch.float64, generator=draw) / width
    bias = torch.randn(width, dtype=torch.float64, generator=draw)
    # tanh' <= 1, so that |df/dv| <= sum_j |last_j first_vj|, which is brought to the cap.
    first[1] *= cap / (last.abs() * first[1].abs()).sum()

    def network(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return offset * u + torch.tanh(u[:, None] * first[0] + v[:, None] * first[1] + bias) @ last

    assert respects_the_floor(network, cap, FEW)


@settings(max_examples=30)
@given(
    caps,
    st.floats(0, 1),
    st.sampled_from([torch.tanh, torch.sin, torch.abs, torch.relu, torch.clone]),
    st.sampled_from([torch.tanh, torch.sin, torch.abs, torch.sign, torch.clone]),
)
def test_separable_predictors_under_the_cap_respect_the_floor(cap: float, scale: float, slope_one, any_shape) -> None:
    assert respects_the_floor(lambda u, v: scale * any_shape(u) + cap * slope_one(v), cap, FEW)


@settings(max_examples=30)
@given(caps, st.floats(0.1, 3))
def test_interacting_predictors_under_the_cap_respect_the_floor(cap: float, steepness: float) -> None:
    gate = lambda u: torch.sigmoid(steepness * u)  # noqa: E731
    assert respects_the_floor(lambda u, v: u * (1 - gate(u)) + cap * gate(u) * v, cap, FEW)


def test_without_the_cap_the_floor_falls() -> None:
    """What the cap is for: at B = 0.1, a predictor of slope 1/2 in `v` is below the floor of B."""
    worst = max(risks_in_both(lambda u, v: (u + v) / 2, *CONDITIONS))
    assert worst.mean + 4 * worst.stderr < MODEL.floor(0.1).item()


@pytest.mark.parametrize("condition", [0, 1])
@pytest.mark.parametrize(("cap", "p"), [(0.3, 0.0), (0.3, 0.1), (0.8, 0.4), (1.5, 0.2), (0.3, 1.0)])
def test_sampled_routed_risks_agree(cap: float, p: float, condition: int) -> None:
    misrouted = torch.rand(COUNT, generator=generator(3)) < p
    estimate = empirical_risk(
        lambda u, v: MODEL.routed(u, v, misrouted, cap=cap, condition=condition), CONDITIONS[condition]
    )
    assert abs(estimate.mean - MODEL.routed_risks(cap, p)[condition].item()) < 4 * estimate.stderr


@given(caps, st.floats(0, 1))
def test_breaking_conditions_are_the_risks_against_the_floor(cap: float, p: float) -> None:
    floor = MODEL.floor(cap).item()
    for condition in (0, 1):
        critical = MODEL.critical_misrouting(cap)[condition].item()
        assert MODEL.routed_risks(cap, critical)[condition].item() == pytest.approx(floor, abs=1e-12)
    worst = torch.stack(MODEL.routed_risks(cap, p)).max().item()
    if abs(worst - floor) > 1e-9:
        assert (p < min(MODEL.critical_misrouting(cap)).item()) == (worst < floor)


@given(st.floats(0, 0.5), st.floats(0, 1))
def test_breaking_conditions_as_stated_up_to_one_half(cap: float, p: float) -> None:
    p_0, p_1 = MODEL.critical_misrouting(cap)
    assert p_0.item() == pytest.approx(((1 - cap) ** 2 + cap**2) / (1 + cap**2))
    assert p_1.item() == pytest.approx(cap**2 / (2 - (1 - cap) ** 2), abs=1e-12)
    assert p_1 <= p_0  # below one half, the sensitive condition is the one that decides


def test_at_cap_zero_routing_never_breaks_the_floor() -> None:
    assert min(MODEL.critical_misrouting(0.0)) == 0
    assert CONTEXT.shift_at(0.0) == -math.inf


@pytest.mark.parametrize("shift", [-0.5, 0.0, 0.6, 2.0])
def test_sampled_contexts_are_misrouted_as_often(shift: float) -> None:
    wrong = CONTEXT.draw_misrouted(COUNT, generator(4), shift).double()
    p = CONTEXT.misrouting(shift).item()
    assert p == pytest.approx(0.5 * math.erfc((CONTEXT.m - shift) / CONTEXT.t / math.sqrt(2)))
    assert abs(wrong.mean().item() - p) < 4 * math.sqrt(p * (1 - p) / COUNT)


@given(st.floats(0.01, 0.99))
def test_shift_at_inverts_misrouting(p: float) -> None:
    assert CONTEXT.misrouting(CONTEXT.shift_at(p)).item() == pytest.approx(p, rel=1e-9)


@pytest.mark.parametrize("cap", [0.2, 0.5, 0.8])
def test_the_routed_form_loses_beyond_the_critical_shift(cap: float) -> None:
    critical = CONTEXT.shift_at(min(MODEL.critical_misrouting(cap))).item()
    for shift, breaks in ((critical - 0.1, True), (critical + 0.1, False)):
        misrouted = CONTEXT.draw_misrouted(COUNT, generator(5), shift)
        worst = max(
            empirical_risk(lambda u, v, c=c, w=misrouted: MODEL.routed(u, v, w, cap=cap, condition=c), CONDITIONS[c])
            for c in (0, 1)
        )
        assert (worst.mean < MODEL.floor(cap).item()) == breaks


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FrequencyModel(0.0), "sigma"),
        (lambda: RouterContext(0.0, 1.0), "m must"),
        (lambda: RouterContext(1.0, -1.0), "t must"),
        (lambda: MODEL.floor(-0.1), "cap"),
        (lambda: MODEL.routed_risks(0.1, 1.1), "misrouting p"),
        (lambda: CONTEXT.shift_at(2.0), "misrouting p"),
        (lambda: CONTEXT.misrouting(math.nan), "shift"),
        (lambda: MODEL.sample(10, generator(), 2), "condition 0 or 1"),
        (lambda: MODEL.sample(0, generator(), 1), "count"),
    ],
)
def test_arguments_out_of_range_are_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
