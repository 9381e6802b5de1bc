"""The sentences of chapter 17 follow the records: each turns when the scores turn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from balance_samples import TASKS, scores

from study import balance_words, beside_words
from study.balance_claims import claims
from study.balance_tables import (
    KINDS,
    against,
    demands_of,
    ingredient_changes,
    leads,
    over_seeds,
    over_sets,
    pair_over_seeds,
    training_gains,
)
from study.better_balance import OURS, RIVALS, SMALLER, TRAINED
from study.statistics import paired_test

INSTANCES = pd.Series(dict.fromkeys(TASKS, 5000) | {"wisconsin": 251})


def test_of_one_data_set_the_interval_is_that_of_the_pairs() -> None:
    index = pd.MultiIndex.from_product([["cora"], range(4), ["shift"]], names=["task", "seed", "demand"])
    runs = pd.Series([1.0, 2.0, 4.0, 1.5], index=index)
    assert over_seeds(runs).loc["shift"].to_numpy() == pytest.approx(paired_test(runs))
    two = pd.concat([runs, (runs + 2).rename(index={"cora": "dblp"})])
    found, one = over_seeds(two).loc["shift"], paired_test(runs)
    assert found.difference == pytest.approx(one.difference + 1)
    assert found.error == pytest.approx(one.error / 2**0.5)  # of two independent means
    assert found.df == pytest.approx(6)  # equal errors: the degrees of freedom add up
    assert over_seeds(runs * 0).loc["shift", ["low", "high"]].tolist() == [0, 0]


def test_the_rival_on_test_is_no_weaker_than_the_one_on_validation() -> None:
    rows = scores(2.0, noise=2.0, tasks=("cora", "dblp"))
    rows.loc[rows.method == "gin", "val"] = 99.0  # strongest on validation, not on test
    demands = demands_of(rows)
    compared = leads(demands, OURS, RIVALS)
    found = against(demands, OURS, compared, "strongest")
    gin = pair_over_seeds(demands, OURS, "gin")
    assert found.difference.to_numpy() == pytest.approx(gin.difference.to_numpy())
    assert (against(demands, OURS, compared, "strongest_on_test").difference <= found.difference).all()


def test_what_was_tuned_to_a_training_counts_as_that_training() -> None:
    tuned = scores(0.0, tasks=("cora",)).query("method == 'gcn'").assign(variant=np.nan)
    standard = tuned.assign(score=tuned.score - 3, variant="trained plainly")
    others = [tuned.assign(score=tuned.score - 1, variant=name) for name in list(TRAINED)[1:3]]
    gains = training_gains(pd.concat([tuned, standard, *others]))
    assert gains.loc["gcn", "consistency and DropEdge"].difference.to_numpy() == pytest.approx(3)
    assert gains.loc["gcn", "consistency alone"].difference.to_numpy() == pytest.approx(2)


@pytest.mark.parametrize(("lead", "level", "excludes"), [(0.0, KINDS, ()), (4.0, (), KINDS)])
def test_the_words_say_what_the_data_exclude(lead: float, level: tuple[str, ...], excludes: tuple[str, ...]) -> None:
    over = over_sets(leads(demands_of(scores(lead)), OURS, RIVALS))
    said = balance_words.excluded({OURS: over})
    assert f"level, within 1.0 points, in: {', '.join(level) or 'no demand'}." in said
    if excludes:
        assert f"reliably different in: {', '.join(excludes)}." in said


def test_where_the_mixture_is_behind_is_named() -> None:
    rows = scores(0.0)
    rows.loc[rows.method == SMALLER, "score"] += 1  # level with `mlp`
    rows.loc[(rows.method == SMALLER) & (rows.task == "actor"), "score"] -= 20
    demands = demands_of(rows)
    said = balance_words.lost(leads(demands, SMALLER, RIVALS), demands)
    assert "behind on 1 of 7: actor (-" in said


def test_data_sets_are_counted_with_their_seeds() -> None:
    rows = pd.concat([scores(0.0, tasks=("cora",)), scores(0.0, tasks=("dblp",)).query("seed < 3")])
    assert balance_words.sets(rows) == "2 data sets (4 seeds: cora; 3 seeds: dblp)"


def trained(gain: float) -> pd.DataFrame:
    """Kept rows of `ingredients` on two data sets: what DropEdge beside consistency gives a GCN and the mixture."""
    tuned = scores(0.0, tasks=("cora", "dblp")).query("method in ['gcn', @SMALLER]").assign(variant=np.nan)
    return pd.concat([tuned, *(tuned.assign(score=tuned.score - gain, variant=name) for name in list(TRAINED)[:3])])


def test_claims_of_three_runs_go_by_their_interval() -> None:
    rows = scores(0.0)
    few = pd.concat([rows, rows.query("method == 'gcn'").assign(method="plain gcn")]).assign(labels=5)
    rows = pd.concat([rows, rows.query("method == 'gcn'").assign(method="filters")])
    uncertain = rows.query("kind == 'clean'").assign(ece=lambda part: 3 + part.seed)
    numbers = "9", "11", "12"

    def holds(changed: pd.DataFrame, uncertain: pd.DataFrame) -> list[str]:
        found = claims(demands_of(rows), INSTANCES, few, changed, uncertain).holds
        return [found[found.index.str.startswith(f"{number}:")].item() for number in numbers]

    held = trained(20.0)
    held.loc[held.variant == "consistency without who is met", "score"] += 5
    better = uncertain.assign(ece=uncertain.ece - 2.0 * (uncertain.method == SMALLER))
    assert holds(held, better) == ["yes"] * 3
    held.loc[held.variant == "consistency without who is met", "score"] -= 10
    held.loc[(held.variant == "trained plainly") & (held.method == "gcn"), "score"] += 20  # it gains nothing
    held.loc[held.variant.isna() & (held.method == SMALLER), "score"] += 20
    worse = uncertain.assign(ece=uncertain.ece + 2.0 * (uncertain.method == SMALLER))
    assert holds(held, worse) == ["no"] * 3
    noisy = held.assign(score=held.score + 20 * ((held.seed == 0) & (held.variant == "consistency alone")))
    assert holds(noisy, uncertain)[1:] == ["open"] * 2


def test_a_claim_holds_once_its_lead_is_reliable_and_is_open_without_data_sets() -> None:
    rows = pd.concat([scores(3.0), scores(3.0).query("method == @OURS").assign(method="stacked")])
    few = pd.concat([rows, rows.query("method == 'gcn'").assign(method="plain gcn")]).assign(labels=5)
    rows = pd.concat([rows, rows.query("method == 'gcn'").assign(method="filters")])
    changed, uncertain = trained(gain=0.0), rows.query("kind == 'clean'").assign(ece=1.0)
    found = claims(demands_of(rows), INSTANCES, few, changed, uncertain)
    assert found.holds[f"18: {OURS} ahead, clean"] == "yes"
    assert found.holds[f"1: {SMALLER} ahead, clean"] == "no"  # behind the strongest by a point
    assert list(found.index.str.split(":").str[0].astype(int)) == sorted(found.index.str.split(":").str[0].astype(int))
    assert not found.index.str.contains("selected_five").any()  # it was not run
    five = [scores(3.0).query("method == @OURS").assign(method=name) for name in ("selected_five", "strongest_five")]
    five[1].score -= 2
    run = claims(demands_of(pd.concat([rows, *five])), INSTANCES, few, changed, uncertain)
    assert run.loc[found.index].equals(found)
    assert run.holds["23: selected_five ahead, clean"] == "yes"
    assert run.found["28: selected_five over strongest_five"].startswith("+2.0 ")
    fewer = claims(demands_of(rows[rows.task.isin(["cora", "dblp", "wisconsin"])]), INSTANCES, few, changed, uncertain)
    assert fewer.holds[f"18: {OURS} ahead, clean"] == "open"  # two data sets have no interval


def test_leaving_out_who_was_never_selected_matters_to_nobody() -> None:
    base = scores(2.0).query("method == @OURS").assign(variant="")
    rows = [base, base.assign(variant="without mlp", score=base.score - 5), base.assign(variant="without gcn")]
    gcn = scores(0.0).query("method == 'gcn'")
    tuned = [gcn.assign(variant=""), *(gcn.assign(variant=name, score=gcn.score - 1) for name in list(TRAINED)[:3])]
    effects, gains = ingredient_changes(pd.concat([*rows, *tuned])), training_gains(pd.concat([*rows, *tuned]))
    said = beside_words.changed(effects, gains)
    assert f"out of `{OURS}` changes the clean score by -5.0 to +0.0 points; 1 of 2 change any score." in said
    assert "largest gain of a training is that of `gcn`: consistency and DropEdge, +1.0" in said
