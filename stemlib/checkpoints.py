"""Models and training states on disk: safetensors and JSON, atomic, checked, nothing unpickled."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from stemlib.atomic import write_atomically
from stemlib.baselines.mowst import Mowst
from stemlib.baselines.networks import Baseline
from stemlib.baselines.probe import Probe
from stemlib.model import StemGNN
from stemlib.presets import BaselineConfig, ModelConfig, MowstConfig, ProbeConfig
from stemlib.tasks import Task, require_classes

FORMAT = "stem-gnn-study model, version 1"
SHAPE = ("in_width", "classes", "kind", "edge_width")
# Of every kind of model: its settings, its class, and what of the task its class takes.
FAMILIES = {
    "stem": (ModelConfig, StemGNN, SHAPE),
    "baseline": (BaselineConfig, Baseline, SHAPE),
    "mowst": (MowstConfig, Mowst, (*SHAPE, "binary")),
    "probe": (ProbeConfig, Probe, SHAPE),
}
AnyConfig = ModelConfig | BaselineConfig | MowstConfig | ProbeConfig


def family_of(config: AnyConfig) -> str:
    """The name in `FAMILIES` of the models that have such settings."""
    return next(name for name, (settings, *_) in FAMILIES.items() if type(config) is settings)


def build(config: AnyConfig, task: Task) -> nn.Module:
    """A fresh model of the configuration's family that fits the task.

    Raises:
        ValueError: a `Mowst` for labels that are values.
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
    return network(config, **{name: shape[name] for name in names})


def save_model(model: nn.Module, folder: str | Path) -> None:
    """Write `model.safetensors`, then `model.json`: the settings, and the weights' checksum."""
    family = family_of(model.config)
    settings = {"format": FORMAT, "family": family, "config": dataclasses.asdict(model.config)}
    write_weights(model, settings | {name: getattr(model, name) for name in FAMILIES[family][2]}, folder)


def write_weights(module: nn.Module, settings: dict[str, Any], folder: str | Path) -> None:
    """Write a module's state, then its settings with the state's checksum: they say that the state is whole."""
    weights = Path(folder) / "model.safetensors"
    with write_atomically(weights) as temporary:
        save_file({name: value.contiguous() for name, value in module.state_dict().items()}, temporary)
    settings = settings | {"sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    with write_atomically(Path(folder) / "model.json") as temporary:
        temporary.write_text(json.dumps(settings, indent=2))


def load_model(folder: str | Path) -> nn.Module:
    """The model that `save_model` wrote, in evaluation mode.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is not of this format, is cut, or does not belong to the other.
    """
    settings, weights = read_settings(folder, FORMAT)
    try:
        config, network, names = FAMILIES[settings["family"]]
        model = network(config(**settings["config"]), **{name: settings[name] for name in names})
        model.load_state_dict(load_file(weights))
    except (SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{folder} does not hold a model of this version: {error}") from None
    return model.eval()


def read_settings(folder: str | Path, form: str) -> tuple[dict[str, Any], Path]:
    """What `write_weights` wrote: the settings, and the file of weights, which is the one that they describe.

    Raises:
        FileNotFoundError, ValueError: as `load_model`.
    """
    settings_file, weights = Path(folder) / "model.json", Path(folder) / "model.safetensors"
    for file in (settings_file, weights):
        if not file.is_file():
            raise FileNotFoundError(f"no model in {folder}: {file.name} is missing")
    try:
        settings = json.loads(settings_file.read_text())
    except ValueError as error:
        raise ValueError(f"{settings_file} is not valid JSON ({error}); save the model again") from None
    if not isinstance(settings, dict) or settings.get("format") != form:
        raise ValueError(f"{settings_file} does not describe a '{form}'; save the model again")
    if hashlib.sha256(weights.read_bytes()).hexdigest() != settings.get("sha256"):
        raise ValueError(
            f"{weights} is damaged or another model's: its sha256 is not that of {settings_file.name}"
        )
    return settings, weights


def save_state(path: str | Path, state: dict[str, Any]) -> None:
    """Write a training state: nested dictionaries and lists of tensors and plain values, in one file."""
    tensors: dict[str, Tensor] = {}

    def strip(value: Any) -> Any:
        if isinstance(value, Tensor):
            name = str(len(tensors))
            tensors[name] = value.detach().clone().contiguous()
            return {"tensor": name}
        if isinstance(value, dict):  # pairs, since JSON would turn integer keys into strings
            return {"pairs": [[key, strip(item)] for key, item in value.items()]}
        if isinstance(value, list | tuple):
            return {"list": [strip(item) for item in value]}
        return {"plain": value}

    layout = json.dumps(strip(state))
    with write_atomically(path) as temporary:
        save_file(tensors, temporary, metadata={"layout": layout})


def load_state(path: str | Path) -> dict[str, Any]:
    """The state that `save_state` wrote; tuples come back as lists.

    Raises:
        ValueError: the file is cut or not a training state.
    """

    def fill(node: dict[str, Any]) -> Any:
        if "tensor" in node:
            return tensors[node["tensor"]]
        if "pairs" in node:
            return {key: fill(item) for key, item in node["pairs"]}
        return [fill(item) for item in node["list"]] if "list" in node else node["plain"]

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            return fill(json.loads(file.metadata()["layout"]))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a training state ({error}); delete it to start over") from None
