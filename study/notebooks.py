"""A notebook's parameters, read from its file."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def parameters(notebook: Path) -> dict[str, tuple[type, Any]]:
    """Type and default of every parameter, from the cell that is tagged so."""
    cells = json.loads(notebook.read_text())["cells"]
    (cell,) = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", ())]
    lines = [line for line in ast.parse("".join(cell["source"])).body if isinstance(line, ast.AnnAssign)]
    values = {line.target.id: ast.literal_eval(line.value) for line in lines}
    return {key: (type(value), value) for key, value in values.items()}


def told(changed: Mapping[str, Any]) -> str:
    """Parameters as the name of a folder."""
    return "@".join(f"{key}={value}" for key, value in changed.items()).replace(" ", "+").replace("/", "-") or "default"
