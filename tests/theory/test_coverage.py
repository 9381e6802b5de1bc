"""Part 2 of docs/theory.md as identities, on random networks of every kind."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from routed_samples import architectures, condition, damaged, exact, kinds, random_model, random_task, seeds
from samples import EXACT, node_task, small_baseline, small_model
from torch import Tensor

from stemlib.data.tasks import Task
from stemlib.model.losses import LOSSES, instance_loss
from stemlib.model.stem import StemGNN
from stemlib.stress.conditions import Condition
from stemlib.stress.shifts import tail_buckets
from stemlib.theory.coverage import Coverage, coverage, coverages, layer_regrets
from stemlib.theory.coverage_report import HALVINGS, held_out, null_coverage, report
from stemlib.theory.paths import all_paths, top_paths
from stemlib.training.evaluation import predict
from study.decompositions import independent_losses
from study.families import build

some = settings(max_examples=15)
THREE_PATHS = torch.tensor([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0], [3.0, 3.0, 1.0], [0.5, 0.0, 0.5]]).double()


def by_hand(forced: Tensor, routed: Tensor, gates: Tensor, name: str = "e", loss: str = "ce") -> Coverage:
    """A coverage from given losses."""
    paths = all_paths(gates.size(2), gates.size(1))
    entropy = torch.special.entr(gates).sum(-1)
    own_top = forced[torch.arange(len(forced)), top_paths(gates)]
    return Coverage(name, loss, "node", torch.arange(len(forced)), 0, paths, forced, routed, own_top, gates, entropy)


def one_layer(chosen: list[int], experts: int = 3) -> Tensor:
    """Hard gates of one layer `[M, 1, K]`."""
    return torch.eye(experts, dtype=torch.double)[chosen].unsqueeze(1)


def shifted(task: Task) -> list[Condition]:
    """Three buckets of the instances, one of them damaged as well."""
    buckets = tail_buckets(torch.arange(task.instances).double(), tail=0.3).members
    conditions = [Condition(name, task, index) for name, index in buckets.items()]
    return [*conditions, Condition("damaged", damaged(task).task, conditions[0].index)]


def network(kind: str, architecture: dict, seed: int) -> tuple[StemGNN, Task]:
    task = random_task(kind, seed)
    return random_model(task, seed, **architecture), task


def test_a_decomposition_by_hand() -> None:
    """Oracle losses 0, 0, 1, 0; the router picks paths 0, 0, 2, 1; soft routing adds 0.1 each."""
    forced, gates = THREE_PATHS, one_layer([0, 0, 2, 1])
    top = torch.tensor([0.0, 2.0, 1.0, 0.0]).double()
    found = by_hand(forced, top + 0.1, gates)
    assert found.oracle.tolist() == [0, 2, 2, 1]
    assert found.top.tolist() == [0, 0, 2, 1]
    assert pytest.approx((0.25, 0.5, 0.1)) == (found.C, found.S, found.X)
    assert pytest.approx(0.85) == found.R
    assert found.C_env == pytest.approx(0.875)
    assert found.oracle_share == 0.75
    assert found.regret_if_misselected == 2.0
    assert found.load.tolist() == [[0.5, 0.25, 0.25]]


def test_layer_regrets_by_hand() -> None:
    """Paths 00, 01, 10, 11 cost 5, 3, 4, 1; the router picks 00: 5 = 1 + (3 - 1) + (5 - 3)."""
    gates = torch.tensor([[[0.9, 0.1], [0.6, 0.4]]]).double()
    forced = torch.tensor([[5.0, 3.0, 4.0, 1.0]]).double()
    assert layer_regrets(forced, gates).tolist() == [[2.0, 2.0]]


@some
@given(kinds, architectures, seeds)
def test_the_identities(kind: str, architecture: dict, seed: int) -> None:
    model, task = network(kind, architecture, seed)
    for scope in {"graph", "graph" if kind == "graph" else "node"}:
        for loss in LOSSES:
            found = coverage(model, condition(task), scope, loss)
            deployed = instance_loss(predict(model, task), task.labels, loss)
            torch.testing.assert_close(found.routed, deployed, **EXACT)
            assert pytest.approx(found.C + found.S + found.X, rel=1e-9) == deployed.mean().item()
            parts = found.covered + found.selection + found.mixing
            torch.testing.assert_close(parts, deployed, **EXACT)
            assert (found.selection >= 0).all()
            assert (found.layer_regrets >= 0).all()
            torch.testing.assert_close(found.layer_regrets.sum(1), found.selection, **EXACT)
            assert found.C_env + 1e-12 >= found.C
            assert pytest.approx(found.C_own + found.S_own + found.X_own, rel=1e-9) == deployed.mean().item()
            assert found.S_own >= 0
            assert found.C_own <= found.C
            share = 1 - found.oracle_share
            assert pytest.approx(share * found.regret_if_misselected, abs=1e-5) == found.S
            torch.testing.assert_close(found.load.sum(1), torch.ones(found.load.size(0)).double(), **EXACT)


@some
@given(st.sampled_from(["node", "link"]), architectures, seeds)
def test_of_zero_one_error(kind: str, architecture: dict, seed: int) -> None:
    """`P(no path correct) + P(top wrong, some path correct)`, then mixing."""
    model, task = network(kind, architecture, seed)
    found = coverage(model, condition(task), loss="zero_one")
    correct = found.forced == 0
    top_correct = correct[torch.arange(len(correct)), found.top]
    assert pytest.approx((~correct.any(1)).double().mean().item()) == found.C
    assert pytest.approx((~top_correct & correct.any(1)).double().mean().item()) == found.S


@some
@given(kinds, architectures, seeds)
def test_the_report_over_conditions(kind: str, architecture: dict, seed: int) -> None:
    model, task = network(kind, architecture, seed)
    found = coverages(model, shifted(task))
    table = report(found)
    assert len(table) == 8
    assert (table.residual <= 1e-9 * table.R.clip(lower=1)).all()
    assert ((table.dC + table.dS + table.dX - table.dR).abs() <= 1e-9).all()
    assert ((table.C_own + table.S_own + table.X_own - table.R).abs() <= 1e-9).all()
    regrets = table.filter(regex=r"^S_\d")
    assert ((regrets.sum(axis=1) - table.S).abs() <= 1e-9).all()
    for loss, rows in table.groupby("loss"):
        risks = torch.stack([item.path_risks for item in found if item.loss == loss])
        assert rows.C_all.nunique() == 1
        assert rows.C_all.iloc[0] == risks.amax(0).amin().item()
        assert (rows.C_env + 1e-12 >= rows.C).all()
        assert rows.C_env.max() <= rows.C_all.iloc[0] + 1e-12
        assert rows.routing_gain.iloc[0] == pytest.approx(rows.C_all.iloc[0] - rows.R.max())
        assert (rows.iloc[0][["dR", "dC", "dS", "dX"]] == 0).all()
        chosen = held_out([item for item in found if item.loss == loss])
        assert rows.C_env_held_out.tolist() == chosen.env.tolist()
        assert rows.C_all_held_out.tolist() == [chosen.worst] * 4
        assert rows.routing_gain_held_out.iloc[0] == pytest.approx(chosen.worst - rows.R.max())


def test_conditions_on_one_graph_share_passes_and_give_the_same() -> None:
    task = random_task("node", edges=40)
    model = random_model(task, layers=2)
    together = coverages(model, shifted(task), losses=["ce"])
    for found, alone in zip(together, shifted(task), strict=True):
        expected = coverage(model, alone)
        assert found.condition == expected.condition == alone.name
        assert found.index.tolist() == alone.index.tolist()
        torch.testing.assert_close(found.forced, expected.forced, **EXACT)
        torch.testing.assert_close(found.routed, expected.routed, **EXACT)


def test_instances_without_a_label_are_counted() -> None:
    task = random_task("graph")
    task.labels[2] = float("nan")
    found = coverage(random_model(task), condition(task))
    assert found.unlabelled == 1
    assert report([found]).unlabelled.tolist() == [1]


def test_ties_are_right_and_rounding_is_a_tie() -> None:
    forced = torch.tensor([[1.0, 1.0 + 1e-9], [1.0, 1.01]]).double()
    found = by_hand(forced, forced[:, 1], one_layer([1, 1], experts=2))
    assert found.misselected.tolist() == [False, True]


def test_the_shuffled_null_by_hand() -> None:
    """Two paths, each right on one half: routing can be perfect, independent paths leave a quarter."""
    forced = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double().repeat(500, 1)
    found = by_hand(forced, forced[:, 0], one_layer([0] * 1000, experts=2))
    null = null_coverage(found, draws=50)
    assert found.C == 0
    assert null.shuffled == pytest.approx(0.25, abs=0.01)
    assert (
        null == null_coverage(found, draws=50) or null.independent != null.independent
    )  # seeded; NaN without networks
    same = by_hand(forced[:, :1].expand(-1, 2).contiguous(), forced[:, 0], one_layer([0] * 1000, experts=2))
    assert same.C == 0.5
    assert null_coverage(same, draws=50).shuffled == pytest.approx(0.25, abs=0.01)


def of_paths(forced: Tensor, name: str) -> Coverage:
    """A coverage of one layer, of which only the losses on paths matter."""
    return by_hand(forced, forced[:, 0], one_layer([0] * len(forced), forced.size(1)), name)


def test_a_held_out_choice_written_out() -> None:
    """Three conditions: all instances, the last third of them, and the first ones damaged."""
    generator = torch.Generator().manual_seed(1)
    losses = torch.rand(3, 12, 4, dtype=torch.double, generator=generator)
    rows = [torch.arange(12), torch.arange(8, 12), torch.arange(6)]
    found = [
        dataclasses.replace(of_paths(values[index], str(place)), index=index)
        for place, (values, index) in enumerate(zip(losses, rows, strict=True))
    ]
    order = torch.rand(HALVINGS, 12, generator=torch.Generator().manual_seed(7)).argsort(1)
    env, worst = torch.zeros(3, HALVINGS), []
    for draw, first in enumerate(order < 6):
        risks = torch.zeros(3)
        for mine in (first, ~first):
            theirs = [values[index[~mine[index]]] for values, index in zip(losses, rows, strict=True)]
            known = [values.mean(0) if len(values) else torch.zeros(4) for values in theirs]
            over_all = torch.stack(known).amax(0).argmin()
            for e, (values, index) in enumerate(zip(losses, rows, strict=True)):
                here = values[index[mine[index]]]
                env[e, draw] += here[:, known[e].argmin()].sum() / len(index)
                risks[e] += here[:, over_all].sum() / len(index)
        worst.append(risks.amax().item())
    chosen = held_out(found, seed=7)
    assert chosen.env.tolist() == pytest.approx(env.mean(1).tolist())
    assert chosen.worst == pytest.approx(sum(worst) / HALVINGS)


def test_a_held_out_choice_is_not_optimistic() -> None:
    """Twenty paths of equal merit: the best of them looks better than it is, unless it was chosen on others."""
    forced = torch.rand(100, 20, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    found = of_paths(forced, "noise")
    assert found.C_env < 0.46
    assert held_out([found]).worst == pytest.approx(held_out([found]).env.item())
    assert held_out([found]).worst > 0.49
    forced[:, 3] -= 1
    assert held_out([of_paths(forced, "one is best")]).worst == pytest.approx(forced[:, 3].mean().item())


def test_an_instance_is_held_out_in_every_condition() -> None:
    forced = torch.rand(30, 5, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    chosen = held_out([of_paths(forced, "clean"), of_paths(forced, "once more")])
    assert chosen.env.tolist() == pytest.approx([chosen.worst] * 2)
    alone = held_out([of_paths(forced[:1], "one instance")])
    assert alone.worst == pytest.approx(forced[0, 0].item())  # nobody to choose by


def test_the_null_of_independent_networks() -> None:
    task = exact(node_task())
    model = random_model(task, layers=1, experts=2)
    found = coverage(model, condition(task))
    networks = [random_model(task, seed, routed="none", codebook="none") for seed in (1, 2)]
    (independent,) = independent_losses(networks, [condition(task)], ["ce"])
    for column, one in zip(independent.unbind(1), networks, strict=True):
        torch.testing.assert_close(column, instance_loss(predict(one, task), task.labels, "ce"))
    null = null_coverage(found, independent)
    assert null.independent == pytest.approx(independent.amin(1).mean().item())
    assert null.independent_env == pytest.approx(independent.mean(0).amin().item())
    table = report([found], [null])
    assert table[["C_independent", "C_independent_env", "C_shuffled"]].iloc[0].tolist() == list(null)
    with pytest.raises(ValueError, match=r"as many independent networks as there are paths, \(80, 2\), got \(80, 1\)"):
        null_coverage(found, independent[:, :1])
    baseline = build(small_baseline("gcn"), node_task())
    two = independent_losses([baseline], [condition(node_task())] * 2)
    assert [losses.shape for losses in two] == [(80, 1)] * 4
    assert two[2].unique().tolist() == [0, 1]  # the 0/1 error comes after the cross-entropy


def test_a_float32_network_is_decomposed_exactly_too() -> None:
    task = node_task()
    model = build(small_model(layers=2), task)
    found = coverage(model, condition(task))
    assert found.forced.dtype == torch.double
    assert pytest.approx(found.C + found.S + found.X, rel=1e-12) == found.R
    brute = coverage(random_model_like(model, task), condition(exact(task)))
    close = (found.forced - brute.forced).abs() < 1e-4
    assert close.double().mean() > 0.99  # a query at the border of two codes may fall to either


def random_model_like(model: StemGNN, task: Task) -> StemGNN:
    """The same network in float64."""
    twin = build(model.config, task)
    twin.load_state_dict(model.state_dict())
    return twin.double()


def test_refusals() -> None:
    task = random_task("node")
    with pytest.raises(ValueError, match=r"unknown loss \['hinge'\]; there are ce, zero_one"):
        coverage(random_model(task), condition(task), loss="hinge")
    with pytest.raises(ValueError, match="routed='last' or routed='all'"):
        coverage(random_model(task, routed="none"), condition(task))


def test_fields_are_frozen() -> None:
    found = by_hand(THREE_PATHS, THREE_PATHS[:, 0], one_layer([0, 0, 0, 0]))
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.loss = "zero_one"
