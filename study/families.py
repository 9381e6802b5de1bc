"""Models of every family: built for a task, saved, and loaded again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from torch import nn

from stemlib.baselines.networks import Baseline
from stemlib.data.tasks import Task, require_classes
from stemlib.model.mixture import Mixture
from stemlib.model.stem import StemGNN
from stemlib.presets import BaselineConfig, MixtureConfig, ModelConfig
from stemlib.weights import read_weights, write_weights
from study.computing import chosen
from study.rivals.bellman_ford import BellmanFord
from study.rivals.common_neighbours import CommonNeighbours
from study.rivals.mowst import Mowst
from study.rivals.probe import Probe
from study.rivals.settings import MowstConfig, NBFNetConfig, NCNConfig, ProbeConfig

FORMAT = "stem-gnn-study model, version 1"
SHAPE = ("in_width", "classes", "kind", "edge_width")
# Of every kind of model: its settings, its class, and what of the task its class takes.
FAMILIES = {
    "stem": (ModelConfig, StemGNN, SHAPE),
    "baseline": (BaselineConfig, Baseline, SHAPE),
    "mixture": (MixtureConfig, Mixture, SHAPE),
    "mowst": (MowstConfig, Mowst, (*SHAPE, "binary")),
    "probe": (ProbeConfig, Probe, SHAPE),
    "ncn": (NCNConfig, CommonNeighbours, SHAPE),
    "nbfnet": (NBFNetConfig, BellmanFord, SHAPE),
}
AnyConfig = ModelConfig | BaselineConfig | MixtureConfig | MowstConfig | ProbeConfig | NCNConfig | NBFNetConfig


def family_of(config: AnyConfig) -> str:
    """The name in `FAMILIES` of the models that have such settings."""
    return next(name for name, (settings, *_) in FAMILIES.items() if type(config) is settings)


def build(config: AnyConfig, task: Task) -> nn.Module:
    """A fresh model of the configuration's family that fits the task, on the device that was chosen.

    Raises:
        ValueError: a `Mowst` for a regression; NCN or NBFNet for a task that is not about links.
    """
    _, network, names = FAMILIES[family_of(config)]
    if network is Mowst:
        require_classes(task, "Mowst's gate, which reads how sure an answer is,")
    shape = {
        "in_width": task.graph.x.size(1),
        "classes": task.outputs,
        "kind": task.kind,
        "edge_width": task.edge_width,
        "binary": task.metric == "roc_auc",
    }
    return network(config, **{name: shape[name] for name in names}).to(chosen())


def save_model(model: nn.Module, folder: str | Path) -> None:
    """Write `model.safetensors`, then `model.json`: the settings, and the weights' checksum."""
    family = family_of(model.config)
    settings = {"format": FORMAT, "family": family, "config": dataclasses.asdict(model.config)}
    write_weights(model, settings | {name: getattr(model, name) for name in FAMILIES[family][2]}, folder)


def load_model(folder: str | Path) -> nn.Module:
    """The model that `save_model` wrote, in evaluation mode.

    Raises:
        FileNotFoundError, ValueError: as `stemlib.weights.read_weights`.
    """

    def build(settings: dict[str, Any]) -> nn.Module:
        config, network, names = FAMILIES[settings["family"]]
        return network(config(**settings["config"]), **{name: settings[name] for name in names})

    return read_weights(folder, FORMAT, build).to(chosen())
