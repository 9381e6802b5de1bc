"""Models of every shape, saved and loaded, and the graphs that they are asked about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from samples import small_baseline, small_model
from torch_geometric.data import Data

import stemlib
from stemlib.data.graph import plain
from stemlib.data.tasks import Task
from stemlib.presets import MixtureConfig
from stemlib.settings import Settings
from stemlib.training.frozen import Frozen
from stemlib.training.saved import save

CONFIGS: dict[str, Settings] = {
    "stem": small_model(),
    "without tokens": small_model(codebook="none", routed="none"),
    "gcn": small_baseline("gcn"),
    "mixture": MixtureConfig(hidden=8),
}


def kept(model: Any, task: Task, folder: Path, **settings: Any) -> Frozen:
    save(model, folder, task, **settings)
    return stemlib.load(folder)


def raw_of(task: Task) -> Data:
    """A task's graph as its user has it."""
    graph = task.graph
    data = Data(x=graph.x, edge_index=plain(graph.edge_index), edge_attr=graph.edge_attr)
    if task.kind == "link":
        data.edge_type, data.edge_label_index = graph.edge_type, task.pairs.T
    if task.kind == "graph":
        data.batch, data.ptr = graph.batch, graph.ptr
    return data
