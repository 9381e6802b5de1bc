"""Evaluation: predictions, and scores of parts."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import pytest
import torch
from run_samples import equal
from samples import graph_task, node_task, small_baseline, small_model

from stemlib.data.scores import score
from stemlib.data.tasks import Task
from stemlib.presets import TrainConfig
from stemlib.stress.conditions import Condition
from stemlib.theory.coverage import coverage, coverages
from stemlib.training import evaluation
from stemlib.training.evaluation import evaluate, predict, scores
from stemlib.training.finetune import fit
from study.families import build


def test_predictions_are_those_of_evaluation_mode_and_leave_the_mode_alone(task: Task) -> None:
    model = build(small_model(dropout=0.5, input_dropout=0.5), task).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    logits = predict(model, task)
    assert logits.shape == (task.instances, task.outputs)
    assert torch.equal(predict(model, task), logits)
    assert model.training
    assert not logits.requires_grad
    assert equal(before, model.state_dict())
    index = torch.tensor([4, 1])
    torch.testing.assert_close(predict(model, task, index), logits[index], atol=1e-5, rtol=0)


def test_many_graphs_are_predicted_in_several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    task = graph_task()
    model = build(small_model(), task)
    whole = predict(model, task)
    monkeypatch.setattr(evaluation, "EVALUATION_BATCH", 5)
    torch.testing.assert_close(predict(model, task), whole, atol=1e-5, rtol=0)


def test_evaluation_scores_each_part(task: Task) -> None:
    model, split = build(small_model(), task), task.split("random")
    scores = evaluate(model, task, split, parts=["test", "val"])
    assert list(scores) == ["test", "val"]
    assert scores["test"] == pytest.approx(score(predict(model, task, split.test), task.labels[split.test]))
    assert list(evaluate(model, task, split)) == ["train", "val", "test"]


def test_each_condition_is_scored_by_its_own_task_s_labels() -> None:
    task = node_task()
    model, index = build(small_model(), task), task.split("random").test
    other = replace(task, labels=(task.labels + 1) % 3)
    one, two = Condition("one", task, index), Condition("two", other, index)
    assert scores(model, [one, two]) == scores(model, [one]) | scores(model, [two])
    found = coverages(model, [one, two], losses=("zero_one",))
    assert [item.R for item in found] == [coverage(model, each, loss="zero_one").R for each in (one, two)]
    assert found[0].R != found[1].R


def test_two_conditions_of_one_name_are_refused() -> None:
    task = node_task()
    same = [Condition("clean", task, index) for index in task.split("random").train.split(10)[:2]]
    with pytest.raises(ValueError, match="the same name would share a score: clean"):
        scores(build(small_model(), task), same)


@pytest.mark.parametrize("kind", ["stem", "gcn"])
def test_what_is_not_a_number_is_never_scored(kind: str) -> None:
    """A codebook would make an ordinary code of NaN, and an argmax an ordinary class."""
    task = node_task()
    model = build(small_model() if kind == "stem" else small_baseline(kind), task)
    graph = copy(task.graph)
    graph.x = task.graph.x.clone()
    graph.x[5] = float("nan")
    with pytest.raises(FloatingPointError, match=r"tiny: .* not finite; look for NaN in the features"):
        predict(model, task.with_graph(graph))
    with pytest.raises(FloatingPointError, match=r"training: .* not finite"):
        fit(model, task.with_graph(graph), task.split("random"), TrainConfig(epochs=1), 0)
    with pytest.raises(ValueError, match="1 of 6 logits to be scored are not finite"):
        score(torch.tensor([[0.0, 1.0], [float("nan"), 0.0], [1.0, 0.0]]), torch.tensor([1, 0, 0]))
