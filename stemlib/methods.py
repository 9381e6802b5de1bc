"""The lines of a results table: named models with the training that was tuned for them on validation."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from stemlib.checkpoints import build
from stemlib.presets import BaselineConfig, ModelConfig, Preset, TrainConfig, change
from stemlib.pretrained import from_pretrained, pretrained_settings
from stemlib.tasks import Task


@dataclass(frozen=True)
class Method:
    """A named model with its training; with `checkpoint`, a pretrained one's folder, it starts from there."""

    name: str
    model: ModelConfig | BaselineConfig
    train: TrainConfig
    checkpoint: Path | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """All settings as plain values: what a record stores and a run's key is made of.

        A checkpoint counts by its weights' sha256, not by where it lies. Float32, the precision of all records
        before there was a choice, is not named: those keep their keys.
        """
        settings = {"model": dataclasses.asdict(self.model), "train": dataclasses.asdict(self.train)}
        if self.train.precision == "float32":
            del settings["train"]["precision"]
        if self.checkpoint is None:
            return settings
        return settings | {"checkpoint": pretrained_settings(self.checkpoint)["sha256"]}

    def build(self, task: Task) -> nn.Module:
        """The model before training."""
        if self.checkpoint is None:
            return build(self.model, task)
        return from_pretrained(self.checkpoint, task, self.model)


def stem(preset: Preset, name: str = "stem", **changes: Any) -> Method:
    """STEM-GNN as this study trains it from scratch; `changes` name fields of `ModelConfig`."""
    model = ModelConfig(hidden=preset.hidden, codes=min(128, preset.hidden), input_dropout=0.5, dropout=0.5)
    train = preset.train(lr=1e-2, weight_decay=0.5)
    return Method(name, change(model, **changes), train)


def pretrained(
    preset: Preset, checkpoint: Path, name: str = "pretrained", freeze_tokens: bool = True, **changes: Any
) -> Method:
    """Fine-tuning from a checkpoint, whose width and tokens it has, with `stem`'s training.

    Args:
        preset: the budget.
        checkpoint: a pretrained model's folder.
        name: of the method.
        freeze_tokens: whether projection and codes stay as pretrained, as in the reference.
        changes: of dropouts, temperature or pool; see `stemlib.pretrained.from_pretrained`.
    """
    scratch = stem(preset)
    dropouts = {"input_dropout": scratch.model.input_dropout, "dropout": scratch.model.dropout}
    model = change(ModelConfig(**pretrained_settings(checkpoint)["config"]), **(dropouts | changes))
    return Method(name, model, change(scratch.train, freeze_tokens=freeze_tokens), checkpoint)


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
