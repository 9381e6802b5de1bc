"""Networks under an adversary: the conditions are his, the scores the trained networks', and the table says both."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from run_samples import METHODS, method, shifted
from samples import node_task

from stemlib.stress.shifts import instance_covariate
from stemlib.training.evaluation import scores
from study.adversary import chance_and_adversary, edge_worth, worst_case_scores, worst_deletion, worst_masking
from study.decompositions import coverage_parts, sensitivity_parts
from study.stress import frozen, scores_of_unseen


@pytest.mark.parametrize("damage", ["masked", "deleted"])
def test_a_network_meets_what_the_adversary_makes_against_it(runs: Path, damage: str) -> None:
    given = shifted(node_task()) | {"methods": METHODS}
    table = worst_case_scores("t", **given, seeds=[3], damage=damage, rates=(0.4,))
    assert table[["method", "kind", "rate"]].to_numpy().tolist() == [
        ["one", "clean", 0.0], ["one", damage, 0.4], ["two", "clean", 0.0], ["two", damage, 0.4],
    ]  # fmt: skip
    models, (clean, *_) = frozen("t", **given, seed=3)
    for name, model in models.items():
        worth = edge_worth(model, clean, 3)
        met, _ = worst_masking(model, clean, 0.4) if damage == "masked" else worst_deletion(clean, worth, 0.4)
        found = table[(table.method == name) & (table.kind == damage)].score.item()
        assert found == pytest.approx(100 * scores(model, [met])[met.name])


def test_an_unknown_damage_is_an_error(runs: Path) -> None:
    with pytest.raises(ValueError, match="unknown damage 'burnt'; there are masked and deleted"):
        worst_case_scores("t", **shifted(node_task()), methods=METHODS[:1], seeds=[0], damage="burnt")


def test_chance_and_adversary_stand_side_by_side() -> None:
    def rows(kind: str, rate: float, adversary: bool, *values: float) -> list[dict]:
        common = {"task": "t", "method": "m", "kind": kind, "rate": rate, "adversary": adversary}
        return [common | {"seed": seed, "score": value} for seed, value in enumerate(values)]

    table = rows("clean", 0.0, False, 80, 82) + rows("deleted", 0.4, False, 70, 72) + rows("deleted", 0.8, True, 1, 1)
    table += rows("clean", 0.0, True, 80, 82) + rows("deleted", 0.4, True, 50, 54)
    found = chance_and_adversary(pd.DataFrame(table)).loc[("t", "m")]
    assert found.to_dict() == {"clean": "81.0 ± 1.4", "chance": "71.0 ± 1.4", "adversary": "52.0 ± 2.8"}
    assert chance_and_adversary(pd.DataFrame(table[:2])).adversary.tolist() == [""]


def test_only_routed_networks_are_taken_apart(runs: Path) -> None:
    given = shifted(node_task()) | {"methods": [method("one"), method("two", routed="none")]}
    models, conditions = frozen("t", **given, seed=3)
    parts = pd.DataFrame(coverage_parts(models, conditions))
    assert parts.method.unique().tolist() == ["one"]
    assert parts.bucket.tolist() == [condition.name for condition in conditions]
    assert parts.R.to_numpy() == pytest.approx((parts.C + parts.S + parts.X).to_numpy(), abs=1e-9)
    met, _ = worst_masking(models["one"], conditions[0], 0.5)
    (row,) = sensitivity_parts(models, conditions[0], met)
    assert row["method"] == "one"
    assert row["residual"] < 1e-4
    assert row["total"] > 0


def test_every_unseen_instance_is_in_one_group_along_the_covariate(runs: Path) -> None:
    given = shifted(node_task()) | {"methods": METHODS}
    models, conditions = frozen("t", **given, seed=3)
    found = scores_of_unseen(models, conditions, instance_covariate(given["task"], "degree"))
    unseen = sum(condition.index.numel() for condition in conditions)
    assert found.groupby("method").instances.sum().to_dict() == {"one": unseen, "two": unseen}
    assert all(rows.covariate.is_monotonic_increasing for _, rows in found.groupby("method"))
