"""The adversary as conditions, and beside chance in a table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from run_samples import METHODS, shifted
from samples import node_task

from stemlib.training.adversary import edge_worth, worst_conditions, worst_deletion, worst_masking
from study.adversary import chance_and_adversary
from study.stress import StressTest


@pytest.mark.parametrize("damage", ["masked", "deleted"])
def test_a_network_meets_the_attack_with_each_budget(runs: Path, damage: str) -> None:
    ((_, models, (clean, *_)),) = StressTest(**shifted(node_task()), methods=METHODS[:1], seeds=[3]).networks()
    model, worth = models["one"], edge_worth(models["one"], clean, 3)
    found = dict(worst_conditions(model, clean, damage, (0.2, 0.4), 3))
    assert list(found) == [0.2, 0.4]
    for rate, met in found.items():
        expected, _ = worst_masking(model, clean, rate) if damage == "masked" else worst_deletion(clean, worth, rate)
        assert met.name == expected.name
        assert torch.equal(met.task.graph.x, expected.task.graph.x)
        assert torch.equal(met.task.graph.edge_index, expected.task.graph.edge_index)


def test_an_unknown_damage_is_an_error(runs: Path) -> None:
    ((_, models, (clean, *_)),) = StressTest(**shifted(node_task()), methods=METHODS[:1], seeds=[3]).networks()
    with pytest.raises(ValueError, match="unknown damage 'burnt'; there are masked and deleted"):
        list(worst_conditions(models["one"], clean, "burnt", (0.4,), 0))


def test_chance_and_adversary_stand_side_by_side() -> None:
    def rows(kind: str, rate: float, adversary: bool, *values: float) -> list[dict]:
        common = {"task": "t", "method": "m", "kind": kind, "rate": rate, "adversary": adversary}
        return [common | {"seed": seed, "score": value} for seed, value in enumerate(values)]

    table = rows("clean", 0.0, False, 80, 82) + rows("deleted", 0.4, False, 70, 72) + rows("deleted", 0.8, True, 1, 1)
    table += rows("clean", 0.0, True, 80, 82) + rows("deleted", 0.4, True, 50, 54)
    found = chance_and_adversary(pd.DataFrame(table)).loc[("t", "m")]
    assert found.to_dict() == {"clean": "81.0 ± 1.4", "chance": "71.0 ± 1.4", "adversary": "52.0 ± 2.8"}
    assert chance_and_adversary(pd.DataFrame(table[:2])).adversary.tolist() == [""]
