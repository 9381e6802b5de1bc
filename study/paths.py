"""The repository's folders, the same from wherever a notebook or a test is started."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(os.environ.get("STEMLIB_ROOT") or Path(__file__).parents[1]).resolve()
NOTEBOOKS = ROOT / "notebooks"
RUNS = ROOT / "runs"
FIGURES = ROOT / "figures"
DATA = ROOT / "data"


def job_folder() -> Path | None:
    """The folder of the job of a grid that this process belongs to; None outside of one."""
    named = os.environ.get("STEMLIB_RUN")
    return Path(named) if named else None
