"""Ablations: one change each, and what the whole model has over them."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest

from stemlib.presets import preset
from study.ablations import ABLATIONS, STEPS, ablated, all_leads, effects, extra_losses, lead_table, told
from study.methods import named

BUDGET = preset("laptop")


@pytest.mark.parametrize("group", ABLATIONS)
def test_a_variant_is_the_whole_model_but_for_what_it_says(group: str) -> None:
    whole, *variants = ablated(BUDGET, group)
    assert whole == named(BUDGET, "stem")[0]
    assert [method.name for method in variants] == list(ABLATIONS[group])
    for method in variants:
        changed = {
            item.name: getattr(config, item.name)
            for config, before in ((method.model, whole.model), (method.train, whole.train))
            for item in dataclasses.fields(config)
            if getattr(config, item.name) != getattr(before, item.name)
        }
        assert changed == ABLATIONS[group][method.name]


def test_several_groups_share_the_whole_model_and_names_differ() -> None:
    names = [method.name for method in ablated(BUDGET, *ABLATIONS)]
    assert len(set(names)) == len(names) == 1 + sum(map(len, ABLATIONS.values()))
    with pytest.raises(ValueError, match=r"unknown groups of ablations \['wings'\]; there are parts, codebooks"):
        ablated(BUDGET, "wings")


def test_effects_are_the_whole_model_s_lead_paired_by_seed() -> None:
    rows = [
        {"method": method, "seed": seed, "fit": 80 + 5 * seed - lack, "shift": 60.0, "corruption": 50.0 + seed * lack}
        for method, lack in (("stem", 0), ("routed", 2), ("tokens", -1))
        for seed in range(4)
    ]
    table = effects(pd.DataFrame(rows), "cora").set_index(["variant", "demand"])
    assert table.difference["routed", "fit"] == 2.0
    assert table.difference["tokens", "fit"] == -1.0
    assert table.loc[("routed", "fit"), ["low", "high"]].tolist() == [2.0, 2.0]
    assert table.difference["tokens", "shift"] == 0.0
    assert table.difference["routed", "corruption"] == -3.0
    assert len(table) == 6
    without = pd.DataFrame(rows).assign(shift=float("nan"))
    assert set(effects(without, "cora").demand) == {"fit", "corruption"}


def test_a_variant_of_fewer_seeds_is_paired_with_those_that_it_has() -> None:
    rows = [{"method": "stem", "seed": seed, "fit": 80.0 + seed, "corruption": 70.0 + seed} for seed in range(4)]
    rows += [{"method": "tokens", "seed": seed, "fit": 79.0 + seed, "corruption": 69.0 + 2 * seed} for seed in range(2)]
    table = effects(pd.DataFrame(rows).assign(shift=float("nan")), "cora").set_index("demand")
    assert table.difference.to_dict() == {"fit": 1.0, "corruption": 0.5}
    assert (table.df == 1).all()


def test_leads_are_said_by_data_set_with_a_star_where_they_are_sure() -> None:
    def of_task(task: str, **lacks: float) -> list[dict]:
        return [
            {"task": task, "method": name, "seed": seed, "fit": 80 + seed + lack * (1 + 0.01 * seed), "shift": 60.0}
            | {"corruption": float("nan")}
            for name, lack in {"stem": 0.0, **lacks}.items()
            for seed in range(5)
        ]

    rows = of_task("b", **{"routed": -2.0}) + of_task("a", **{"8-codes": 0.0, "routed": 1.0})
    table, leads = lead_table(pd.DataFrame(rows)), all_leads(pd.DataFrame(rows))
    assert table.index.tolist() == ["routed", "8-codes"]  # as in ABLATIONS
    assert table.columns.tolist() == [("b", "fit"), ("b", "shift"), ("a", "fit"), ("a", "shift")]
    assert table.loc["routed", ("b", "fit")].startswith("+2.0 [+2.0, +2.1]")
    assert table.loc["routed", ("b", "fit")].endswith(" *")
    assert table.loc["routed", ("a", "fit")].startswith("-1.0 [")
    assert table.loc["routed", ("b", "shift")] == "+0.0 [+0.0, +0.0]"
    assert table.loc["8-codes", ("b", "fit")] == ""
    assert told(leads) == (
        "Of 6 comparisons, 2 are significant after correction: `routed` in fit (+2.0 [+2.0, +2.1]), "
        "`routed` in fit (-1.0 [-1.1, -1.0]). The extremes are `routed` in fit (+2.0 [+2.0, +2.1]) and "
        "`routed` in fit (-1.0 [-1.1, -1.0])."
    )
    assert told(leads[~(leads.p < 0.05)]).startswith("Of 4 comparisons, none is significant after correction. The")


def test_steps_are_told_by_what_they_lose_more() -> None:
    """Each network of the chain loses a point more than the one before, on two graphs; a third has not met `dense`."""
    losses = {"gcn": 1.0, "sage": 2.0, "dense": 3.0, "tokens": 4.0, "routed": 4.0, "stem": 5.0}
    rows = [
        {"task": task, "covariate": "degree", "seed": seed, "method": name, "demand": demand}
        | {"score": 80 + seed - lost * (demand == "deleted")}
        for task in ("a", "b", "c")
        for name, lost in losses.items()
        if (task, name) != ("c", "dense")
        for seed in range(3)
        for demand in ("clean", "deleted")
    ]
    table = extra_losses(pd.DataFrame(rows), "deleted")
    assert table.index.tolist() == list(STEPS)
    assert set(table["a", "degree"]) == {"+1.0 [+1.0, +1.0]"}
    assert ("c", "degree") not in table
    assert table["all", "mean"].tolist() == ["+1.0, flat +1.0"] * 6
    assert table["all", "of"].tolist() == ["3", "2", "2", "2", "3", "3"]
