"""Chapter 03's numbers, on tables made by hand, and the slow way to a path's loss."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch

from stemlib.data.built_in import mixed_graph
from stemlib.model.stem import StemGNN
from stemlib.presets import ModelConfig
from stemlib.stress.conditions import Condition
from stemlib.theory.coverage import coverage
from study import coverage_figures
from study.coverage_tables import beside_zero, changes, findings, one_by_one, spread
from study.records import read_results


def test_a_mean_is_reliable_where_its_interval_leaves_zero_out() -> None:
    assert beside_zero([1.0, 1.1, 0.9]) == "reliably above zero"
    assert beside_zero([-1.0, -1.1, -0.9]) == "reliably below zero"
    assert beside_zero([1.0, -1.0, 0.5]) == "not distinguishable from zero"
    assert spread([1.0, 2.0, 3.0]) == "+2.000 [-0.484, +4.484]"


def by_hand() -> pd.DataFrame:
    common = {
        "loss": "ce",
        "C_mix": 0.1,
        "soft_below": 0.0,
        "X": 0.0,
        "routing_gain": 0.0,
        "routing_gain_held_out": 0.0,
    }
    common |= {"gap_mean": 0.0, "gap_max": 0.0, "independent_floor": 1.5, "seed": 0}
    clean = {
        "condition": "clean",
        "R": 1.0,
        "C": 0.6,
        "S": 0.4,
        "C_independent": 0.5,
        "R_independent": 0.8,
        "blind": 1.2,
    }
    worse = {"condition": "masked 0.2", "R": 2.0, "C": 1.4, "S": 0.6, "C_independent": 1.0, "R_independent": 2.2}
    rows = pd.DataFrame([common | clean, common | worse | {"blind": 2.0}])
    return rows.assign(dR=rows.R - 1.0, dC=rows.C - 0.6, dS=rows.S - 0.4, dX=0.0)


def test_findings_by_hand() -> None:
    (found,) = findings(by_hand()).itertuples()
    assert found.null_gap == pytest.approx(0.25)  # mean of 0.1 and 0.4
    assert found.saved == pytest.approx(0.1)  # mean of 1.2 - 1.0 and 2.0 - 2.0
    assert found.against_independent == pytest.approx(0.0)
    assert found.independent_gain == pytest.approx(-0.5)  # 1.5 less the worst risk


def test_changes_are_means_by_kind_without_the_clean_condition() -> None:
    twice = by_hand().iloc[[0, 1, 1]].assign(condition=["clean", "masked 0.2", "masked 0.4"], dR=[0.0, 1.0, 3.0])
    found = changes({"toy": twice})
    assert list(found.index) == [("toy", "masked")]
    assert found.dR.item() == 2.0


def test_one_by_one_agrees_with_the_shared_passes() -> None:
    task = mixed_graph(60)
    network = StemGNN(ModelConfig(hidden=8, codes=16), task.graph.x.size(1), task.outputs).eval()
    few = coverage(network, Condition("few", task, torch.arange(5)))
    assert torch.allclose(one_by_one(network, task, few.index, few.paths), few.forced.float(), atol=1e-5)


def test_figures_of_a_kept_table_say_what_it_says() -> None:
    table = read_results("03_coverage-cora")
    ce = table[table.loss == "ce"]
    title = coverage_figures.draw_parts(table, "cora", 9).get_suptitle()
    share = f"{100 * ce.C.mean() / ce.R.mean():.0f} %"
    assert title == f"Even an oracle's choice of path leaves {share} of the cross-entropy on cora"
    assert "less" in coverage_figures.draw_nulls(table, "cora", 9).get_suptitle()
    worst = ce.groupby("condition").R.mean().idxmax()
    assert worst in coverage_figures.draw_changes(table, "cora").get_suptitle()
    assert "below none of the 3 floors" in coverage_figures.draw_floors(table, "cora", 9).get_suptitle()
    lower = table.assign(independent_floor=9.0)
    assert "below 1 of the 3 floors" in coverage_figures.draw_floors(lower, "cora", 9).get_suptitle()
    plt.close("all")
