"""Raw files: where they lie, and what proves that they are the published ones.

They are looked for in the folder that `STEMLIB_DATA` names. If it names none, they are in the user's cache, and
what is missing there is downloaded by PyTorch Geometric's own classes. Nothing is read, above all nothing is
unpickled, before its sha256 has been compared with `SHA256SUMS` beside this file.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torch_geometric.data import Data, InMemoryDataset

from stemlib.cache import digest
from stemlib.files import write_atomically
from stemlib.paths import data_folder

# What a reader raises on a file that is not what its name says.
UNREADABLE = (
    ValueError, KeyError, IndexError, EOFError, OSError, pickle.UnpicklingError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class RawFiles:
    """Files that are there and have been checked.

    Attributes:
        paths: where they lie, by name (the path relative to the data folder, with slashes).
        sums: sha256 by name.
        unverified: names that `SHA256SUMS` beside this file does not list.
    """

    paths: dict[str, Path]
    sums: dict[str, str]
    unverified: tuple[str, ...]

    @property
    def checksum(self) -> str:
        """sha256 of all the files' sums."""
        return digest(self.sums)

    @property
    def notes(self) -> tuple[str, ...]:
        """Which files could not be checked; nothing where all could."""
        if not self.unverified:
            return ()
        return (f"not verified, as no checksum is on file: {', '.join(self.unverified)}",)


@cache
def listed_sums() -> dict[str, str]:
    """`SHA256SUMS` beside this file as a dictionary, file name to sha256."""
    lines = Path(__file__).with_name("SHA256SUMS").read_text().splitlines()
    return dict(reversed(line.split(maxsplit=1)) for line in lines)


def verified(paths: dict[str, Path]) -> RawFiles:
    """The files, each checked against `SHA256SUMS` beside this file if that lists it.

    Raises:
        ValueError: a file is cut, altered or another one; all such files are named.
    """
    listed, sums = listed_sums(), {}
    for name, path in paths.items():
        with path.open("rb") as file:
            sums[name] = hashlib.file_digest(file, "sha256").hexdigest()
    if wrong := [name for name in paths if sums[name] != listed.get(name, sums[name])]:
        lines = "\n".join(
            f"  - {paths[name]} ({paths[name].stat().st_size} bytes): sha256 {sums[name][:12]}..., "
            f"expected {listed[name][:12]}..."
            for name in wrong
        )
        raise ValueError(
            f"damaged, cut or replaced files; nothing was read:\n{lines}\n"
            "delete them and load again, or restore them from their source; for another version that you trust, "
            "change its line in stemlib/data/SHA256SUMS"
        )
    return RawFiles(dict(paths), sums, tuple(name for name in paths if name not in listed))


def require(names: Sequence[str], source: str, fetch: Callable[[Path], None] | None = None) -> RawFiles:
    """Files of the data folder, checked; downloaded first if they may be.

    Args:
        names: paths relative to the data folder.
        source: where they are published, for the message.
        fetch: downloads files into the folder it is given, under their names. Called if `STEMLIB_DATA` is
            not set and files are missing; what it downloads is checked before it is kept.

    Raises:
        FileNotFoundError: files are missing; names them, their source and the variable to set.
        ValueError: as `verified`.
    """
    folder, named, cause = data_folder(), os.environ.get("STEMLIB_DATA"), None
    paths = {name: folder / name for name in names}
    missing = [name for name, path in paths.items() if not path.is_file()]
    if missing and fetch and not named:
        cause = _fetch(fetch, missing, folder)
        missing = [name for name in missing if not paths[name].is_file()]
    if missing:
        failed = f" The download failed: {cause}." if cause else ""
        where = "from STEMLIB_DATA" if named else "STEMLIB_DATA is not set"
        raise FileNotFoundError(
            f"missing in {folder} ({where}): {', '.join(missing)}.{failed} Source: {source}. "
            "Put the files there, or set STEMLIB_DATA to a folder that has them"
        ) from cause
    return verified(paths)


def _fetch(fetch: Callable[[Path], None], names: Sequence[str], folder: Path) -> Exception | None:
    """Download to a temporary folder, check, then copy into this one; the error if the download fails."""
    with tempfile.TemporaryDirectory() as temporary:
        try:
            fetch(Path(temporary))
        except Exception as error:  # whatever the network and the libraries raise; the caller chains it
            return error
        arrived = {name: path for name in names if (path := Path(temporary) / name).is_file()}
        for name, path in verified(arrived).paths.items():
            with write_atomically(folder / name) as part:
                shutil.copyfile(path, part)
    return None


def open_dataset(dataset: type[InMemoryDataset], *arguments: Any, folder: str, source: str) -> tuple[Data, RawFiles]:
    """The first graph of a PyG data set, read by its class from raw files that have been checked.

    The class gets a temporary root, in which its raw folder is a link to the real one, as that may be
    read-only. What the class makes stays in memory: no processed file is written, and none of unknown origin
    is unpickled.

    Args:
        dataset: a PyG class.
        arguments: after `root`.
        folder: of the raw files, relative to the data folder.
        source: for the message where they are missing.

    Raises:
        FileNotFoundError: files are missing and cannot be downloaded.
        ValueError: a file is not what its checksum says, or cannot be read.
    """
    found: list[RawFiles] = []

    class Checked(dataset):
        def _download(self) -> None:
            self.log = False
            link = Path(self.raw_dir)
            link.parent.mkdir(parents=True, exist_ok=True)

            def fetch(temporary: Path) -> None:
                (temporary / folder).mkdir(parents=True)
                link.symlink_to(temporary / folder, target_is_directory=True)
                try:
                    self.download()
                finally:
                    link.unlink()

            names = [f"{folder}/{Path(path).name}" for path in self.raw_paths]
            found.append(require(names, source, fetch))
            link.symlink_to(data_folder() / folder, target_is_directory=True)

        def save(self, data_list: list[Data], path: str) -> None:
            self.processed = self.collate(data_list)

        def load(self, path: str) -> None:
            self.data, self.slices = self.processed

    with tempfile.TemporaryDirectory() as root:
        try:
            graph = Checked(root, *arguments)[0]
        except UNREADABLE as error:
            if not found:
                raise
            raise ValueError(f"{folder} cannot be read as {dataset.__name__}: {error}") from error
    return graph, found[0]
