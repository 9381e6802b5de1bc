"""Fine-tuning: reproducible, killed and resumed with the same bits, selected on validation alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from samples import TASKS, graph_task, link_task, node_task, small_baseline, small_model
from torch import nn

from stemlib import finetune
from stemlib.checkpoints import build, load_model
from stemlib.finetune import evaluate, fit, predict, run, run_folder, trained_model
from stemlib.methods import Method
from stemlib.presets import TrainConfig
from stemlib.records import Record
from stemlib.tasks import Task, score

TRAIN = TrainConfig(lr=0.02, weight_decay=0.01, epochs=6, patience=6)


def method(name: str = "stem", **settings: object) -> Method:
    """A small routed, tokenised model with every source of noise; settings of model and training mixed."""
    train = {key: value for key, value in settings.items() if hasattr(TRAIN, key)}
    model = {key: value for key, value in settings.items() if key not in train}
    return Method(name, small_model(**({"dropout": 0.3} | model)), replace(TRAIN, **train))


def weights(task: Task, what: Method, seed: int = 0) -> dict[str, torch.Tensor]:
    return load_model(run_folder("t", task, task.split("random"), what, seed)).state_dict()


def history(task: Task, what: Method, seed: int = 0) -> pd.DataFrame:
    return pd.read_csv(run_folder("t", task, task.split("random"), what, seed) / "history.csv")


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def untimed(record: Record) -> Record:
    """What two runs of the same thing have in common."""
    return replace(record, seconds=0.0, peak_memory_mb=0.0)


@pytest.mark.parametrize("batch_size", [0, 7])
def test_the_same_seed_gives_the_same_bits(
    task: Task, batch_size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    what = method(batch_size=batch_size, routing=0.1, commitment=0.1)
    results = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        monkeypatch.setattr(finetune, "RUNS", tmp_path / folder)
        torch.rand(len(results))  # whatever was drawn before
        record = run("t", task, "random", what, seed)
        results.append((untimed(record), weights(task, what, seed), history(task, what, seed)))
    first, again, other = results
    assert first[0] == again[0]
    assert equal(first[1], again[1])
    pd.testing.assert_frame_equal(first[2], again[2], check_exact=True)
    assert not equal(first[1], other[1])
    assert not first[2].equals(other[2])


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from stemlib import finetune
from samples import link_task
from test_finetune import KILLED_METHOD

torch.set_num_threads(1)
finetune.RUNS, finetune.SECONDS_BETWEEN_STATES = Path(sys.argv[1]), -1.0

def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def at_call(number, function):
    calls = iter(range(number))
    return lambda *args, **more: function(*args, **more) if next(calls, None) is not None else kill()

def in_an_epoch():
    finetune.train_epoch = at_call(4, finetune.train_epoch)

def between_temporary_and_final_state():
    os.replace = at_call(2, os.replace)

def in_a_later_epoch():
    finetune.predict = at_call(3, finetune.predict)

def before_the_weights():
    finetune.save_model = kill

def between_weights_and_their_settings():
    finetune.fit = lambda *args, fit=finetune.fit: (fit(*args), setattr(os, "replace", at_call(1, os.replace)))[0]

def before_the_record():
    finetune.write_record = kill

def between_history_and_record():
    finetune.write_record = lambda *args, write=finetune.write_record: (
        setattr(os, "replace", at_call(1, os.replace)), write(*args))

for stage in (in_an_epoch, between_temporary_and_final_state, in_a_later_epoch, before_the_weights,
              between_weights_and_their_settings, before_the_record, between_history_and_record):
    child = os.fork()  # nothing has been computed yet: a fresh process without another import
    if child == 0:
        stage()
        finetune.run("t", link_task(), "random", KILLED_METHOD, 3)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    files = sorted(file.name for file in finetune.RUNS.rglob("*") if file.suffix != ".part" and file.is_file())
    print(stage.__name__, os.WTERMSIG(status), *files, flush=True)
"""
KILLED_METHOD = method(epochs=14, patience=14, batch_size=16, routing=0.1, commitment=0.1, norm="batch")


def test_a_run_killed_at_every_stage_ends_with_the_bits_of_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tests = Path(__file__).parent
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "STEMLIB_PROGRESS": "off"}
    environment["PYTHONPATH"] = os.pathsep.join([str(tests), str(tests.parent)])
    command = [sys.executable, "-c", KILLED, str(tmp_path / "killed")]
    out = subprocess.check_output(command, env=environment, text=True)
    stages = [line.split() for line in out.splitlines()]
    assert len(stages) == 7
    for name, signalled, *files in stages:
        assert int(signalled) == signal.SIGKILL, name
        assert "training.safetensors" in files, name
        assert "record.json" not in files, name
    assert "model.json" in stages[-1]

    task = link_task()
    resumed_from = []
    monkeypatch.setattr(
        finetune,
        "Fit",
        lambda *args, fit=finetune.Fit, **saved: resumed_from.append(saved.get("epoch", 0)) or fit(*args, **saved),
    )
    results = []
    for folder in ("killed", "whole"):
        monkeypatch.setattr(finetune, "RUNS", tmp_path / folder)
        record = run("t", task, "random", KILLED_METHOD, 3)
        results.append((untimed(record), weights(task, KILLED_METHOD, 3), history(task, KILLED_METHOD, 3)))
    assert resumed_from == [14, 0]  # nothing was trained twice
    killed, whole = results
    assert killed[0] == whole[0]
    assert equal(killed[1], whole[1])
    pd.testing.assert_frame_equal(killed[2], whole[2], check_exact=True)


@pytest.mark.parametrize("batch_size", [0, 7])
def test_a_training_state_continues_with_the_same_bits(
    task: Task, batch_size: int, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted by an error this time, for every kind of task."""
    what = method(batch_size=batch_size)
    run("t", task, "random", what, 0)
    expected = weights(task, what), history(task, what)
    monkeypatch.setattr(finetune, "RUNS", runs / "again")
    monkeypatch.setattr(finetune, "SECONDS_BETWEEN_STATES", -1.0)
    epochs = []

    def stops(*args: object) -> float:
        epochs.append(len(epochs))
        if len(epochs) == 4:
            raise KeyboardInterrupt
        return train_epoch(*args)

    train_epoch = finetune.train_epoch
    monkeypatch.setattr(finetune, "train_epoch", stops)
    with pytest.raises(KeyboardInterrupt):
        run("t", task, "random", what, 0)
    folder = run_folder("t", task, task.split("random"), what, 0)
    assert [file.name for file in folder.iterdir()] == ["training.safetensors"]
    run("t", task, "random", what, 0)
    assert len(epochs) == 4 + (TRAIN.epochs - 3)
    assert equal(weights(task, what), expected[0])
    pd.testing.assert_frame_equal(history(task, what), expected[1], check_exact=True)
    assert not (folder / "training.safetensors").exists()


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
    assert [file.name for file in folder.iterdir()] == ["seed-0"]
    names = sorted(file.name for file in (folder / "seed-0").iterdir())
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

    def counted(logits: torch.Tensor, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
        seen.append(labels)
        return task_loss(logits, labels, smoothing)

    task_loss = finetune.task_loss
    monkeypatch.setattr(finetune, "task_loss", counted)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    train = replace(TRAIN, batch_size=7)
    finetune.train_epoch(model, task, split, train, optimiser, torch.Generator().manual_seed(0))
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
    if kind == "link":
        pytest.skip("whether two nodes are of one class is no function of the mean of their embeddings")
    task = TASKS[kind]()
    for what in (method(epochs=40, patience=40), Method("gcn", small_baseline("gcn"), replace(TRAIN, epochs=40))):
        record = run("t", task, "random", what, 0)
        assert record.metrics["train"] > 0.8, what.name
        assert history(task, what)["loss"].iloc[-1] < history(task, what)["loss"].iloc[0]


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
    monkeypatch.setattr(finetune, "EVALUATION_BATCH", 5)
    torch.testing.assert_close(predict(model, task), whole, atol=1e-5, rtol=0)


def test_evaluation_scores_each_part(task: Task) -> None:
    model, split = build(small_model(), task), task.split("random")
    scores = evaluate(model, task, split, parts=["test", "val"])
    assert list(scores) == ["test", "val"]
    assert scores["test"] == pytest.approx(score(predict(model, task, split.test), task.labels[split.test]))
    assert list(evaluate(model, task, split)) == ["train", "val", "test"]


def test_a_model_that_diverges_is_stopped_and_leaves_no_record(runs: Path) -> None:
    task, what = node_task(), method(lr=1e30)
    with pytest.raises(FloatingPointError, match="tiny: the model's logits are not finite; lower the learning rate"):
        run("t", task, "random", what, 0)
    assert not list(runs.rglob("record.json"))


def test_progress_bars_can_be_switched_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = node_task()

    def shown() -> str:
        fit(build(small_model(), task), task, task.split("random"), replace(TRAIN, epochs=1), 0, label="the label")
        return capsys.readouterr().err

    assert finetune.quiet()
    assert shown() == ""
    monkeypatch.delenv("STEMLIB_PROGRESS")
    assert not finetune.quiet()
    assert "the label" in shown()


def test_a_damaged_training_state_is_refused_by_name(runs: Path) -> None:
    task, what = node_task(), method()
    folder = run_folder("t", task, task.split("random"), what, 0)
    folder.mkdir(parents=True)
    (folder / "training.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"training.safetensors is not a training state .*; delete it"):
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
