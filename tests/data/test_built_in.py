"""The built-in graph against the closed form of model 1a, and what its parameters promise."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import few
from torch import Tensor

from stemlib.data.built_in import built_in, contextual_sbm, mixed_graph
from stemlib.data.graph import plain
from stemlib.model.messages import neighbour_mean
from stemlib.theory.floor import HomophilyModel

DRAWS = 12


def within_standard_errors(values: list[float], expected: float, errors: float = 4) -> None:
    """Independent estimates of a number, as many as there are, agree with it on average."""
    samples = torch.tensor(values, dtype=torch.double)
    error = samples.std() / len(values) ** 0.5
    assert abs(samples.mean() - expected) <= errors * error + 1e-9, f"{samples.mean()} +- {error} for {expected}"


@pytest.mark.parametrize(
    ("mu", "sigma", "d", "h"), [(1.0, 2.0, 8, 0.9), (1.5, 0.5, 3, 0.25), (0.5, 1.0, 20, 0.5), (1.0, 1.0, 5, 1.0)]
)
def test_neighbour_means_have_the_moments_of_the_closed_form(mu: float, sigma: float, d: int, h: float) -> None:
    model = HomophilyModel(mu=mu, sigma=sigma, d=d, h=h)
    moments: dict[str, list[float]] = {"nu": [], "tau2": [], "mu": [], "sigma2": []}
    for seed in range(DRAWS):  # nodes of one graph share neighbours, so the error is taken over graphs
        graph = contextual_sbm(10_000, degree=d, homophily=h, mu=mu, sigma=sigma, seed=seed)
        y = 2.0 * graph.y - 1
        s, t = graph.x.squeeze(1), neighbour_mean(graph.x, graph.edge_index).squeeze(1)
        moments["nu"].append((t * y).mean().item())
        moments["tau2"].append((t - model.nu * y).square().mean().item())
        moments["mu"].append((s * y).mean().item())
        moments["sigma2"].append((s - mu * y).square().mean().item())
    within_standard_errors(moments["nu"], model.nu)
    within_standard_errors(moments["tau2"], model.tau2)
    within_standard_errors(moments["mu"], mu)
    within_standard_errors(moments["sigma2"], sigma**2)


def same_class(graph: object) -> Tensor:
    """Whether an edge joins nodes of one class, `[E]`."""
    return graph.y[graph.edge_index[0]] == graph.y[graph.edge_index[1]]


@few
@given(st.integers(2, 4), st.integers(0, 30), st.integers(0, 6), st.floats(0, 1), st.integers(0, 2**31))
def test_degree_is_exact_classes_are_balanced_and_no_node_draws_itself(
    classes: int, more: int, degree: int, homophily: float, seed: int
) -> None:
    nodes = 2 * classes + more
    graph = contextual_sbm(nodes, classes=classes, degree=degree, homophily=homophily, seed=seed)
    assert plain(graph.edge_index)[1].bincount(minlength=nodes).eq(degree).all()
    assert graph.edge_index.numel() == 0 or 0 <= int(graph.edge_index.min()) <= int(graph.edge_index.max()) < nodes
    assert not (graph.edge_index[0] == graph.edge_index[1]).any()
    sizes = graph.y.bincount(minlength=classes)
    assert sizes.max() - sizes.min() <= 1
    if homophily in (0, 1):
        assert same_class(graph).eq(bool(homophily)).all()


def test_degree_and_homophily_can_be_set_node_by_node() -> None:
    nodes = 6000
    degree = torch.arange(nodes) % 13
    homophily = torch.tensor([0.15, 0.6, 1.0])[torch.arange(nodes) % 3]
    graph = contextual_sbm(nodes, degree=degree.float() + 0.2, homophily=homophily, seed=3)
    assert torch.equal(plain(graph.edge_index)[1].bincount(minlength=nodes), degree)
    assert torch.equal(graph.in_degree, degree)
    assert torch.equal(graph.homophily, homophily)
    same = same_class(graph).double()
    for value in (0.15, 0.6, 1.0):
        chosen = same[(homophily == torch.tensor(value))[graph.edge_index[1]]]
        error = (value * (1 - value) / len(chosen)) ** 0.5
        assert abs(chosen.mean() - value) <= 4 * error + 1e-12


def test_neighbours_are_drawn_uniformly_within_their_class() -> None:
    """In the smallest graph every other node of a class comes up equally often."""
    graph = contextual_sbm(8, degree=20_000, homophily=0.5, seed=1)
    counts = torch.zeros(8, 8).index_put_(tuple(graph.edge_index), torch.ones(160_000), accumulate=True)
    same = graph.y[:, None] == graph.y
    assert counts.diagonal().eq(0).all()
    for expected, chosen in ((10_000 / 3, counts[same & ~torch.eye(8, dtype=torch.bool)]), (2500, counts[~same])):
        assert ((chosen - expected).abs() < 5 * expected**0.5).all()


def test_more_classes_have_a_column_each_and_noise_features_carry_nothing() -> None:
    graph = contextual_sbm(30_000, classes=5, mu=3.0, sigma=0.5, noise_features=2, homophily=0.2, seed=2)
    means = torch.stack([graph.x[graph.y == label].mean(0) for label in range(5)])
    expected = torch.cat([3 * torch.eye(5), torch.zeros(5, 2)], 1)
    assert (means - expected).abs().max() < 5 * 0.5 / 6000**0.5
    source, target = graph.y[graph.edge_index]
    shift = ((source - target) % 5).bincount(minlength=5) / len(source)
    torch.testing.assert_close(shift, torch.full((5,), 0.2), atol=0.005, rtol=0)  # all other classes alike


def test_the_same_seed_gives_the_same_graph() -> None:
    settings = {"classes": 3, "noise_features": 1, "homophily": torch.linspace(0, 1, 50)}
    one, again, other = (contextual_sbm(50, **settings, seed=seed) for seed in (5, 5, 6))
    for name in ("x", "edge_index", "y"):
        assert torch.equal(one[name], again[name]), name
        assert not torch.equal(one[name], other[name]), name
    state = torch.get_rng_state()
    contextual_sbm(50)
    assert torch.equal(torch.get_rng_state(), state)  # nobody else's noise is touched


def test_built_in_is_a_task_whose_checksum_tells_settings_apart() -> None:
    task = built_in(100, seed=1, homophily=0.7)
    assert (task.kind, task.instances, task.outputs, list(task.splits)) == ("node", 100, 2, ["random"])
    split = task.split("random")
    assert [len(part) for part in (split.train, split.val, split.test)] == [50, 24, 26]
    per_node = [built_in(100, homophily=torch.full((100,), h)) for h in (0.7, 0.8)]
    tasks = [task, built_in(100, seed=2, homophily=0.7), built_in(100, seed=1, homophily=0.8), *per_node]
    assert len({one.checksum for one in tasks}) == len(tasks)
    assert built_in(100, seed=1, homophily=0.7).checksum == task.checksum
    assert "per node" in per_node[0].description


def test_mixed_graph_varies_degree_and_homophily() -> None:
    task = mixed_graph(3000, seed=0)
    graph = task.graph
    assert task.outputs == 4
    assert torch.equal(plain(graph.edge_index)[1].bincount(minlength=3000), graph.about["in_degree"])
    assert (int(graph.about["in_degree"].min()), int(graph.about["in_degree"].max())) == (2, 40)
    heterophilous = graph.about["homophily"] < 0.5
    assert 0.17 < heterophilous.double().mean() < 0.23
    assert not ((graph.about["homophily"] > 0.4) & (graph.about["homophily"] < 0.75)).any()
    again = mixed_graph(3000, seed=0)
    assert torch.equal(plain(again.graph.edge_index), plain(graph.edge_index))
    assert again.checksum == task.checksum != mixed_graph(3000, seed=1).checksum


@pytest.mark.parametrize(
    ("nodes", "settings", "message"),
    [
        (3, {}, "nodes >= 2 [*] classes, got 2 classes, 3 nodes"),
        (0, {}, "nodes >= 2"),
        (10, {"classes": 1}, "classes >= 2"),
        (10, {"sigma": -1.0}, "sigma >= 0"),
        (10, {"sigma": float("nan")}, "sigma >= 0"),
        (10, {"mu": float("inf")}, "finite mu"),
        (10, {"noise_features": -1}, "noise_features >= 0"),
        (10, {"homophily": 1.2}, r"homophily must lie in \[0, 1\], got 1.2"),
        (10, {"homophily": float("nan")}, "homophily must lie"),
        (10, {"homophily": torch.ones(9)}, r"homophily must be a number or \[10\], got \(9,\)"),
        (10, {"degree": -1}, "degree must not be negative, got -1"),
        (10, {"degree": torch.ones(10, 1)}, r"degree must be a number or \[10\], got \(10, 1\)"),
    ],
)
def test_senseless_parameters_are_refused(nodes: int, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        contextual_sbm(nodes, **settings)
