"""Models on disk: the same bits back, anything else refused, nothing unpickled."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from samples import BASELINES, node_task, small_baseline, small_model

from stemlib.data.batches import batches
from stemlib.data.tasks import Task
from study.families import build, load_model, save_model

CONFIGS = [
    small_model(),
    small_model(codebook="none", routed="none", backbone="gat", norm="batch"),
    small_model(codebook="learnable", routed="last", norm="layer", code_width=3),
    small_model(codebook="reference", expert_init="reference", routed_edge_features=False, pool="max"),
    *map(small_baseline, BASELINES),
]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    save_model(build(small_model(), node_task()), folder)
    return folder


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: getattr(config, "kind", None) or config.codebook)
def test_a_model_comes_back_bit_by_bit(task: Task, config: Any, tmp_path: Path) -> None:
    model = build(config, task).train()
    graph, instances, *_ = next(batches(task, torch.arange(task.instances)))
    model(graph, instances)  # moves batch-norm statistics and codes
    save_model(model, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.json", "model.safetensors"]
    again = load_model(tmp_path)
    assert type(again) is type(model)
    assert not again.training
    for name in ("config", "in_width", "classes", "kind", "edge_width"):
        assert getattr(again, name) == getattr(model, name), name
    state = model.state_dict()
    assert again.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
    assert torch.equal(again(graph, instances).logits, model.eval()(graph, instances).logits)


def test_a_model_can_be_saved_over_another(saved: Path) -> None:
    model = build(small_model(hidden=5), node_task())
    save_model(model, saved)
    assert load_model(saved).config.hidden == 5


def rewrite(file: Path, **changes: Any) -> None:
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({key: value for key, value in (settings | changes).items() if value is not ...}))


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_missing_file_is_refused(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"no model in .*: {name} is missing"):
        load_model(saved)


def test_cut_weights_are_refused(saved: Path) -> None:
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    with pytest.raises(ValueError, match=r"model.safetensors is damaged or another model's"):
        load_model(saved)
    rewrite(saved / "model.json", sha256=sha256(weights))  # even where the checksum says it is whole
    with pytest.raises(ValueError, match="does not hold a model of this version"):
        load_model(saved)


def test_another_models_weights_are_refused(saved: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    save_model(build(small_model(), node_task()), other)
    (saved / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"another model's: its sha256 does not match model.json"):
        load_model(saved)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"format": "another program, version 1"}', "\x00\xff"])
def test_settings_of_another_kind_are_refused(saved: Path, text: str) -> None:
    (saved / "model.json").write_text(text)
    with pytest.raises(ValueError, match=r"model.json (is not valid JSON|does not describe a).*save the model again"):
        load_model(saved)


@pytest.mark.parametrize(
    "changes",
    [
        {"family": "transformer"},
        {"family": "baseline"},
        {"family": ...},
        {"config": {"depth": 3}},
        {"config": {"hidden": 16}},
        {"config": ...},
        {"config": 3},
        {"classes": 4},
        {"in_width": "three"},
        {"kind": ...},
        {"sha256": ...},
    ],
    ids=str,
)
def test_settings_that_do_not_fit_the_weights_are_refused(saved: Path, changes: dict[str, Any]) -> None:
    rewrite(saved / "model.json", **changes)
    with pytest.raises(ValueError, match=r"does not hold a model of this version|sha256"):
        load_model(saved)


def test_settings_out_of_range_are_refused(saved: Path) -> None:
    rewrite(saved / "model.json", config={"hidden": -1})
    with pytest.raises(ValueError, match="hidden must lie in"):
        load_model(saved)


class Trap:
    """Unpickling it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_nothing_is_ever_unpickled(saved: Path, tmp_path: Path) -> None:
    mark = tmp_path / "unpickled"
    pickle.loads(pickle.dumps(Trap(mark)))
    assert mark.exists()  # the trap works
    mark.unlink()
    weights = saved / "model.safetensors"
    for content in (pickle.dumps(Trap(mark)), b""):
        weights.write_bytes(content)
        with pytest.raises(ValueError, match="damaged"):
            load_model(saved)
        rewrite(saved / "model.json", sha256=sha256(weights))
        with pytest.raises(ValueError, match="does not hold a model of this version"):
            load_model(saved)
        rewrite(saved / "model.json", sha256="")
    assert not mark.exists()
