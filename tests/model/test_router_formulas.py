"""Routers: each one's formula by hand."""

from __future__ import annotations

import pytest
import torch
from samples import random_graph, small_model
from torch import Tensor, nn

from stemlib.data.graph import Graph
from stemlib.model.encoder import Encoder
from stemlib.model.routers import ROUTERS, Router, Seen
from stemlib.presets import ModelConfig

PATH = torch.tensor([[0, 1], [1, 2]])  # 0 -> 1 -> 2


def encoder(name: str, **settings: object) -> Encoder:
    """In float64 and evaluation mode, on features of width 6."""
    torch.manual_seed(1)
    return Encoder(small_model(router=name, **settings), 6).double().eval()


def router(name: str, width: int = 2, experts: int = 3, level: int = 0, **settings: object) -> Router:
    torch.manual_seed(0)
    config = ModelConfig(router=name, experts=experts, **settings)
    return ROUTERS[name](width, experts, config, level, width).double().eval()


def sees(x: Tensor, edges: Tensor = PATH) -> Seen:
    return Seen(x, Graph(x, edges), x)


def gates(of: Router, x: Tensor, edges: Tensor = PATH) -> Tensor:
    """Gates `[T, K]` of some nodes, by default on a path of three."""
    return of(x, sees(x, edges)).softmax(-1)


def set_to(layer: nn.Linear, weight: list[list[float]]) -> None:
    """Give a linear map these weights, and biases of 0."""
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        if layer.bias is not None:
            layer.bias.zero_()


def double(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.double)


def test_cosine_reads_directions_alone() -> None:
    own = router("cosine", router_width=2, router_temperature=0.5, experts=2)
    set_to(own.project, [[1, 0], [0, 1]])
    own.centroids.data = double([[5, 0], [0, 1]])
    x = double([[3, 4], [0, 0], [0, 9]])
    torch.testing.assert_close(own(x, sees(x)), double([[1.2, 1.6], [0, 0], [0, 2]]))
    torch.testing.assert_close(own(7 * x, sees(x)), own(x, sees(x)))


def test_kmeans_starts_far_apart_and_follows_the_means() -> None:
    own = router("kmeans", experts=2, router_temperature=0.5)
    x = double([[1, 0], [0.8, 0.6], [0, 3]])
    logits = own.train()(x, sees(x))
    torch.testing.assert_close(logits, double([[0, 2], [1.2, 1.6], [2, 0]]))  # from the third state, then the first
    moved = double([[0, 3], [0.99 + 0.01 * 0.9, 0.01 * 0.3]])
    torch.testing.assert_close(own.centroids, moved)
    own.eval()(x, sees(x))
    torch.testing.assert_close(own.centroids, moved)


def test_hash_tells_features_apart_and_balances() -> None:
    own = router("hash")
    x = torch.randn(3000, 2, dtype=torch.double)
    x[1] = x[0]
    found = gates(own, x)
    assert set(found.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(found[0], found[1])
    assert (found.mean(0) - 1 / 3).abs().max() < 0.05
    assert not torch.equal(gates(own, x + 0.01), found)
    assert not torch.equal(found, gates(ROUTERS["hash"](2, 3, ModelConfig(), 1, 2), x))  # another layer, another hash


def test_frozen_is_a_linear_map_that_training_leaves() -> None:
    own = router("frozen")
    x = torch.randn(3, 2, dtype=torch.double)
    torch.testing.assert_close(own(x, sees(x)), x @ own.weight.T + own.bias)
    assert not own.weight.requires_grad


def test_uniform_sends_nobody_anywhere() -> None:
    model, graph = encoder("uniform").train(), random_graph()
    assert all(torch.equal(gate, torch.full((12, 3), 1 / 3, dtype=torch.double)) for gate in model(graph).gates)


def test_top1_is_one_hot_in_evaluation_and_soft_in_training() -> None:
    own, x = router("top1"), double([[1, 0], [0, 1], [-1, 0]])
    set_to(own, [[1, 0], [0, 1], [-2, 0]])
    assert gates(own, x).tolist() == torch.eye(3).tolist()
    torch.testing.assert_close(gates(own.train(), x), (x @ own.weight.T).softmax(-1))


def test_smoothed_by_hand_on_a_path_of_three() -> None:
    own, x = router("smoothed", experts=2), double([[1, 0], [0, 0], [0, 1]])
    set_to(own.gate, [[1, 0], [0, 1]])
    pi = x.softmax(-1)
    expected = torch.stack([pi[0], (pi[0] + pi[1]) / 2, (pi[1] + pi[2]) / 2])
    torch.testing.assert_close(gates(own, x), expected)
    torch.testing.assert_close(gates(own, x, PATH[:, :0]), pi)  # without edges every node votes alone


def test_similar_weighs_votes_by_likeness() -> None:
    own, x = router("similar", experts=2, router_temperature=0.5), double([[2, 0], [1, 0], [0, 1]])
    set_to(own.gate, [[1, 0], [0, 1]])
    pi, scale = x.softmax(-1), 0.5 * 2**0.5
    of_first = (double([2, 1]) / scale).softmax(0)  # of node 1: 1 x 2 with node 0, 1 x 1 with itself
    of_second = (double([0, 1]) / scale).softmax(0)  # of node 2: 0 with node 1, 1 with itself
    expected = torch.stack([pi[0], of_first @ pi[:2], of_second @ pi[1:]])
    torch.testing.assert_close(gates(own, x), expected)


def test_recurrent_hands_its_state_on() -> None:
    first, second = router("recurrent"), router("recurrent", level=1)
    x = torch.randn(3, 2, dtype=torch.double)
    seen = sees(x)
    first(x, seen)
    state = first.cell(first.project(x), torch.zeros(3, 32).double())
    torch.testing.assert_close(seen.memory["state", 0], state)
    fewer = second(x[:2], seen)
    torch.testing.assert_close(fewer, second.gate(second.cell(second.project(x[:2]), state[:2])))


def test_pregate_has_one_gate_for_all_layers() -> None:
    model, graph = encoder("pregate", layers=3), random_graph()
    first, *later = model(graph).gates
    torch.testing.assert_close(first, model.routers[0].gate(graph.x).softmax(-1))
    assert all(torch.equal(gate, first) for gate in later)


def test_uncertain_trusts_logits_less_that_hang_on_few_entries() -> None:
    own, x = router("uncertain", width=4, experts=1), double([[1, 1, 1, 1]])
    set_to(own.gate, [[4, 0, 0, 0]])
    drawn = 4 * own.masks[:, 0]  # a fifth of them 0, the others 5
    assert set(drawn.tolist()) <= {0.0, 5.0}
    own.masks[:2, 0], own.masks[2:, 0] = 0, 1.25  # two draws of 0 and six of 5: mean 3.75, variance 4.6875
    torch.testing.assert_close(own(x, sees(x)), double([[3.75 / 5.6875]]))
    own.masks[:, 0] = 1.0  # all the same: no variance
    torch.testing.assert_close(own(x, sees(x)), double([[4.0]]))


def test_bilevel_mixes_routers_by_degree() -> None:
    own, x = router("bilevel", experts=2), double([[1, 0], [1, 0], [1, 0]])
    set_to(own.choice, [[0], [1 / torch.tensor(2.0).log()]])
    set_to(own.gates, [[1, 0], [0, 0], [0, 0], [3, 0]])
    routers = double([[1, 0], [0, 3]]).softmax(-1)
    regimes = double([[0, 0], [0, 1], [0, 1]]).softmax(-1)  # degrees 0, 1 and 1
    torch.testing.assert_close(gates(own, x), regimes @ routers)


def test_fuzzy_memberships_by_hand_and_fixed_after_the_first_nodes() -> None:
    own, x = router("fuzzy", width=1, experts=2, router_temperature=1.0), double([[0], [1], [3]])
    none = PATH[:, :0]
    own.centres.copy_(double([[0, 0], [4, 0]]))
    expected = double([[1, 0], [9 / 10, 1 / 10], [1 / 10, 9 / 10]])  # distances 1 and 3, 3 and 1
    torch.testing.assert_close(gates(own, x, none), expected, rtol=0, atol=1e-9)
    groups = torch.cat([torch.randn(20, 1), torch.randn(20, 1) + 30]).double()
    first = gates(own.train(), groups, none)
    centres = own.centres.clone()
    assert (first.argmax(1)[:20] == first[0].argmax()).all()
    assert (first.argmax(1)[20:] != first[0].argmax()).all()
    weight, points = first**2, torch.cat([groups, 0 * groups], dim=1) @ own.basis  # a fixed point of fuzzy C-means
    torch.testing.assert_close(weight.T @ points / weight.sum(0).unsqueeze(1), centres, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close((centres @ own.basis.T).sum(0)[0], groups.view(2, 20).mean(1).sum(), rtol=0.05, atol=0)
    own(groups + 5, sees(groups + 5, none))
    assert torch.equal(own.centres, centres)


def test_fuzzy_memberships_differ_where_columns_are_many() -> None:
    torch.manual_seed(0)
    x = torch.randn(400, 64).double()
    x[:200, 0] += 8
    found = gates(router("fuzzy", width=64, experts=2).train(), x, PATH[:, :0])
    assert (found[:200].argmax(1) == found[0].argmax()).all()
    assert (found[200:].argmax(1) != found[0].argmax()).all()
    assert found.amax(1).mean() > 0.9


def test_margin_falls_back_on_the_last_expert() -> None:
    own, x = router("margin", experts=4), double([[0, 0], [1, 0]])
    set_to(own.gate, [[torch.tensor(3.0).log(), 0], [torch.tensor(1.0).log(), 0], [0, 0]])
    # Nobody is sure of the first; of the second pi = 3/5, 1/5, 1/5, so that m = 2/5.
    expected = double([[0, 0, 0, 1], [6 / 25, 2 / 25, 2 / 25, 15 / 25]])
    torch.testing.assert_close(gates(own, x, PATH[:, :0]), expected)
    with pytest.raises(ValueError, match="router='margin' with experts=2"):
        router("margin", experts=2)


def test_topk_uses_the_largest() -> None:
    own, x = router("topk", active=2), double([[1, 2]])
    set_to(own.gate, [[1, 0], [0, 1], [0, 0]])
    torch.testing.assert_close(gates(own, x), torch.cat([double([1, 2]).softmax(0), double([0])]).unsqueeze(0))
    assert gates(own, x)[0, 2] == 0
    with pytest.raises(ValueError, match="router='topk' with active=1 learns nothing"):
        router("topk", active=1)


def test_dynamic_uses_as_few_as_have_the_mass() -> None:
    shares = double([[0.7, 0.2, 0.1], [0.1, 0.85, 0.05], [0.3, 0.3, 0.4]])
    own = router("dynamic", width=3, mass=0.8)
    set_to(own.gate, torch.eye(3).tolist())
    expected = double([[7 / 9, 2 / 9, 0], [0, 1, 0], [0.3, 0.3, 0.4]])
    torch.testing.assert_close(gates(own, shares.log()), expected)
    own.capacity = 2
    torch.testing.assert_close(gates(own, shares.log())[2], double([3 / 7, 0, 4 / 7]))


@pytest.mark.parametrize(
    ("capacity", "expected"),
    [("all", [6] * 5), ("descending", [6, 5, 4, 3, 2]), ("ascending", [2, 3, 4, 5, 6]), ("pyramid", [2, 4, 6, 4, 2])],
)
def test_capacities_by_layer(capacity: str, expected: list[int]) -> None:
    model = encoder("dynamic", experts=6, layers=5, capacity=capacity, mass=1.0)
    assert [each.capacity for each in model.routers] == expected
    used = [(gate > 0).sum(1).unique().tolist() for gate in model(random_graph()).gates]
    assert used == [[count] for count in expected]


def test_norm_reads_directions_and_drops_what_points_away() -> None:
    own, x = router("norm"), double([[3, 4], [-1, 0], [0, 0]])
    set_to(own.gate, [[1, 0], [0, 1], [-1, -1]])
    own.scale.data.fill_(2)
    length = (3**2 + 4**2 + 7**2) ** 0.5
    found = gates(own, x)
    torch.testing.assert_close(found[0], torch.cat([double([6 / length, 8 / length]).softmax(0), double([0])]))
    torch.testing.assert_close(found[1], torch.cat([double([0]), double([0, 2**0.5]).softmax(0)]))
    torch.testing.assert_close(found[2], double([1 / 3] * 3))
    torch.testing.assert_close(gates(own, 5 * x), found)
