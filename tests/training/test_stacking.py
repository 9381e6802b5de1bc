"""Networks that were trained apart, stacked: their logits, their weights, and what stays as it was."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from run_samples import TINY
from samples import node_task

from stemlib.baselines.networks import Baseline
from stemlib.model.mixture import validated_gate
from stemlib.presets import BaselineConfig, StackedConfig, TrainConfig
from stemlib.training.evaluation import evaluate, predict
from stemlib.training.families import load_model, save_model
from stemlib.training.finetune import fit
from stemlib.training.stacking import selection, stacked, temperature
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


SIMPLEX = StackedConfig("simplex")


def test_on_the_simplex_logits_are_weighed_by_validation(tmp_path: Path) -> None:
    task = node_task()
    split, members = task.split(next(iter(task.splits))), networks(task)
    before = [{key: value.clone() for key, value in each.state_dict().items()} for each in members]
    model = stacked(members, task, split, SIMPLEX)
    parts = torch.stack([predict(each, task) for each in members], dim=1)
    gate = validated_gate(parts[split.val], task.labels[split.val]).float()
    assert torch.allclose(model.gate, gate)
    assert torch.allclose(predict(model, task), parts.transpose(1, 2) @ gate, atol=1e-5)
    for each, states in zip(members, before, strict=True):
        assert all(torch.equal(value, states[key]) for key, value in each.state_dict().items())
    save_model(model, tmp_path)
    assert torch.equal(predict(load_model(tmp_path), task), predict(model, task))


def test_a_selected_stack_has_the_mean_of_calibrated_probabilities(tmp_path: Path) -> None:
    task = node_task()
    split, members = task.split(next(iter(task.splits))), networks(task)
    model = stacked(members, task, split)
    labels, answers = task.labels[split.val], [predict(each, task) for each in members]
    scale = [temperature(one[split.val], labels) for one in answers]
    p = torch.stack([(one / t).softmax(-1) for one, t in zip(answers, scale, strict=True)], dim=1)
    gate = selection(p[split.val].log(), labels, "accuracy")
    assert gate.sum() == pytest.approx(1)
    expected = (p * gate.float().view(-1, 1)).sum(1)
    assert torch.allclose(predict(model, task).softmax(-1), expected, atol=1e-5)
    assert len(model.networks) == int((gate > 0).sum())
    save_model(model, tmp_path)
    assert torch.equal(predict(load_model(tmp_path), task), predict(model, task))


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc", "r2"])
def test_a_selection_is_the_greedy_one(metric: str) -> None:
    generator = torch.Generator().manual_seed(0)
    parts = torch.randn(40, 4, 3, generator=generator, dtype=torch.double)
    if metric == "accuracy":
        labels = torch.randint(3, (40,), generator=generator)
    else:
        labels = torch.randn(40, 3, generator=generator, dtype=torch.double)
        labels = labels if metric == "r2" else (labels > 0).double()

    def loss(chosen: list[int]) -> float:
        some = parts[:, chosen]
        if metric == "accuracy":
            return -some.softmax(-1).mean(1)[torch.arange(40), labels].log().mean().item()
        if metric == "r2":
            return (some.mean(1) - labels).square().mean().item()
        p = some.sigmoid().mean(1)
        return -(labels * p.log() + (1 - labels) * (1 - p).log()).mean().item()

    chosen: list[int] = []
    by_turn = {}
    for turn in range(1, 7):
        chosen = min(([*chosen, k] for k in range(4)), key=loss)
        by_turn[turn] = loss(chosen), list(chosen)
    best = min(by_turn.values())[1]
    counts = torch.bincount(torch.tensor(best), minlength=4).double()
    assert torch.equal(selection(parts, labels, metric, rounds=6), counts / counts.sum())
    assert selection(parts, labels, metric, rounds=1).tolist().count(1.0) == 1


def test_who_says_nothing_is_left_out() -> None:
    task = node_task()
    split, (mlp, gcn, _) = task.split(next(iter(task.splits))), networks(task)
    for parameter in gcn.parameters():
        parameter.data.zero_()
    fit(mlp, task, split, TrainConfig(epochs=100, lr=1e-2), 0)
    assert stacked([mlp, gcn], task, split, StackedConfig("simplex", gate_counts=0.01)).gate[0] > 0.9
    left = stacked([gcn, mlp], task, split).networks
    assert left[0].config.kind == "mlp"


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


def test_repeats_of_a_network_share_its_weight(tmp_path: Path) -> None:
    task = node_task()
    split, members = task.split(next(iter(task.splits))), networks(task)
    once, asked = stacked(members, task, split), []

    def again(place: int) -> list[Baseline]:
        asked.append(place)
        return networks(task, (KINDS[place],) * 2)

    model = stacked(members, task, split, again=again)
    kept = [members.index(one) for one in members if any(one.config == each.config for each in once.networks)]
    assert asked == kept
    assert torch.allclose(model.gate, (once.gate / 3).repeat_interleave(3))
    every = [one for place in kept for one in (members[place], *networks(task, (KINDS[place],) * 2))]
    labels, answers = task.labels[split.val], [predict(each, task) for each in every]
    p = [(one / temperature(one[split.val], labels)).softmax(-1) for one in answers]
    expected = sum(weight * one for weight, one in zip(model.gate, p, strict=True))
    assert torch.allclose(predict(model, task).softmax(-1), expected, atol=1e-5)
    save_model(model, tmp_path)
    assert torch.equal(predict(load_model(tmp_path), task), predict(model, task))


def test_repeats_are_trained_apart_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained, "RUNS", tmp_path)
    task, (method,) = node_task(), named(TINY, "strongest_five")
    method = replace(method, members=tuple(named(TINY, "mlp", "gcn")))
    record, model = run("e", task, "random", method, 1), trained_model("e", task, "random", method, 1)
    assert len(model.networks) == 5
    assert torch.allclose(model.gate, torch.full((5,), 0.2))
    (kind,) = {each.config.kind for each in model.networks}
    assert len({predict(each, task).sum().item() for each in model.networks}) == 5
    (network,) = named(TINY, kind)
    apart = [run("e", task, "random", network, seed) for seed in (1, 101, 201, 301, 401)]
    other = run("e", task, "random", method.members[kind == "mlp"], 1)
    assert record.seconds == pytest.approx(sum(each.seconds for each in (*apart, other)))
