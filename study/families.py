"""Models of every family, rivals included, on the chosen device: built for a task, or loaded again."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from stemlib.data.tasks import Task, require_classes
from stemlib.presets import BaselineConfig, MixtureConfig, ModelConfig, StackedConfig
from stemlib.training import families
from stemlib.training.families import FAMILIES, SHAPE, Family, family_of, save_model
from study.computing import chosen
from study.rivals.bellman_ford import BellmanFord
from study.rivals.common_neighbours import CommonNeighbours
from study.rivals.mowst import Mowst
from study.rivals.probe import Probe
from study.rivals.settings import MowstConfig, NBFNetConfig, NCNConfig, ProbeConfig

__all__ = ["FAMILIES", "AnyConfig", "build", "family_of", "load_model", "save_model"]

FAMILIES |= {
    "mowst": Family(MowstConfig, Mowst, (*SHAPE, "binary")),
    "probe": Family(ProbeConfig, Probe),
    "ncn": Family(NCNConfig, CommonNeighbours),
    "nbfnet": Family(NBFNetConfig, BellmanFord),
}
AnyConfig = (
    ModelConfig | BaselineConfig | MixtureConfig | StackedConfig | MowstConfig | ProbeConfig | NCNConfig | NBFNetConfig
)


def build(config: AnyConfig, task: Task) -> nn.Module:
    """A fresh model of the configuration's family that fits the task, on the chosen device.

    Raises:
        ValueError: a `Mowst` for a regression; NCN or NBFNet for a task that is not about links.
    """
    if isinstance(config, MowstConfig):
        require_classes(task, "Mowst's gate, which reads how sure an answer is,")
    return families.build(config, task).to(chosen())


def load_model(folder: str | Path) -> nn.Module:
    """The model that `save_model` wrote, in evaluation mode, on the chosen device.

    Raises:
        FileNotFoundError, ValueError: as `stemlib.weights.read_weights`.
    """
    return families.load_model(folder).to(chosen())
