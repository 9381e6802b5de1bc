"""Tiny notebooks and grid files, and jobs that look finished, for the tests of the batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import yaml

from study.batch.jobs import Job

PARAMETERS = """preset: str = "smoke"  # the budget
n: int = 1  # a number
lr: float = 0.1
names: str = "a b"
deep: bool = False"""
RECORD = """
import os
import pandas as pd
from study import records
rows = pd.DataFrame([{"power": n**seed, "share": None if seed else lr} for seed in (0, 1)])
records.save_run(rows.assign(threads=os.environ["OMP_NUM_THREADS"]))
"""

# In the place of papermill, without a kernel: it notes its start, stands still where it is told to, and measures.
STAND_IN = """
import os, time
from pathlib import Path

def inspect_notebook(path):
    return {"preset": {"inferred_type_name": "str"}, "n": {"inferred_type_name": "int"}}

def execute_notebook(notebook, output, parameters, **_):
    root, n = Path(os.environ["STEMLIB_ROOT"]), parameters["n"]
    with (root / "executions").open("a") as file:
        file.write(f"{n} {os.getpid()}\\n")
    stand_still(root, f"started-{n}")
    (Path(os.environ["STEMLIB_RUN"]) / "metrics.json").write_text('[{"square": %d}]' % n**2)
    stand_still(root, f"measured-{n}")

def stand_still(root, moment):
    if (root / f"hold-{moment}").exists():
        (root / f"at-{moment}").touch()
    while (root / f"hold-{moment}").exists():
        time.sleep(0.02)
"""


def write_notebook(path: Path, *sources: str, parameters: str = PARAMETERS) -> Path:
    cells = [nbformat.v4.new_code_cell(source) for source in (parameters, *sources)]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


def write_grid(root: Path, *entries: object, **top: object) -> str:
    """A grid file in the folder; an entry that is no mapping is the `n` of a job of `06_tiny`."""
    jobs = [
        entry if isinstance(entry, dict) else {"notebook": "06_tiny", "parameters": {"n": entry}} for entry in entries
    ]
    file = root / "grid.yaml"
    file.write_text(yaml.safe_dump({"preset": "smoke", "jobs": jobs, **top}))
    return str(file)


def finish(job: Job, library: str, seconds: float = 1.0, **record: Any) -> None:
    """Fill the folder of a job as if it had run with this version of the library."""
    job.folder.mkdir(parents=True)
    (job.folder / "params.yaml").write_text(yaml.safe_dump(job.parameters))
    (job.folder / "metrics.json").write_text(json.dumps([{"square": job.parameters.get("n", 0) ** 2}]))
    about = {"fingerprint": job.fingerprint, "library": library, "seconds": seconds, "finished": "2026-01-01"}
    (job.folder / "DONE").write_text(json.dumps(about | {"finding": None} | record))
