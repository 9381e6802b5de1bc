"""Evaluation: predictions, and scores of parts."""

from __future__ import annotations

import pytest
import torch
from run_samples import equal
from samples import graph_task, small_model

from stemlib.data.tasks import Task, score
from stemlib.training import evaluation
from stemlib.training.evaluation import evaluate, predict
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
