"""Labels that are measured values: how they are scaled, learnt, scored and met, and what takes classes only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import few, graph_task, link_task, node_task, small_baseline, small_model
from sklearn.metrics import r2_score
from torch import Tensor
from torch_geometric.data import Data

from stemlib.data.own_data import from_data
from stemlib.data.scores import score
from stemlib.data.tasks import Split, Task, standardised
from stemlib.model.losses import task_loss
from stemlib.presets import TrainConfig
from stemlib.stress.conditions import is_scored, shift_protocol
from stemlib.stress.shifts import instance_covariate, tail_buckets
from stemlib.theory.sensitivity import sensitivity
from stemlib.training import adversary, finetune
from stemlib.training.adversary import edge_worth, worst_masking
from stemlib.training.evaluation import predict, scores
from stemlib.training.finetune import fit
from study.cards import card
from study.decompositions import independent_losses
from study.families import build
from study.meetings import scores_along
from study.method import Method
from study.rivals.settings import MowstConfig
from study.trained import run

NAN = float("nan")


def of_values(task: Task, columns: int = 1) -> Task:
    """The task with random values for labels, those of every seventh instance unknown where there are two."""
    generator = torch.Generator().manual_seed(0)
    labels = 3 + 2 * torch.randn(task.instances, columns, generator=generator)
    if columns > 1:
        labels[::7, 1] = NAN
    return replace(task, labels=labels, regression=True)


@few
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_r2_is_sklearns_weighted_by_variance(seed: int, columns: int) -> None:
    random = np.random.default_rng(seed)
    truth, found = random.normal(size=(2, 30, columns)) * random.uniform(0.1, 9, columns)
    constant = np.full((30, 1), 2.0)  # a label without two values does not count
    ours = score(torch.from_numpy(np.hstack([found, constant])), torch.from_numpy(np.hstack([truth, constant])), True)
    assert ours == pytest.approx(r2_score(truth, found, multioutput="variance_weighted"), abs=1e-9)


def test_r2_by_hand_with_missing_values() -> None:
    labels = torch.tensor([[1.0, 0.0], [3.0, NAN], [NAN, 4.0]])
    answers = torch.tensor([[1.0, 1.0], [2.0, 9.0], [9.0, 4.0]])
    assert score(answers, labels, True) == pytest.approx(1 - (1 + 1) / (2 + 8))
    assert score(labels.nan_to_num(), labels, True) == 1
    with pytest.raises(ValueError, match="no label has two values among these instances; R2 is undefined"):
        score(answers[:1], labels[:1], True)


def test_the_loss_is_the_mean_squared_error_over_what_is_known() -> None:
    labels, answers = torch.tensor([[1.0, NAN], [3.0, 2.0]]), torch.tensor([[2.0, 5.0], [3.0, 0.0]])
    assert task_loss(answers, labels, regression=True).item() == pytest.approx((1 + 0 + 4) / 3)
    assert task_loss(answers, torch.full((2, 2), NAN), regression=True).item() == 0


def test_standardised_by_the_training_part_of_the_split_alone() -> None:
    labels = torch.arange(20.0).unsqueeze(1)
    task = replace(node_task(), labels=labels, regression=True)
    orders = {"first": torch.arange(20), "last": torch.arange(20).flip(0)}
    halves = [Split(name, *order.split([10, 5, 5])) for name, order in orders.items()]
    found = [standardised(task, split) for split in halves]
    for part, mean in zip(found, (4.5, 14.5), strict=True):
        assert part.scale.flatten().tolist() == pytest.approx([mean, 8.25**0.5])
        torch.testing.assert_close(part.labels, ((labels - mean) / 8.25**0.5))
    again = standardised(found[0], halves[1])
    torch.testing.assert_close(again.labels, found[1].labels)
    assert standardised(node_task(), halves[0]).scale is None


def test_two_close_values_do_not_blow_a_label_up() -> None:
    """In ChEMBL's activities one of 691 targets, with two training values 0.03 apart, had four fifths of the weight."""
    generator = torch.Generator().manual_seed(0)
    labels = 6 + torch.randn(40, 10, generator=generator)
    labels[:30, 0] = NAN
    labels[:2, 0] = torch.tensor([7.0, 7.03])
    labels[:30, 1] = NAN  # nothing known to train on
    labels[:30, 2] = 5.0  # one value alone
    parts = torch.arange(40).split([30, 5, 5])
    task = replace(node_task(), labels=labels, regression=True)
    found = standardised(task, Split("s", *parts))
    known = labels[:30][labels[:30].isfinite()].double()
    for column in range(3):
        assert found.scale[:, column].tolist() == pytest.approx([known.mean().item(), known.std(correction=0).item()])
    of_column = (found.labels[30:] - found.labels[30:].mean(0)).square().sum(0)
    assert of_column.max() < 0.4 * of_column.sum()
    with pytest.raises(ValueError, match="differ in split 's': there is nothing to learn"):
        standardised(replace(task, labels=torch.ones(40, 2)), Split("s", *parts))


@pytest.mark.parametrize(
    ("task", "columns"),
    [(node_task(), 1), (link_task(), 1), (link_task(), 2), (graph_task(200), 1), (graph_task(200), 2)],
    ids=["node", "link", "link-2", "graph", "graph-2"],
)
def test_values_of_every_kind_of_task_are_learnt_shifted_and_scored(task: Task, columns: int) -> None:
    task = of_values(task, columns)
    assert (task.metric, task.outputs) == ("r2", columns)
    buckets = tail_buckets(instance_covariate(task, "degree"))
    for per_class in (None, 5):
        inside, split, conditions = shift_protocol(task, buckets, 0, per_class)
        assert per_class is None or split.train.numel() <= 5 * columns
        model = build(small_baseline("sage"), inside)
        known = inside.labels[split.train]
        assert known.nanmean(0).abs().max() < 1e-5
        fit(model, inside, split, TrainConfig(epochs=2), seed=0)
        assert all(is_scored(condition) for condition in conditions)
        met = scores(model, conditions)
        clean, answers = inside.labels[split.test], predict(model, inside, split.test)
        kept = [~column.isnan() for column in clean.T]
        error = sum((answers[k, i] - clean[k, i]).square().sum() for i, k in enumerate(kept))
        around = sum((clean[k, i] - clean[k, i].mean()).square().sum() for i, k in enumerate(kept))
        assert met["clean"] == pytest.approx(1 - float(error / around), abs=1e-5)
        one = scores_along(model, inside, split.test, buckets.covariate, groups=1)
        assert one.score.item() == pytest.approx(100 * met["clean"], abs=1e-3)


def test_a_value_that_features_tell_is_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("study.trained.RUNS", tmp_path)
    task = node_task()
    labels = 50 + 9 * task.graph.x[:, :1]
    task = replace(task, labels=labels, regression=True)
    train = TrainConfig(epochs=200, lr=1e-2, weight_decay=0.0, lipschitz=0.0)
    record = run("values", task, "random", Method("stem", small_model(codebook="none"), train), seed=0)
    assert record.metrics["test"] > 0.5


def test_the_head_starts_at_the_mean() -> None:
    model = build(small_model(), of_values(node_task(), 2))
    model.start_at_prior(torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, -2.0]]), regression=True)
    assert model.head.effective_bias.tolist() == [0, 0]


def test_the_best_epoch_may_be_worse_than_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    """R2 has no lower bound: a first epoch of -30 is the best so far."""
    monkeypatch.setattr(finetune, "score", lambda logits, labels, values: -30.0)
    task = of_values(node_task())
    progress = fit(build(small_baseline("mlp"), task), task, task.split("random"), TrainConfig(epochs=1), seed=0)
    assert (progress.best[0], progress.test_best, progress.best_epoch) == (-30.0, -30.0, 0)


def test_a_card_counts_values() -> None:
    found = card(of_values(graph_task(), 2))
    assert (found["targets"], found["metric"]) == (2, "r2")
    assert found["known"] == pytest.approx(100 * pd.Series(range(32)).mod(7).gt(0).mean() / 2 + 50)
    assert not {"positive", "classes", "binary labels"} & set(found)


def ring(labels: Tensor) -> Data:
    """A user's graph of twelve nodes, a third each to train, validate and test."""
    nodes = torch.arange(12)
    graph = Data(x=torch.randn(12, 3), edge_index=torch.stack([nodes, (nodes + 1) % 12]), y=labels)
    for i, part in enumerate(("train", "val", "test")):
        graph[f"{part}_mask"] = nodes // 4 == i
    return graph


@pytest.mark.parametrize("column", [True, False])
def test_a_user_s_own_values(column: bool) -> None:
    graph = ring(torch.arange(12.0))
    graph.y[5] = NAN
    if column:
        graph.y = graph.y.unsqueeze(1)
    task = from_data(graph, regression=True)
    assert (task.metric, task.outputs, task.labels[2].item()) == ("r2", 1, 2)
    found = standardised(task, task.split("masks"))
    assert found.scale.flatten().tolist() == pytest.approx([1.5, 1.25**0.5])
    graph.y[6] = torch.inf
    with pytest.raises(ValueError, match=r"regression must be a table of numbers .* finite or NaN"):
        from_data(graph, regression=True)
    with pytest.raises(ValueError, match="to predict numbers: `regression=True`"):
        from_data(graph)


def test_whole_numbers_are_values_where_a_user_says_so() -> None:
    seconds = 1_700_000_000 + torch.arange(12)
    for labels in (seconds, seconds.unsqueeze(1), seconds.double()):
        task = from_data(ring(labels), regression=True)
        assert standardised(task, task.split("masks")).labels[:4].std(correction=0).item() == pytest.approx(1)


def test_values_and_binary_labels_are_not_the_same_data() -> None:
    """A finished run of the one must not be read back as the other's."""
    graph = ring((torch.arange(12) % 2).double().unsqueeze(1))
    assert from_data(graph).checksum != from_data(graph, regression=True).checksum


def test_what_needs_classes_says_so() -> None:
    task = of_values(node_task())
    clean = shift_protocol(task, tail_buckets(instance_covariate(task, "degree")), 0)[2][0]
    with pytest.raises(ValueError, match=r"Mowst's gate, .*, takes classes or binary labels"):
        build(MowstConfig(), task)
    model = build(small_model(), task)
    with pytest.raises(ValueError, match="cross-entropy, like the 0/1 loss, takes classes"):
        independent_losses([model], [clean], ["ce"])
    with pytest.raises(ValueError, match="the certificate of decisions takes classes"):
        sensitivity(model, clean, clean)
    with pytest.raises(ValueError, match="the worth of an edge takes classes"):
        edge_worth(model, clean, seed=0)


def test_the_worst_masking_is_by_the_gradient_of_the_squared_error(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def spied(logits: Tensor, labels: Tensor, regression: bool = False) -> Tensor:
        asked.append(regression)
        return task_loss(logits, labels, regression=regression)

    monkeypatch.setattr(adversary, "task_loss", spied)
    task = of_values(node_task())
    clean = shift_protocol(task, tail_buckets(instance_covariate(task, "degree")), 0)[2][0]
    model = build(small_baseline("sage"), task)
    damaged, _ = worst_masking(model, clean, 0.5)
    assert scores(model, [damaged])["clean, worst masking 0.5"] < scores(model, [clean])["clean"]
    assert set(asked) == {True}
