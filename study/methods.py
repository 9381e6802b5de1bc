"""The lines of a results table: the methods that are compared, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from stemlib.presets import BaselineConfig, MixtureConfig, ModelConfig, Preset, StackedConfig, TrainConfig, change
from stemlib.training.pretrained import pretrained_settings
from study.method import Method
from study.rivals.settings import (
    BGRLConfig,
    DGIConfig,
    GraphMAEConfig,
    MowstConfig,
    NBFNetConfig,
    NCNConfig,
    PretextConfig,
    ProbeConfig,
)


def training(preset: Preset, weight_decay: float = 0.5) -> TrainConfig:
    """How every method is trained, except for what a protocol chooses: with a start at the prior, and a penalty."""
    return preset.train(lr=1e-2, weight_decay=weight_decay, prior=True)


def stem(preset: Preset, name: str = "stem", **changes: Any) -> Method:
    """STEM-GNN as this study trains it from scratch; `changes` name fields of `ModelConfig`."""
    model = ModelConfig(hidden=preset.hidden, codes=min(128, preset.hidden), input_dropout=0.5, dropout=0.5)
    return Method(name, change(model, **changes), training(preset))


def pretrained(
    preset: Preset, checkpoints: Sequence[Path], name: str = "pretrained", freeze_tokens: bool = True, **changes: Any
) -> Method:
    """Fine-tuning from checkpoints of one pretraining, with their width and tokens, and with `stem`'s training.

    Args:
        preset: the budget.
        checkpoints: folders of pretrained models, which seeds take in turn.
        name: of the method.
        freeze_tokens: whether projection and codes stay as pretrained, as in the reference.
        changes: of dropouts, temperature or pool; see `stemlib.training.pretrained.from_pretrained`.
    """
    fresh = stem(preset)
    dropouts = {"input_dropout": fresh.model.input_dropout, "dropout": fresh.model.dropout}
    model = change(ModelConfig(**pretrained_settings(checkpoints[0])["config"]), **(dropouts | changes))
    train = change(fresh.train, freeze_tokens=freeze_tokens)
    return Method(name, model, train, checkpoints[0], tuple(checkpoints[1:]))


def dense(preset: Preset) -> Method:
    """The same network without routing and without tokens: dense GraphSAGE layers and the averaged head."""
    return stem(preset, "dense", routed="none", codebook="none")


def routed(preset: Preset) -> Method:
    """Experts without tokens: the head reads the embedding."""
    return stem(preset, "routed", codebook="none")


def filters(preset: Preset) -> Method:
    """Experts that are different graph filters in place of as many means, routed alike, without tokens."""
    return stem(preset, "filters", codebook="none", expert="filters")


def tokens(preset: Preset) -> Method:
    """Tokens without experts: dense GraphSAGE layers and their codebooks, the form of GFT."""
    return stem(preset, "tokens", routed="none")


def reference(preset: Preset) -> Method:
    """The authors' form from scratch: their initialisation, codebook, frozen tokens and training."""
    model = ModelConfig(
        hidden=preset.hidden,
        expert_init="reference",
        codebook="reference",
        activation="leaky_relu",
        routed_edge_features=False,
    )
    train = preset.train(lr=5e-4, lipschitz=0.0, freeze_tokens=True, patience=100)
    return Method("reference", model, train)


def baseline(preset: Preset, kind: str, name: str = "", **changes: Any) -> Method:
    """A network of `BaselineConfig` under the same protocol; `changes` name fields of it."""
    model = BaselineConfig(kind, hidden=preset.hidden, **changes)
    return Method(name or kind, model, training(preset))


def dropedge(preset: Preset) -> Method:
    """A GCN, half of whose edges are missing in each training step."""
    return baseline(preset, "gcn").changed("dropedge", {"edge_dropout": 0.5})


def mixture(preset: Preset, name: str = "mixture", **changes: Any) -> Method:
    """Different graph filters as networks of half the width, weighed by validation; `changes` of `MixtureConfig`."""
    model = MixtureConfig(hidden=max(preset.hidden // 2, 1))
    return Method(name, change(model, **changes), training(preset))


def ensemble(preset: Preset) -> Method:
    """As many GCNs as `mixture` has networks, averaged: no filters that differ, and no gate."""
    return mixture(preset, "ensemble", filters="low low low low low", gate="uniform")


def stack(preset: Preset, name: str, names: Sequence[str], **changes: Any) -> Method:
    """Methods' networks, each tuned and trained on its own, put together; `changes` name fields of `StackedConfig`."""
    return Method(name, StackedConfig(**changes), training(preset), members=tuple(named(preset, *names)))


def mowst(preset: Preset) -> Method:
    """A weak and a strong expert with a gate between them."""
    return Method("mowst", MowstConfig(hidden=preset.hidden), training(preset))


def ncn(preset: Preset, name: str = "ncn", complete: bool = False) -> Method:
    """Neural common neighbours, for links only; `complete` makes it NCNC."""
    return Method(name, NCNConfig(hidden=preset.hidden, complete=complete), training(preset))


def nbfnet(preset: Preset) -> Method:
    """Neural Bellman-Ford, for links only."""
    return Method("nbfnet", NBFNetConfig(hidden=preset.hidden), training(preset))


def probe(preset: Preset, pretext: PretextConfig, **changes: Any) -> Method:
    """A linear head on an encoder that learnt without labels; `changes` name fields of `ProbeConfig`.

    The encoder takes as many steps as the budget has epochs.
    """
    model = ProbeConfig(hidden=preset.hidden, **changes)
    return Method(
        pretext.objective, model, training(preset, weight_decay=1e-4), pretext=change(pretext, steps=preset.epochs)
    )


SIX = ("mlp", "gcn", "sage", "gat", "appnp", "acm")
ALL = (*SIX, "mowst", "ensemble", "averaged", "mixture", "routed", "filters", "stem")
METHODS: dict[str, Callable[[Preset], Method]] = {
    "stem": stem,
    "routed": routed,
    "dense": dense,
    "tokens": tokens,
    "filters": filters,
    "reference": reference,
    **{kind: partial(baseline, kind=kind) for kind in ("mlp", "gcn", "sage", "gat", "gin", "appnp", "acm")},
    "dropedge": dropedge,
    "mixture": mixture,
    "ensemble": ensemble,
    "stacked": partial(stack, name="stacked", names=SIX, gate="simplex"),
    "selected": partial(stack, name="selected", names=ALL),
    "selected_five": partial(stack, name="selected_five", names=ALL, repeats=5),
    "strongest_five": partial(stack, name="strongest_five", names=ALL, rounds=1, repeats=5),
    "averaged": partial(mixture, name="averaged", gate="uniform"),
    "softmedian": partial(baseline, kind="softmedian", temperature=0.2),
    "gcnii": partial(baseline, kind="gcnii", layers=8),
    "mowst": mowst,
    "ncn": ncn,
    "ncnc": partial(ncn, name="ncnc", complete=True),
    "nbfnet": nbfnet,
    "dgi": partial(probe, pretext=DGIConfig(), layers=1),
    "bgrl": partial(probe, pretext=BGRLConfig(), norm="batch"),
    "graphmae": partial(probe, pretext=GraphMAEConfig(), encoder="gat"),
}


def main_method(names: Sequence[str]) -> str:
    """The method that the others are compared with: the whole model, or the first if that is not among them."""
    return "stem" if "stem" in names else names[0]


def named(preset: Preset, *names: str) -> list[Method]:
    """Methods of `METHODS` by name.

    Raises:
        ValueError: an unknown name, with the known ones.
    """
    if unknown := [name for name in names if name not in METHODS]:
        raise ValueError(f"unknown methods {unknown}; there are {', '.join(METHODS)}")
    return [METHODS[name](preset) for name in names]
