"""A user's own graph as files: twelve nodes in a ring, and what is read of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stemlib.data.graph import plain
from stemlib.data.own_files import Own, read_own

NODES = 12


def nodes() -> pd.DataFrame:
    """Two classes of six; the last node has no label."""
    index = np.arange(NODES)
    frame = pd.DataFrame(
        {"id": [f"n{i}" for i in index], "label": np.where(index % 2, "cat", "dog"), "age": index + 1.0}
    )
    frame.loc[NODES - 1, "label"] = None
    return frame


def edges() -> pd.DataFrame:
    """A ring, each edge once."""
    return pd.DataFrame(
        {"source": [f"n{i}" for i in range(NODES)], "target": [f"n{(i + 1) % NODES}" for i in range(NODES)]}
    )


def written(folder: Path, nodes: pd.DataFrame | None, edges: pd.DataFrame, form: str = "csv") -> Path:
    for name, frame in {"nodes": nodes, "edges": edges}.items():
        if frame is not None:
            getattr(frame, f"to_{form}")(folder / f"{name}.{form}", index=False)
    return folder


def pairs(own: Own) -> set[tuple[str, str]]:
    """Edges by the names of their ends."""
    return {(own.names[source], own.names[target]) for source, target in plain(own.task.graph.edge_index).T.tolist()}


def refusal(path: Path, **options: object) -> str:
    with pytest.raises(ValueError, match="cannot be used") as refused:
        read_own(path, **options)
    return str(refused.value)
