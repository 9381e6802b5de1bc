"""Smoothing: its bound by every copy of tiny inputs, its estimate, and searches for counter-examples."""

from __future__ import annotations

from itertools import chain, combinations, product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from routed_samples import seeds
from samples import few, graph_task, link_task, node_task, small_baseline, small_model
from scipy.stats import binom
from torch import Tensor

from stemlib.data.graph import plain, undirected_pairs
from stemlib.data.tasks import Task
from stemlib.theory.smoothing import certified_radius, lower_bound, smoothed, votes
from stemlib.training.evaluation import predict
from study.families import build

rates = st.sampled_from([0.1, 0.3, 0.5, 0.8])


def worst_share(share: Tensor, rate: float, missing: int) -> Tensor:
    """The least probability that Statement 3.14 leaves a class of that share once `missing` more items are gone."""
    return ((share - 1 + rate**missing) / rate**missing).clamp(min=0)


def share_of(table: Tensor, present: tuple[int, ...], rate: float) -> Tensor:
    """Exact probabilities `[classes]` over all copies of an input; `table` has the class of every set of items."""
    total = torch.zeros(int(table.max()) + 1, dtype=torch.double)
    for kept in chain.from_iterable(combinations(present, k) for k in range(len(present) + 1)):
        chance = (1 - rate) ** len(kept) * rate ** (len(present) - len(kept))
        total[table[sum(2**item for item in kept)]] += chance
    return total


@few
@given(seeds, rates, st.integers(1, 3))
def test_no_classifier_of_five_items_breaks_the_bound(seed: int, rate: float, missing: int) -> None:
    """All sets of missing items, for random classifiers, with a class that is given to most sets."""
    generator = torch.Generator().manual_seed(seed)
    table = (torch.rand(32, generator=generator) < 0.2).long()  # class 0 mostly
    clean = share_of(table, tuple(range(5)), rate)
    radius = certified_radius(clean.amax().view(1), rate).item()
    for gone in combinations(range(5), missing):
        left = share_of(table, tuple(set(range(5)) - set(gone)), rate)
        assert left[0] >= worst_share(clean[0], rate, missing) - 1e-12
        if missing <= radius:
            assert left.argmax() == clean.argmax()
            assert left.amax() > 0.5


@pytest.mark.parametrize(("rate", "missing"), list(product([0.3, 0.5], [1, 2])))
def test_some_classifier_attains_the_bound(rate: float, missing: int) -> None:
    """It errs only on copies without any of the items that are taken: beyond the radius another class has the most."""
    gone = set(range(missing))
    table = torch.tensor([int(not any(number >> item & 1 for item in gone)) for number in range(32)])
    clean, left = (share_of(table, tuple(items), rate) for items in (range(5), set(range(5)) - gone))
    assert clean[0].item() == pytest.approx(1 - rate**missing)
    assert left[0].item() == pytest.approx(worst_share(clean[0], rate, missing).item(), abs=1e-12)
    assert left.argmax() == 1
    assert certified_radius(clean[:1], rate).item() < missing


def test_radii_by_hand() -> None:
    shares = torch.tensor([0.5, 0.51, 0.75, 0.76, 0.875, 1.0]).double()
    assert certified_radius(shares, 0.5).tolist() == [-1, 0, 0, 1, 1, 999_999_999]
    for share, radius in zip(shares[1:-1], certified_radius(shares, 0.5).tolist()[1:-1], strict=True):
        assert share > 1 - 0.5**radius / 2
        assert share <= 1 - 0.5 ** (radius + 1) / 2


def test_the_lower_bound_holds_as_often_as_it_says() -> None:
    """Exactly, summed over all numbers of hits."""
    hits = torch.arange(101)
    bound = lower_bound(hits, 100, 0.05)
    assert bound[0] == 0
    assert bound[100].item() == pytest.approx(0.05 ** (1 / 100))
    for chance in (0.05, 0.3, 0.5, 0.8, 0.97):
        wrong = binom.pmf(hits.numpy(), 100, chance)[(bound > chance).numpy()].sum()
        assert 0.01 < wrong <= 0.05


def voter(model: torch.nn.Module) -> object:
    return lambda task: predict(model, task).argmax(-1)


@pytest.mark.parametrize("damage", ["deleted", "masked"])
def test_votes_are_those_of_the_exact_distribution(damage: str) -> None:
    """A classifier by the number of items left: its votes come from a binomial distribution."""
    task = node_task(20)
    pairs = len(undirected_pairs(plain(task.graph.edge_index), 20)[0])
    items = pairs if damage == "deleted" else int((task.graph.x != 0).sum())

    def decide(met: Task) -> Tensor:
        left = (
            len(undirected_pairs(plain(met.graph.edge_index), 20)[0])
            if damage == "deleted"
            else met.graph.x.count_nonzero()
        )
        return torch.full((2,), int(left > items * 0.7))

    found = votes(decide, task, damage, 0.3, 400, 0, 2)
    assert found.sum(1).tolist() == [400, 400]
    expected = 1 - binom.cdf(int(items * 0.7), items, 0.7)
    assert found[0, 1].item() / 400 == pytest.approx(expected, abs=0.08)


def test_a_search_finds_no_counter_example_within_the_radius() -> None:
    """Edges of the instances, most harmful first, are taken from a network's graph; the majority stays."""
    task = node_task(40, degree=6)
    torch.manual_seed(0)
    model = build(small_model(codes=4), task).eval()
    found = smoothed(voter(model), task, "deleted", 0.5, 300, 0, 3)
    covered = found.covered(2)
    assert covered.sum() > 5
    assert (found.classes[covered] >= 0).all()
    pairs, pair_of_edge = undirected_pairs(plain(task.graph.edge_index), 40)
    for node in covered.nonzero().flatten()[:2].tolist():
        own = ((pairs // 40 == node) | (pairs % 40 == node)).nonzero().flatten()
        for lost in list(combinations(own.tolist(), min(2, len(own))))[:4]:
            graph = task.graph.without_edges(torch.isin(pair_of_edge, torch.tensor(lost)))
            counts = votes(voter(model), task.with_graph(graph), "deleted", 0.5, 60, 1000, 3)[node]
            assert counts.argmax() == found.classes[node]


def test_what_is_uncertain_is_not_answered() -> None:
    """A coin has no majority, and a constant has one at every radius that so many draws can tell."""
    task = node_task(20)
    coins = iter(torch.randint(2, (400, 1), generator=torch.Generator().manual_seed(0)))
    coin = smoothed(lambda met: next(coins), task, "deleted", 0.5, 400, 0, 2)
    assert coin.classes.tolist() == [-1]
    assert coin.radius.tolist() == [-1]
    constant = smoothed(lambda met: torch.tensor([1]), task, "deleted", 0.5, 400, 0, 2)
    assert constant.classes.tolist() == [1]
    assert constant.share.item() == pytest.approx(0.05 ** (1 / 360))
    assert constant.radius.tolist() == [5]  # 0.5^5 / 2 = 0.0156 > 0.0083 > 0.5^6 / 2
    assert not constant.covered(6)


def test_any_network_and_any_kind_of_instance() -> None:
    for task, model in ((link_task(), small_model()), (node_task(), small_baseline("gcn"))):
        network = build(model, task)
        found = smoothed(voter(network), task, "masked", 0.5, 20, 0, task.outputs)
        assert len(found.radius) == task.instances
    task = graph_task(8)
    network = build(small_model(), task)
    found = smoothed(lambda met: (predict(network, met) > 0).long().flatten(), task, "deleted", 0.5, 20, 0, 2)
    assert len(found.radius) == task.labels.numel()


def test_refusals() -> None:
    for rate, alpha, draws in ((0.0, 0.05, 100), (1.0, 0.05, 100), (0.5, 1.0, 100), (0.5, 0.05, 10)):
        with pytest.raises(ValueError, match="smoothing needs rate, alpha"):
            smoothed(voter(torch.nn.Identity()), node_task(20), "deleted", rate, draws, 0, 2, alpha)
