"""A user's own graph as a task: PyTorch Geometric's `Data`, checked thoroughly, every problem named at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from scipy.sparse import issparse
from torch import Tensor
from torch_geometric.data import Data

from stemlib.data.checks import checked, problems
from stemlib.data.graph import READ, Graph
from stemlib.data.nodes import mask_splits
from stemlib.data.tasks import PARTS, Kind, Split, Task
from stemlib.files import digest

LABELS = {"node": "y", "link": "edge_label", "graph": "y"}


def from_data(
    data: Data,
    *,
    name: str = "own-data",
    kind: Kind = "node",
    splits: Mapping[str, Split] | None = None,
    description: str = "",
    regression: bool = False,
    edge_pair: Tensor | None = None,
) -> Task:
    """Make a task of a PyG graph.

    Args:
        data: `x` `[N, d]`, `edge_index` `[2, E]`, optionally `edge_attr` `[E, d]` (or `[T, d]` with `edge_type` `[E]`),
            and as PyG names them: for node tasks `y` `[N]`; for link tasks `edge_label_index` `[2, M]` and
            `edge_label` `[M]`; for graph tasks a `Batch` with `y` `[G]`. Binary labels are floats `[M, T]`, NaN where
            missing; `[M]` stands for one of them. Masks `train_mask`, `val_mask`, `test_mask` `[M]` or `[M, S]` give
            the splits. NumPy's, SciPy's and sparse tables are made dense, and features float32.
        name: as in file names.
        kind: node, link or graph.
        splits: instead of masks; `stemlib.data.splits` draws some.
        description: what a node, an edge and a label are.
        regression: whether labels, `[M]` or `[M, T]` with NaN where missing, are numbers to predict; they are learnt
            and answered as `stemlib.data.tasks.standardised` has them.
        edge_pair: of a link task, which pair each edge stands for, `[E]`; a training step hides its own pairs' edges.

    Raises:
        TypeError: not a PyG `Data`.
        ValueError: all problems of the data, one a line.

    Example:
        >>> graph = Data(x=torch.randn(3, 2), edge_index=torch.tensor([[0, 1], [1, 2]]), y=torch.tensor([0, 1, 1]))
        >>> graph.train_mask, graph.val_mask, graph.test_mask = torch.eye(3, dtype=torch.bool)
        >>> from_data(graph, name="path").split("masks").test.tolist()
        [2]
    """
    if not isinstance(data, Data):
        raise TypeError(
            f"from_data takes one torch_geometric.data.Data (or a Batch of them), got {type(data).__name__}; "
            "make a HeteroData one type with .to_homogeneous()"
        )
    if kind not in LABELS:
        raise ValueError(f"kind must be one of {', '.join(LABELS)}; got {kind!r}")
    found, data = [], _as_tensors(data)
    if data.get("edge_index") is None and data.get("adj_t") is not None:
        found.append("edges stand in `adj_t`; make `edge_index` [2, E] of them: torch_geometric.utils.to_edge_index")
    labels = data.get(LABELS[kind])
    if not isinstance(labels, Tensor):
        found.append(f"no labels: `{LABELS[kind]}` must be a tensor")
        labels = torch.zeros(0)
    elif regression and labels.dim() in (1, 2) and not labels.is_complex():
        labels = labels.double().reshape(len(labels), -1)
    elif labels.dim() == 2 and labels.size(1) == 1 and not labels.is_floating_point():
        labels = labels.squeeze(1)
    elif labels.dim() == 1 and labels.is_floating_point():
        labels = labels.unsqueeze(1)  # of one column, which the checks then want to be 0, 1 or NaN
    graph, pairs = Graph.of(data), None
    if kind == "link":
        graph.edge_pair, pairs = edge_pair, data.get("edge_label_index")
    if splits is None:
        mask_problems = _mask_problems(data, labels.size(0))
        found += mask_problems
        splits = {} if mask_problems else mask_splits(data, "masks")
    task = Task(
        name=name,
        kind=kind,
        graph=graph,
        labels=labels,
        splits=dict(splits),
        pairs=pairs.T.contiguous() if isinstance(pairs, Tensor) and pairs.dim() == 2 else None,
        description=description or f"the user's own data {name!r}",
        regression=regression,
    )
    if found:
        lines = found + [problem for problem in problems(task) if labels.numel() or "label" not in problem]
        raise ValueError("\n  - ".join([f"the data of {name!r} cannot be used:", *lines]))
    tensors = {key: digest(value) for key, value in data.to_dict().items() if isinstance(value, Tensor)}
    return checked(replace(task, checksum=digest([tensors, "regression"] if regression else tensors)))


def _as_tensors(data: Data) -> Data:
    """A copy of the data; of what is read, features are dense and float32, and arrays are tensors of their own."""
    data = data.clone()
    read = {*READ, "edge_type", *LABELS.values(), "edge_label_index", *(f"{part}_mask" for part in PARTS)}
    for name in read.intersection(data.keys()):
        value = data[name].toarray() if issparse(data[name]) else data[name]
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            value = torch.from_numpy(value.copy())
        if name in ("x", "edge_attr") and isinstance(value, Tensor):
            value = value.detach().to_dense()
            value = value.float() if value.is_floating_point() else value
        data[name] = value
    return data


def _mask_problems(data: Data, instances: int) -> list[str]:
    masks = {f"{part}_mask": data.get(f"{part}_mask") for part in PARTS}
    if missing := [name for name, mask in masks.items() if not isinstance(mask, Tensor)]:
        return [f"no split: {', '.join(missing)} missing; add masks, or give `splits` (see stemlib.data.splits)"]
    found = []
    for name, mask in masks.items():
        if mask.dtype != torch.bool:
            found.append(f"`{name}` must be boolean, got {mask.dtype}")
        if mask.dim() not in (1, 2) or mask.size(0) != instances:
            found.append(f"`{name}` must be [{instances}] or [{instances}, S], got {tuple(mask.shape)}")
    counts = {mask.size(1) for mask in masks.values() if mask.dim() == 2}
    if len(counts) > 1:
        found.append(f"masks have different numbers of splits: {sorted(counts)}")
    return found
