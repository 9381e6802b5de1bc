"""What the chapters on shift and damage say: sentences that must name a case, and others that must not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from study import stress_words as words
from study.paper_tables import comparisons


def shifted(**tails: tuple[float, float]) -> pd.DataFrame:
    """Two seeds on `t`; of each method the changes from 80 to the two tails."""
    rows = [
        (method, seed, condition, 80 + change + seed)
        for method, (low, high) in tails.items()
        for seed in (-1, 1)
        for condition, change in (("clean", 0), ("OOD-low", low), ("OOD-high", high))
    ]
    return pd.DataFrame(rows, columns=["method", "seed", "condition", "score"]).assign(task="t")


def damaged(kind: str, **losses: tuple[float, float]) -> pd.DataFrame:
    """Two seeds; of each method what is lost of 80 points at rates of 0.2 and 0.8."""
    rows = [
        (method, seed, rate, 80 - lost + seed)
        for method, (little, much) in losses.items()
        for seed in (-1, 1)
        for rate, lost in ((0.0, 0), (0.2, little), (0.8, much))
    ]
    frame = pd.DataFrame(rows, columns=["method", "seed", "rate", "score"])
    return frame.assign(kind=np.where(frame.rate > 0, kind, "clean"))


def leads(**given: tuple[float, float, str]) -> pd.DataFrame:
    rows = [(name, "gcn", on, difference, p, 3.0) for name, (difference, p, on) in given.items()]
    return pd.DataFrame(rows, columns=["condition", "strongest", "chosen_on", "difference", "p", "detectable"])


def test_a_title_names_the_extremes_of_those_that_read_edges() -> None:
    rows = shifted(mlp=(-30, 5), gcn=(-3, 6), stem=(-1, -2))
    assert words.shift_title(rows).endswith("lost: -3.0 (gcn) to -2.0 (stem)")
    assert words.shift_title(rows[rows.method == "mlp"]).endswith("lost: -30.0 (mlp)")
    assert words.shift_title(rows[rows.condition == "clean"]) == "No tail of t is a shift"


def test_a_tail_is_harder_only_where_it_is_for_all() -> None:
    low, high = words.shift_found(shifted(mlp=(9, 5), gcn=(-3, 6), stem=(-1, 2))).splitlines()
    assert "`OOD-low` is harder than the middle for all" in low
    assert "from -3.0 points (`gcn`) to -1.0 (`stem`)" in low
    assert "For `mlp` it is +9.0." in low
    assert "`OOD-high` is easier than the middle for all" in high
    assert "harder than the middle for some" in words.shift_found(shifted(gcn=(-3, 6), stem=(1, 2))).splitlines()[0]
    assert "No tail" in words.shift_found(shifted(gcn=(1, 1)).query("condition == 'clean'"))


def test_a_lead_is_significant_by_its_corrected_p_alone() -> None:
    found = words.leads_found(
        leads(clean=(9.0, 0.06, "val"), low=(-1.0, 0.04, "val"), high=(0.2, 0.001, "val")), "condition", "stem"
    )
    assert "significantly ahead in `high`, significantly behind in `low`." in found
    assert "the strongest rival on validation (`gcn`), by condition" in found
    assert "the strongest rival on test" in words.leads_found(leads(clean=(9.0, 0.06, "test")), "condition", "stem")
    assert "ran alone" in words.leads_found(leads(), "condition", "stem")


def test_the_part_that_changes_most_is_named_with_its_sign() -> None:
    changes = pd.DataFrame({"dR": [0.1], "dC": [-0.3], "dS": [0.2], "dX": [0.2]}, index=[("routed", "OOD-low")])
    assert words.parts_found(changes).endswith(
        "where it changes by +0.100. The part that changes most is coverage (-0.300)."
    )
    assert "no risk to split" in words.parts_found(changes.iloc[:0])


def test_damage_by_chance_at_the_largest_rate_and_under_attack_at_the_smallest() -> None:
    rows, attack = (
        damaged("deleted", mlp=(0, 0), gcn=(2, 10), stem=(3, 20)),
        damaged("deleted", mlp=(0, 0), gcn=(30, 40)),
    )
    assert (
        words.damage_title(rows, attack)
        == "At 80 %, chance takes up to 20.0 points; at 20 %, an adversary takes up to 30.0"
    )
    assert words.damage_title(rows, attack[attack.rate == 0]) == "At 80 %, chance takes up to 20.0 points"
    chance, attacked, below = words.damage_found(rows, attack).splitlines()
    assert (
        "deletion at a rate of 0.8 costs most for `stem`, 20.0 points, and least for `gcn`, 10.0. `mlp` loses 0.0."
        in chance
    )
    assert attacked.startswith("- Under attack, deletion at a rate of 0.2 costs most for `gcn`, 30.0")
    assert below.endswith("are below `mlp`: `gcn`.")
    assert len(words.damage_found(rows, attack[attack.rate == 0]).splitlines()) == 1


@pytest.mark.parametrize(("lead", "zero", "won"), [(5.0, "excludes", 6), (0.1, "includes", 0)])
def test_data_sets_are_counted_and_the_interval_is_read(lead: float, zero: str, won: int) -> None:
    random = np.random.default_rng(0)
    rows = [
        (task, seed, method, 70 + lead * (method == "stem") + random.normal(0, 0.1))
        for task in "abcdef"
        for seed in range(5)
        for method in ("stem", "gcn")
    ]
    demands = pd.DataFrame(rows, columns=["task", "seed", "method", "score"]).assign(covariate="degree", demand="clean")
    found = comparisons(demands)
    text = words.data_sets_found(found)
    assert "**Clean**, 6 data sets of 6 families: the mean lead of `stem` over its rival is" in text
    assert f"The interval {zero} zero" + (";" if zero == "excludes" else ".") in text
    assert f"wins {won} of 6 comparisons and loses 0." in text
    assert f"{found.difference.mean():+.1f} (clean)" in words.data_sets_title(found)
    assert "Fewer than two" in words.data_sets_found(found.iloc[:1])
