"""Where public data lies and where the library may write; the repository's own folders are left to the study."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path


def cache_folder() -> Path:
    """This library's folder in the user's cache: what was made from data sets, and what was downloaded."""
    return user_cache_path("stemlib", appauthor=False)


def data_folder() -> Path:
    """The folder of the public data sets: the one that `STEMLIB_DATA` names, otherwise `raw/` in the user's cache.

    Raises:
        FileNotFoundError: `STEMLIB_DATA` names no folder.
    """
    named = os.environ.get("STEMLIB_DATA")
    if not named:
        return cache_folder() / "raw"
    folder = Path(named).expanduser().resolve()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"STEMLIB_DATA={named} is not a folder (looked for {folder}): set it to the folder that holds Planetoid/, "
            "or unset it to download into the user's cache"
        )
    return folder
