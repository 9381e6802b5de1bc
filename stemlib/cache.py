"""Checksums of what results are made from, and tensors kept under them. No code is unpickled."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stemlib import __version__
from stemlib.files import write_atomically
from stemlib.paths import cache_folder

DIGEST_BYTES = 32


def digest(value: Any) -> str:
    """sha256 in hexadecimal of a tensor's shape, type and bytes, or of anything that JSON can write."""
    if isinstance(value, Tensor):
        head = f"{tuple(value.shape)} {value.dtype}".encode()
        return hashlib.sha256(head + value.detach().contiguous().numpy().tobytes()).hexdigest()
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def write_checked(path: str | Path, value: Any) -> None:
    """Write nested tensors and plain values atomically: the sha256 of their `torch.save` bytes, then those bytes."""
    with write_atomically(path) as temporary, temporary.open("w+b") as file:
        file.write(bytes(DIGEST_BYTES))
        torch.save(value, file)
        file.seek(DIGEST_BYTES)
        stored = hashlib.file_digest(file, "sha256").digest()
        file.seek(0)
        file.write(stored)


def read_checked(path: str | Path) -> Any:
    """What `write_checked` wrote, on the CPU; nothing is unpickled before its sha256 has been verified.

    Raises:
        ValueError: the file is cut, altered, or another program's.
    """
    with Path(path).open("rb") as file:
        stored = file.read(DIGEST_BYTES)
        if hashlib.file_digest(file, "sha256").digest() != stored:
            raise ValueError(f"{path} is damaged: its content does not match its sha256; delete it to start over")
        file.seek(DIGEST_BYTES)
        return torch.load(file, map_location="cpu", weights_only=True)


def cached(name: str, made_of: Mapping[str, Any], make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors that `make` gives, computed once per `made_of`: all that determines them, as JSON can write it.

    `name` is the readable part of the file's name. A damaged file is reported and made again. If the cache cannot be
    written to, that is reported and nothing is kept.
    """
    file = cache_folder() / f"{name}-{digest(dict(made_of))[:16]}.checked"
    if file.is_file():
        try:
            return read_checked(file)
        except ValueError:
            warnings.warn(f"{file} is damaged: making it again", stacklevel=2)
    tensors = {key: value.contiguous() for key, value in make().items()}
    try:
        write_checked(file, tensors)
    except OSError as error:
        warnings.warn(f"cannot write to {file.parent} ({error.strerror}): {name} is not cached", stacklevel=2)
    return tensors


def run_key(settings: dict[str, Any], split_hash: str, content: str, device: str = "cpu") -> str:
    """Eight hexadecimal digits of everything but the seed that determines a run.

    Threads and device are included: sums in another order give other bits, and in the end other scores.
    """
    here = [__version__, torch.get_num_threads(), device]
    return digest([settings, split_hash, content, here])[:8]
