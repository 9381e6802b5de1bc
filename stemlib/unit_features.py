"""The one feature space of pretraining and of fine-tuning from it: `width` columns, rows of length one.

Feature reconstruction is a squared error: without a common length the data set with the longest rows would be the
only one that counts. Sentence encoders and `tfidf-svd` give rows of length one anyway.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace

from torch import Tensor
from torch.nn import functional as F
from torch_geometric.data import Data

from stemlib.datasets.cache import digest
from stemlib.features import reduced
from stemlib.tasks import Task

CLOSE = 1e-3


def unit_features(task: Task, width: int) -> Task:
    """The task with node and edge features of `width` columns and rows of length one; zero rows stay zero."""
    graph = copy(task.graph)
    for name, table in tables(graph).items():
        graph[name] = F.normalize(reduced(table, width, task.name), dim=-1)
    return replace(task.with_graph(graph), checksum=digest([task.checksum, "unit rows", width]))


def require_unit_features(task: Task, width: int, reader: str) -> None:
    """Refuse a task that `unit_features` did not bring to this width.

    Args:
        task: has the features.
        width: that they should have.
        reader: what reads them, for the message.

    Raises:
        ValueError: features of another width, or with rows whose length is neither 0 nor 1.
    """
    for name, table in tables(task.graph).items():
        lengths = table.norm(dim=-1)
        wrong = ((lengths - 1).abs() > CLOSE) & (lengths > CLOSE)
        if table.size(1) != width or wrong.any():
            raise ValueError(
                f"{reader} reads features of width {width} with rows of length 1; {name} of {task.name!r} has width "
                f"{table.size(1)} and {int(wrong.sum())} rows of other lengths: use "
                f"stemlib.unit_features.unit_features(task, {width})"
            )


def tables(graph: Data) -> dict[str, Tensor]:
    """Node and edge features, those that the graph has."""
    return {name: graph[name] for name in ("x", "edge_attr") if graph.get(name) is not None}
