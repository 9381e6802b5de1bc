"""Tensors that are costly to make, kept under `data/cache/`: keyed by what made them, whole or made again."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from stemlib.atomic import write_atomically
from stemlib.paths import DATA

FOLDER = DATA / "cache"
DIGEST_BYTES = 32


def digest(value: Any) -> str:
    """sha256 in hexadecimal of a tensor's shape, type and bytes, or of anything that JSON can write."""
    if isinstance(value, Tensor):
        head = f"{tuple(value.shape)} {value.dtype}".encode()
        return hashlib.sha256(head + value.detach().contiguous().numpy().tobytes()).hexdigest()
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def cached(name: str, made_of: Mapping[str, Any], make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What `make` gives, computed once for each `made_of`.

    A file holds its own sha256 and then safetensors, so that nothing is unpickled and a cut or altered file is
    noticed, reported and made again.

    Args:
        name: the file's readable part.
        made_of: everything that determines the tensors; JSON can write it.
        make: makes them, by name.
    """
    file = FOLDER / f"{name}-{digest(dict(made_of))[:16]}.safetensors"
    if file.is_file():
        try:
            return _read(file)
        except (SafetensorError, ValueError) as error:
            warnings.warn(f"{file} is damaged ({error}) and is made again", stacklevel=2)
    tensors = {key: value.contiguous() for key, value in make().items()}
    content = save(tensors)
    with write_atomically(file) as temporary:
        temporary.write_bytes(hashlib.sha256(content).digest() + content)
    return tensors


def _read(file: Path) -> dict[str, Tensor]:
    content = file.read_bytes()
    stored, content = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != stored:
        raise ValueError("its content does not match its sha256")
    return load(content)
