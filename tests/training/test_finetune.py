"""Fine-tuning: reproducible, never repeated, selected on validation alone, stopped and restored as promised."""

from __future__ import annotations

import json
import threading
from copy import copy
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from run_samples import TRAIN, equal, history, method, untimed, weights
from samples import TASKS, graph_task, node_task, small_baseline, small_model
from torch import nn

from stemlib.data.tasks import Task
from stemlib.model import network
from stemlib.training import finetune
from stemlib.training.evaluation import evaluate
from stemlib.training.finetune import fit
from study.families import build
from study.method import Method
from study.trained import run, run_folder, trained_model


@pytest.mark.parametrize("batch_size", [0, 7])
def test_the_same_seed_gives_the_same_bits(
    task: Task, batch_size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    what = method(batch_size=batch_size, routing=0.1, commitment=0.1)
    results = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        monkeypatch.setattr("study.trained.RUNS", tmp_path / folder)
        torch.rand(len(results))  # whatever was drawn before
        record = run("t", task, "random", what, seed)
        results.append((untimed(record), weights(task, what, seed), history(task, what, seed)))
    first, again, other = results
    assert first[0] == again[0]
    assert equal(first[1], again[1])
    pd.testing.assert_frame_equal(first[2], again[2], check_exact=True)
    assert not equal(first[1], other[1])
    assert not first[2].equals(other[2])


def test_two_at_one_run_train_it_once(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As two runners of a grid do, whose runs share the whole model."""
    task, what, trained, found = node_task(), method(), [], []
    usual = finetune.fit

    def fit(*given: object) -> finetune.Fit:
        trained.append(given)
        return usual(*given)

    monkeypatch.setattr("study.trained.fit", fit)
    both = [threading.Thread(target=lambda: found.append(run("t", task, "random", what, 0))) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert len(trained) == 1
    assert found[0] == found[1]


def test_a_finished_run_is_not_repeated(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, what = node_task(), method()
    record = run("t", task, "random", what, 0)
    files = {file: file.stat().st_mtime_ns for file in runs.rglob("*")}

    def trained(*_: object) -> float:
        raise AssertionError("trained again")

    monkeypatch.setattr(finetune, "train_epoch", trained)
    assert run("t", task, "random", what, 0) == record
    assert trained_model("t", task, "random", what, 0).config == what.model
    assert {file: file.stat().st_mtime_ns for file in runs.rglob("*")} == files
    for other in (
        ("u", task, "random", what, 0),
        ("t", task, "random", what, 1),
        ("t", task, "random", method(lr=0.03), 0),
        ("t", node_task(seed=1), "random", what, 0),
        ("t", task.with_split(replace(task.split("random"), name="s")), "s", what, 0),
    ):
        with pytest.raises(AssertionError, match="trained again"):
            run(*other)


def test_the_folder_tells_what_it_holds(runs: Path) -> None:
    task, what = node_task(), method()
    run("t", task, "random", what, 0)
    (folder,) = (runs / "t").iterdir()
    assert folder.name.startswith("tiny-random-stem-")
    assert [file.name for file in folder.glob("[!.]*")] == ["seed-0"]
    names = sorted(file.name for file in (folder / "seed-0").glob("[!.]*"))
    assert names == ["history.csv", "model.json", "model.safetensors", "record.json"]


def test_selection_never_looks_at_test(task: Task, runs: Path) -> None:
    """Other test labels: the same model, the same history, but for the test scores."""
    what, split = method(batch_size=9), task.split("random")
    labels = task.labels.clone()
    labels[split.test] = labels[split.test].roll(1, 0)
    other = replace(task, labels=labels, checksum="other")
    assert not torch.equal(labels.nan_to_num(), task.labels.nan_to_num())
    records = [run("t", one, "random", what, 0) for one in (task, other)]
    assert equal(weights(task, what), weights(other, what))
    mine, theirs = (history(one, what) for one in (task, other))
    pd.testing.assert_frame_equal(mine.drop(columns="test"), theirs.drop(columns="test"), check_exact=True)
    assert not mine["test"].equals(theirs["test"])
    for name in ("best_epoch", "epochs", "selection"):
        assert getattr(records[0], name) == getattr(records[1], name)
    for part in ("train", "val"):
        assert records[0].metrics[part] == records[1].metrics[part]


def test_the_best_validation_state_is_restored_and_reported(task: Task, runs: Path) -> None:
    what = method(lr=0.1, epochs=15, patience=15)
    record = run("t", task, "random", what, 0)
    epochs = history(task, what)
    assert list(epochs["epoch"]) == list(range(record.epochs))
    best = max(epochs.index, key=lambda i: (epochs["val"][i], -epochs["val_loss"][i]))
    assert record.best_epoch == best
    assert record.metrics["val"] == epochs["val"][best] == epochs["val"].max()
    assert record.metrics["test"] == epochs["test"][best]
    assert record.metrics["test_best"] == epochs["test"].max()
    model = trained_model("t", task, "random", what, 0)
    assert {**evaluate(model, task, task.split("random")), "test_best": epochs["test"].max()} == record.metrics
    assert record.selection == "validation"


def test_patience_is_respected(runs: Path) -> None:
    task = node_task(mu=0.3)
    records = [run("t", task, "random", method(lr=0.3, epochs=80, patience=p), 0) for p in (1, 4)]
    for record, patience in zip(records, (1, 4), strict=True):
        assert record.epochs == record.best_epoch + 1 + patience < 80
    assert records[0].epochs < records[1].epochs
    assert run("t", task, "random", method(epochs=3, patience=50), 0).epochs == 3


def test_an_epoch_of_several_passes_is_that_many_epochs_with_one_evaluation(task: Task, runs: Path) -> None:
    methods = [method(epochs=epochs, passes=6 // epochs) for epochs in (6, 2)]
    for what in methods:
        run("t", task, "random", what, 0)
    single, several = (history(task, what) for what in methods)
    evaluated = ["val_loss", "val", "test"]
    assert several[evaluated].values.tolist() == single[evaluated][2::3].values.tolist()
    assert several["loss"].tolist() == pytest.approx(single["loss"].groupby(single.index // 3).mean().tolist())


def test_the_record_says_from_what(runs: Path) -> None:
    task, what = node_task(), method()
    record = run("t", task, "random", what, 5)
    assert (record.experiment, record.task, record.split, record.model, record.seed) == (
        "t",
        "tiny",
        "random",
        "stem",
        5,
    )
    assert record.settings == json.loads(json.dumps(what.settings))
    assert record.split_hash == task.split("random").hash
    assert record.data_checksum == task.checksum
    trained = build(what.model, task)
    assert record.parameters == sum(v.numel() for v in trained.parameters() if v.requires_grad)
    assert record.seconds > 0
    assert record.peak_memory_mb > 50


@pytest.mark.parametrize("kind", TASKS)
def test_minibatches_see_every_training_instance_once_an_epoch(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = TASKS[kind]()
    split, model = task.split("random"), build(small_model(), task)
    seen = []

    def counted(logits: torch.Tensor, labels: torch.Tensor, **how: bool) -> torch.Tensor:
        seen.append(labels)
        return task_loss(logits, labels, **how)

    task_loss = network.task_loss
    monkeypatch.setattr(network, "task_loss", counted)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    train = replace(TRAIN, batch_size=7)
    shown = finetune.training_batches(model, task, split, train)(torch.Generator().manual_seed(0))
    finetune.train_epoch(model, shown, train, optimiser)
    assert [len(labels) for labels in seen] == [len(chunk) for chunk in split.train.split(7)]
    together = torch.cat(seen).nan_to_num(-1).double().flatten(1) if seen[0].dim() == 2 else torch.cat(seen)
    expected = task.labels[split.train].nan_to_num(-1).double() if seen[0].dim() == 2 else task.labels[split.train]
    assert sorted(together.tolist()) == sorted(expected.tolist())


@pytest.mark.parametrize("settings", [{}, {"codebook": "learnable", "commitment": 1.0}, {"codebook": "reference"}])
def test_frozen_tokens_stay_as_they_started(runs: Path, settings: dict[str, object]) -> None:
    task, what = node_task(), method(freeze_tokens=True, orthogonality=1.0, **settings)
    run("t", task, "random", what, 0)
    torch.manual_seed(0)
    model = build(what.model, task)
    encoder = model.encoder.state_dict()["layers.0.weight"].clone()
    torch.manual_seed(0)
    finetune.start_tokens(model, task, task.split("random"))
    trained = weights(task, what)
    for name, value in model.tokens.state_dict().items():
        assert torch.equal(trained[f"tokens.{name}"], value), name
    assert not torch.equal(trained["encoder.layers.0.weight"], encoder)
    free = method(orthogonality=1.0, **settings)
    run("t", task, "random", free, 0)
    assert not torch.equal(weights(task, free)["tokens.codebook"], model.tokens.codebook)


@pytest.mark.parametrize("kind", TASKS)
def test_something_is_learnt(kind: str, runs: Path) -> None:
    task = TASKS[kind]()
    for what in (method(epochs=40, patience=40), Method("gcn", small_baseline("gcn"), replace(TRAIN, epochs=40))):
        record = run("t", task, "random", what, 0)
        assert record.metrics["train"] > 0.8, what.name
        assert history(task, what)["loss"].iloc[-1] < history(task, what)["loss"].iloc[0]


def test_a_model_that_diverges_is_stopped_and_leaves_no_record(runs: Path) -> None:
    task, what = node_task(), method(lr=1e30)
    with pytest.raises(FloatingPointError, match="tiny: what the model computes is not finite"):
        run("t", task, "random", what, 0)
    assert not list(runs.rglob("record.json"))


def test_progress_bars_can_be_switched_off(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    task = node_task()

    def shown() -> str:
        fit(build(small_model(), task), task, task.split("random"), replace(TRAIN, epochs=1), 0, label="the label")
        return capsys.readouterr().err

    assert shown() == ""
    monkeypatch.delenv("STEMLIB_PROGRESS")
    assert "the label" in shown()


def test_a_damaged_training_state_is_refused_by_name(runs: Path) -> None:
    task, what = node_task(), method()
    folder = run_folder("t", task, task.split("random"), what, 0)
    folder.mkdir(parents=True)
    (folder / "training.checked").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"training.checked is damaged: .*; delete it to start over"):
        run("t", task, "random", what, 0)


def test_fit_trains_in_place_and_ends_in_evaluation_mode() -> None:
    task = node_task()
    model = build(small_model(), task)
    before = model.head.linear.weight.clone()
    progress = fit(model, task, task.split("random"), TRAIN, seed=0)
    assert isinstance(model, nn.Module)
    assert not model.training
    assert not torch.equal(model.head.linear.weight, before)
    assert equal(model.state_dict(), progress.weights)


def test_a_start_at_log_odds_is_a_first_epoch_with_less_to_learn() -> None:
    task = graph_task()
    rare = torch.ones(task.instances, 1).index_fill_(0, torch.arange(0, task.instances, 8), 0.0)
    task = replace(task, labels=rare)
    losses = {}
    for prior in (False, True):
        what = method(prior=prior, epochs=1, lr=1e-6)
        torch.manual_seed(0)
        losses[prior] = fit(what.build(task), task, task.split("random"), what.train, 0).history[0]["loss"]
    assert losses[True] < 0.45 < 0.6 < losses[False]  # the entropy of one in eight is 0.38, of even odds 0.69


def test_a_record_is_of_its_content_alone(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another graph, other labels, a value edited in place, or other threads: each is a run of its own."""
    task, what = node_task(), method()
    folders = [run_folder("t", task, task.split("random"), what, 0)]
    blank = copy(task.graph)
    blank.x = torch.zeros_like(blank.x)
    others = [task.with_graph(blank), replace(task, labels=(task.labels + 1) % 3)]
    folders += [run_folder("t", other, other.split("random"), what, 0) for other in others]
    assert run("t", task, "random", what, 0).metrics != run("t", others[0], "random", what, 0).metrics
    same = replace(task, graph=copy(task.graph), name=task.name)
    assert run_folder("t", same, same.split("random"), what, 0) == folders[0]
    task.graph.x[0, 0] += 1
    folders.append(run_folder("t", task, task.split("random"), what, 0))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    folders.append(run_folder("t", task, task.split("random"), what, 0))
    assert len(set(folders)) == 5
    record = run("t", others[1], "random", what, 0)
    assert (record.threads, record.device, record.content) == (2, "cpu", others[1].content)
