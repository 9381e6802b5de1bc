"""Pretrained encoders and tokens on disk, and fine-tuning from them.

A checkpoint is a folder with `model.safetensors` and `model.json`, like a model's, but of encoder and tokens only: no
decoders, no teacher, no optimiser. In float32 a model of width 128 is 2 MB. The projection back from the tokens, which
fine-tuning never reads, is included (a seventh): without it a checkpoint could not give its reconstructions.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from torch import nn

from stemlib.data.features import require_unit_features
from stemlib.data.tasks import Task
from stemlib.model.encoder import Encoder
from stemlib.model.stem import StemGNN
from stemlib.model.tokens import TokenInterface
from stemlib.presets import ModelConfig
from stemlib.weights import read_settings, read_weights, write_weights

FORMAT = "stem-gnn-study pretrained, version 1"
# What may differ from pretraining, as the weights do not depend on it.
FREE = ("temperature", "input_dropout", "dropout", "pool")


class Pretrained(nn.Module):
    """Encoder and tokens, under the names that they have in `StemGNN`: what a checkpoint holds.

    Args:
        config: the architecture.
        width: of node and edge features.

    Raises:
        ValueError: rounded tokens, in which there is nothing to pretrain.
    """

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        if config.codebook == "rounded":
            raise ValueError("pretraining learns a codebook, but codebook='rounded' has none: use 'none' or another")
        self.config, self.width = config, width
        self.encoder = Encoder(config, width, width)
        self.tokens = TokenInterface(config, config.hidden) if config.codebook != "none" else None


def save_pretrained(network: Pretrained, folder: str | Path, about: dict[str, Any]) -> None:
    """Write a checkpoint; `about` says what it was pretrained on and how, in values that JSON has."""
    settings = {"format": FORMAT, "config": dataclasses.asdict(network.config), "width": network.width}
    write_weights(network, settings | {"about": about}, folder)


def load_pretrained(folder: str | Path) -> Pretrained:
    """The encoder and tokens that `save_pretrained` wrote, in evaluation mode.

    Raises:
        FileNotFoundError, ValueError: as `stemlib.weights.read_weights`.
    """

    def build(settings: dict[str, Any]) -> Pretrained:
        return Pretrained(ModelConfig(**settings["config"]), settings["width"])

    return read_weights(folder, FORMAT, build)


def pretrained_settings(folder: str | Path) -> dict[str, Any]:
    """A checkpoint's settings: `config`, `width`, `sha256` of the weights, and `about`.

    Raises:
        FileNotFoundError, ValueError: as `load_pretrained`.
    """
    return read_settings(folder, FORMAT)


def from_pretrained(folder: str | Path, task: Task, config: ModelConfig | None = None) -> StemGNN:
    """A model for a task with a checkpoint's encoder and tokens, and a fresh head.

    Whether the tokens stay as they are is a setting of the training: `TrainConfig.freeze_tokens`.

    Args:
        folder: the checkpoint.
        task: with features as `unit_features` gives them, of the checkpoint's width.
        config: the checkpoint's, with other dropouts, temperature or pool, or with `codebook="none"`: its encoder
            alone; None for the checkpoint's own.

    Raises:
        FileNotFoundError, ValueError: as `load_pretrained`; a task with features of another form, or an
            architecture other than the checkpoint's.

    Example:
        >>> task = unit_features(load("cora", width=128), 128)  # doctest: +SKIP
        >>> model = from_pretrained(DATA / "checkpoints/laptop", task)  # doctest: +SKIP
    """
    network = load_pretrained(folder)
    given, fixed = dataclasses.asdict(config or network.config), dataclasses.asdict(network.config)
    free = (*FREE, "codebook") if given["codebook"] == "none" else FREE
    if wrong := [name for name in fixed if given[name] != fixed[name] and name not in free]:
        raise ValueError(
            f"{folder} was pretrained with {', '.join(f'{name}={fixed[name]!r}' for name in wrong)}, "
            f"got {', '.join(f'{name}={given[name]!r}' for name in wrong)}; only {', '.join(FREE)} may differ, "
            "and codebook='none' loads only the encoder"
        )
    require_unit_features(task, network.width, str(folder))
    model = StemGNN(config or network.config, network.width, task.outputs, task.kind, network.width)
    model.encoder.load_state_dict(network.encoder.state_dict())
    if model.tokens is not None:
        model.tokens.load_state_dict(network.tokens.state_dict())
    return model
