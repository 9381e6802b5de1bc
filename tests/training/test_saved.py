"""One folder answers alone, the same as the model, and is never another model's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from samples import graph_task, node_task, small_model
from saved_samples import CONFIGS, kept, raw_of
from torch_geometric.data import Data

import stemlib
from stemlib.data.feature_space import FeatureSpace
from stemlib.data.features import unit_features
from stemlib.data.graph import plain
from stemlib.data.own_data import from_data
from stemlib.data.public import available, load
from stemlib.data.tasks import Task
from stemlib.model.deployed import deploy
from stemlib.presets import BaselineConfig, TrainConfig
from stemlib.training.evaluation import predict
from stemlib.training.families import FAMILIES as LIBRARY
from stemlib.training.families import build
from stemlib.training.finetune import fit
from stemlib.training.saved import freeze, save
from stemlib.training.stacking import stacked
from study.families import FAMILIES


@pytest.mark.parametrize("name", CONFIGS)
def test_it_answers_as_the_model_for_every_kind_without_labels(task: Task, name: str, tmp_path: Path) -> None:
    model = build(CONFIGS[name], task).eval()
    frozen = kept(model, task, tmp_path, metrics={"test": 0.5})
    assert frozen.about["metrics"] == {"test": 0.5}
    assert frozen.about["checksum"] == task.checksum
    logits = predict(model, task)
    for given in (task, raw_of(task)):
        found = frozen.predict(given)
        assert found.instance.tolist() == list(range(task.instances))
        if task.labels.dim() == 1:
            confidence, best = logits.softmax(1).max(1)
            assert found["class"].tolist() == best.tolist()
            np.testing.assert_allclose(found.confidence, confidence, rtol=1e-4)
        else:
            assert found.class_1.tolist() == (logits[:, 1] > 0).tolist()
            np.testing.assert_allclose(found.confidence_1, logits[:, 1].abs().sigmoid(), rtol=1e-4)
        assert ("radius" in found) == (name in ("stem", "without tokens"))
    some = frozen.predict(raw_of(task), torch.tensor([5, 2]))
    pd.testing.assert_frame_equal(some, found.loc[[5, 2]].reset_index(drop=True), check_exact=False, rtol=1e-4)


def test_a_selection_of_networks_answers_in_a_program_that_made_none(tmp_path: Path) -> None:
    task = node_task()
    networks = [build(CONFIGS[name], task).eval() for name in ("without tokens", "gcn")]
    model = stacked(networks, task, next(iter(task.splits.values())))
    save(model, tmp_path, task)
    program = "import sys, stemlib; print(type(stemlib.load(sys.argv[1]).model).__name__)"
    found = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True)
    assert found.stdout == "Stacked\n"
    assert stemlib.load(tmp_path).predict(task)["class"].tolist() == predict(model, task).argmax(1).tolist()


def test_a_space_that_standardises_is_kept_with_its_task(tmp_path: Path) -> None:
    data = raw_of(node_task()).update({"y": node_task().labels})
    task = from_data(data, space=FeatureSpace.fit(data, standardise=True))
    frozen = kept(build(small_model(), task), task, tmp_path)
    torch.testing.assert_close(frozen.task(data).graph.x, task.graph.x)
    assert frozen.predict(data)["class"].tolist() == frozen.predict(task)["class"].tolist()


def test_files_of_two_models_are_not_mixed(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 1)):
        task = unit_features(node_task(noise_features=9, seed=seed), 4)
        save(build(small_model(), task), tmp_path / name, task)
    for file in ("features.json", "features.safetensors"):
        (tmp_path / "one" / file).write_bytes((tmp_path / "two" / file).read_bytes())
    with pytest.raises(ValueError, match=r"the features in .* are another model's"):
        stemlib.load(tmp_path / "one")
    settings = json.loads((tmp_path / "two" / "model.json").read_text())
    del settings["about"]
    (tmp_path / "two" / "model.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=r"holds only weights, .* save it with stemlib.save"):
        stemlib.load(tmp_path / "two")


def test_a_task_of_another_shape_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="build one for it"):
        save(build(small_model(), node_task()), tmp_path, graph_task())


def test_the_study_s_models_are_of_the_library_s_families() -> None:
    assert {"stem", "baseline", "mixture", "mowst", "probe", "ncn", "nbfnet"} <= set(FAMILIES)
    assert FAMILIES is LIBRARY


@pytest.mark.slow
@pytest.mark.skipif("cora" not in available(), reason="Cora is not there")
def test_cora_keeps_its_accuracy_in_trainings_space_and_loses_it_when_encoded_anew() -> None:
    task = unit_features(load("cora", width=128), 128)
    split = task.split("public")
    torch.manual_seed(0)
    model = build(BaselineConfig("gcn", hidden=32), task)
    fit(model, task, split, TrainConfig(epochs=60, lr=0.02), 0)
    frozen = freeze(model, task)
    words = torch.from_numpy(task.graph.source.raw.toarray())
    left = torch.randperm(2708, generator=torch.Generator().manual_seed(0))[:2437].sort().values
    number = torch.full((2708,), -1)
    number[left] = torch.arange(2437)
    edges = number[plain(task.graph.edge_index)]
    edges = edges[:, (edges >= 0).all(0)]
    test = number[split.test]
    test = test[test >= 0]
    labels = task.labels[left]
    found = torch.tensor(frozen.predict(Data(x=words[left], edge_index=edges))["class"].tolist())
    anew = unit_features(from_data(Data(x=words[left], edge_index=edges, y=labels)), 128)
    refit = predict(model, anew).argmax(1)
    cut = deploy(model)(Data(x=task.graph.x[left], edge_index=edges), None).argmax(1)  # the features that it learnt on
    kept, lost, possible = ((answers[test] == labels[test]).double().mean().item() for answers in (found, refit, cut))
    assert kept == pytest.approx(possible, abs=0.003)
    assert lost < kept - 0.05, f"{kept:.3f} with training's space, {lost:.3f} encoded anew"


def test_the_page_s_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On two graphs of 40 columns; it has ten lines at most."""
    page = (Path(__file__).parents[2] / "docs" / "deploying.md").read_text()
    example, imports = (part.split("```")[0] for part in page.split("```python")[1:3])
    assert len(example.strip().splitlines()) <= 10
    monkeypatch.chdir(tmp_path)
    graphs = {}
    for name, seed in (("north", 0), ("south", 1)):
        task = node_task(noise_features=38, seed=seed)
        graphs[name] = Data(x=task.graph.x, edge_index=plain(task.graph.edge_index))
    graphs["north"].y = node_task(noise_features=38).labels
    told: dict[str, Any] = dict(graphs)
    exec(imports + example, told)
    assert list(told["answers"]) == ["instance", "class", "confidence", "notes"]
    assert len(told["answers"]) == 80
