"""Tiny notebooks, grid files and a light stand-in for papermill, for the tests of the grid."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
import yaml

PARAMETERS = 'preset: str = "smoke"  # the budget\nn: int = 1  # a number\nlr: float = 0.1\nnames: str = "a b"'
RECORD = """
import pandas as pd
from study import records
rows = pd.DataFrame([{"seed": seed, "power": n**seed, "share": None if seed else lr} for seed in (0, 1)])
records.save_run(rows, history=pd.DataFrame({"epoch": [0], "loss": [1.0]}))
"""

# Notes its start in `executions`, then does what the notebook's file says: a light `papermill` without a kernel. `-S`
# and few imports, for it is started some hundred times.
LIGHT = """
import os, re, sys, threading, time
notebook, output, parameters = sys.argv[1:]
threading.Thread(target=lambda: (os.read(0, 1), os._exit(9)), daemon=True).start()
folder = os.environ["STEMLIB_RUN"]
n = int(re.search(r"n: (\\d+)", open(parameters).read())[1])
with open(os.path.join(folder, "../../../executions"), "a") as file:
    file.write(f"{n}\\n")
CODE
with open(os.path.join(folder, "metrics.json"), "w") as file:
    file.write(f'[{{"square": {n * n}}}]')
"""


def light(code: str = "") -> tuple[str, ...]:
    """What takes the place of `notebook_run.COMMAND`; `code` runs before the metrics are written."""
    return (sys.executable, "-S", "-c", LIGHT.replace("CODE", code))


def write_notebook(path: Path, *sources: str, parameters: str = PARAMETERS) -> Path:
    cells = [nbformat.v4.new_code_cell(source) for source in (parameters, *sources)]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


def write_grid(root: Path, *entries: object, **top: object) -> str:
    """A grid file in the folder; an entry that is no mapping is the `n` of a run of `06_tiny`."""
    runs = [
        entry if isinstance(entry, dict) else {"notebook": "06_tiny", "parameters": {"n": entry}} for entry in entries
    ]
    file = root / "grid.yaml"
    file.write_text(yaml.safe_dump({"preset": "smoke", "runs": runs, **top}))
    return str(file)


def executions(root: Path) -> list[int]:
    """The `n` of every run that has been started, in order."""
    file = root / "executions"
    return [int(line) for line in file.read_text().split()] if file.exists() else []
