from __future__ import annotations

import pytest
import torch
from pretrain_samples import WIDTH, tiny_pool
from samples import node_task, small_model

from stemlib.data.features import unit_features
from stemlib.data.graph import plain
from stemlib.model.encoder import Encoder
from stemlib.training.pool import Member
from stemlib.training.pretrain_batches import draw_batch, draws, keys

MEMBERS = dict(zip(("node", "link", "graph"), tiny_pool().members, strict=True))


def edge_set(edges: torch.Tensor) -> set[tuple[int, int]]:
    return set(map(tuple, plain(edges).T.tolist()))


@pytest.mark.parametrize("layered", [True, False])
@pytest.mark.parametrize("kind", ["node", "link"])
def test_a_batch_of_a_large_graph(kind: str, layered: bool) -> None:
    member = MEMBERS[kind]
    graph = member.task.graph
    batch = draw_batch(member, 20, (3, 3), 0.5, draws(0, 0), layered=layered)
    numbers = batch.graph.nodes
    assert len(batch.seeds) == len(numbers[batch.seeds].unique()) == 20
    assert torch.equal(batch.graph.x, graph.x[numbers])
    true = edge_set(graph.edge_index)
    edges = numbers[batch.edges]
    assert edge_set(edges) <= true
    assert torch.isin(batch.edges[1], batch.seeds).all()
    assert 0.4 * 60 / 2 < batch.edges.size(1) <= 30  # half of at most three edges of every seed
    others = numbers[batch.non_edges]
    assert not edge_set(others) & true
    assert (others[0] != others[1]).all()
    assert batch.non_edges.size(1) > 0.7 * batch.edges.size(1)
    used = torch.cat([batch.seeds, batch.edges.flatten(), batch.non_edges.flatten()])
    assert used.max() < batch.computed <= 20 + batch.edges.size(1)


def test_what_is_asked_for_has_its_whole_neighbourhood_in_the_batch() -> None:
    """With all neighbours, embeddings of the computed nodes are those of the whole graph."""
    member = MEMBERS["link"]
    encoder = Encoder(small_model(), WIDTH, WIDTH).eval()
    whole = encoder(member.task.graph).z
    for layered in (True, False):
        batch = draw_batch(member, 10, (None, None), 0.2, draws(0, 3), layered=layered)
        z = encoder(batch.graph).z[: batch.computed]
        assert torch.allclose(z, whole[batch.graph.nodes[: batch.computed]], atol=1e-5)


def test_edge_features_are_those_of_the_edges() -> None:
    assert draw_batch(MEMBERS["node"], 20, (3, 3), 0.5, draws(0, 0)).edge_features is None
    for kind in ("link", "graph"):
        member = MEMBERS[kind]
        batch = draw_batch(member, 30, (3, 3), 1.0, draws(0, 1))
        graph = member.task.graph if kind == "link" else batch.graph
        ends = batch.graph.nodes[batch.edges] if kind == "link" else batch.edges
        table = graph.edge_attr[graph.edge_type] if kind == "link" else graph.edge_attr
        known = {}
        for key, row in zip(keys(plain(graph.edge_index), graph.num_nodes).tolist(), table, strict=True):
            known.setdefault(key, []).append(row)
        assert len(batch.edge_features) == batch.edges.size(1) > 0
        for key, row in zip(keys(ends, graph.num_nodes).tolist(), batch.edge_features, strict=True):
            assert any(torch.equal(row, other) for other in known[key])


def test_a_batch_of_molecules_is_whole_molecules_of_about_so_many_atoms() -> None:
    member = MEMBERS["graph"]
    mean = member.nodes / member.task.instances
    batch = draw_batch(member, 40, (3, 3), 0.5, draws(0, 0))
    assert batch.graph.ptr.numel() - 1 == round(40 / mean)
    assert batch.computed == batch.seeds.numel() == batch.graph.num_nodes
    assert edge_set(batch.edges) <= edge_set(batch.graph.edge_index)
    assert not edge_set(batch.non_edges) & edge_set(batch.graph.edge_index)
    assert batch.edges.size(1) == round(batch.graph.num_edges / 2)


@pytest.mark.parametrize("kind", MEMBERS)
def test_processes_share_a_batch_out_among_them(kind: str) -> None:
    member = MEMBERS[kind]

    def seeds(rank: int = 0, world: int = 1) -> list[tuple[float, ...]]:
        batch = draw_batch(member, 24, (3, 3), 0.5, draws(5, 7, rank, world))
        return sorted(map(tuple, batch.graph.x[batch.seeds].tolist()))

    assert sorted(seeds(0, 2) + seeds(1, 2)) == seeds()
    assert abs(len(seeds(0, 2)) - len(seeds(1, 2))) <= (0 if kind != "graph" else 24)


def test_draws_follow_from_seed_step_and_process() -> None:
    def numbers(*key: int) -> tuple[float, ...]:
        drawn = draws(*key)
        generators = (drawn.shared, drawn.own, torch.default_generator)
        return tuple(torch.rand(1, generator=generator).item() for generator in generators)

    assert numbers(1, 2) == numbers(1, 2)
    several = [numbers(1, 2), numbers(2, 1), numbers(1, 3), numbers(1, 2, 1, 2)]
    assert several[0][0] == several[3][0]  # shared between processes
    assert len({value for three in several for value in three}) == 11
    assert len(set(numbers(0, 0))) == 3


def test_small_and_empty_graphs_are_fine() -> None:
    member = Member(unit_features(node_task(nodes=12, degree=0), WIDTH), 1.0)
    batch = draw_batch(member, 100, (3, 3), 0.5, draws(0, 0))
    assert (len(batch.seeds), batch.edges.size(1), batch.non_edges.size(1)) == (12, 0, 0)
    assert draw_batch(MEMBERS["node"], 20, (3, 3), 0.0, draws(0, 0)).edges.size(1) == 0
    assert draw_batch(MEMBERS["node"], 20, (3, 3), 1e-9, draws(0, 0)).edges.size(1) == 1


def test_a_batch_moves_to_a_device_whole() -> None:
    batch = draw_batch(MEMBERS["link"], 20, (3, 3), 0.5, draws(0, 0), (0.5, 0.5)).to("meta")
    assert {value.device.type for value in (batch.seen.x, batch.columns, batch.seen.hops[0].edge_index)} == {"meta"}
    assert batch.seen.x is batch.graph.x
    assert {value.device.type for value in (batch.seeds, batch.edges, batch.edge_features, batch.graph.x)} == {"meta"}
    assert batch.computed > 20
