"""NCN and NCNC: neighbours against sets, states by hand, and what completion adds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import EXACT, few, graphs, random_graph
from torch import Tensor

from stemlib.data.graph import Graph, sorted_by_target
from stemlib.presets import TrainConfig
from study.rivals.common_neighbours import CommonNeighbours, Neighbours, pair_states
from study.rivals.settings import NCNConfig

SMALL = NCNConfig(hidden=8, dropout=0.0, input_dropout=0.0)


def neighbour_sets(graph: Graph) -> list[set[int]]:
    found = [set() for _ in range(graph.num_nodes)]
    for i, j in graph.edge_index.T.tolist():
        if i != j:
            found[i].add(j)
            found[j].add(i)
    return found


def listed(owner: Tensor, node: Tensor) -> list[tuple[int, int]]:
    return sorted(zip(owner.tolist(), node.tolist(), strict=True))


def twins(**settings: object) -> tuple[CommonNeighbours, CommonNeighbours]:
    """NCN, and NCNC with the same weights."""
    ncn, ncnc = (
        CommonNeighbours(replace(SMALL, complete=complete, **settings), 6, 5).double() for complete in (False, True)
    )
    ncnc.load_state_dict(ncn.state_dict(), strict=False)
    return ncn, ncnc


def always(model: CommonNeighbours, logit: float) -> CommonNeighbours:
    """The model with a head that finds every link equally likely."""
    last = model.existence.lins[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.constant_(last.bias, logit)
    return model


@few
@given(graph=graphs, draw=st.integers(0, 2**31), most=st.integers(0, 6))
def test_neighbours_are_those_that_sets_find(graph: Graph, draw: int, most: int) -> None:
    pairs = torch.randint(graph.num_nodes, (7, 2), generator=torch.Generator().manual_seed(draw))
    sets, found = neighbour_sets(graph), Neighbours(graph)
    common, ends = [], []
    for k, (u, v) in enumerate(pairs.tolist()):
        common += [(k, w) for w in sets[u] & sets[v]]
        ends += [(k, w, w, v) for w in sets[u] - sets[v] - {v} if len(sets[u]) <= most]
        ends += [(k, w, u, w) for w in sets[v] - sets[u] - {u} if len(sets[v]) <= most]
    assert listed(*found.common(pairs)) == sorted(common)
    owner, node, missing = found.of_one_end(pairs, most)
    assert sorted(torch.stack([owner, node, *missing.T], 1).tolist()) == sorted(map(list, ends))


def test_the_states_of_a_pair_by_hand() -> None:
    z = torch.randn(5, 3, dtype=torch.double, requires_grad=True)
    pairs, owner, node = torch.tensor([[0, 1], [2, 2]]), torch.tensor([0, 0, 1]), torch.tensor([3, 4, 0])
    weight = torch.tensor([1.0, 0.5, 0.25], dtype=torch.double)
    expected = torch.stack(
        [torch.cat([z[0], z[1], z[0] * z[1], z[3] + 0.5 * z[4]]), torch.cat([z[2], z[2], z[2] * z[2], 0.25 * z[0]])]
    )
    found = pair_states(z, pairs, owner, node, weight)
    torch.testing.assert_close(found, expected, **EXACT)
    factor = torch.randn_like(expected)
    one, other = (torch.autograd.grad((value * factor).sum(), z, retain_graph=True)[0] for value in (found, expected))
    torch.testing.assert_close(one, other, **EXACT)


def test_ncn_reads_the_sum_over_common_neighbours() -> None:
    graph, pairs = random_graph(), torch.randint(12, (20, 2))
    model, sets = twins()[0].eval(), neighbour_sets(graph)
    z = model.encoder(graph, torch.arange(12)).logits
    sums = torch.stack([z[list(sets[u] & sets[v])].sum(0) for u, v in pairs.tolist()])
    assert sums.any()
    head, tail = z[pairs].unbind(1)
    expected = model.head(torch.cat([head, tail, head * tail, sums], 1))
    torch.testing.assert_close(model(graph, pairs).logits, expected, **EXACT)


def test_completion_runs_from_common_to_all_neighbours() -> None:
    graph, pairs = random_graph(), torch.tensor([[0, 1], [2, 5], [3, 7], [4, 4]])
    ncn, ncnc = (model.eval() for model in twins())
    torch.testing.assert_close(always(ncnc, -1e4)(graph, pairs).logits, ncn(graph, pairs).logits, **EXACT)
    states, sets = always(ncnc, 1e4)(graph, pairs).embedding, neighbour_sets(graph)
    z = ncnc.encoder(graph, torch.arange(12)).logits
    every = torch.stack([z[list((sets[u] | sets[v]) - {u, v})].sum(0) for u, v in pairs.tolist()])
    torch.testing.assert_close(states[:, -8:], every, **EXACT)
    assert not torch.allclose(every, ncn(graph, pairs).embedding[:, -8:])
    _, none = (model.eval() for model in twins(most=0))
    z = none.encoder(graph, torch.arange(12)).logits
    torch.testing.assert_close(none(graph, pairs).embedding, pair_states(z, pairs, *Neighbours(graph).common(pairs)))


def test_a_missing_link_counts_by_its_chance_without_gradient() -> None:
    """On a path 0 - 1 - 2 the pair (0, 3) has no common neighbour; 1 counts by the chance of (1, 3)."""
    graph = sorted_by_target(Graph(torch.randn(4, 6, dtype=torch.double), torch.tensor([[0, 1], [1, 2]])))
    model = twins()[1].train()
    output = model(graph, torch.tensor([[0, 3]]))
    z = model.encoder(graph, torch.arange(4)).logits
    chance = model.existence(torch.cat([z[1], z[3], z[1] * z[3], torch.zeros(8, dtype=torch.double)])).sigmoid()
    torch.testing.assert_close(output.embedding[0, -8:], chance * z[1], **EXACT)
    output.logits.sum().backward()
    assert all(value.grad is None for value in model.existence.parameters())


def test_the_second_head_learns_links_from_pairs_with_anothers_tail() -> None:
    graph, pairs = random_graph(), torch.tensor([[0, 1], [2, 5], [3, 7]])
    train, model = TrainConfig(lipschitz=0.0), twins()[1]
    for logit in (0.5, -2.0):
        output = always(model, logit).train()(graph, pairs)
        sure = torch.tensor([logit, -logit], dtype=torch.double)
        torch.testing.assert_close(model.penalty(output, train), -torch.nn.functional.logsigmoid(sure).mean(), **EXACT)
    others = torch.tensor([[0, 7], [2, 1], [3, 5]])
    _, model = twins()
    output, z = model(graph, pairs), model.encoder(graph, torch.arange(12)).logits
    exist, not_exist = (model.likely(z, Neighbours(graph), some) for some in (pairs, others))
    expected = -(exist.sigmoid().log().mean() + (1 - not_exist.sigmoid()).log().mean()) / 2
    torch.testing.assert_close(model.penalty(output, train), expected, **EXACT)
    model.penalty(output, train).backward()
    assert all(value.grad.any() for value in model.existence.parameters())


@pytest.mark.parametrize("mode", [True, False])
def test_ncn_has_no_loss_beside_the_tasks(mode: bool) -> None:
    model = twins()[0].train(mode)
    output = model(random_graph(), torch.tensor([[0, 1]]))
    assert model.penalty(output, TrainConfig(lipschitz=0.0)).item() == 0
