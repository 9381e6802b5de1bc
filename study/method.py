"""A named model with the training that was tuned for it: what a run consists of and is known by."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from stemlib.data.tasks import Task
from stemlib.presets import TrainConfig, change
from stemlib.settings import Settings
from stemlib.training.pretrained import from_pretrained, pretrained_settings
from study.computing import chosen
from study.families import AnyConfig, build
from study.rivals.settings import PretextConfig


@dataclass(frozen=True)
class Method:
    """A named model with its training.

    With `checkpoint`, a pretrained model's folder, it starts from there; with `others` as well, the same pretraining
    with other seeds, the seeds of fine-tuning take all of them in turn. With `pretext`, a probe's encoder is first
    trained by that objective, without labels, on the task's own graph.
    """

    name: str
    model: AnyConfig
    train: TrainConfig
    checkpoint: Path | None = None
    others: tuple[Path, ...] = ()
    pretext: PretextConfig | None = None
    members: tuple[Method, ...] = ()

    def at(self, seed: int) -> Method:
        """The method with the one of its checkpoints that a seed starts from."""
        folders = (self.checkpoint, *self.others)
        return dataclasses.replace(self, checkpoint=folders[seed % len(folders)], others=())

    def changed(self, name: str, changes: Mapping[str, Any]) -> Method:
        """The method under another name, with some settings of its model or its training changed."""
        of_model = {key: value for key, value in changes.items() if hasattr(self.model, key)}
        of_train = {key: value for key, value in changes.items() if key not in of_model}
        model, train = change(self.model, **of_model), change(self.train, **of_train)
        return dataclasses.replace(self, name=name, model=model, train=train)

    @property
    def settings(self) -> dict[str, Any]:
        """All settings as plain values: what a record stores.

        A checkpoint is identified by its weights' sha256, not by its location.
        """
        members = {"members": [each.settings for each in self.members]} if self.members else {}
        return {name: dataclasses.asdict(part) for name, part in self._parts.items()} | self._start | members

    @property
    def identity(self) -> dict[str, Any]:
        """What a run's key consists of: which configurations, and the settings that are not the defaults.

        A run is thus found again when the settings have gained a field; see `study.trained.require_same`.
        """
        told = {name: {"config": type(part).__name__} | part.beside_defaults for name, part in self._parts.items()}
        members = {"members": [each.identity for each in self.members]} if self.members else {}
        return told | self._start | members

    @property
    def _parts(self) -> dict[str, Settings]:
        parts = {"model": self.model, "train": self.train, "pretext": self.pretext}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def _start(self) -> dict[str, str]:
        return {} if self.checkpoint is None else {"checkpoint": pretrained_settings(self.checkpoint)["sha256"]}

    @property
    def dropouts(self) -> list[str]:
        """Which dropouts the model has: a probe, whose head is its only layer, has no `input_dropout`."""
        return [name for name in ("dropout", "input_dropout") if hasattr(self.model, name)]

    @property
    def tuned(self) -> dict[str, float]:
        """The settings in which a protocol's candidates differ, by the name that a table gives them.

        DropEdge and consistency are named where they are on.
        """
        if self.members:
            return {}
        train = {name: getattr(self.train, name) for name in ("lr", "weight_decay", "lipschitz")}
        more = {name: value for name in ("edge_dropout", "consistency") if (value := getattr(self.train, name))}
        return train | {"dropout": self.model.dropout} | more

    def build(self, task: Task) -> nn.Module:
        """The model before any training, or from its checkpoint; for members, all of them side by side."""
        if self.members:
            return nn.ModuleList(each.build(task) for each in self.members)
        if self.checkpoint is None:
            return build(self.model, task)
        return from_pretrained(self.checkpoint, task, self.model).to(chosen())
