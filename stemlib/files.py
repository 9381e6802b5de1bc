"""Files: whole or not there, checked when read, and keyed by what made them. Nothing here is unpickled."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save, save_file
from torch import Tensor

from stemlib.paths import cache_folder

DIGEST_BYTES = 32
PACKAGES = ("torch", "torch_geometric", "numpy", "scikit-learn")


@contextmanager
def write_atomically(path: str | Path) -> Iterator[Path]:
    """Write to the temporary path that this gives; it takes `path`'s place when the block ends without error.

    A process killed inside the block leaves `path` as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Have a folder to oneself, made where it is missing; say so and wait while another process has it.

    A process that ends in any way gives it free. Whoever waited finds what the other one wrote.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{folder} is another process's: waiting until it ends", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


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
    file = cache_folder() / f"{name}-{digest(dict(made_of))[:16]}.safetensors"
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


def run_key(settings: dict[str, Any], split_hash: str, data_checksum: str) -> str:
    """Eight hexadecimal digits of everything but the seed that determines a run."""
    text = json.dumps([settings, split_hash, data_checksum], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


def quiet() -> bool:
    """Whether progress bars are off: `STEMLIB_PROGRESS=off`, as in batch runs and committed notebooks."""
    return os.environ.get("STEMLIB_PROGRESS") == "off"
