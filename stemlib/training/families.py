"""Models of every family: built for a task, saved, and loaded again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from stemlib.baselines.networks import Baseline
from stemlib.data.tasks import Task
from stemlib.model.mixture import Mixture
from stemlib.model.network import Network
from stemlib.model.stem import StemGNN
from stemlib.presets import BaselineConfig, MixtureConfig, ModelConfig
from stemlib.settings import Settings
from stemlib.weights import read_weights, write_weights

FORMAT = "stem-gnn-study model, version 1"
SHAPE = ("in_width", "classes", "kind", "edge_width")


class Family(NamedTuple):
    """A kind of model: its settings, its class, and what its class takes from a task."""

    config: type[Settings]
    network: type[Network]
    takes: tuple[str, ...] = SHAPE


FAMILIES = {  # modules that bring models of their own add them: `stemlib.training.stacking`, `study.families`
    "stem": Family(ModelConfig, StemGNN),
    "baseline": Family(BaselineConfig, Baseline),
    "mixture": Family(MixtureConfig, Mixture),
}


def family_of(config: Settings) -> str:
    """The name in `FAMILIES` of the models that have such settings."""
    return next(name for name, family in FAMILIES.items() if type(config) is family.config)


def build(config: Settings, task: Task) -> Network:
    """A fresh model of the configuration's family that fits the task, on the CPU.

    Raises:
        ValueError: a family that cannot do such a task.
    """
    family = FAMILIES[family_of(config)]
    shape = {
        "in_width": task.graph.x.size(1),
        "classes": task.outputs,
        "kind": task.kind,
        "edge_width": task.edge_width,
        "binary": task.metric == "roc_auc",
    }
    return family.network(config, **{name: shape[name] for name in family.takes})


def save_model(model: Network, folder: str | Path, about: dict[str, Any] | None = None) -> None:
    """Write `model.safetensors`, then `model.json`: the settings, what is said `about` it, the weights' checksum."""
    name = family_of(model.config)
    settings = {"format": FORMAT, "family": name, "config": dataclasses.asdict(model.config)}
    settings |= {name: getattr(model, name) for name in FAMILIES[name].takes}
    write_weights(model, settings | ({} if about is None else {"about": about}), folder)


def load_model(folder: str | Path) -> nn.Module:
    """The model that `save_model` wrote, in evaluation mode, on the CPU.

    Raises:
        FileNotFoundError, ValueError: as `stemlib.weights.read_weights`.
    """

    def build(settings: dict[str, Any]) -> nn.Module:
        config, network, names = FAMILIES[settings["family"]]
        return network(config(**settings["config"]), **{name: settings[name] for name in names})

    return read_weights(folder, FORMAT, build)
