"""Training with terms: reproducible, resumable, refused where they make no sense; routers that stop learning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from run_samples import TRAIN, equal
from samples import node_task, small_baseline, small_model
from torch import Tensor

from stemlib.data.tasks import Task
from stemlib.model.stem import StemGNN
from stemlib.training import finetune, loop
from stemlib.training.finetune import fit, training_batches
from stemlib.training.terms import TERMS, balance
from study.families import build

SHORT = replace(TRAIN, epochs=3, patience=3, term_weight=0.1)


def model_for(term: str, task: Task, **settings: object) -> StemGNN:
    torch.manual_seed(0)
    return build(small_model(router="anchored" if term == "prior" else "linear", dropout=0.3, **settings), task)


def trained(term: str, task: Task, state: Path | None = None, **settings: object) -> dict[str, Tensor]:
    """What a training leaves: the weights of its best epoch, and the loss after each."""
    model = model_for(term, task)
    progress = fit(model, task, task.split("random"), replace(SHORT, term=term, **settings), 0, state)
    assert all(value.isfinite().all() for value in model.state_dict().values())
    losses = {name: torch.tensor([row[name] for row in progress.history]) for name in ("loss", "val_loss")}
    return model.state_dict() | losses


@pytest.mark.parametrize("batch_size", [0, 7])
@pytest.mark.parametrize("term", ["balance", "coupling", "anchor", "teacher", "prior", "none"])
def test_training_with_a_term_is_deterministic_and_resumable(
    term: str, batch_size: int, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = {"batch_size": batch_size, "router_share": 0.3 if term == "none" else 1.0}
    whole = trained(term, task, **how)
    without = {"term_weight": 0.0, "router_share": 1.0, "batch_size": batch_size}
    assert not equal(whole, trained(term, task, **without))
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_STATES", -1.0)
    monkeypatch.setattr(finetune, "train_epoch", stopped_after(2, finetune.train_epoch))
    with pytest.raises(KeyboardInterrupt):
        trained(term, task, tmp_path / "state", **how)
    assert equal(trained(term, task, tmp_path / "state", **how), whole)


def stopped_after(epochs: int, train_epoch: Callable[..., float]) -> Callable[..., float]:
    """Training that is interrupted, once, after some epochs."""
    done = []

    def stops(*args: object) -> float:
        done.append(None)
        if len(done) == epochs + 1:
            raise KeyboardInterrupt
        return train_epoch(*args)

    return stops


@pytest.mark.parametrize("term", TERMS)
def test_a_weight_of_zero_is_no_term_to_the_bit(term: str) -> None:
    task = node_task()
    model = model_for(term, task)
    fit(model, task, task.split("random"), SHORT, 0)
    with_none = trained(term, task, term_weight=0.0)
    assert all(torch.equal(with_none[name], value) for name, value in model.state_dict().items())


def test_balance_lowers_what_it_measures() -> None:
    task = node_task()
    found = {}
    for weight in (0.0, 3.0):
        model = model_for("balance", task)
        with torch.no_grad():
            model.encoder.routers[0].bias += torch.tensor([3.0, 0.0, 0.0])
        how = replace(SHORT, term="balance", term_weight=weight, epochs=15, lr=0.05)
        progress = fit(model, task, task.split("random"), how, 0)
        assert progress.epoch >= 3
        (batch,) = training_batches(model, task, task.split("random"), SHORT)(None)
        found[weight] = balance(model, batch, model(batch.graph, batch.instances), SHORT).item()
    assert found[3.0] < found[0.0]


@pytest.mark.parametrize("router", ["linear", "top1", "kmeans"])
def test_routers_stop_after_their_share_of_the_training(router: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By steps, weight decay, or running means; the experts go on."""
    task = node_task()
    model, seen, soft = build(small_model(router=router), task), [], []
    train_epoch = finetune.train_epoch

    def watched(*args: object) -> float:
        loss = train_epoch(*args)
        soft.append(model.encoder.routers[0].training)
        seen.append({name: value.clone() for name, value in model.encoder.state_dict().items()})
        return loss

    monkeypatch.setattr(finetune, "train_epoch", watched)
    fit(model, task, task.split("random"), replace(TRAIN, epochs=6, router_share=0.5, weight_decay=0.1), 0)
    routers = [{name: value for name, value in state.items() if name.startswith("routers")} for state in seen]
    assert [equal(a, b) for a, b in pairwise(routers)] == [False, False, True, True, True]
    assert soft == [True] * 3 + [router != "kmeans"] * 3  # noise and soft gates of the others stay
    assert not any(torch.equal(a["layers.0.weight"], b["layers.0.weight"]) for a, b in pairwise(seen))


def test_a_share_of_zero_is_a_random_router() -> None:
    task = node_task()
    model = model_for("none", task)
    start = {name: value.clone() for name, value in model.encoder.routers.state_dict().items()}
    fit(model, task, task.split("random"), replace(SHORT, router_share=0.0), 0)
    assert equal(model.encoder.routers.state_dict(), start)


@pytest.mark.parametrize(
    ("model", "train", "message"),
    [
        ({"routed": "none"}, {"term": "balance"}, "term='balance': this StemGNN has no routed layers"),
        ({"routed": "none"}, {"router_share": 0.5}, "router_share=0.5: this StemGNN has no routed layers"),
        ({"router": "linear"}, {"term": "prior"}, "reads the prior of router='anchored'; router='linear' has none"),
        ({"router": "cosine"}, {"term": "coupling"}, "router='cosine' has no row of a state's width"),
        ({"router": "smoothed"}, {"term": "coupling"}, "router='smoothed' has no row of a state's width"),
        ({"router": "uniform"}, {"term": "balance"}, "router='uniform' does not learn by gradients"),
        ({"router": "frozen"}, {"term": "teacher"}, "router='frozen' does not learn by gradients"),
        ({"router": "topk"}, {"term": "teacher"}, "which router='topk' gives no gradient"),
        ({"experts": 2}, {"term": "teacher"}, "with experts=2 both are equally close"),
        ({}, {"term": "anchor", "anchor_features": 0.0, "anchor_edges": 0.0}, "set anchor_features or anchor_edges"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(model: dict, train: dict, message: str) -> None:
    task = node_task()
    network = build(small_model(**model), task)
    with pytest.raises(ValueError, match=message):
        fit(network, task, task.split("random"), replace(SHORT, **train), 0)


def test_a_network_without_routers_is_refused_by_name() -> None:
    task = node_task()
    with pytest.raises(ValueError, match=r"term='anchor': this .* has no routed layers"):
        fit(build(small_baseline("gcn"), task), task, task.split("random"), replace(SHORT, term="anchor"), 0)
