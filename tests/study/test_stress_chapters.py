"""What the chapters on shift and damage share: a stress test by name, kept records, and how to read them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from stemlib.presets import preset
from study import records
from study.methods import named
from study.protocols import protocol_of
from study.stress_chapters import changes_in_the_worst, headline, kept_demands, stress_test


def test_parameters_name_what_is_met() -> None:
    found = stress_test("smoke", "built-in", "mlp stem", "homophily", 0)
    assert (found.task.name, found.covariate, found.seeds) == ("built-in", "homophily", range(3))
    assert found.buckets.counts == {"ID": 1400, "OOD-low": 300, "OOD-high": 300}
    assert [method.name for method in found.methods] == ["mlp", "stem"]
    first = protocol_of("built-in").candidates[0]
    chosen = {(method.train.lr, method.train.weight_decay) for method in found.methods}
    assert chosen == {(first.lr, first.weight_decay)}
    some = stress_test("smoke", "built-in", named(preset("smoke"), "gcn"), "degree", 4, epochs=7)
    assert (some.seeds, [(method.name, method.train.epochs) for method in some.methods]) == (range(4), [("gcn", 7)])


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
