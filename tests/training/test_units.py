"""A regression is learnt in standard deviations and answered in the data's own unit; classes by their own names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import ring, small_model
from torch import Tensor

from stemlib.data.own_data import from_data
from stemlib.data.tasks import Task, standardised
from stemlib.model.deployed import deploy
from stemlib.presets import BaselineConfig, ModelConfig, TrainConfig
from stemlib.stress.conditions import Condition
from stemlib.training.evaluation import decisions, evaluate, predict, scores
from stemlib.training.finetune import fit
from study.families import build, load_model, save_model

TRAIN = TrainConfig(lr=0.02, epochs=60, patience=60)


def kelvins(scale: float = 50.0, shift: float = 30_000.0) -> Task:
    """Numbers far from 0 that a node's features tell."""
    graph = ring(60)
    graph.y = shift + scale * graph.x[:, :2].double()
    return from_data(graph, regression=True)


def trained(config: ModelConfig | BaselineConfig, task: Task) -> torch.nn.Module:
    torch.manual_seed(0)
    model = build(config, task)
    fit(model, task, task.split("masks"), TRAIN, 0)
    return model


CONFIGS = [ModelConfig(hidden=16, codebook="none"), BaselineConfig("mlp", hidden=16, dropout=0.0, input_dropout=0.0)]


@pytest.mark.parametrize("config", CONFIGS)
def test_numbers_are_learnt_and_answered_whatever_their_unit(config: ModelConfig, tmp_path: Path) -> None:
    task = kelvins()
    split, model = task.split("masks"), trained(config, task)
    own = standardised(task, split)
    assert evaluate(model, task, split)["train"] > 0.5
    assert evaluate(model, task, split) == evaluate(model, own, split)
    condition = Condition("clean", task, split.test)
    assert scores(model, [condition])["clean"] == evaluate(model, task, split, ["test"])["test"]
    assert scores(model, [condition])["clean"] == pytest.approx(evaluate(model, task, split)["test"], rel=1e-6)
    answers = predict(model, task, split.train)
    assert (answers - task.labels[split.train]).abs().mean() < 40
    assert torch.allclose(predict(model, own, split.train) * own.scale[1] + own.scale[0], answers, atol=1e-3)
    assert np.array_equal(decisions(model, own, split.train), answers.numpy())
    save_model(model, tmp_path)
    assert torch.equal(predict(load_model(tmp_path), task, split.train), answers)


def test_a_task_standardised_by_another_split_is_answered_in_its_unit() -> None:
    task = kelvins()
    model, masks = trained(CONFIGS[0], task), task.split("masks")
    other = standardised(task, replace(masks, train=masks.test, test=masks.train))
    found = predict(model, other) * other.scale[1] + other.scale[0]
    assert torch.allclose(found, predict(model, task), rtol=1e-5)


def test_the_deployed_form_answers_in_the_data_s_unit() -> None:
    task = kelvins()
    model = trained(CONFIGS[0], task)
    answers = deploy(model)(task.graph, torch.arange(60))
    assert torch.allclose(answers, predict(model, task), rtol=1e-5)


def test_a_unit_changes_nothing_of_what_is_learnt() -> None:
    def r2(task: Task) -> Tensor:
        return torch.tensor(list(evaluate(trained(CONFIGS[1], task), task, task.split("masks")).values()))

    torch.manual_seed(3)
    first = r2(kelvins(1.0, 0.0))
    torch.manual_seed(3)
    assert torch.allclose(first, r2(kelvins(1024.0, 0.0)), atol=1e-4)


def test_classes_are_answered_by_their_names_and_binary_labels_by_truth() -> None:
    graph = ring()
    graph.y = np.array([["cat", "dog"][label] for label in graph.y.tolist()])
    task = from_data(graph)
    model = build(small_model(), task)
    assert decisions(model, task).tolist() == [("cat", "dog")[i] for i in predict(model, task).argmax(1).tolist()]
    graph.y = ring().y.float()
    task = from_data(graph)
    model = build(small_model(), task)
    assert decisions(model, task, torch.arange(3)).tolist() == (predict(model, task, torch.arange(3)) > 0).tolist()
