"""The pool: its law of sampling, one feature space, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pretrain_samples import WIDTH, tiny_pool
from samples import TASKS, node_task

from stemlib.data.built_in import BUILT_IN
from stemlib.data.features import unit_features
from stemlib.data.public import data_set
from stemlib.data.tasks import Task
from stemlib.paths import data_folder
from stemlib.training.pool import Member, Pool
from study.pool import OTHER_WEIGHTS, WEIGHTS, at_hand, load_pool


def pool_of(*sizes_and_weights: tuple[int, float]) -> Pool:
    tasks = [node_task(nodes=nodes, seed=seed) for seed, (nodes, _) in enumerate(sizes_and_weights)]
    named = [replace(unit_features(task, 3), name=f"set-{i}") for i, task in enumerate(tasks)]
    return Pool(Member(task, weight) for task, (_, weight) in zip(named, sizes_and_weights, strict=True))


def test_shares_are_weight_times_the_root_of_the_size() -> None:
    pool = pool_of((100, 1.0), (400, 1.0), (25, 10.0))
    assert pool.shares.tolist() == pytest.approx([10 / 80, 20 / 80, 50 / 80])


def test_every_data_set_is_drawn_in_proportion_at_any_time_and_never_waits_long() -> None:
    pool = pool_of((16, 0.1), (100, 1.0), (400, 5.0), (900, 0.5))
    for seed in range(5):
        drawn = torch.tensor([pool.drawn(step, seed) for step in range(4000)])
        counts = torch.nn.functional.one_hot(drawn, 4).cumsum(0)
        expected = torch.arange(1, 4001).unsqueeze(1) * pool.shares
        assert (counts - expected).abs().max() < 4  # a random draw would be off by up to a hundred
        for member, share in enumerate(pool.shares.tolist()):
            visits = torch.cat([torch.tensor([-1]), (drawn == member).nonzero().flatten()])
            assert visits.diff().max() <= 2 / share
            assert 4000 - visits[-1] <= 2 / share


def test_the_data_set_of_a_step_follows_from_seed_and_step() -> None:
    pool = tiny_pool()
    first = [pool.drawn(step, 0) for step in range(50)]
    assert first == [tiny_pool().drawn(step, 0) for step in range(50)]
    assert first != [pool.drawn(step, 1) for step in range(50)]


def test_an_epoch_shows_every_node_as_often_as_its_weight_says() -> None:
    assert pool_of((100, 1.0), (400, 2.0)).epoch_steps(10) == 90
    assert pool_of((16, 0.1)).epoch_steps(1024) == 1


def test_what_a_pool_refuses() -> None:
    with pytest.raises(ValueError, match="the pool is empty"):
        Pool([])
    with pytest.raises(ValueError, match="the pool is empty"):
        load_pool(8, [])
    member = Member(unit_features(node_task(), WIDTH), 1.0)
    with pytest.raises(ValueError, match="must differ, got tiny, tiny"):
        Pool([member, member])
    with pytest.raises(ValueError, match="weight of 'tiny' must be positive, got 0"):
        Pool([Member(member.task, 0.0)])
    links = Member(unit_features(TASKS["link"](), WIDTH + 1), 1.0)
    with pytest.raises(ValueError, match=r"features of width 6 .* x of 'tiny-links' has width 7"):
        Pool([member, links])
    with pytest.raises(ValueError, match=r"80 rows of other lengths: use stemlib.data.features"):
        Pool([Member(node_task(), 1.0)])
    with pytest.raises(ValueError, match="unknown data set 'corra'; did you mean 'cora'"):
        load_pool(8, ["corra"])


def test_the_default_pool_is_what_is_at_hand_and_no_graph_comes_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEMLIB_DATA", str(tmp_path))
    assert at_hand() == [BUILT_IN]
    for name in ("cora", "ogbn-arxiv-predictions", "chembl"):
        (tmp_path / data_set(name).folder).mkdir(parents=True)
    assert at_hand() == ["cora", "ogbn-arxiv-predictions", "chembl-10k", BUILT_IN]
    assert at_hand(whole=True) == ["cora", "ogbn-arxiv-predictions", "chembl", BUILT_IN]
    (tmp_path / data_set("ogbn-arxiv").folder).mkdir(parents=True)
    assert at_hand() == ["cora", "ogbn-arxiv", "chembl-10k", BUILT_IN]
    (tmp_path / "MoleculeNet/esol/raw").mkdir(parents=True)
    assert "esol" not in at_hand()  # held out
    monkeypatch.setattr("study.pool.load", lambda name, **_: pytest.fail(name))
    with pytest.raises(pytest.fail.Exception, match="cora"):
        load_pool(8)
    assert data_folder() == tmp_path


def test_the_default_pool_has_the_references_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    def load(name: str, **settings: object) -> Task:
        loaded.append((name, settings))
        return replace(TASKS["graph" if name == "bace" else "node"](), name=name)

    monkeypatch.setattr("study.pool.load", load)
    monkeypatch.setattr("study.pool.at_hand", lambda whole: [*WEIGHTS, *["actor", "bace"][: 1 + whole]])
    pool = load_pool(16, nodes=50)
    weights = {member.task.name: member.weight for member in pool.members}
    assert weights.keys() == WEIGHTS.keys() | {"actor"}
    expected = {"cora": 5.0, "wn18rr": 5.0, "fb15k237": 10.0, "hiv": 1.0, "chembl": 0.1, "actor": OTHER_WEIGHTS["node"]}
    assert expected.items() <= weights.items()
    assert all(settings == {"width": 16} for _, settings in loaded)
    assert pool.members[list(WEIGHTS).index(BUILT_IN)].nodes == 50
    assert load_pool(16, nodes=50, whole=True).members[-1].weight == OTHER_WEIGHTS["graph"] < 1


def test_the_checksum_changes_with_data_weights_and_order() -> None:
    a, b = (Member(unit_features(TASKS[kind](), WIDTH), 1.0) for kind in ("node", "link"))
    sums = [Pool(members).checksum for members in ([a, b], [b, a], [a], [a, Member(b.task, 2.0)])]
    assert len(set(sums)) == 4
    assert Pool([a, b]).checksum == sums[0]
