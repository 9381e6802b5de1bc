"""The repository's folders, the same from wherever a notebook or a test is started."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(os.environ.get("STEMLIB_ROOT") or Path(__file__).parents[1]).resolve()
NOTEBOOKS = ROOT / "notebooks"
RUNS = Path(os.environ.get("STEMLIB_RUNS") or ROOT / "runs").resolve()  # elsewhere where a checkout is read-only
FIGURES = ROOT / "figures"
DATA = ROOT / "data"
RUN = "STEMLIB_RUN"  # the variable that names the folder of a run whose files are its own


def run_folder() -> Path | None:
    """The folder of this run's own files; None if it makes the committed ones."""
    named = os.environ.get(RUN)
    return Path(named) if named else None
