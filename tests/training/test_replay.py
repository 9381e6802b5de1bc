"""Recorded steps, without a GPU: operations are written down as a CUDA graph writes kernels down, and done again."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from samples import TASKS
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from stemlib.baselines.networks import NETWORKS
from stemlib.devices import device
from stemlib.presets import BaselineConfig, MixtureConfig, ModelConfig, TrainConfig, change
from stemlib.training import replay
from stemlib.training.finetune import Fit, fit
from study.families import build

WAITS = {"gat": True, "softmedian": True}  # for loops among the edges; for a number of neighbours
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "item", "is_nonzero")
TRAIN = TrainConfig(epochs=12, patience=12, lipschitz=0.01, commitment=0.1, orthogonality=0.1)
CONSISTENT = change(TRAIN, consistency=1.0, consistency_after=0.25)


class Recording(TorchDispatchMode):
    """Writes down every operation with the tensors that it read and gave; `again` does them in the same places."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.done.append((func, args, kwargs or {}, found))
        return found

    @property
    def waits(self) -> bool:
        """Whether a number or a shape was asked for; an index of truth values has a shape that depends on them."""
        read = [(func.overloadpacket.__name__, args) for func, args, *_ in self.done]
        truths = any(
            name == "index" and any(each is not None and each.dtype == torch.bool for each in args[1])
            for name, args in read
        )
        return truths or any(name in WAITING for name, _ in read)

    @torch.no_grad()
    def again(self) -> None:
        for func, args, kwargs, was in self.done:
            for old, new in zip(tree_leaves(was), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(old, Tensor) and old.layout == torch.strided and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@pytest.fixture
def tape(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A recorder for processors, and what it was asked for: it records while it does an action for the first time."""
    noted: list[str] = []

    def watched(action: replay.Action) -> tuple[Tensor, bool]:
        with Recording() as found:
            result = action()
        noted.append("waits" if found.waits else "watched")
        return result, found.waits

    def recorded(action: replay.Action) -> replay.Action:
        held: list[Any] = []

        def play() -> Tensor:
            noted.append("replayed" if held else "recorded")
            if not held:
                with Recording() as found:
                    held.extend((found, action()))
            else:
                held[0].again()
            return held[1]

        return play

    monkeypatch.setattr(replay, "beside", lambda action: action())
    monkeypatch.setattr(replay, "watched", watched)
    monkeypatch.setattr(replay, "recorded", recorded)
    return noted


MODELS = {
    "stem": ModelConfig(hidden=8, codes=4),
    "stem, learnable codes": ModelConfig(hidden=8, codes=4, codebook="learnable"),
    "stem, no tokens": ModelConfig(hidden=8, codebook="none"),
    "stem, batch norm": ModelConfig(hidden=8, codes=4, norm="batch"),
    "mixture": MixtureConfig(hidden=8),
} | {name: BaselineConfig(name, hidden=8) for name in NETWORKS}
ASKED = [("node", model) for model in MODELS]
ASKED += [(kind, model) for kind in ("link", "graph") for model in ("stem", "stem, learnable codes", "mixture", "sage")]


def trained(kind: str, model: str, train: TrainConfig, where: str = "cpu") -> tuple[Fit, dict[str, Tensor]]:
    task = TASKS[kind]()
    torch.manual_seed(0)
    network = build(MODELS[model], task).to(device(where))
    return fit(network, task, next(iter(task.splits.values())), train, 0), network.state_dict()


@pytest.mark.parametrize("train", [TRAIN, CONSISTENT], ids=["plain", "consistent"])
@pytest.mark.parametrize(("kind", "model"), ASKED)
def test_a_recorded_training_has_the_bits_of_an_ordinary_one(
    kind: str, model: str, train: TrainConfig, tape: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, weights = trained(kind, model, train)
    assert not tape
    monkeypatch.setattr(replay, "recordable", lambda where: True)
    found, same = trained(kind, model, train)
    assert found.history == plain.history
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    actions = 3 if train.consistency else 2  # steps before there is a target and with one, and the evaluation
    waits = WAITS.get(model, 0) and actions
    if (kind, model) == ("graph", "mixture"):  # a batch of graphs is made in each evaluation
        waits = 1
    counts = Counter(tape)
    assert counts["waits"] == waits
    assert counts["watched"] == counts["recorded"] == actions - waits
    assert counts["replayed"] == 0 if waits == actions else counts["replayed"] >= train.epochs / 3
    if not waits:
        assert counts["replayed"] == 2 * train.epochs - 4 * actions


def test_what_was_recorded_is_freed_with_the_training(tape: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA graph holds the memory of a whole step."""
    held, recorded = [], replay.recorded

    def noted(action: replay.Action) -> replay.Action:
        found = recorded(action)
        held.append(weakref.ref(found))
        return found

    monkeypatch.setattr(replay, "recordable", lambda where: True)
    monkeypatch.setattr(replay, "recorded", noted)
    gc.disable()
    try:
        trained("node", "stem", TRAIN)
        assert len(held) == 2
        assert not any(each() for each in held)
    finally:
        gc.enable()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("train", [TRAIN, CONSISTENT], ids=["plain", "consistent"])
@pytest.mark.parametrize(("kind", "model"), ASKED)
def test_so_it_is_on_a_gpu(kind: str, model: str, train: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, recorded = [], replay.recorded
    monkeypatch.setattr(replay, "recorded", lambda action: asked.append(0) or recorded(action))
    found, weights = trained(kind, model, train, "cuda")
    if kind == "node" and not WAITS.get(model):
        assert len(asked) == (3 if train.consistency else 2)
    monkeypatch.setattr(replay, "recordable", lambda where: False)
    plain, same = trained(kind, model, train, "cuda")
    assert found.history == plain.history
    assert all(torch.equal(weights[name], same[name]) for name in weights)


@pytest.mark.parametrize("changed", [{"batch_size": 16}, {"passes": 2}])
def test_steps_that_differ_are_not_recorded(
    changed: dict[str, int], tape: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "recordable", lambda where: True)
    trained("node", "sage", change(TRAIN, **changed))
    assert not tape


def test_edges_that_are_dropped_anew_are_waited_for(tape: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "recordable", lambda where: True)
    trained("node", "sage", change(TRAIN, edge_dropout=0.3))
    assert Counter(tape) == {"waits": 1, "watched": 1, "recorded": 1, "replayed": TRAIN.epochs - 4}


def test_nothing_is_recorded_on_a_processor() -> None:
    assert not replay.recordable(torch.device("cpu"))
    calls: list[int] = []
    action = replay.Replays(torch.device("cpu"), same=True)
    for _ in range(6):
        action("count", lambda: torch.tensor(calls.append(0) or len(calls)))
    assert len(calls) == 6
