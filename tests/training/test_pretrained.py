"""Checkpoints of encoder and tokens, and fine-tuning from them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pretrain_samples import MODEL, WIDTH, checkpoint
from run_samples import TRAIN, equal, small_model, untimed, weights
from samples import TASKS, node_task

from stemlib.data.features import unit_features
from stemlib.data.tasks import Task
from stemlib.presets import ModelConfig, preset
from stemlib.training.pretrained import (
    Pretrained,
    from_pretrained,
    load_pretrained,
    pretrained_settings,
    save_pretrained,
)
from study.families import build, load_model, save_model
from study.method import Method
from study.methods import pretrained, stem
from study.trained import run, run_folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    for name in ("model.json", "model.safetensors"):
        (tmp_path / name).write_bytes((saved / name).read_bytes())
    return tmp_path


@pytest.mark.parametrize("codebook", ["ema", "reference", "learnable", "none"])
def test_a_checkpoint_comes_back_bit_by_bit(codebook: str, tmp_path: Path) -> None:
    network = Pretrained(small_model(codebook=codebook, routed="last", norm="batch"), WIDTH)
    save_pretrained(network, tmp_path, {"note": 1})
    again = load_pretrained(tmp_path)
    assert equal(again.state_dict(), network.state_dict())
    assert (again.config, again.width, again.training) == (network.config, WIDTH, False)
    assert pretrained_settings(tmp_path)["about"] == {"note": 1}


@pytest.mark.parametrize("kind", TASKS)
def test_a_task_s_model_has_the_checkpoints_encoder_and_tokens(saved: Path, kind: str) -> None:
    task = unit_features(TASKS[kind](), WIDTH)
    model, network = from_pretrained(saved, task), load_pretrained(saved)
    for part in ("encoder", "tokens"):
        assert equal(getattr(model, part).state_dict(), getattr(network, part).state_dict()), part
    assert (model.classes, model.kind, model.config) == (task.outputs, task.kind, MODEL)
    assert model.tokens.started  # fine-tuning starts no codebook anew
    z = network.encoder(task.graph).z
    assert torch.equal(model.eval().encode(task.graph).z, z)


def test_the_head_is_fresh_and_follows_the_seed(saved: Path) -> None:
    task = unit_features(node_task(), WIDTH)
    heads = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        heads.append(from_pretrained(saved, task).head.state_dict())
    assert equal(heads[0], heads[1])
    assert not equal(heads[0], heads[2])


def test_a_fine_tuned_model_is_saved_like_any_other(saved: Path, tmp_path: Path) -> None:
    task = unit_features(node_task(), WIDTH)
    model = from_pretrained(saved, task).eval()
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    index = torch.arange(5)
    assert torch.equal(again(task.graph, index).logits, model(task.graph, index).logits)


def test_a_released_checkpoint_is_small(tmp_path: Path) -> None:
    """Width 128, three experts, 4 x 128 codes: the `laptop` preset's."""
    model = ModelConfig(hidden=preset("laptop").hidden)
    assert (model.hidden, model.experts, model.heads, model.codes) == (128, 3, 4, 128)
    save_pretrained(Pretrained(model, 128), tmp_path, {})
    assert (tmp_path / "model.safetensors").stat().st_size < 2e6


def method(saved: Path, name: str = "pretrained", **train: object) -> Method:
    config = replace(load_pretrained(saved).config, dropout=0.1)
    return Method(name, config, replace(TRAIN, **train), saved)


def test_fine_tuning_from_a_checkpoint(saved: Path, runs: Path) -> None:
    task = unit_features(node_task(), WIDTH)
    frozen, free = method(saved, freeze_tokens=True), method(saved, "free", commitment=1.0)
    pretrained_tokens = load_pretrained(saved).tokens.state_dict()
    record = run("t", task, "random", frozen, 0)
    assert record.settings["checkpoint"] == pretrained_settings(saved)["sha256"]
    assert str(saved) not in json.dumps(record.settings)
    after = {
        name.removeprefix("tokens."): value
        for name, value in weights(task, frozen).items()
        if name.startswith("tokens.")
    }
    assert equal(after, pretrained_tokens)
    run("t", task, "random", free, 0)
    assert not torch.equal(weights(task, free)["tokens.codebook"], pretrained_tokens["codebook"])
    encoder = load_pretrained(saved).encoder.state_dict()
    assert not torch.equal(weights(task, free)["encoder.layers.0.weight"], encoder["layers.0.weight"])


def test_a_checkpoint_counts_by_its_weights_not_by_its_place(
    saved: Path, copied: Path, tmp_path_factory: pytest.TempPathFactory, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = unit_features(node_task(), WIDTH)
    split = task.split("random")
    here, there = method(saved), method(copied)
    other = method(checkpoint(tmp_path_factory.mktemp("other"), steps=1))
    scratch = replace(here, checkpoint=None)
    folders = [run_folder("t", task, split, what, 0) for what in (here, there, other, scratch)]
    assert folders[0] == folders[1]
    assert len(set(folders)) == 3
    first = run("t", task, "random", here, 0)
    monkeypatch.setattr("study.trained.RUNS", runs / "again")
    assert untimed(run("t", task, "random", there, 0)) == untimed(first)


def test_methods_without_a_checkpoint_keep_their_keys() -> None:
    assert stem(preset("smoke")).settings.keys() == {"model", "train"}


def test_the_line_of_a_results_table(saved: Path) -> None:
    method = pretrained(preset("smoke"), [saved])
    assert (method.name, method.train.freeze_tokens, method.checkpoint) == ("pretrained", True, saved)
    assert method.model.hidden == MODEL.hidden
    assert method.model.dropout == stem(preset("smoke")).model.dropout
    assert method.train.lr == stem(preset("smoke")).train.lr
    assert not pretrained(preset("smoke"), [saved], "free", freeze_tokens=False).train.freeze_tokens
    model = pretrained(preset("smoke"), [saved], dropout=0.3).build(unit_features(node_task(), WIDTH))
    assert model.config.dropout == 0.3


def test_another_architecture_is_refused(saved: Path) -> None:
    task = unit_features(node_task(), WIDTH)
    with pytest.raises(ValueError, match=r"was pretrained with hidden=8, codes=6, got hidden=16, codes=7"):
        from_pretrained(saved, task, replace(MODEL, hidden=16, codes=7))
    with pytest.raises(ValueError, match="codebook='ema', got codebook='learnable'"):
        Method("m", replace(MODEL, codebook="learnable"), TRAIN, saved).build(task)
    alone = Method("m", replace(MODEL, codebook="none"), TRAIN, saved).build(task)
    assert alone.tokens is None
    assert equal(alone.encoder.state_dict(), load_pretrained(saved).encoder.state_dict())
    assert from_pretrained(saved, task, replace(MODEL, pool="max", temperature=0.5)).config.pool == "max"


@pytest.mark.parametrize("kind", TASKS)
def test_features_of_another_width_are_refused(saved: Path, kind: str) -> None:
    task: Task = TASKS[kind]()
    with pytest.raises(
        ValueError, match=r"reads features of width 6 .* x of 'tiny.*' has width \d and .*unit_features\(task, 6\)"
    ):
        from_pretrained(saved, task)


def test_damaged_and_foreign_files_are_refused(copied: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    weights_file, settings_file = copied / "model.safetensors", copied / "model.json"
    whole, text = weights_file.read_bytes(), settings_file.read_text()
    weights_file.write_bytes(whole[:-3])
    with pytest.raises(ValueError, match=r"model.safetensors is damaged or another model's"):
        load_pretrained(copied)
    with pytest.raises(ValueError, match="damaged"):
        method(copied)
    weights_file.write_bytes(whole)
    for name, value in (("config", {"hidden": 16}), ("config", {"depth": 1}), ("width", 7), ("width", "six")):
        settings_file.write_text(json.dumps(json.loads(text) | {name: value}))
        with pytest.raises(ValueError, match="does not hold a model of this version"):
            load_pretrained(copied)
    settings_file.write_text("{")
    with pytest.raises(ValueError, match=r"model.json is not valid JSON"):
        load_pretrained(copied)
    settings_file.unlink()
    with pytest.raises(FileNotFoundError, match=r"no model in .*: model.json is missing"):
        load_pretrained(copied)
    finetuned = tmp_path_factory.mktemp("finetuned")
    save_model(build(MODEL, node_task()), finetuned)
    with pytest.raises(ValueError, match="does not describe a 'stem-gnn-study pretrained, version 1'"):
        load_pretrained(finetuned)
