"""The lines of a results table: named models with the training that was tuned for them on validation."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from stemlib.presets import BaselineConfig, ModelConfig, Preset, TrainConfig, change


@dataclass(frozen=True)
class Method:
    """A named model with its training."""

    name: str
    model: ModelConfig | BaselineConfig
    train: TrainConfig

    @property
    def settings(self) -> dict[str, Any]:
        """All settings as plain values: what a record stores and a run's key is made of."""
        return {"model": dataclasses.asdict(self.model), "train": dataclasses.asdict(self.train)}


def stem(preset: Preset, name: str = "stem", **changes: Any) -> Method:
    """STEM-GNN as this study trains it from scratch; `changes` name fields of `ModelConfig`."""
    model = ModelConfig(hidden=preset.hidden, codes=min(128, preset.hidden), input_dropout=0.5, dropout=0.5)
    train = preset.train(lr=1e-2, weight_decay=0.5)
    return Method(name, change(model, **changes), train)


def static(preset: Preset) -> Method:
    """The same network without routing and without tokens: one static GraphSAGE-mean network."""
    return stem(preset, "static", routed="none", codebook="none")


def routed(preset: Preset) -> Method:
    """Experts without tokens: the head reads the embedding."""
    return stem(preset, "routed", codebook="none")


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


def baseline(preset: Preset, kind: str) -> Method:
    """A PyG network under the same protocol: `mlp`, `gcn`, `sage`, `gat` or `gin`."""
    return Method(kind, BaselineConfig(kind, hidden=preset.hidden), preset.train(lr=1e-2, weight_decay=0.5))


def named(preset: Preset, *names: str) -> list[Method]:
    """Methods by name.

    Raises:
        ValueError: an unknown name, with the known ones.
    """
    known = {"stem": stem, "routed": routed, "static": static, "reference": reference}
    plain = ("mlp", "gcn", "sage", "gat", "gin")
    if unknown := [name for name in names if name not in known and name not in plain]:
        raise ValueError(f"unknown methods {unknown}; there are {', '.join([*known, *plain])}")
    return [known[name](preset) if name in known else baseline(preset, name) for name in names]
