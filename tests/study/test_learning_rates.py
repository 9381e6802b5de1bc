"""Learning rates by size: what is run, and which rate is called best."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from stemlib.presets import PRESETS, change
from study import learning_rates
from study.learning_rates import best_rates, rates
from study.protocols import ON_BUILT_IN


def test_every_size_meets_every_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("study.trained.RUNS", tmp_path)
    monkeypatch.setattr(learning_rates, "SIZES", ((1, 8), (2, 8), (2, 4)))
    monkeypatch.setattr(learning_rates, "RATES", (5e-4, 1e-2))
    tiny = change(PRESETS["smoke"], epochs=2, nodes=300)
    found = rates("built-in", tiny, replace(ON_BUILT_IN, candidates=ON_BUILT_IN.candidates[:1]), [0, 1])
    assert len(found) == 2 * 3 * 2
    assert not found.duplicated(["seed", "experts", "width", "lr"]).any()
    assert set(found.lr) == {5e-4, 1e-2}
    assert found.val.between(0, 100).all()
    assert found.groupby(["experts", "width", "lr"]).val.mean().nunique() > 1


def test_the_best_rate_is_validation_s_in_the_mean() -> None:
    rows = [("a", 0, 0.1, 90, 0), ("a", 1, 0.1, 10, 0), ("a", 0, 0.2, 60, 99), ("a", 1, 0.2, 60, 99)]
    frame = pd.DataFrame(rows, columns=["task", "seed", "lr", "val", "test"]).assign(experts=3, width=64)
    assert best_rates(frame).loc[(64, 3), "a"] == 0.2
