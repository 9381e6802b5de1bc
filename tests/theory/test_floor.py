"""Model 1a of docs/theory.md: closed forms against their definitions, numerical minimisation and sampling."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import minimize_scalar

from stemlib.theory.floor import HomophilyModel, binary_mmse
from study.floor_measured import empirical_risk, risks_in_both

CHECK = HomophilyModel(mu=1.0, sigma=2.0, d=8, h=0.9)
COUNT = 200_000

models = st.builds(
    HomophilyModel, mu=st.floats(0.1, 3), sigma=st.floats(0.2, 3), d=st.integers(1, 50), h=st.floats(0, 1)
)
coefficients = st.floats(-3, 3)
reliances = st.floats(0, 3)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_check_values() -> None:
    values = {
        "nu": (CHECK.nu, 0.8),
        "tau2": (CHECK.tau2, 0.545),
        "F": (CHECK.floor, 0.8),
        "R*": (CHECK.best_risk, 0.412488),
        "R_wrong": (CHECK.wrong_risk, 2.150242),
        "rho_crit": (CHECK.rho_crit, 0.222996),
        "R_id(0.1)": (CHECK.in_distribution_risk(0.1).item(), 0.682570),
        "W(0.1)": (CHECK.worst_case_risk(0.1).item(), 0.938570),
    }
    for name, (value, expected) in values.items():
        assert value == pytest.approx(expected, abs=5e-7), name


@given(models, coefficients, coefficients)
def test_floor_bounds_every_linear_rule(model: HomophilyModel, a: float, b: float) -> None:
    here, mirrored = model.risk(a, b).item(), model.risk(a, b, 1 - model.h).item()
    mean = (1 - a * model.mu) ** 2 + a**2 * model.sigma**2 + b**2 * (model.nu**2 + model.tau2)
    assert (here + mirrored) / 2 == pytest.approx(mean, rel=1e-9)
    assert max(here, mirrored) >= model.floor + b**2 * (model.nu**2 + model.tau2) - 1e-12


@given(models)
def test_floor_is_attained_without_the_sensitive_feature(model: HomophilyModel) -> None:
    a, b = model.worst_case_rule(0.0)
    assert b == 0
    assert model.risk(a, 0.0, torch.tensor([model.h, 1 - model.h])).tolist() == pytest.approx([model.floor] * 2)


@given(models, coefficients, coefficients)
def test_best_rule_attains_the_least_risk(model: HomophilyModel, a: float, b: float) -> None:
    assert model.risk(*model.best_rule).item() == pytest.approx(model.best_risk, rel=1e-9)
    assert model.best_risk <= min(model.floor, model.risk(a, b).item()) * (1 + 1e-12)
    best_a, best_b = model.best_rule
    assert model.risk(best_a, -best_b, 1 - model.h).item() == pytest.approx(model.best_risk, rel=1e-9)


@given(models, reliances)
def test_worst_case_risk_is_the_numerical_minimum(model: HomophilyModel, reliance: float) -> None:
    def worst(a: float) -> float:
        return max(model.risk(a, reliance).item(), model.risk(a, reliance, 1 - model.h).item())

    found = minimize_scalar(worst, bounds=(0, 1 / model.mu), method="bounded", options={"xatol": 1e-9})
    assert model.worst_case_risk(reliance).item() == pytest.approx(found.fun, rel=1e-6)
    a, b = model.worst_case_rule(reliance)
    assert worst(a.item()) == pytest.approx(found.fun, rel=1e-6)
    assert abs(b.item()) == reliance

    u = 1 - a.item() * model.mu
    formula = u**2 + 2 * reliance * abs(model.nu) * u + reliance**2 * (model.nu**2 + model.tau2)
    formula += ((1 - u) / model.mu * model.sigma) ** 2
    assert model.worst_case_risk(reliance).item() == pytest.approx(formula, rel=1e-9)


@given(models, reliances, coefficients)
def test_in_distribution_risk_is_the_least_at_its_reliance(model: HomophilyModel, reliance: float, a: float) -> None:
    least = model.in_distribution_risk(reliance).item()
    assert least <= model.risk(a, math.copysign(reliance, model.nu)).item() + 1e-12
    assert least <= model.worst_case_risk(reliance).item() + 1e-12
    at_best = model.in_distribution_risk(abs(model.best_rule[1])).item()
    assert at_best == pytest.approx(model.best_risk, rel=1e-9)


@given(models)
def test_routed_risk_meets_the_floor_at_rho_crit(model: HomophilyModel) -> None:
    rho = model.rho_crit
    assert model.floor / 4 - 1e-12 <= rho <= 0.25
    assert model.routed_risk(rho).item() == pytest.approx(model.floor, rel=1e-9)
    if abs(model.nu) > 1e-3:
        assert rho == pytest.approx((model.floor - model.best_risk) / (model.wrong_risk - model.best_risk), rel=1e-6)
        below, above = model.routed_risk(torch.tensor([0.99 * rho, 1.01 * rho])).tolist()
        assert below < model.floor < above


def test_closed_forms_broadcast() -> None:
    reliance = torch.linspace(0, 1, 7)
    homophily = torch.linspace(0, 1, 5)
    assert CHECK.worst_case_risk(reliance).shape == (7,)
    assert CHECK.risk(0.2, reliance[:, None], homophily).shape == (7, 5)
    assert CHECK.risk(0.2, reliance.numpy(), 0.3).dtype == torch.float64
    pointwise = [CHECK.in_distribution_risk(b).item() for b in reliance]
    assert CHECK.in_distribution_risk(reliance).tolist() == pytest.approx(pointwise)


@pytest.mark.parametrize("homophily", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_samples_have_the_closed_form_moments(homophily: float) -> None:
    samples = CHECK.sample(COUNT, generator(1), homophily)
    nu, tau2 = (x.item() for x in CHECK.moments(homophily))
    noise = samples.t - nu * samples.y
    assert samples.y.abs().eq(1).all()
    assert (samples.t * samples.y).mean().item() == pytest.approx(nu, abs=4 * math.sqrt(tau2 / COUNT))
    assert (samples.s * samples.y).mean().item() == pytest.approx(1, abs=4 * 2 / math.sqrt(COUNT))
    # A variance estimate's relative error is sqrt(2/N) for Gaussian noise, and less for neighbour means.
    assert noise.var().item() == pytest.approx(tau2, rel=4 * math.sqrt(2 / COUNT))
    own = samples.s - samples.y * CHECK.mu
    assert abs((own * noise).mean().item()) < 4 * 2 * math.sqrt(tau2 / COUNT)


@pytest.mark.parametrize("h", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("reliance", [0.0, 0.3])
def test_sampled_static_risks_agree(h: float, reliance: float) -> None:
    model = HomophilyModel(mu=1.0, sigma=2.0, d=8, h=h)
    a, b = model.worst_case_rule(reliance)
    conditions = model.sample(COUNT, generator(2)), model.sample(COUNT, generator(3), 1 - h)
    sampled = risks_in_both(lambda s, t: a * s + b * t, *conditions)
    for estimate, homophily in zip(sampled, (h, 1 - h), strict=True):
        assert abs(estimate.mean - model.risk(a, b, homophily).item()) < 4 * estimate.stderr


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rho", [0.0, 0.1, CHECK.rho_crit, 1.0])
def test_sampled_routed_risk_agrees(rho: float, mirrored: bool) -> None:
    samples = CHECK.sample(COUNT, generator(4), 1 - CHECK.h if mirrored else CHECK.h)
    misrouted = torch.rand(COUNT, generator=generator(5)) < rho
    estimate = empirical_risk(lambda s, t: CHECK.routed(s, t, misrouted, mirrored=mirrored), samples)
    assert abs(estimate.mean - CHECK.routed_risk(rho).item()) < 4 * estimate.stderr


@pytest.mark.parametrize("phi", [0.0, 0.2, 1.0])
def test_sampled_amplification_agrees(phi: float) -> None:
    samples, delta = CHECK.sample(COUNT, generator(6)), 0.7
    moved = samples.t + delta * torch.randn(COUNT, dtype=torch.float64, generator=generator(7))
    flipped = torch.rand(COUNT, generator=generator(8)) < phi
    kept = torch.zeros_like(flipped)
    clean = CHECK.routed(samples.s, samples.t, kept, mirrored=False)
    replayed = CHECK.routed(samples.s, moved, kept, mirrored=False)
    perturbed = CHECK.routed(samples.s, moved, flipped, mirrored=False)

    def agrees(squares: torch.Tensor, expected: float) -> bool:
        return abs(squares.mean().item() - expected) <= 4 * squares.std().item() / math.sqrt(COUNT) + 1e-12

    power = CHECK.nu**2 + CHECK.tau2
    base = (CHECK.best_rule[1] * delta) ** 2
    assert agrees((replayed - clean) ** 2, base)
    assert agrees((perturbed - replayed) ** 2, CHECK.amplification(phi, power + delta**2).item())
    # E[t t'] = E[t^2] under independent noise: less than E[t'^2], for base and amplification partly cancel.
    assert agrees((perturbed - clean) ** 2, base + CHECK.added_change(phi, power).item())


@given(st.floats(0, 200))
def test_binary_mmse_is_the_tanh_integral(snr: float) -> None:
    def integrand(z: float) -> float:
        decay = math.exp(-abs(snr + math.sqrt(snr) * z))
        return math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * (2 * decay / (1 + decay**2)) ** 2

    # Another form of the same quantity, E[1 - tanh^2] = E[1 / cosh^2]; the factor peaks at z = -sqrt(snr).
    peak = max(-math.sqrt(snr), -11)
    expected = quad(integrand, -12, 12, points=[peak], limit=200, epsabs=1e-13)[0]
    assert binary_mmse(snr).item() == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert binary_mmse(snr).item() <= 1 / (1 + snr) + 1e-12
    assert binary_mmse(torch.full((2, 3), snr)).shape == (2, 3)


@given(models)
def test_floor_of_all_rules_is_below_the_linear_one(model: HomophilyModel) -> None:
    assert 0 <= model.floor_any < model.floor


def test_floor_of_all_rules_is_attained_below_the_linear_floor() -> None:
    model = HomophilyModel(mu=1.0, sigma=1.0, d=8, h=0.9)
    conditions = model.sample(COUNT, generator(9)), model.sample(COUNT, generator(10), 1 - model.h)
    for estimate in risks_in_both(lambda s, t: torch.tanh(model.mu * s / model.sigma**2), *conditions):
        assert abs(estimate.mean - model.floor_any) < 4 * estimate.stderr
        assert estimate.mean + 4 * estimate.stderr < model.floor


def test_sampling_is_seeded() -> None:
    first, again, other = (CHECK.sample(10, generator(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))
    assert not torch.equal(first.t, other.t)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mu", 0.0),
        ("mu", -1.0),
        ("sigma", 0.0),
        ("sigma", math.nan),
        ("d", 0.5),
        ("d", math.inf),
        ("h", 1.1),
        ("h", -0.1),
    ],
)
def test_parameters_out_of_range_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        HomophilyModel(**{"mu": 1.0, "sigma": 2.0, "d": 8, "h": 0.9, field: value})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CHECK.risk(0.1, 0.1, 1.5), "homophily"),
        (lambda: CHECK.risk(math.nan, 0.1), "a must be finite"),
        (lambda: CHECK.worst_case_risk(-0.1), "reliance"),
        (lambda: CHECK.in_distribution_risk(torch.tensor([0.1, -2.0])), "reliance .* got -2"),
        (lambda: CHECK.routed_risk(1.01), "rho"),
        (lambda: CHECK.amplification(-0.1, 1.0), "phi"),
        (lambda: CHECK.amplification(0.1, -1.0), "second moment"),
        (lambda: CHECK.added_change(2.0, 1.0), "phi"),
        (lambda: CHECK.sample(0, generator()), "count"),
        (lambda: HomophilyModel(1.0, 1.0, 2.5, 0.5).sample(5, generator()), "whole degree"),
        (lambda: binary_mmse(-1.0), "snr"),
    ],
)
def test_arguments_out_of_range_are_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
