"""Weights on disk: safetensors beside their settings in JSON, atomic and checked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from stemlib.files import write_atomically


def write_weights(module: nn.Module, settings: dict[str, Any], folder: str | Path) -> None:
    """Write a module's state, then its settings with the state's checksum: they say that the state is whole."""
    weights = Path(folder) / "model.safetensors"
    with write_atomically(weights) as temporary:
        save_file({name: value.contiguous() for name, value in module.state_dict().items()}, temporary)
    settings = settings | {"sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    with write_atomically(Path(folder) / "model.json") as temporary:
        temporary.write_text(json.dumps(settings, indent=2))


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
