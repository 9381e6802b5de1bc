"""What the chapters on shift and damage share: every step is the library's, for all seeds, with what a chapter asks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from run_samples import METHODS, SHORT, TINY, shifted
from samples import node_task

from stemlib.training.evaluation import scores
from study import records
from study.adversary import worst_conditions
from study.protocols import split_overlap
from study.stress import stress_scores
from study.stress_chapters import READ_OUT, StressTest, changes_in_the_worst, headline, kept_demands, stress_test


@pytest.fixture
def test(runs: Path) -> StressTest:
    """Two methods, two seeds, one candidate of settings: nothing is tuned."""
    given, protocol = shifted(node_task()), replace(SHORT, candidates=SHORT.candidates[:1])
    return StressTest(given["task"], "degree", given["buckets"], range(2), METHODS, protocol, TINY)


def test_parameters_name_what_is_met() -> None:
    found = stress_test("smoke", "built-in", "mlp stem", "homophily", 0)
    assert (found.task.name, found.covariate, found.seeds) == ("built-in", "homophily", range(3))
    assert [method.name for method in found.candidates] == ["mlp", "stem"]
    assert len(found.protocol.candidates) == 1
    assert len(stress_test("laptop", "built-in", "mlp", "degree", 4).protocol.candidates) == 2
    assert found.buckets.counts == {"ID": 1400, "OOD-low": 300, "OOD-high": 300}


def test_scores_are_the_library_s_with_the_task_and_its_covariate(test: StressTest) -> None:
    given = {"experiment": "stress", "task": test.task, "buckets": test.buckets, "methods": test.given["methods"]}
    expected = stress_scores(**given, seeds=[0, 1], rates=(0.5,), draws=2)
    pd.testing.assert_frame_equal(test.scores((0.5,), 2), expected.assign(task=test.task.name, covariate="degree"))


def test_the_adversary_s_scores_are_those_of_the_network_that_it_attacks(test: StressTest) -> None:
    table = test.worst_case("masked", (0.4,))
    by = [(seed, name, kind) for seed in (0, 1) for name in ("one", "two") for kind in ("clean", "masked")]
    assert list(zip(table.seed, table.method, table.kind, strict=True)) == by
    assert table.rate.tolist() == [0.0, 0.4] * 4
    assert table.covariate.unique().tolist() == ["degree"]
    for seed, models, (clean, *_) in test.networks():
        for name, model in models.items():
            rows = table[(table.seed == seed) & (table.method == name)].score.tolist()
            ((_, met),) = worst_conditions(model, clean, "masked", (0.4,), seed)
            assert rows == pytest.approx([100 * scores(model, [one])[one.name] for one in (clean, met)])
    assert test.worst_case("deleted", ()).kind.unique().tolist() == ["clean"]


def test_every_unseen_instance_is_in_one_group_along_the_covariate(test: StressTest) -> None:
    found = test.scores_along()
    unseen = sum(condition.index.numel() for _, _, conditions in test.networks() for condition in conditions)
    assert found.groupby("method").instances.sum().to_dict() == {"one": unseen, "two": unseen}
    assert found.groupby("method").size().to_dict() == {"one": 20, "two": 20}  # ten groups for each seed
    first = found[(found.method == "one")][:10]
    assert first.covariate.is_monotonic_increasing


def test_only_routed_networks_are_taken_apart(test: StressTest) -> None:
    parts = test.coverage()
    assert parts.method.tolist() == ["one"] * 6  # the other one has no routes
    assert parts.bucket.tolist() == ["clean", "OOD-low", "OOD-high"] * 2
    assert parts.R.to_numpy() == pytest.approx((parts.C + parts.S + parts.X).to_numpy(), abs=1e-9)
    pieces = test.sensitivity("deleted", (0.2, 0.6))
    assert pieces.rate.tolist() == [0.2, 0.2, 0.6, 0.6]
    assert (pieces.residual < 1e-4).all()
    assert (pieces.total > 0).all()
    squares = pieces.amplification + pieces.base
    assert (pieces["amplification, %"] * squares).to_numpy() == pytest.approx((100 * pieces.amplification).to_numpy())
    assert set(READ_OUT) <= set(pieces)


def test_leads_know_that_splits_overlap(test: StressTest) -> None:
    scores = pd.DataFrame({"method": ["stem", "gcn"] * 2, "seed": [0, 0, 1, 1], "score": [3.0, 1.0, 5.0, 2.0]})
    (lead,) = test.leads(scores.assign(rate=0.2), "rate").to_dict("records")
    assert (lead["strongest"], lead["difference"]) == ("gcn", 2.5)
    reach = 12.7062 * 0.5**0.5 * (1 / 2 + split_overlap(test.task.name)) ** 0.5
    assert lead["high"] == pytest.approx(2.5 + reach, abs=0.01)


def test_a_run_s_own_rows_stand_in_until_some_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(records, "DATA", tmp_path)
    own = pd.DataFrame({"kind": ["clean", "shift", "shift", "masked"], "score": [9.0, 5.0, 4.0, 3.0]})
    own = own.assign(task="t", covariate="degree", method="stem", seed=0)
    asked = kept_demands(own, "clean", "degree shift", covariate="degree")
    assert asked[["demand", "score"]].values.tolist() == [["clean", 9.0], ["degree shift", 4.0]]
    assert "no results 'stress' are kept yet" in capsys.readouterr().out
    records.save_results(own.assign(score=1.0), "stress")
    assert kept_demands(own, "masked").score.tolist() == [1.0]
    homophily = own.assign(covariate="homophily")
    assert kept_demands(homophily, "homophily shift", covariate="homophily").score.tolist() == [4.0]
    assert "no homophily shift is kept yet" in capsys.readouterr().out


def test_the_worst_bucket_is_that_of_the_largest_risk() -> None:
    rows = [("a", "clean", 1.0, 0.6), ("a", "low", 1.5, 0.7), ("a", "high", 1.2, 0.9)]
    rows += [("b", "clean", 1.0, 1.0), ("b", "low", 0.0, 0.0)]
    parts = pd.DataFrame(rows, columns=["method", "bucket", "R", "C"]).assign(S=0.0, X=0.0)
    found = changes_in_the_worst(parts)
    assert found.index.tolist() == [("a", "low"), ("b", "low")]
    assert found.loc[("a", "low")].to_dict() == {"dR": 0.5, "dC": 0.1, "dS": 0.0, "dX": 0.0}


def test_a_headline_has_each_method_s_mean() -> None:
    scores = pd.DataFrame({"method": ["gcn", "stem", "gcn", "stem"], "score": [1.0, 5.0, 2.0, 6.0]})
    assert headline("worst bucket", scores) == "worst bucket: gcn 1.5, stem 5.5"
