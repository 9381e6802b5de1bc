"""The repository's folders, the same from wherever a notebook or a test is started."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(os.environ.get("STEMLIB_ROOT") or Path(__file__).parents[1]).resolve()
NOTEBOOKS = ROOT / "notebooks"
RUNS = ROOT / "runs"
FIGURES = ROOT / "figures"
DATA = ROOT / "data"


def grid_run_folder() -> Path | None:
    """The folder of the run of a grid (`stemlib.grid`) that this process belongs to; None outside of one."""
    named = os.environ.get("STEMLIB_RUN")
    return Path(named) if named else None


def data_folder() -> Path:
    """The folder of the public data sets: the one that `STEMLIB_DATA` names, else the repository's `data/`.

    A relative `STEMLIB_DATA` counts from the repository's root, for a notebook's kernel may start elsewhere.

    Raises:
        FileNotFoundError: `STEMLIB_DATA` names no folder.
    """
    named = os.environ.get("STEMLIB_DATA")
    if not named:
        return DATA
    folder = (ROOT / Path(named).expanduser()).resolve()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"STEMLIB_DATA={named} names no folder (looked for {folder}): "
            "set it to the folder that holds Planetoid/, or unset it to download into data/"
        )
    return folder
