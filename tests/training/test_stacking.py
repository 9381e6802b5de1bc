"""Networks that were trained apart, stacked: their logits, their weights, and what stays as it was."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from run_samples import TINY
from samples import node_task

from stemlib.baselines.networks import Baseline
from stemlib.model.mixture import validated_gate
from stemlib.presets import BaselineConfig, TrainConfig
from stemlib.training.evaluation import evaluate, predict
from stemlib.training.families import load_model, save_model
from stemlib.training.finetune import fit
from stemlib.training.stacking import stacked
from study import trained
from study.methods import named
from study.protocols import Protocol, tuned
from study.trained import run, trained_model

KINDS = ("mlp", "gcn", "appnp")


def networks(task, kinds=KINDS):
    """Trained for a few epochs, each by itself."""
    found, split = [], next(iter(task.splits))
    for seed, kind in enumerate(kinds):
        torch.manual_seed(seed)
        model = Baseline(BaselineConfig(kind, hidden=8), task.graph.x.size(1), task.outputs)
        fit(model, task, task.split(split), TrainConfig(epochs=5, lr=1e-2), 0)
        found.append(model)
    return found


def test_logits_are_the_networks_weighed_by_validation(tmp_path: Path) -> None:
    task = node_task()
    split, members = task.split(next(iter(task.splits))), networks(task)
    before = [{key: value.clone() for key, value in each.state_dict().items()} for each in members]
    model = stacked(members, task, split)
    parts = torch.stack([predict(each, task) for each in members], dim=1)
    gate = validated_gate(parts[split.val], task.labels[split.val]).float()
    assert torch.allclose(model.gate, gate)
    assert torch.allclose(predict(model, task), parts.transpose(1, 2) @ gate, atol=1e-5)
    for each, states in zip(members, before, strict=True):
        assert all(torch.equal(value, states[key]) for key, value in each.state_dict().items())
    save_model(model, tmp_path)
    assert torch.equal(predict(load_model(tmp_path), task), predict(model, task))
    only = torch.zeros(3)
    only[1] = 1
    model.gate.copy_(only)
    assert torch.equal(predict(model, task), predict(members[1], task))


def test_a_network_that_answers_right_gets_the_weight() -> None:
    task = node_task()
    split, (mlp, gcn, _) = task.split(next(iter(task.splits))), networks(task)
    for parameter in gcn.parameters():
        parameter.data.zero_()  # says nothing
    gate = stacked([mlp, gcn], task, split, gate_counts=0.01).gate
    assert gate[0] > 0.9
    with pytest.raises(ValueError, match="one width"):
        stacked([mlp, Baseline(BaselineConfig("gcn", hidden=4), mlp.in_width, mlp.classes)], task, split)


def test_members_are_tuned_and_trained_once_as_rivals_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained, "RUNS", tmp_path)
    task, protocol = node_task(), replace(Protocol("x", ()), trained_alike=True)
    (method,) = named(TINY, "stacked")
    found = tuned("e", task, "random", method, protocol, TINY, 0)
    alone = [tuned("e", task, "random", each, protocol, TINY, 0) for each in method.members]
    assert list(found.members) == alone
    before = set(tmp_path.rglob("record.json"))
    record = run("e", task, "random", found, 1)
    made = set(tmp_path.rglob("record.json")) - before
    assert len(made) == len(alone) + 1  # each of the six, and the stack
    assert record.seconds == pytest.approx(sum(run("e", task, "random", each, 1).seconds for each in alone))
    assert set(tmp_path.rglob("record.json")) - before == made  # nothing was trained again
    model = trained_model("e", task, "random", found, 1)
    assert evaluate(model, task, task.split("random"), ["test"])["test"] == record.metrics["test"]
