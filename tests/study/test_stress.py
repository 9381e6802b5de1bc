"""Stress tests: every method meets the same conditions, each as often as asked, and finished runs are read back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from run_samples import METHODS, SHORT, TINY, shifted
from samples import graph_task, link_task, node_task

from stemlib.data.tasks import Task
from stemlib.stress.conditions import Condition, corrupt, is_scored, shift_protocol
from stemlib.stress.shifts import instance_covariate, tail_buckets
from stemlib.training.evaluation import scores
from study import stress
from study.methods import Method
from study.records import read_record
from study.stress import scores_along, stress_scores, tuned
from study.trained import trained_model


def test_every_method_meets_every_condition(task: Task, runs: Path) -> None:
    asked = {"rates": (0.2, 0.6), "draws": 2, "combined": (0.4,)}
    table = stress_scores("t", **shifted(task), methods=METHODS, seeds=[3, 4], **asked)
    counts = table.groupby(["method", "seed"]).kind.value_counts().unstack()
    assert counts.index.tolist() == [("one", 3), ("one", 4), ("two", 3), ("two", 4)]
    expected = {"clean": 1, "shift": 2, "masked": 4, "deleted": 4, "shift, masked": 4, "shift, deleted": 4}
    assert all(row.to_dict() == expected for _, row in counts.iterrows())
    assert table[table.kind == "masked"].rate.unique().tolist() == [0.2, 0.6]
    assert table.draw.unique().tolist() == [0, 1]
    assert table.score.dropna().between(0, 100).all()
    both = table[table.kind == "shift, deleted"].condition.unique().tolist()
    assert both == ["OOD-low, deleted 0.4", "OOD-high, deleted 0.4"]


@pytest.mark.parametrize("task", [node_task(), link_task(), graph_task()], ids=["node", "link", "graph"])
def test_a_score_is_that_of_the_trained_model_under_the_condition(task: Task, runs: Path) -> None:
    """Graphs that are not met make no difference to those that are."""
    given = shifted(task)
    table = stress_scores("t", **given, methods=METHODS[:1], seeds=[3], rates=(), combined=())
    inside, split, conditions = shift_protocol(task, given["buckets"], 3)
    model = trained_model("t", inside, split.name, METHODS[0], 3)
    expected = {name: 100 * value for name, value in scores(model, conditions).items()}
    assert table.set_index("condition").score.to_dict() == pytest.approx(expected)
    if task.kind == "node":
        table = stress_scores("t", **given, methods=METHODS[:1], seeds=[3], rates=(0.5,), draws=2)
        damaged = [corrupt(conditions[0], "masked", 0.5, seed)[0] for seed in (3, 3 + stress.BETWEEN_DRAWS)]
        found = table[table.kind == "masked"].score.tolist()
        assert found == pytest.approx([100 * scores(model, [one])["masked 0.5"] for one in damaged])


def test_finished_runs_are_read_back_and_few_labels_are_other_runs(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = shifted(node_task()) | {"methods": METHODS[:1], "seeds": [0], "rates": (0.5,)}
    table = stress_scores("t", **given)
    stress_scores("t", **given, per_class=2)
    assert len(list(runs.rglob("record.json"))) == 2

    def again(*arguments: object) -> None:
        raise AssertionError("a finished run was run again")

    monkeypatch.setattr("study.trained.fit", again)
    pd.testing.assert_frame_equal(stress_scores("t", **given), table)


def test_a_bucket_with_one_class_alone_has_no_roc_auc(runs: Path) -> None:
    task = graph_task()
    given = shifted(task)
    labels = task.labels.clone()
    labels[given["buckets"].members["OOD-low"]] = 1.0
    table = stress_scores("t", **given | {"task": replace(task, labels=labels)}, methods=METHODS[:1], seeds=[0])
    assert table.set_index("condition").score.isna().to_dict()["OOD-low"]
    assert not table.set_index("condition").score.isna().to_dict()["clean"]
    assert is_scored(Condition("c", node_task(), torch.tensor([0])))


def test_settings_are_chosen_on_the_first_seed_s_validation_for_every_budget_of_labels(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = []

    def best(experiment: str, task: Task, split: str, candidates: list[Method], seed: int) -> Method:
        chosen.append((experiment, split, candidates[0].name, len(candidates), seed))
        return candidates[-1]

    monkeypatch.setattr(stress, "best", best)
    homophily = tail_buckets(instance_covariate(node_task(), "homophily"))
    for labels in (None, 3):
        methods = tuned("t", node_task(), homophily, METHODS, 4, SHORT, TINY, labels)
        table = stress_scores("t", node_task(), homophily, methods, [4, 5], (0.5,), per_class=labels)
    assert chosen == [
        ("t", split, name, 2, 4) for split in ("inside-4", "inside-4-3-per-class") for name in ("one", "two")
    ]
    trained = [read_record(file.parent) for file in runs.rglob("record.json")]
    assert len(trained) == 2 * 2 * 2
    assert {record.settings["train"]["lr"] for record in trained} == {SHORT.candidates[1].lr}
    _, _, conditions = shift_protocol(node_task(), homophily, 4)
    assert set(table[table.kind == "shift"].condition) == {condition.name for condition in conditions[1:]}


def test_scores_along_a_covariate_are_those_of_its_groups(runs: Path) -> None:
    task = node_task()
    covariate = instance_covariate(task, "degree")
    model = trained_model("t", task, "random", METHODS[0], 0)
    index = task.split("random").test
    table = scores_along(model, task, index, covariate, groups=3)
    assert table.instances.sum() == index.numel()
    assert table.instances.max() - table.instances.min() <= 1
    assert (table.covariate.diff().dropna() >= 0).all()
    whole = 100 * scores(model, [Condition("c", task, index)])["c"]
    assert (table.score * table.instances).sum() / index.numel() == pytest.approx(whole)
