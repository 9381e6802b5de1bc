"""Training an encoder without labels: its schedule, its draws, and that a killed one ends with the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from killed_encoder import ENCODER, PRETEXT, STAGES
from kills import left_behind
from run_samples import equal
from safetensors.torch import load_file
from samples import node_task
from torch import Tensor

from stemlib.data.tasks import Task
from study.families import build
from study.rivals.encoders import EncoderRun, encoder_folder, learning_rate, start_from_encoder, train_encoder
from study.rivals.settings import BGRLConfig, DGIConfig, GraphMAEConfig, PretextConfig

PRETEXTS = [DGIConfig(steps=4), BGRLConfig(steps=4, predictor=6), GraphMAEConfig(steps=4)]


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def test_a_training_killed_at_every_stage_ends_with_the_bits_of_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = left_behind("killed_encoder.py", tmp_path / "killed", STAGES)
    for name, files in stages:
        assert "training.checked" in files, name
        assert "model.json" not in files, name
    taken = []
    step = EncoderRun.step
    monkeypatch.setattr(EncoderRun, "step", lambda self: taken.append(len(self.curve.losses)) or step(self))
    killed, whole = (train_encoder(node_task(), ENCODER, PRETEXT, 3, tmp_path / name) for name in ("killed", "whole"))
    assert taken == list(range(10))  # the killed run's steps were all taken before
    assert equal(weights(killed), weights(whole))
    assert (killed / "losses.csv").read_text() == (whole / "losses.csv").read_text()
    assert sorted(file.name for file in killed.glob("[!.]*")) == ["losses.csv", "model.json", "model.safetensors"]


@pytest.mark.parametrize("config", PRETEXTS, ids=lambda config: config.objective)
def test_a_seed_says_it_all(task: Task, config: PretextConfig, tmp_path: Path) -> None:
    folders = [
        train_encoder(task, ENCODER, config, seed, tmp_path / name)
        for seed, name in ((0, "one"), (0, "two"), (1, "one"))
    ]
    first, same, other = map(weights, folders)
    assert equal(first, same)
    assert not equal(first, other)
    losses = pd.read_csv(folders[0] / "losses.csv")
    assert losses.step.tolist() == [0, 1, 2, 3]
    assert losses.loss.notna().all()


def test_a_graph_task_shows_some_graphs_and_other_tasks_the_whole_graph(task: Task) -> None:
    run = EncoderRun(task, ENCODER, replace(PRETEXTS[0], batch_size=5), 0, Path("none"))
    shown = run.shown(5)
    if task.kind == "graph":
        assert shown.ptr.numel() == 6
        assert torch.equal(run.shown(5).x, shown.x)
        run.step()
        assert not torch.equal(run.shown(5).x, shown.x)
    else:
        assert shown is task.graph


def test_what_is_trained_has_embeddings_of_one_norm(task: Task) -> None:
    run = EncoderRun(task, ENCODER, PRETEXTS[0], 0, Path("none"))
    run.step()
    state = {name: value.clone() for name, value in run.objective.encoder.state_dict().items()}
    model = build(ENCODER, task)
    model.encoder.load_state_dict(run.finished().state_dict())
    z = model.encode(run.shown(task.instances))
    torch.testing.assert_close(z.mean(0), torch.zeros(8), atol=1e-4, rtol=0)
    assert z.square().sum(1).mean().item() == pytest.approx(1, rel=1e-4)
    changed = {name for name, value in model.encoder.state_dict().items() if not torch.equal(value, state[name])}
    assert changed == {"centre", "scale"}


def test_training_without_labels_learns() -> None:
    task = node_task(200)
    for config in (replace(config, steps=60, lr=1e-2) for config in PRETEXTS):
        run = EncoderRun(task, ENCODER, config, 0, Path("none"))
        losses = [run.step() for _ in range(60)]
        assert sum(losses[-10:]) < 0.97 * sum(losses[:10]), config.objective


def test_a_probe_starts_from_the_encoder_whatever_its_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = node_task()
    folder = train_encoder(task, ENCODER, PRETEXTS[0], 0, tmp_path)
    monkeypatch.setattr(EncoderRun, "step", None)  # no further step
    for head in (ENCODER, replace(ENCODER, dropout=0.5, pool="max", embedding_norm=1.0)):
        model = build(head, task)
        assert start_from_encoder(model, task, PRETEXTS[0], 0, tmp_path) > 0
        assert equal(dict(model.encoder.state_dict()), weights(folder))
    for changed, config in ((replace(ENCODER, hidden=6), PRETEXTS[0]), (ENCODER, replace(PRETEXTS[0], lr=0.1))):
        assert encoder_folder(task, changed, config, 0, tmp_path).parent != folder.parent


def test_rates_by_hand() -> None:
    cosine = PretextConfig(steps=12, lr=1.0, schedule="cosine", warmup=1 / 6)
    rates = [learning_rate(step, cosine) for step in range(12)]
    assert rates[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert rates[7] == pytest.approx(0.5)
    assert rates == sorted(rates[:2]) + sorted(rates[2:], reverse=True)
    assert {learning_rate(step, PretextConfig(steps=12, lr=0.3)) for step in range(12)} == {0.3}
    rising = replace(cosine, warmup=1.0)
    assert [learning_rate(step, rising) for step in (0, 5, 11, 12)] == pytest.approx([1 / 12, 0.5, 1.0, 1.0])


def test_the_optimiser_has_the_step_s_rate() -> None:
    config = BGRLConfig(steps=4, predictor=6, warmup=0.5)
    run = EncoderRun(node_task(), ENCODER, config, 0, Path("none"))
    for step in range(4):
        assert run.optimiser.param_groups[0]["lr"] == learning_rate(step, config)
        run.step()


def test_a_loss_that_is_not_finite_says_where() -> None:
    task = node_task()
    task.graph.x[0] = float("nan")
    with pytest.raises(FloatingPointError, match="tiny, dgi, step 0: loss nan; lower the learning rate"):
        EncoderRun(task, ENCODER, PRETEXTS[0], 0, Path("none")).step()
