"""The comparison of routers, experts and terms: what is compared, and that its tables hold what they say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from samples import node_task

from stemlib.model.kinds import EXPERTS
from stemlib.model.routers import ROUTERS
from stemlib.presets import PRESETS, change
from study.methods import routed
from study.protocols import ON_BUILT_IN, protocol_of
from study.router_comparison import choices, compared, main, methods_of


def test_every_router_kind_and_term_is_a_choice() -> None:
    found = choices()
    assert {each.get("router", "linear") for each in found.values()} == set(ROUTERS)
    assert {each.get("expert", "mean") for each in found.values()} == set(EXPERTS)
    assert {"balance", "coupling", "anchor", "teacher", "frozen_late"} <= set(found)
    assert found["filters, topk"] == {"expert": "filters", "router": "topk", "term": "balance"}


def test_a_choice_differs_from_the_published_layer_in_itself_alone() -> None:
    base = routed(PRESETS["smoke"])
    methods = {method.name: method for method in methods_of(base, choices())}
    assert methods["routed"] == base
    assert methods["anchored"].model == change(base.model, router="anchored")
    assert methods["anchored"].train == change(base.train, term="prior")
    for method in methods.values():
        method.build(node_task())


def test_the_tables_hold_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("study.trained.RUNS", tmp_path)
    tiny = change(PRESETS["smoke"], hidden=8, epochs=2, nodes=300)
    protocol = replace(ON_BUILT_IN, candidates=protocol_of("built-in").candidates[:1])
    found = compared("built-in", tiny, protocol, [0, 1], ["uniform", "filters"])
    methods = {"routed", "uniform", "filters"}
    assert all(set(rows.method) == methods for table, rows in found.items() if table != "coverage")
    assert all(rows.groupby("method").seed.nunique().eq(2).all() for rows in found.values())
    assert set(found["coverage"].method) == methods | {"as many seeds"}
    parts = found["coverage"]
    assert (parts.R - parts.C - parts.S - parts.X).abs().max() < 3e-4  # of rounded ones
    still = found["sensitivity"].query("method == 'uniform'")
    assert set(still.damage) == {"masked", "deleted"}
    assert (still[["amplification", "fluctuation"]] == 0).all(axis=None)
    assert (found["sensitivity"].query("method == 'routed'").fluctuation > 0).all()
    with pytest.raises(ValueError, match=r"unknown choices \['oracle'\]; there are one expert, .*uniform"):
        compared("built-in", tiny, protocol, [0], ["oracle"])


def test_the_command_names_what_there_is(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "frozen_late" in capsys.readouterr().out
