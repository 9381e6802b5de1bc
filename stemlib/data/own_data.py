"""A user's own graph as a task: what is read, converted or refused, field by field, is listed in docs/own_data.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import to_edge_index

from stemlib.data.checks import checked, problems
from stemlib.data.containers import one_data
from stemlib.data.feature_source import FeatureSource
from stemlib.data.feature_space import FeatureSpace
from stemlib.data.graph import Graph
from stemlib.data.nodes import mask_splits
from stemlib.data.own_labels import labels_by_space
from stemlib.data.readings import Reader
from stemlib.data.splits import stratified_split
from stemlib.data.tasks import PARTS, UNLABELLED, Kind, Split, Task

LABELS = {"node": "y", "link": "edge_label", "graph": "y"}
MASKS = [f"{part}_mask" for part in PARTS]


def from_data(
    data: Any,
    *,
    name: str = "own-data",
    kind: Kind = "node",
    splits: Mapping[str, Split] | None = None,
    split: Literal["stratified"] | None = None,
    seed: int = 0,
    description: str = "",
    regression: bool = False,
    edge_pair: Tensor | None = None,
    space: FeatureSpace | None = None,
) -> Task:
    """Make a task from a graph; `docs/own_data.md` says for each field what is read, converted or refused.

    Args:
        data: a PyG `Data` or what `stemlib.data.containers` makes one of, with `x` `[N, d]`, `edge_index` `[2, E]`,
            optionally `edge_attr` `[E, d]` (or `[T, d]` with `edge_type` `[E]`); for node tasks `y` `[N]`; for link
            tasks `edge_label_index` `[2, M]` and `edge_label` `[M]`; for graph tasks a `Batch` or list with `y` `[G]`.
            Binary labels are floats `[M, T]`, NaN where missing; `[M]` stands for one of them. Masks `train_mask`,
            `val_mask`, `test_mask` `[M]` or `[M, S]` give the splits.
        name: as in file names.
        kind: node, link or graph.
        splits: instead of masks.
        split: `stratified` for 50/25/25 within every class, drawn by `seed`, instead of masks; the default without any.
        seed: of that draw.
        description: what a node, an edge and a label are.
        regression: whether labels, `[M]` or `[M, T]` with NaN where missing, are numbers to predict.
        edge_pair: of a link task, which pair each edge stands for, `[E]`, -1 for none; a training step hides the
            edges of its own pairs.
        space: of the graph that a model was trained on: `x` has raw features, in any form that it encodes; class labels
            get the numbers that it has for their names; labels may be missing (then there is no split).

    Returns:
        The task; its `notes` say what was converted, carried along unread, or is worth knowing.

    Raises:
        TypeError: not a graph.
        ValueError: all problems of the data, one a line.

    Example:
        >>> graph = Data(x=torch.randn(3, 2), edge_index=torch.tensor([[0, 1], [1, 2]]), y=torch.tensor([0, 1, 1]))
        >>> graph.train_mask, graph.val_mask, graph.test_mask = torch.eye(3, dtype=torch.bool)
        >>> from_data(graph, name="path").split("masks").test.tolist()
        [2]
    """
    if kind not in LABELS:
        raise ValueError(f"kind must be one of {', '.join(LABELS)}; got {kind!r}")
    if split not in (None, "stratified"):
        raise ValueError(f"split must be 'stratified' or None, got {split!r}; for your own, use `splits`")
    if split is not None and splits is not None:
        raise ValueError("give `splits`, or `split` to draw one, not both")
    reader = Reader()
    data = one_data(data, kind, reader.notes)
    graph = _graph(data, kind, reader, space)
    pairs = None
    if kind == "link":
        graph.edge_pair = reader.whole("edge_pair", edge_pair)
        pairs = reader.pairs("edge_label_index", data.get("edge_label_index"))
    if space is None:
        labels, class_names = reader.labels(LABELS[kind], data.get(LABELS[kind]), regression)
    else:
        sizes = {"node": graph.num_nodes, "link": 0 if pairs is None else pairs.size(1), "graph": _graphs(graph)}
        labels = labels_by_space(LABELS[kind], data.get(LABELS[kind]), space, sizes[kind], regression, reader)
        class_names = space.own_names
        if labels is not None and not ((labels >= 0).any() if labels.dim() == 1 else labels.isfinite().any()):
            splits = {}
    if splits is not None and not all(isinstance(one, Split) for one in splits.values()):
        reader.problems["splits"] = "`splits` must map names to `stemlib.data.tasks.Split(name, train, val, test)`"
        splits = {}
    if splits is None:
        drawn = split is not None or all(data.get(name) is None for name in MASKS)
        splits = _drawn(labels, regression, seed, reader) if drawn else _masked(data, labels, graph, reader)
    task = Task(
        name=name,
        kind=kind,
        graph=graph,
        labels=torch.zeros(0) if labels is None else labels,
        splits=dict(splits or {}),
        pairs=None if pairs is None else pairs.T.contiguous(),
        description=description or f"the user's own data {name!r}",
        regression=regression,
        class_names=class_names,
        notes=(*reader.notes, *_unread(graph)),
    )
    if unread := reader.problems:
        words = [f"`{field}`" for field in unread] + ["label"] * (LABELS[kind] in unread)
        more = [line for line in problems(task) if not any(word in line for word in words)]
        raise ValueError("\n  - ".join([f"the data of {name!r} cannot be used:", *unread.values(), *more]))
    task = checked(task)
    return replace(task, checksum=task.content)


def _graphs(graph: Graph) -> int:
    return 0 if graph.ptr is None else graph.ptr.numel() - 1


def _encoded(data: Data, space: FeatureSpace, reader: Reader) -> FeatureSource | None:
    """The source of node features; encoded node and edge features replace the raw ones in `data`."""
    source = None
    for name in ("x", "edge_attr"):
        if data.get(name) is None:
            continue
        try:
            if name == "edge_attr":
                data[name] = space.encode_edges(data[name])
            else:
                source = space.source(data[name])
                data[name] = source.encode(source.raw)
        except (ValueError, ImportError) as error:
            reader.problems[name], data[name] = f"`{name}`: {error}", None
    return None if space.is_plain else source


def _graph(data: Data, kind: Kind, reader: Reader, space: FeatureSpace | None) -> Graph:
    """The prepared graph; what could not be read is missing from it."""
    source = None if space is None else _encoded(data, space, reader)
    edges = data.get("edge_index")
    if edges is None and isinstance(adjacency := data.get("adj_t"), Tensor):
        edges = to_edge_index(adjacency.to_sparse() if adjacency.layout == torch.strided else adjacency)[0].flip(0)
        reader.notes.append("edges read from `adj_t`, whose rows are targets; its values are not read")
    read = {"edge_index": reader.pairs("edge_index", edges)}
    read |= {name: reader.table(name, data.get(name)) for name in ("x", "edge_attr")}
    read |= {name: reader.whole(name, data.get(name)) for name in ("batch", "ptr")}
    by_edge = None in (read["edge_index"], read["edge_attr"]) or len(read["edge_attr"]) == read["edge_index"].size(1)
    if not by_edge and data.get("edge_type") is not None:
        read["edge_type"] = reader.whole("edge_type", data.edge_type)
    batch = read["batch"]
    counts = kind == "graph" and batch is not None and batch.dim() == 1 and batch.numel() and batch[0] >= 0
    if counts and read["ptr"] is None and not batch.diff().lt(0).any():
        read["ptr"] = torch.cat([torch.zeros(1, dtype=torch.long), batch.bincount().cumsum(0)])
    for name, value in read.items():
        data[name] = value
    graph = replace(Graph.of(data), source=source)
    return graph if space is None else replace(graph, space=space, edge_steps=space.edge_steps)


def _masked(data: Data, labels: Tensor | None, graph: Graph, reader: Reader) -> dict[str, Split]:
    """The splits that the masks give."""
    if absent := [name for name in MASKS if data.get(name) is None]:
        reader.problems["masks"] = (
            f"no split: {', '.join(absent)} missing; add masks, or give `splits`, or split='stratified' to draw one"
        )
        return {}
    instances = graph.num_nodes if labels is None else len(labels)
    masks = {name: reader.mask(name, data[name], instances) for name in MASKS}
    if any(mask is None for mask in masks.values()):
        return {}
    counts = {mask.size(1) for mask in masks.values() if mask.dim() == 2}
    if len(counts) > 1:
        reader.problems["masks"] = f"masks have different numbers of splits: {sorted(counts)}"
        return {}
    return mask_splits(Data(**masks), "masks")


def _drawn(labels: Tensor | None, regression: bool, seed: int, reader: Reader) -> dict[str, Split]:
    """A split of the labelled instances within every class; several labels, or numbers, count as one class."""
    if labels is None:
        return {}
    classes = labels.dim() == 1 or (labels.size(1) == 1 and not regression)
    known = (labels != UNLABELLED) if labels.dim() == 1 else labels.isfinite().any(1)
    try:
        drawn = stratified_split(known.nonzero().squeeze(1), labels if classes else torch.zeros(len(labels)), seed)
    except ValueError as error:
        reader.problems["masks"] = f"there are no masks, and no split can be drawn: {error}"
        return {}
    reader.notes.append(f"split {drawn.name!r} is drawn: 50/25/25{' within every class' * classes}, seed {seed}")
    return {drawn.name: drawn}


def _unread(graph: Graph) -> list[str]:
    """A note on what is carried along."""
    taken = {*LABELS.values(), *MASKS, "edge_label_index", "adj_t"}
    names = [name for name, value in graph.about.items() if name not in taken and value is not None]
    if not names:
        return []
    return [f"not read: {', '.join(names)}; kept in `graph.about` as given, while the graph's edges are sorted"]
