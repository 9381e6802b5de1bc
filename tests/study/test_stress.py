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
from stemlib.training.adversary import worst_conditions
from stemlib.training.evaluation import scores
from study import protocols
from study.meetings import BETWEEN_DRAWS, kept_apart, scores_along, with_filtered
from study.method import Method
from study.protocols import split_overlap
from study.records import read_record
from study.stress import READ_OUT, StressTest
from study.trained import trained_model


def test_every_method_meets_every_condition(task: Task, runs: Path) -> None:
    asked = {"rates": (0.2, 0.6), "draws": 2, "combined": (0.4,)}
    table = StressTest(**shifted(task), methods=METHODS, seeds=[3, 4], covariate="degree").scores(**asked)
    assert (set(table.task), set(table.covariate)) == ({task.name}, {"degree"})
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
    test = StressTest(**given, methods=METHODS[:1], seeds=[3])
    table = test.scores(())
    inside, split, conditions = shift_protocol(task, given["buckets"], 3)
    model = trained_model("stress", inside, split.name, METHODS[0], 3)
    expected = {name: 100 * value for name, value in scores(model, conditions).items()}
    assert table.set_index("condition").score.to_dict() == pytest.approx(expected)
    if task.kind == "node":
        table = test.scores((0.5,), draws=2)
        damaged = [corrupt(conditions[0], "masked", 0.5, seed)[0] for seed in (3, 3 + BETWEEN_DRAWS)]
        found = table[table.kind == "masked"].score.tolist()
        assert found == pytest.approx([100 * scores(model, [one])["masked 0.5"] for one in damaged])


def test_finished_runs_are_read_back_and_few_labels_are_other_runs(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test = StressTest(**shifted(node_task()), methods=METHODS[:1], seeds=[0])
    table = test.scores((0.5,))
    replace(test, per_class=2).scores((0.5,))
    assert len(list(runs.rglob("record.json"))) == 2

    def again(*arguments: object) -> None:
        raise AssertionError("a finished run was run again")

    monkeypatch.setattr("study.trained.fit", again)
    pd.testing.assert_frame_equal(test.scores((0.5,)), table)


def test_a_bucket_with_one_class_alone_has_no_roc_auc(runs: Path) -> None:
    task = graph_task()
    given = shifted(task)
    labels = task.labels.clone()
    labels[given["buckets"].members["OOD-low"]] = 1.0
    given["task"] = replace(task, labels=labels)
    table = StressTest(**given, methods=METHODS[:1], seeds=[0]).scores()
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

    monkeypatch.setattr(protocols, "best", best)
    homophily = tail_buckets(instance_covariate(node_task(), "homophily"))
    for labels in (None, 3):
        test = StressTest(node_task(), homophily, METHODS, [4, 5], "t", per_class=labels)
        table = test.tuned(SHORT, TINY).scores((0.5,))
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


@pytest.fixture
def test(runs: Path) -> StressTest:
    """Two methods, two seeds."""
    return StressTest(**shifted(node_task()), methods=METHODS, seeds=range(2), covariate="degree")


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
    for suffix in ("", "_own"):
        sums = sum(parts[part + suffix] for part in "CSX")
        assert parts.R.to_numpy() == pytest.approx(sums.to_numpy(), abs=1e-9)
    pieces = test.sensitivity("deleted", (0.2, 0.6))
    assert pieces.rate.tolist() == [0.2, 0.2, 0.6, 0.6]
    assert (pieces.residual < 1e-4).all()
    assert (pieces.total > 0).all()
    share = pieces["amplification, %"] * pieces.total
    assert share.to_numpy() == pytest.approx((100 * pieces.amplification).to_numpy())
    assert pieces[["base, %", "amplification, %", "cross, %"]].sum(axis=1).to_numpy() == pytest.approx(100)
    assert {*READ_OUT, "order_gap"} <= set(pieces)


def test_leads_know_that_splits_overlap(test: StressTest) -> None:
    scores = pd.DataFrame({"method": ["stem", "gcn"] * 2, "seed": [0, 0, 1, 1], "score": [3.0, 1.0, 5.0, 2.0]})
    (lead,) = test.leads(scores.assign(rate=0.2), "rate").to_dict("records")
    assert (lead["strongest"], lead["difference"]) == ("gcn", 2.5)
    reach = 12.7062 * 0.5**0.5 * (1 / 2 + split_overlap(test.task.name)) ** 0.5
    assert lead["high"] == pytest.approx(2.5 + reach, abs=0.01)


def test_links_are_met_once_more_without_what_training_gives_away() -> None:
    task = link_task()
    given = task.split("random")
    pairs = task.pairs.clone()
    pairs[given.test[0]] = pairs[given.train[0]].flip(0)
    labels = task.labels.clone()
    labels[given.test[0]] = labels[given.train[0]]
    task = replace(task, pairs=pairs, labels=labels)
    kept = kept_apart(task)
    assert given.test[0] not in kept
    meeting = [(Condition("clean", task, given.test), {"kind": "clean"})]
    (whole, about), (left, beside) = with_filtered(task, meeting, kept)
    assert (about["task"], beside["task"], beside["condition"]) == ("tiny-links", "tiny-links-filtered", "clean")
    assert torch.equal(left.index, given.test[torch.isin(given.test, kept)])
    assert whole.index.numel() > left.index.numel()
