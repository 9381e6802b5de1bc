"""The better balance: what is left out and changed, and what tables make of scores that are known."""

from pathlib import Path

import pandas as pd
import pytest
from balance_samples import TASKS, scores
from run_samples import TINY
from samples import node_task

from study import balance_tables, better_balance, records, trained
from study.better_balance import OURS, RIVALS, SMALLER, averaged_draws, without
from study.methods import ALL, named
from study.protocols import Protocol
from study.statistics import SIGNIFICANT


def test_leads_are_over_the_strongest_rival_at_the_claimed_rate() -> None:
    demands = balance_tables.demands_of(scores(2.0))
    assert set(demands.demand) == set(balance_tables.KINDS)
    compared = balance_tables.leads(demands, rivals=[*RIVALS, SMALLER])
    assert set(compared.strongest) == {"mlp"}
    over = balance_tables.over_sets(compared)
    assert over.difference.to_numpy() == pytest.approx(2.0, abs=0.2)  # the rate of 0.8, far lower, counts nowhere
    assert over.above.eq(1).all()
    assert over.p.lt(SIGNIFICANT).all()
    assert over.loses.eq(0).all()
    behind = balance_tables.over_sets(balance_tables.leads(balance_tables.demands_of(scores(-3.0))))
    assert behind.above.eq(0).all()
    assert behind.high.lt(0).all()


def test_a_size_takes_the_data_sets_of_that_size() -> None:
    compared = balance_tables.leads(balance_tables.demands_of(scores(1.0)))
    instances = pd.Series({task: 5000 for task in TASKS} | {"wisconsin": 251})
    assert set(balance_tables.by_size(compared, instances, below=1000).task) == {"wisconsin"}
    assert "wisconsin" not in set(balance_tables.by_size(compared, instances, at_least=2000).task)


def test_a_pair_is_compared_run_by_run() -> None:
    demands = balance_tables.demands_of(scores(2.0))
    found = balance_tables.pair_over_sets(demands, OURS, "gcn")
    assert found.flat.to_numpy() == pytest.approx(3.0, abs=0.2)
    assert found.sets.eq(len(TASKS)).all()


def test_a_change_is_the_variant_minus_the_tuned_network() -> None:
    base = scores(2.0).query("method == @OURS").assign(variant="")
    less = base.assign(score=base.score - 5, variant="without mlp")
    found = balance_tables.ingredient_changes(pd.concat([base, less]))
    assert found.loc[(OURS, "without mlp")].difference.to_numpy() == pytest.approx(-5)


def test_draws_of_damage_are_one_mean() -> None:
    rows = pd.concat([scores(1.0, tasks=("cora",)).assign(draw=draw) for draw in range(3)])
    rows["score"] += rows.draw
    found = averaged_draws(rows)
    assert len(found) == len(rows) / 3
    assert found.score.to_numpy() == pytest.approx(scores(1.0, tasks=("cora",)).score.to_numpy() + 1)


def test_a_number_of_labels_replaces_only_its_own_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "DATA", tmp_path)
    monkeypatch.setattr(
        better_balance, "few_labels", lambda *given: pd.DataFrame({"labels": [given[-1]], "score": [len(made)]})
    )
    made: list[int] = []
    for labels in ("5", "3", "5"):
        better_balance.main(["cora", "--what", "few", "--labels", labels])
        made.append(1)
    kept = records.read_results("17_few-cora").set_index("labels").score
    assert kept.to_dict() == {3: 1, 5: 2}


def test_a_stack_without_a_member_has_the_others() -> None:
    (stack,) = named(TINY, OURS)
    left = without(stack, stack.members[1])
    assert [each.name for each in left.members] == [each.name for each in stack.members if each.name != "gcn"]


def test_each_ingredient_is_taken_from_what_was_tuned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained, "RUNS", tmp_path)
    monkeypatch.setattr(Protocol, "task", lambda self, preset: node_task())
    monkeypatch.setattr(better_balance, "INGREDIENTS", {"gcn": better_balance.TRAINED, OURS: {}})
    found = better_balance.ingredients("cora", TINY, [0, 1])
    variants = found.groupby("method").variant.unique()
    assert "" in variants["gcn"]
    assert set(variants["gcn"]) <= {"", *better_balance.TRAINED}
    assert len(variants["gcn"]) >= len(better_balance.TRAINED)  # the one that it was tuned to stands as itself
    assert set(variants[OURS]) == {"", *(f"without {name}" for name in ALL)}
