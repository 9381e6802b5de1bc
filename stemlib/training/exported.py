"""A saved model as a program of PyTorch's own (`torch.export`), which runs without this library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from stemlib.data.graph import Graph, node_features, plain
from stemlib.model.network import Network
from stemlib.training.frozen import Frozen

CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # sums in another order


class _Asked(nn.Module):
    """A network as a function of tensors."""

    def __init__(self, model: Network, regression: bool) -> None:
        super().__init__()
        self.model, self.regression = model, regression

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_attr: Tensor | None = None,
        instances: Tensor | None = None,
        batch: Tensor | None = None,
        ptr: Tensor | None = None,
    ) -> Tensor:
        """Logits, or numbers in their own unit, `[M, outputs]`."""
        logits = self.model(Graph(x, edge_index, edge_attr, batch=batch, ptr=ptr), instances).logits
        return logits * self.model.unit[1] + self.model.unit[0] if self.regression else logits


def export(frozen: Frozen, data: Any, file: str | Path) -> ExportedProgram:
    """Write a model as a program for graphs of any size, equal to the model on the given graph.

    It takes, by name, features as `frozen.space` encodes them: `x` `[N, d]`, `edge_index` `[2, E]`, `edge_attr`
    `[E, d_e]` where the model reads it; and `instances`, nodes `[M]` or pairs `[M, 2]`, or `batch` `[N]` and `ptr`
    `[G + 1]`. It gives logits, or numbers in their own unit, `[M, outputs]`.

    Args:
        frozen: the model.
        data: a graph to trace it on, as `Frozen.task` takes it, with some nodes and edges.
        file: the `.pt2` file to write; `torch.export.load(file).module()` runs it.

    Raises:
        ValueError: a model that PyTorch cannot export, or whose program computes something else.
    """
    task = frozen.task(data)
    graph = task.graph
    given = {"x": node_features(graph), "edge_index": plain(graph.edge_index)}
    if graph.edge_attr is not None:
        given["edge_attr"] = graph.edge_attr if graph.edge_type is None else graph.edge_attr[graph.edge_type]
    if task.kind == "graph":
        given |= {"batch": graph.batch, "ptr": graph.ptr}
    else:
        given["instances"] = task.select(torch.arange(task.instances))
    asked = _Asked(frozen.model, frozen.about["regression"]).eval()
    free = {name: {1 if name == "edge_index" else 0: Dim.DYNAMIC} for name in given}
    try:
        program = torch.export.export(asked, (), given, dynamic_shapes=free)
    except Exception as error:  # whatever PyTorch's tracer meets
        name = type(frozen.model).__name__
        raise ValueError(f"PyTorch cannot export this {name} ({frozen.model.config}): {error}") from error
    with torch.no_grad():
        found, expected = program.module()(**given), asked(**given)
    if not torch.allclose(found, expected, **CLOSE):
        off = (found - expected).abs().max().item()
        raise ValueError(f"the exported program differs from the model by {off:.2g}; nothing was written")
    torch.export.save(program, file)
    return program
