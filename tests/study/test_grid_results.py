"""Finished runs of a grid over kept rows: newer ones replace, nothing else is lost."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from study import grid_results, records
from study.grid_results import refreshed
from study.records import read_results, save_results


def rows(run: str, task: str, method: str, score: float, preset: str = "laptop", day: int = 1) -> pd.DataFrame:
    """What a run has found, on a day of a month."""
    about = {"run": run, "finished": f"2026-01-{day:02d}", "preset": preset, "groups": run, "seeds": 2}
    measured = {"task": task, "covariate": "degree", "method": method, "seed": [1, 0], "score": score}
    return pd.DataFrame(about | measured)


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[pd.DataFrame]:
    """What `collect` finds, in a study that keeps nothing yet."""
    found: list[pd.DataFrame] = []

    def collect(notebook: str) -> pd.DataFrame:
        if not found:
            raise FileNotFoundError(f"no finished runs of {notebook}")
        return pd.concat(found, ignore_index=True)

    monkeypatch.setattr(records, "DATA", tmp_path)
    monkeypatch.setattr(grid_results, "collect", collect)
    return found


def scores(table: pd.DataFrame) -> dict[tuple[str, str], float]:
    return {(row.task, row.method): row.score for row in table.itertuples() if row.seed == 0}


def test_what_another_machine_has_kept_stays_and_newer_runs_replace(finished: list[pd.DataFrame]) -> None:
    finished += [rows("a", "cora", "gcn", 80.0), rows("b", "cora", "stem", 81.0)]
    table = refreshed("11", "stress", "laptop")
    assert list(table) == ["task", "covariate", "method", "seed", "score", "epochs"]
    assert (table.epochs == 0).all()
    assert table.seed.tolist() == [0, 1, 0, 1]
    finished[:] = [rows("c", "cora", "stem", 82.0), rows("d", "hiv", "stem", 70.0)]
    finished += [rows("e", "cora", "gcn", 1.0, "paper"), rows("f", "muv", "stem", 60.0).assign(epochs=4)]
    expected = {("cora", "gcn"): 80.0, ("cora", "stem"): 82.0, ("hiv", "stem"): 70.0, ("muv", "stem"): 60.0}
    assert scores(refreshed("11", "stress", "laptop")) == scores(read_results("stress")) == expected
    assert read_results("stress").groupby("task").epochs.first().to_dict() == {"cora": 0, "hiv": 0, "muv": 4}


def test_of_several_runs_of_a_method_the_last_one_counts(finished: list[pd.DataFrame]) -> None:
    finished += [rows("a", "cora", "stem", 80.0, day=2), rows("b", "cora", "stem", 79.0, day=1)]
    finished += [rows("b", "cora", "less", 70.0)]
    assert len(refreshed("12", "ablations", "laptop")) == 4
    assert scores(read_results("ablations")) == {("cora", "stem"): 80.0, ("cora", "less"): 70.0}


def test_without_finished_runs_the_kept_rows_stay_as_they_are(finished: list[pd.DataFrame]) -> None:
    with pytest.raises(FileNotFoundError, match="no results 'stress'"):
        refreshed("11", "stress", "laptop")
    kept = save_results(rows("a", "cora", "gcn", 80.0), "stress").read_text()
    assert scores(refreshed("11", "stress", "laptop")) == {("cora", "gcn"): 80.0}
    finished += [rows("a", "cora", "gcn", 1.0, "paper")]
    with pytest.warns(UserWarning, match="no finished run of 11 has the preset laptop"):
        assert scores(refreshed("11", "stress", "laptop")) == {("cora", "gcn"): 80.0}
    assert (records.DATA / "results/stress.csv").read_text() == kept
