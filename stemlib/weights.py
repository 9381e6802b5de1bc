"""Weights on disk: safetensors beside their settings in JSON, atomic and checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from stemlib.files import write_atomically


def write_tensors(tensors: dict[str, Tensor], settings: dict[str, Any], folder: str | Path, name: str) -> None:
    """Write `name.safetensors`, then `name.json`: the settings with the tensors' checksum, a sign that all is whole.

    Args:
        tensors: by their names.
        settings: values that JSON can write.
        folder: made if it is missing.
        name: of the two files.
    """
    weights = Path(folder) / f"{name}.safetensors"
    with write_atomically(weights) as temporary:
        save_file({key: value.contiguous() for key, value in tensors.items()}, temporary)
    settings = settings | {"sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    with write_atomically(Path(folder) / f"{name}.json") as temporary:
        temporary.write_text(json.dumps(settings, indent=2))


def write_weights(module: nn.Module, settings: dict[str, Any], folder: str | Path) -> None:
    """Write a module's state and its settings, as `write_tensors` does."""
    write_tensors(module.state_dict(), settings, folder, "model")


def read_settings(folder: str | Path, form: str, name: str = "model") -> dict[str, Any]:
    """The settings that `write_tensors` wrote, whose `format` is `form`, beside the tensors that they describe.

    Raises:
        FileNotFoundError, ValueError: as `read_weights`.
    """
    settings_file, weights = Path(folder) / f"{name}.json", Path(folder) / f"{name}.safetensors"
    for file in (settings_file, weights):
        if not file.is_file():
            raise FileNotFoundError(f"no {name} in {folder}: {file.name} is missing")
    try:
        settings = json.loads(settings_file.read_text())
    except ValueError as error:
        raise ValueError(f"{settings_file} is not valid JSON ({error}); save the {name} again") from None
    if not isinstance(settings, dict) or settings.get("format") != form:
        raise ValueError(f"{settings_file} does not describe a '{form}'; save the {name} again")
    if hashlib.sha256(weights.read_bytes()).hexdigest() != settings.get("sha256"):
        raise ValueError(f"{weights} is damaged or another {name}'s: its sha256 does not match {settings_file.name}")
    return settings


def read_weights(folder: str | Path, form: str, build: Callable[[dict[str, Any]], nn.Module]) -> nn.Module:
    """The module that `build` makes from the settings, with the weights, in evaluation mode.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is not of this format, is cut, or does not belong to the other.
    """
    settings = read_settings(folder, form)
    try:
        module = build(settings)
        module.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    except (SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{folder} does not hold a model of this version: {error}") from None
    return module.eval()
