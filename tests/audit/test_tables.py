"""What an audit computes from answers: signals that find failures, covariates that move errors, differences."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch_geometric.data import Data

from stemlib.audit.measure import choose
from stemlib.audit.risk import _area_error, _entropy_gap, ranked, signal_table
from stemlib.audit.statistics import Difference
from stemlib.audit.watch import damage_list, watch_list, watched, write_watch
from stemlib.data.own_data import from_data
from stemlib.data.tasks import Task
from stemlib.report import words


def risk_rows(size: int = 200) -> pd.DataFrame:
    """Half validation, half test; the least confident third is wrong, and margins know nothing."""
    confidence = np.tile(np.linspace(0, 1, size // 2), 2)
    return pd.DataFrame(
        {
            "part": ["val"] * (size // 2) + ["test"] * (size // 2),
            "wrong": confidence < 1 / 3,
            "flips": 0.0,
            "confidence": confidence,
            "margin": np.tile([0.0, 1.0], size // 2),
        }
    )


def test_a_signal_that_sorts_all_errors_first_has_area_one_and_sorts_the_table() -> None:
    table = risk_rows()
    found = signal_table(table).set_index(["part", "failure", "signal"])
    assert found.auroc["test", "error", "confidence"] == 1
    low, high = found.loc[("test", "error", "margin"), ["low", "high"]]
    assert low < 0.5 < high
    assert "flip" not in found.index.get_level_values("failure")  # nothing flipped: no area
    ordered, signal = ranked(table, found.reset_index())
    assert signal == "confidence"
    assert ordered.wrong.tolist() == sorted(table.wrong, reverse=True)


def test_the_area_s_error_is_that_of_repeated_samples() -> None:
    generator = np.random.default_rng(0)
    # Exponential scores, for which Hanley and McNeil's formula is exact.
    positive, negative = generator.exponential(3, (4000, 40)), generator.exponential(1, (4000, 60))
    areas = (positive[:, :, None] > negative[:, None, :]).mean((1, 2))
    assert areas.std() == pytest.approx(_area_error(areas.mean(), 40, 60), rel=0.05)


def test_networks_that_agree_have_no_entropy_gap_and_opposite_ones_a_whole_bit() -> None:
    agree = torch.tensor([[[0.2, 0.8], [0.2, 0.8]]])
    opposite = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    gap = _entropy_gap(torch.cat([agree, opposite]))
    torch.testing.assert_close(gap, torch.tensor([0.0, float(np.log(2))]))


def stars(hubs: int, leaves: int = 9) -> Task:
    """Hubs with many neighbours among pairs with one."""
    nodes = hubs * (leaves + 1)
    source = torch.arange(nodes).view(hubs, -1)
    edges = torch.stack([source[:, 1:].flatten(), source[:, :1].expand(-1, leaves).flatten()])
    data = Data(x=torch.ones(nodes, 2), edge_index=torch.cat([edges, edges.flip(0)], dim=1), y=torch.arange(nodes) % 2)
    return from_data(data, split="stratified")


def test_errors_of_hubs_are_watched_by_degree_and_more_hubs_are_worried_about(tmp_path: Path) -> None:
    task = stars(200)
    hub = (torch.arange(task.instances) % 10 == 0).numpy()
    risk = pd.DataFrame({"part": "test", "wrong": np.where(hub, np.arange(len(hub)) % 20 == 0, False)})
    found = watch_list(task, risk).set_index(["covariate", "end"])
    row = found.loc["degree", "high"]
    assert (row.border, row.share, row.rise) == (1, pytest.approx(0.1), pytest.approx(0.5))
    assert row.alarm == pytest.approx(0.1 + 0.01 / 0.5)
    write_watch(tmp_path, task, found.reset_index())
    assert not watched(tmp_path, task).worry.any()
    later = watched(tmp_path, stars(400, leaves=4)).set_index(["covariate", "end"]).loc["degree", "high"]
    assert later.worry
    assert later.expected == pytest.approx((0.2 - 0.1) * 0.5)


def test_lost_edges_are_worried_about_from_the_rate_that_costs_a_reliable_point(tmp_path: Path) -> None:
    task = stars(50)
    losses = {("deleted", 0.2): (0.4, 0.5, 0.6), ("deleted", 0.4): (4.0, 5.0, 6.0), ("deleted", 0.6): (7.0, 8.0, 9.0)}
    losses |= {("masked", 0.2): (-9.0, 5.0, 6.0)}  # no reliable loss
    rows = [{"method": "gcn", "kind": "clean", "rate": 0.0, "seed": seed, "score": 80.0} for seed in range(3)]
    for (kind, rate), of_seeds in losses.items():
        rows += [
            {"method": "gcn", "kind": kind, "rate": rate, "seed": seed, "score": 80.0 - loss}
            for seed, loss in enumerate(of_seeds)
        ]
    found = damage_list(task, pd.DataFrame(rows), "gcn", 0.0).set_index("covariate")
    edges, features = found.loc["incoming edges of a node"], found.loc["features of a node that are not 0"]
    assert (edges.border, edges.alarm, edges.rise) == (1.8, pytest.approx(0.6), pytest.approx(0.05))
    assert features.isna().alarm
    write_watch(tmp_path, task, found.reset_index())
    assert not watched(tmp_path, task).worry.any()
    fewer = task.graph.without_edges(torch.arange(task.graph.num_edges) % 2 == 0)
    later = watched(tmp_path, replace(task, graph=fewer)).set_index("covariate")
    assert later.now.to_dict() == {"incoming edges of a node": 0.5, "features of a node that are not 0": 1.0}
    assert later.worry.to_dict() == {"incoming edges of a node": True, "features of a node that are not 0": False}


def test_of_a_single_training_a_damage_alarms_without_an_interval_and_the_file_is_strict_json(tmp_path: Path) -> None:
    task = stars(50)
    rows = [{"method": "model", "kind": "clean", "rate": 0.0, "seed": 0, "score": 80.0}]
    rows += [{"method": "model", "kind": "deleted", "rate": rate, "seed": 0, "score": 78.0} for rate in (0.2, 0.4)]
    found = damage_list(task, pd.DataFrame(rows), "model", 0.0)
    edges = found.set_index("covariate").loc["incoming edges of a node"]
    assert (edges.alarm, edges.rise) == (pytest.approx(0.8), pytest.approx(0.02))
    assert np.isnan(edges.low)
    write_watch(tmp_path, task, found)
    text = (tmp_path / "watch.json").read_text()
    assert json.loads(text)["rows"][0]["border"] == found.border[0]  # to the bit
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    fewer = task.graph.without_edges(torch.arange(task.graph.num_edges) % 2 == 0)
    assert watched(tmp_path, replace(task, graph=fewer)).worry.tolist() == [True, False]


def test_a_later_graph_needs_a_report(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"watch\.json is missing"):
        watched(tmp_path, stars(10))


def test_validation_chooses_and_stress_decides_among_equals() -> None:
    rows = [
        {"seed": seed, "method": name, "kind": kind, "score": score, "val": val + seed * (1 if name == "sage" else 2)}
        for seed in range(3)
        for name, val, stressed in (("mlp", 50.0, 90.0), ("gcn", 79.0, 70.0), ("sage", 80.0, 60.0))
        for kind, score in (("clean", 80.0), ("shift", stressed))
    ]
    chosen, level = choose(pd.DataFrame(rows), 0.0)
    assert set(level) == {"gcn", "sage"}
    assert chosen == "gcn"


def test_a_difference_has_a_sign_only_where_its_interval_leaves_out_zero() -> None:
    sure, open_ = Difference(pd.Series([5.0, 5.5, 6.0])), Difference(pd.Series([-5.0, 6.0, 1.0]))
    assert (sure.sign, open_.sign) == (1, 0)
    assert sure.text == "+5.5 [+4.3, +6.7]"
    assert Difference(pd.Series([-5.0, -5.5, -6.0])).size == "5.5 [4.3, 6.7]"
    assert words.mean([3.0, 3.0]) == "3.0"


def test_lists_read_as_sentences() -> None:
    assert words.listed(["a"]) == "a"
    assert words.listed(["a", "b", "c"]) == "a, b and c"
