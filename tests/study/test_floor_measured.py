"""Measured risks and fitted static rules."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stemlib.theory.floor import HomophilyModel, Samples
from study.floor_measured import empirical_risk, fit_static, risks_in_both

MODEL = HomophilyModel(mu=1.0, sigma=2.0, d=8, h=0.9)


def draw(count: int, seed: int, homophily: float | None = None, model: HomophilyModel = MODEL) -> Samples:
    return model.sample(count, torch.Generator().manual_seed(seed), homophily)


def test_empirical_risk_by_hand() -> None:
    samples = Samples(torch.tensor([1.0, -1.0, 2.0]), torch.zeros(3), torch.tensor([1, -1, 1]))
    estimate = empirical_risk(lambda s, t: s / 2 + t, samples)
    assert estimate.mean == pytest.approx((0.25 + 0.25 + 0) / 3)
    assert estimate.stderr == pytest.approx(np.std([0.25, 0.25, 0], ddof=1) / np.sqrt(3))


def test_fit_recovers_an_exact_rule_from_arrays() -> None:
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(2, 50)).astype(np.float32)
    assert fit_static(Samples(s, t, 0.3 * s - 0.7 * t)) == pytest.approx((0.3, -0.7), abs=1e-6)


def test_fit_finds_the_best_rule_of_its_condition() -> None:
    a, b = fit_static(draw(200_000, 0))
    assert (a, b) == pytest.approx(MODEL.best_rule, abs=0.01)
    assert MODEL.risk(a, b).item() == pytest.approx(MODEL.best_risk, rel=1e-3)


def test_fit_over_both_conditions_gives_up_the_sensitive_feature() -> None:
    pooled = Samples(*map(torch.cat, zip(draw(100_000, 1), draw(100_000, 2, 1 - MODEL.h), strict=True)))
    a, b = fit_static(pooled)
    assert b == pytest.approx(0, abs=0.01)
    worst = max(risks_in_both(lambda s, t: a * s + b * t, draw(200_000, 3), draw(200_000, 4, 1 - MODEL.h)))
    assert abs(worst.mean - MODEL.floor) < 4 * worst.stderr + 0.01


@pytest.mark.parametrize("h", [0.1, 0.6, 0.9])
def test_a_trained_static_network_respects_the_floor_of_all_rules(h: float) -> None:
    model = HomophilyModel(mu=1.0, sigma=1.0, d=4, h=h)
    parts = draw(2000, 1, model=model), draw(2000, 2, 1 - h, model)
    s, t, y = (torch.cat(columns) for columns in zip(*parts, strict=True))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)).double()

    def predict(s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return network(torch.stack([s, t], dim=1)).squeeze(1)

    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(150):
        optimiser.zero_grad()
        (y - predict(s, t)).square().mean().backward()
        optimiser.step()
    test = draw(200_000, 3, model=model), draw(200_000, 4, 1 - h, model)
    worst = max(risks_in_both(predict, *test))
    assert worst.mean > model.floor_any - 4 * worst.stderr
    assert worst.mean < 1.1 * model.floor_any  # it did learn, so that the bound was put to the test


def test_risk_is_measured_without_gradients() -> None:
    layer = torch.nn.Linear(2, 1).double()
    empirical_risk(lambda s, t: layer(torch.stack([s, t], dim=1)).squeeze(1), draw(10, 5))
    assert layer.weight.grad is None


def test_shapes_are_refused() -> None:
    samples = draw(10, 6)
    with pytest.raises(ValueError, match=r"predictions must be \(10,\) like y, got \(10, 1\)"):
        empirical_risk(lambda s, t: s[:, None], samples)
    with pytest.raises(ValueError, match=r"must all be \[N\]"):
        empirical_risk(lambda s, t: s, samples._replace(t=samples.t[:5]))
    with pytest.raises(ValueError, match="N >= 2"):
        fit_static(Samples(*(column[:1] for column in samples)))
