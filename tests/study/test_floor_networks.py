"""Part 1 of docs/theory.md on drawn graphs and in trained networks: what is drawn, what is bounded, what is learned."""

from __future__ import annotations

import math
from copy import copy

import pytest
import torch

from stemlib.data.graph import Graph
from stemlib.theory.floor import HomophilyModel
from stemlib.theory.floor_nonlinear import FrequencyModel, RouterContext
from study.floor_measured import empirical_risk, risks_in_both
from study.floor_networks import (
    CappedNetwork,
    NodeRegressor,
    condition_graph,
    matched_pairs,
    misroute,
    one_hop,
    train_worst_case,
)

MODEL = HomophilyModel(mu=1.0, sigma=2.0, d=8, h=0.9)
CONTEXT = RouterContext(m=2.0, t=1.0)
FREQUENCY = FrequencyModel(sigma=0.5)


def both(nodes: int, seed: int) -> list[Graph]:
    return [condition_graph(MODEL, CONTEXT, nodes, seed + k, mirrored=k == 1) for k in (0, 1)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def graph_risk(prediction: torch.Tensor, graph: Graph) -> float:
    return (graph.y - prediction).detach().square().mean().item()


@pytest.fixture(scope="module")
def routed() -> NodeRegressor:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return train_worst_case(NodeRegressor(experts=2), [(graph, graph.y) for graph in both(1500, 0)])


@pytest.mark.parametrize("mirrored", [False, True])
def test_drawn_graph_has_the_moments_of_its_condition(mirrored: bool) -> None:
    graph = condition_graph(MODEL, CONTEXT, 40_000, seed=3, mirrored=mirrored)
    s, t, y = one_hop(graph)
    nu, tau2 = MODEL.moments(1 - MODEL.h if mirrored else MODEL.h)
    assert graph.edge_index.shape == (2, 40_000 * 8)
    assert y.unique().tolist() == [-1, 1]
    assert (s * y).mean().item() == pytest.approx(MODEL.mu, abs=0.05)
    assert (t * y).mean().item() == pytest.approx(nu.item(), abs=0.05)
    assert (t * y).var().item() == pytest.approx(tau2.item(), rel=0.05)
    context = graph.x[:, 1]
    assert context.mean().item() == pytest.approx(-2 if mirrored else 2, abs=0.03)
    assert context.std().item() == pytest.approx(1, abs=0.03)


def test_context_says_nothing_of_label_or_feature() -> None:
    s, _, y = one_hop(graph := condition_graph(MODEL, CONTEXT, 40_000, seed=4, mirrored=False))
    columns = torch.stack([graph.x[:, 1].double(), s, y])
    assert torch.corrcoef(columns)[0, 1:].abs().max() < 0.02


def test_one_hop_by_hand() -> None:
    graph = condition_graph(MODEL, CONTEXT, 50, seed=0, mirrored=False)
    s, t, _ = one_hop(graph)
    sources, targets = graph.edge_index
    assert t[7].item() == pytest.approx(s[sources[targets == 7]].mean().item())
    assert t.dtype == torch.float64


def test_matched_pairs_are_model_1b() -> None:
    for condition in (0, 1):
        u, v, y = matched_pairs(FREQUENCY, 100_000, generator(), condition)
        covariance = torch.cov(torch.stack([u, v]))
        assert torch.allclose(covariance, torch.eye(2, dtype=torch.float64), atol=0.02)
        assert (y - (v if condition else u)).std().item() == pytest.approx(0.5, rel=0.02)
        assert torch.equal(u[0::2], u[1::2])
        assert torch.equal(v[0::2], -v[1::2])


def test_attaining_rule_is_at_its_floor_on_matched_pairs() -> None:
    pairs = [matched_pairs(FREQUENCY, 200_000, generator(k), k) for k in (0, 1)]
    for risk in risks_in_both(lambda u, v: 0.3 * (u + v), *pairs):
        assert risk.mean == pytest.approx(FREQUENCY.floor(0.3).item(), rel=0.02)


@pytest.mark.parametrize("cap", [0.2, 1.0])
def test_slope_never_passes_the_cap(cap: float) -> None:
    network = CappedNetwork(cap, width=6)
    with torch.no_grad():
        network.line.normal_(std=3)
        network.units.normal_(std=3)
    u, v = torch.randn(2, 5000, dtype=torch.float64) * 2
    v.requires_grad_()
    (slope,) = torch.autograd.grad(network(u, v).sum(), v)
    assert slope.abs().max() <= cap + 1e-12
    assert slope.abs().max() > 0.1 * cap  # the cap is not kept by a network that ignores v


def test_no_cap_and_a_loose_cap_change_nothing() -> None:
    network, loose = CappedNetwork(), CappedNetwork(cap=1e6)
    loose.load_state_dict(network.state_dict())
    u, v = torch.randn(2, 100, dtype=torch.float64)
    prediction = network(u, v)
    assert torch.equal(prediction, loose(u, v))
    prediction.sum().backward()
    assert network.units.grad.isfinite().all()


def test_width_0_learns_the_best_linear_rule() -> None:
    samples = MODEL.sample(20_000, generator(), MODEL.h)
    network = train_worst_case(CappedNetwork(width=0), [samples])
    assert network.line[:2].tolist() == pytest.approx(MODEL.best_rule, abs=0.02)


@pytest.mark.parametrize("cap", [0.0, -1.0, math.nan])
def test_a_cap_that_is_not_above_zero_is_refused(cap: float) -> None:
    with pytest.raises(ValueError, match="cap must be above 0"):
        CappedNetwork(cap)


def test_capped_networks_respect_the_floor_of_model_1b() -> None:
    lessons = [FREQUENCY.sample(5000, generator(k), k) for k in (0, 1)]
    pairs = [matched_pairs(FREQUENCY, 100_000, generator(5 + k), k) for k in (0, 1)]
    network = train_worst_case(CappedNetwork(cap=0.3, width=4), lessons)
    worst = max(risks_in_both(network, *pairs))
    floor = FREQUENCY.floor(0.3).item()
    assert floor - 4 * worst.stderr < worst.mean < 1.05 * floor


def test_one_expert_is_static_and_linear_and_respects_the_floor() -> None:
    test = both(20_000, 50)
    network = train_worst_case(NodeRegressor(experts=1), [(graph, graph.y) for graph in both(1500, 0)])
    risks = [graph_risk(network(graph), graph) for graph in test]
    stderr = empirical_risk(lambda s, t: s / 5, one_hop(test[0])).stderr
    assert MODEL.floor - 4 * stderr < max(risks) < 1.08 * MODEL.floor
    assert network.rules()[0, 1].abs() < 0.05  # it gave up the neighbours


def test_routed_network_breaks_the_floor_with_opposite_experts(routed: NodeRegressor) -> None:
    risks = [graph_risk(routed(graph), graph) for graph in both(20_000, 50)]
    assert MODEL.best_risk < max(risks) < 0.6
    rules = routed.rules()
    assert torch.allclose(rules[:, 1].sort().values, torch.tensor([-1.0, 1]) * MODEL.best_rule[1], atol=0.12)


def test_rules_are_what_the_experts_compute(routed: NodeRegressor) -> None:
    graph = condition_graph(MODEL, CONTEXT, 20, seed=9, mirrored=False)
    moved = copy(graph)
    moved.x = graph.x.clone()
    moved.x[3, 0] += 1  # a node that is no neighbour of itself
    gates = [torch.tensor([[0.0, 1.0]]).expand(20, 2)]
    change = (routed(moved, gates) - routed(graph, gates)).detach()
    assert change[3].item() == pytest.approx(routed.rules()[1, 0].item(), abs=1e-5)
    sources, targets = graph.edge_index
    reached = torch.bincount(targets[sources == 3], minlength=20)
    assert torch.allclose(change - change[3] * (torch.arange(20) == 3), routed.rules()[1, 1] * reached / 8, atol=1e-5)


def test_misrouting_costs_what_the_closed_form_says(routed: NodeRegressor) -> None:
    graph = condition_graph(MODEL, CONTEXT, 30_000, seed=60, mirrored=True)
    none, half, all_ = (graph_risk(misroute(routed, graph, share, generator()), graph) for share in (0.0, 0.5, 1.0))
    assert none == pytest.approx(MODEL.best_risk, rel=0.1)
    assert half == pytest.approx((none + all_) / 2, rel=0.03)
    assert all_ == pytest.approx(MODEL.wrong_risk, rel=0.15)


def test_two_static_layers_leave_the_scope_of_the_floor() -> None:
    network = train_worst_case(NodeRegressor(experts=1, layers=2), [(graph, graph.y) for graph in both(1500, 0)])
    assert max(graph_risk(network(graph), graph) for graph in both(5000, 50)) < 0.3


def test_training_minds_the_worse_condition() -> None:
    easy, hard = MODEL.sample(2000, generator(), 0.9), MODEL.sample(2000, generator(1), 0.1)
    network = train_worst_case(CappedNetwork(width=0), [easy, hard, easy, easy])  # a mean would favour the easy one
    first, second = risks_in_both(network, easy, hard)
    assert first.mean == pytest.approx(second.mean, rel=0.02)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"whole degree d, got 2\.5"):
        condition_graph(HomophilyModel(mu=1.0, sigma=2.0, d=2.5, h=0.9), CONTEXT, 10, 0, mirrored=False)
    with pytest.raises(ValueError, match="even count"):
        matched_pairs(FREQUENCY, 7, generator(), 0)
    with pytest.raises(ValueError, match="condition 0 or 1"):
        matched_pairs(FREQUENCY, 8, generator(), 2)
