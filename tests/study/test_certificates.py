"""The table of certificates: its rows, and that what is promised is kept."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from samples import node_task, small_baseline, small_model

from stemlib.data.graph import plain, undirected_pairs
from study.certificates import BUDGETS, RATES, covered, damaged, draw, smoothed_together, told
from study.families import build


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    task = node_task(30)
    models = {"stem": build(small_model(codes=4), task), "gcn": build(small_baseline("gcn"), task)}
    return pd.DataFrame(covered(models, task, torch.arange(8), draws=20)).assign(task=task.name)


def test_every_certificate_has_a_share_at_every_budget(rows: pd.DataFrame) -> None:
    found = {key: list(some.budget) for key, some in rows.groupby(["method", "damage", "certificate"])}
    expected = {("stem", "masked", "a priori, own row"): list(BUDGETS["masked"])}
    for damage, budgets in BUDGETS.items():
        expected[("gcn", damage, "smoothing")] = list(budgets)
        for certificate in ("smoothing", "explained", "kept", "a priori"):
            expected[("stem", damage, certificate)] = list(budgets)
    assert found == expected
    assert rows.share.between(0, 100).all()
    assert (rows[rows.certificate == "smoothing"].rate == rows.damage.map(RATES)[rows.certificate == "smoothing"]).all()
    table = told(rows)
    assert len(table) == 6
    assert table.columns.tolist() == [(damage, budget) for damage in BUDGETS for budget in BUDGETS[damage]]


def test_what_is_explained_or_covered_is_kept_and_larger_budgets_cover_no_more(rows: pd.DataFrame) -> None:
    shares = rows.set_index(["method", "certificate", "damage", "budget"]).share.sort_index()
    for damage, budgets in BUDGETS.items():
        for budget in budgets:
            for certificate in ("explained", "a priori"):
                assert shares["stem", certificate, damage, budget] <= shares["stem", "kept", damage, budget]
        for certificate in ("a priori", "smoothing"):
            assert shares["stem", certificate, damage].is_monotonic_decreasing


def test_damage_is_of_the_size_that_is_asked_for_and_of_the_node_alone() -> None:
    graph = node_task(30).graph
    pairs, _ = undirected_pairs(plain(graph.edge_index), 30)
    own = int(((pairs // 30 == 3) | (pairs % 30 == 3)).sum())
    for budget in (1, 2, 100):
        after, _ = undirected_pairs(plain(damaged(graph, "deleted", budget, 3, 0).edge_index), 30)
        assert set(after.tolist()) <= set(pairs.tolist())
        assert len(pairs) - len(after) == min(budget, own)
        changed = damaged(graph, "masked", budget, 3, 0).x != graph.x
        assert changed.sum() == changed[3].sum() == min(budget, graph.x.size(1))


def test_networks_that_vote_together_vote_as_if_alone() -> None:
    task, index = node_task(30), torch.arange(8)
    models = {seed: build(small_model(codes=4), task) for seed in range(2)}
    together = smoothed_together(models, task, index, "deleted", 20, 0)
    for name, model in models.items():
        alone = smoothed_together({name: model}, task, index, "deleted", 20, 0)[name]
        assert torch.equal(alone.share, together[name].share)
        assert torch.equal(alone.classes, together[name].classes)


def test_the_figure(rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMLIB_RUN", str(tmp_path))
    assert draw(rows).is_file()
