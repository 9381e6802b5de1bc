"""Methods by name: what they are, what a record says of them, and that each trains on every kind of task."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from run_samples import equal, weights
from samples import node_task

from stemlib.cache import run_key
from stemlib.data.tasks import Task
from stemlib.presets import PRESETS, Preset
from stemlib.training.evaluation import predict
from study.figures import COLOURS
from study.methods import METHODS, named
from study.records import write_record
from study.trained import require_same, run, run_folder, trained_model

TINY = Preset("tiny", hidden=8, epochs=2, patience=2, seeds=1, nodes=80)
NEW = (
    "tokens", "dropedge", "softmedian", "mixture", "ensemble", "averaged", "appnp", "gcnii", "acm", "mowst", "dgi",
    "bgrl", "graphmae",
)  # fmt: skip


def test_a_record_stores_every_setting() -> None:
    (gcn,) = named(PRESETS["laptop"], "gcn")
    assert gcn.settings == {
        "model": {
            "kind": "gcn", "hidden": 128, "layers": 2, "input_dropout": 0.5, "dropout": 0.5, "pool": "mean",
            "heads": 1, "temperature": 1.0,
        },
        "train": {
            "lr": 0.01, "weight_decay": 0.5, "epochs": 300, "patience": 50, "batch_size": 0, "passes": 1,
            "fanout": 0, "lipschitz": 0.001, "routing": 0.0, "commitment": 0.0, "orthogonality": 0.0,
            "freeze_tokens": False, "prior": True, "precision": "float32",
            "term": "none", "term_weight": 0.01, "coupling_share": 1.0,
            "anchor_features": 0.2, "anchor_edges": 0.2, "router_share": 1.0,
            "edge_dropout": 0.0, "consistency": 0.0, "consistency_after": 0.05, "consistency_on": "all",
        },
    }  # fmt: skip


def test_all_but_the_reference_start_at_the_prior() -> None:
    found = {method.name: method.train.prior for method in named(PRESETS["laptop"], *METHODS)}
    assert {name for name, prior in found.items() if not prior} == {"reference"}


def test_every_setting_tells_runs_apart() -> None:
    told = [method.identity for method in named(PRESETS["laptop"], *METHODS)]
    assert len({run_key(one, "split", "data") for one in told}) == len(METHODS)
    dropedge, softmedian, dgi = named(PRESETS["laptop"], "dropedge", "softmedian", "dgi")
    assert dropedge.settings["train"]["edge_dropout"] == 0.5
    assert softmedian.settings["model"]["temperature"] == 0.2
    assert dgi.settings["pretext"]["objective"] == "dgi"
    other = replace(dgi, pretext=replace(dgi.pretext, lr=0.1))
    assert run_key(other.identity, "", "") != run_key(dgi.identity, "", "")


def test_a_run_is_known_by_what_is_not_the_default() -> None:
    (gcn,) = named(PRESETS["laptop"], "gcn")
    expected = {
        "model": {"config": "BaselineConfig"},
        "train": {"config": "TrainConfig", "lr": 0.01, "weight_decay": 0.5, "patience": 50, "prior": True},
    }
    assert gcn.identity == expected
    wider = replace(gcn, model=replace(gcn.model, hidden=64, dropout=0.1))
    assert wider.identity["model"] == {"config": "BaselineConfig", "hidden": 64, "dropout": 0.1}


def test_a_run_whose_defaults_were_others_is_refused_by_name(runs: Path) -> None:
    (gcn,) = named(TINY, "gcn")
    record = run("t", node_task(), "random", gcn, 0)
    folder = run_folder("t", node_task(), node_task().split("random"), gcn, 0)
    later = replace(record, settings=record.settings | {"train": {"lr": 0.01, "clip": 2.0}})
    require_same(later, gcn, folder)  # a field that has gone is none of the present run's
    before = replace(record, settings=record.settings | {"model": record.settings["model"] | {"pool": "max"}})
    write_record(folder, before, pd.DataFrame({"epoch": [0]}))
    with pytest.raises(ValueError, match=r"model.pool was max, is mean.*delete"):
        run("t", node_task(), "random", gcn, 0)


def test_the_token_model_has_tokens_and_no_experts() -> None:
    tokens, routed = named(PRESETS["laptop"], "tokens", "routed")
    assert (tokens.model.routed, tokens.model.codebook) == ("none", "ema")
    assert (routed.model.routed, routed.model.codebook) == ("all", "none")


@pytest.mark.parametrize("name", NEW)
def test_a_method_trains_on_every_kind_of_task_and_comes_back(task: Task, name: str, runs: Path) -> None:
    (method,) = named(TINY, name)
    method = replace(method, train=replace(method.train, batch_size=16))
    record = run("t", task, "random", method, seed=1)
    assert record.model == name
    assert record.epochs == 2
    assert set(record.metrics) == {"train", "val", "test", "test_best"}
    model = trained_model("t", task, "random", method, seed=1)  # read back
    assert torch.equal(predict(model, task), predict(model, task))
    assert model.config == method.model


def test_a_probes_seconds_are_those_of_encoder_and_head(runs: Path) -> None:
    (method,) = named(TINY, "dgi")
    record = run("t", node_task(), "random", method, seed=1)
    (encoder,) = (runs / "encoders").glob("tiny-dgi-*/seed-1/model.json")
    assert record.seconds > json.loads(encoder.read_text())["seconds"] > 0


@pytest.mark.parametrize("name", NEW)
def test_a_seed_says_it_all(task: Task, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (method,) = named(TINY, name)
    method = replace(method, train=replace(method.train, batch_size=16))
    found = []
    for folder, seed in (("one", 0), ("two", 0), ("one", 1)):
        monkeypatch.setattr("study.trained.RUNS", tmp_path / folder)
        run("t", task, "random", method, seed)
        found.append(weights(task, method, seed))
    first, same, other = found
    assert equal(first, same)
    assert not equal(first, other)


def test_unknown_methods_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown methods \['gae', 'x'\]; there are stem, .*, dgi, bgrl, graphmae$"):
        named(TINY, "gae", "dgi", "x")


def test_every_method_has_a_colour_of_its_own() -> None:
    assert len({COLOURS[name] for name in METHODS}) == len(METHODS)
