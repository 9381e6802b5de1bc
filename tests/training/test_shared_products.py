"""The first layer's products, shared by an evaluation and the step after it: the same numbers, computed once."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from samples import link_task, node_task, small_model
from torch import Tensor

from stemlib.data.batches import Batch
from stemlib.data.tasks import Task
from stemlib.model.stem import StemGNN
from stemlib.presets import TrainConfig
from stemlib.training import finetune, shared_products
from stemlib.training.evaluation import answer, evaluation_batches
from stemlib.training.finetune import fit, train_epoch, training_batches
from stemlib.training.shared_products import SharedProducts, share_first_products
from study.families import build


class Prepared(NamedTuple):
    model: StemGNN
    shown: list[Batch]
    asked: list[Batch]
    optimiser: torch.optim.Optimizer
    shared: SharedProducts | None

    def step(self) -> Tensor:
        losses = train_epoch(self.model, self.shown, TrainConfig(), self.optimiser)
        if self.shared:
            self.shared.forget()
        return losses


def prepared(task: Task, sharing: bool, **settings: object) -> Prepared:
    torch.manual_seed(0)
    model, split = build(small_model(**settings), task), task.split("random")
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
    shown = list(training_batches(model, task, split, TrainConfig())(None))
    asked = list(evaluation_batches(model, task, torch.cat([split.val, split.test]))(None))
    parts = [batch.graph for batch in shown + asked]
    shared = share_first_products(model.encoder, task.graph, parts) if sharing else None
    return Prepared(model, shown, asked, optimiser, shared)


@pytest.mark.parametrize("settings", [{}, {"hidden": 2}, {"experts": 1}, {"layers": 3, "dropout": 0.3}])
def test_steps_and_evaluations_are_those_without_sharing(settings: dict) -> None:
    task, runs = node_task(), []
    for sharing in (False, True):
        made = prepared(task, sharing, **settings)
        torch.manual_seed(1)
        losses = torch.cat([made.step() for _ in range(3)])
        runs.append((losses, answer(made.model, made.asked, "t"), *made.model.parameters()))
        assert (made.asked[0].graph.hops[0].products is not None) == (made.shared is not None) == sharing
    for own, expected in zip(*runs, strict=True):
        torch.testing.assert_close(own, expected, rtol=0, atol=1e-5)


def test_products_are_computed_once_between_two_changes_of_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    made, computed, weights = prepared(node_task(), True), [], shared_products.side_by_side
    monkeypatch.setattr(shared_products, "side_by_side", lambda weight: computed.append(0) or weights(weight))
    for count in range(1, 4):
        made.step()
        answer(made.model, made.asked, "t")
        assert len(computed) == 1 + count  # by the first step; later ones start from what the evaluation left
    made.model.train()
    made.model(made.shown[0].graph, made.shown[0].instances)
    assert len(computed) == 4
    expected = made.shared.inputs @ made.model.encoder.layers[0].weight.transpose(0, 1).flatten(1)
    torch.testing.assert_close(made.shared(), expected)


def test_loading_weights_counts_as_a_change() -> None:
    model, _, asked, *_ = prepared(node_task(), True)
    answer(model, asked, "t")
    other = build(small_model(), node_task())
    model.load_state_dict(other.state_dict())
    first = answer(model, asked, "t")
    for batch in asked:
        batch.graph.hops[0].products = None
    torch.testing.assert_close(first, answer(model, asked, "t"), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        (node_task(), {"input_dropout": 0.2}),
        (node_task(), {"routed": "last"}),
        (link_task(), {}),  # its edges have features, which learn a projection
    ],
)
def test_nothing_is_shared_where_the_first_layer_s_input_changes(task: Task, settings: dict) -> None:
    _, shown, asked, _, shared = prepared(task, True, **settings)
    assert shared is None
    assert all(batch.graph.hops[0].products is None for batch in shown + asked)


def test_nothing_is_shared_that_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_products, "MOST_VALUES", 100)
    made = prepared(node_task(), True)
    assert made.shared is None
    assert made.asked[0].graph.hops[0].products is None


@pytest.mark.parametrize(("settings", "expected"), [({}, 1), ({"batch_size": 8}, 0), ({"routing": 0.1}, 0)])
def test_whole_batch_training_shares(settings: dict, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    task, calls = node_task(), []
    monkeypatch.setattr(finetune, "share_first_products", lambda *arguments: calls.append(arguments))
    fit(build(small_model(), task), task, task.split("random"), TrainConfig(epochs=2, **settings), 0)
    assert len(calls) == expected
