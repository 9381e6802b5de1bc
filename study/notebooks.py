"""A notebook's parameters, read from its file."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

LONGEST_NAME = 150  # of a run's folder; file systems end at 255


def parameters(notebook: Path) -> dict[str, tuple[type, Any]]:
    """Type and default of every parameter, from the cell with that tag."""
    cells = json.loads(notebook.read_text())["cells"]
    (cell,) = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", ())]
    lines = [line for line in ast.parse("".join(cell["source"])).body if isinstance(line, ast.AnnAssign)]
    values = {line.target.id: ast.literal_eval(line.value) for line in lines}
    return {key: (type(value), value) for key, value in values.items()}


def told(values: Mapping[str, Any]) -> str:
    """Parameters as the name of a folder: `preset=smoke@dataset=cora@methods=gcn+stem`.

    Sorted, so that their order does not matter. `=2C` is a comma, and so on: shells or Slurm would stumble over others.
    A part of the SHA-256 keeps a long name unique.
    """
    ordered = sorted(values.items(), key=lambda item: (item[0] != "preset", item[0]))
    name = urlencode(ordered).replace("&", "@").replace("%", "=")
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[:LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
