"""What the comparison of routers says: changes, verdicts and outcomes on tables made by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from stemlib.model.kinds import EXPERTS
from stemlib.model.routers import ROUTERS
from study.paths import ROOT
from study.router_comparison import choices
from study.router_tables import changes, cost_table, nulls_on, oracle_gains, outcomes, predictions, score_table, values

TASKS, SEEDS = [f"set-{i}" for i in range(6)], range(3)


def made(**means: float) -> dict[str, pd.DataFrame]:
    """Tables in which a method's every quantity is its mean, but for what tells data sets and seeds apart."""
    runs = [
        (task, method, seed, mean + 0.1 * i + 0.01 * seed + (method != "routed") * 0.001 * ((i + seed) % 3))
        for method, mean in means.items()
        for i, task in enumerate(TASKS)
        for seed in SEEDS
    ]
    frame = pd.DataFrame(runs, columns=["task", "method", "seed", "value"])
    buckets = [("clean", 0.0), ("OOD-low", 1.0), ("OOD-high", 3.0)]
    kinds = [("clean", 0.0), ("shift", -1.0), ("shift", -3.0), ("masked", -2.0), ("deleted", -2.0)]
    damages = ("masked", "deleted")
    return {
        "scores": pd.concat(frame.assign(kind=kind, score=50 + frame.value + by) for kind, by in kinds),
        "coverage": pd.concat(frame.assign(bucket=name, C=frame.value + by, S=2 * frame.value) for name, by in buckets),
        "sensitivity": pd.concat(frame.assign(damage=each, base=frame.value, amplification=0.0) for each in damages),
    }


def test_values_are_the_worst_bucket_of_scores_and_the_mean_of_terms() -> None:
    found = values(made(routed=1.0)).set_index(["task", "seed", "term", "where"]).value
    run = found["set-0", 0]
    assert run["score", "shift"] == pytest.approx(50 + 1 - 3)
    assert run["C", "shift"] == pytest.approx(1 + 2)
    assert run["S", "clean"] == pytest.approx(2)
    assert set(run.index) == {
        ("score", "clean"), ("score", "shift"), ("score", "masked"), ("score", "deleted"), ("C", "clean"),
        ("C", "shift"), ("S", "clean"), ("S", "shift"), ("B", "masked"), ("B", "deleted"), ("F", "masked"),
        ("F", "deleted"),
    }  # fmt: skip


def test_changes_are_paired_means_over_data_sets_with_their_margins() -> None:
    found = changes(values(made(routed=1.0, near=1.005, far=1.8)))
    near, far = found.loc["near", "C", "clean"], found.loc["far", "C", "clean"]
    assert far.difference == pytest.approx(0.801, abs=1e-3)
    assert far.at_base == pytest.approx(1 + 0.25 + 0.01)
    assert far.margin == pytest.approx(0.126)
    assert (near.verdict, far.verdict) == ("level", "differs")
    assert found.loc["far", "score", "clean"].margin == 1
    assert "routed" not in found.index.get_level_values("method")
    other = changes(values(made(routed=1.0, near=1.005, far=1.8)), "near")
    assert other.loc["routed", "C", "clean"].difference == pytest.approx(-near.difference)


def test_a_data_set_with_a_single_seed_is_in_no_mean() -> None:
    found = values(made(routed=1.0, near=1.005))
    alone = found[found.task == TASKS[0]].assign(task="alone", value=found.value * 7)
    pd.testing.assert_frame_equal(changes(found), changes(pd.concat([found, alone[alone.seed == 0]])))
    joined = changes(pd.concat([found, alone]))
    assert (joined.sets == len(TASKS) + 1).all()


def test_nulls_on_one_data_set_have_intervals_over_its_seeds() -> None:
    """Differences -1, -0.999, -0.998 on the first data set: the interval is 0.001 t / sqrt(3) wide each way."""
    found = nulls_on(values(made(routed=2.0, frozen=1.0, far=1.8)).query("term == 'score'"), TASKS[0])
    assert found.index.tolist() == ["frozen"]
    assert found.columns.tolist() == ["clean", "deleted", "masked", "shift"]
    assert (found == "-1.0 [-1.0, -1.0]").all(axis=None)


def test_predictions_come_true_or_not() -> None:
    changed = changes(values(made(routed=1.0, near=1.005, far=1.8)))
    rows = [
        ("far", "C", "clean", "up", "as predicted"),
        ("far", "C", "clean", "down", "not so"),
        ("far", "C", "clean", "=", "not so"),
        ("near", "C", "clean", "=", "as predicted"),
        ("near", "C", "clean", "down", "not so"),
        ("near", "F", "masked", "0", "as predicted"),
        ("near", "B", "masked", "0", "not so"),
        ("absent", "B", "masked", "0", None),
    ]
    asked = pd.DataFrame(rows, columns=["choice", "term", "where", "expected", "outcome"])
    found = outcomes(asked.drop(columns="outcome"), changed)
    assert found.outcome.tolist() == asked.outcome.dropna().tolist()


def test_the_predictions_are_those_that_were_written_down() -> None:
    found, text = predictions(), (ROOT / "docs" / "predictions.md").read_text()
    assert not found.duplicated(["choice", "term", "where"]).any()
    assert set(found.choice) <= set(choices())
    assert all(f"`{name}`" in text for name in found.choice)
    assert set(found.choice) >= (set(ROUTERS) | set(EXPERTS)) - {"linear", "mean"}
    assert set(found.expected) == {"down", "up", "=", "0"}


def test_costs_are_geometric_means_of_ratios() -> None:
    rows = [("a", "routed", 10.0, 4.0, 1.0), ("a", "x", 20.0, 4.0, 4.0), ("b", "routed", 1.0, 1.0, 1.0)]
    costs = pd.DataFrame(
        [*rows, ("b", "x", 8.0, 1.0, 1.0)], columns=["task", "method", "parameters", "MFLOP", "seconds"]
    )
    assert cost_table(costs).loc["x"].tolist() == pytest.approx([4, 1, 2])


def test_the_score_table_says_what_is_level() -> None:
    found = score_table(changes(values(made(routed=1.0, near=1.005, far=4.0))))
    assert found.loc["near", "clean"].endswith("level")
    assert found.loc["far", "masked"].startswith("+3.0")
    assert found.loc["far", "masked"].endswith("differs")


def test_the_oracle_gains_what_it_is_above_the_worst_bucket_of_the_same_seed() -> None:
    rows = [
        {
            "task": task,
            "method": method,
            "seed": seed,
            "condition": bucket,
            "gate": gate,
            "score": 60 + by + gain * more,
        }
        for task in TASKS
        for seed in SEEDS
        for method, more in (("routed", 1), ("filters", 2))
        for bucket, by in (("clean", 70), ("OOD-low", 60 + seed), ("OOD-high", 60 - seed))
        for gate, gain in (("as trained", 0), ("oracle", 4 if bucket == "OOD-low" else 3), ("uniform", -1))
    ]
    found = oracle_gains(pd.DataFrame(rows))
    assert found.clean.to_dict() == {"three means": "+3.0 [+3.0, +3.0]", "different filters": "+6.0 [+6.0, +6.0]"}
    assert found["shift"].to_dict() == {"three means": "+3.0 [+3.0, +3.0]", "different filters": "+6.0 [+6.0, +6.0]"}
