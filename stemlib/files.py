"""Files that are written whole or not at all, and folders that one process holds at a time."""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGES = ("torch", "torch_geometric", "numpy", "scikit-learn")


@contextmanager
def write_atomically(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write to; it replaces `path` when the block ends without error.

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
    """Lock a folder, made if it is missing; while another process holds it, say so and wait.

    A process that ends in any way releases it. One that waited finds what the other one wrote.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another process holds {folder}: waiting until it ends", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


def quiet() -> bool:
    """Whether progress bars are off: `STEMLIB_PROGRESS=off`, as in batch runs and committed notebooks."""
    return os.environ.get("STEMLIB_PROGRESS") == "off"
