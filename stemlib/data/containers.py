"""What graphs are kept in, as one `Data`: typed and NetworkX graphs, lists of graphs, data sets, split links."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import networkx
import torch
from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.data.data import BaseData
from torch_geometric.data.dataset import Dataset
from torch_geometric.utils import from_networkx

from stemlib.data.tasks import PARTS, Kind

TAKEN = (
    "a torch_geometric Data, Batch or HeteroData, a NetworkX graph, a PyG data set, a list of Data (kind='graph') "
    "or RandomLinkSplit's output (kind='link')"
)


def one_data(given: Any, kind: Kind, notes: list[str]) -> Data:
    """The graph, or the union of graphs; what was done to it is added to `notes`.

    Raises:
        TypeError: it is none of `TAKEN`.
        ValueError: graphs that do not fit together, or a typed graph whose types do not.
    """
    if isinstance(given, Dataset):
        given = list(given)
        given = given[0] if len(given) == 1 and kind != "graph" else given
    if isinstance(given, HeteroData):
        return _of_one_type(given, notes)
    if isinstance(given, networkx.Graph):
        notes.append("read from NetworkX: nodes are numbered in its order")
        try:
            return from_networkx(given)
        except (ValueError, TypeError, RuntimeError) as error:
            raise ValueError(
                f"the NetworkX graph cannot be read ({error}); give every node the same attributes, each a number or a "
                "fixed-length list of numbers"
            ) from None
    if isinstance(given, Data):
        return given.clone()
    if isinstance(given, Sequence) and given and all(isinstance(one, BaseData) for one in given):
        if any(not isinstance(one, Data) for one in given):
            raise TypeError("a list of typed graphs is not supported; convert each with .to_homogeneous()")
        if kind == "link" and len(given) == len(PARTS) and all("edge_label_index" in one for one in given):
            return _of_split_links(given, notes)
        if kind == "graph":
            return _union(given)
        raise ValueError(f"{len(given)} graphs: a list is for kind='graph'; for kind={kind!r} give one of them")
    raise TypeError(f"from_data takes {TAKEN}; got {type(given).__name__}")


def _of_one_type(given: HeteroData, notes: list[str]) -> Data:
    """A typed graph, its types no longer told apart."""
    tables = {name: given[name].get("x") for name in given.node_types}
    widths = {name: tuple(x.shape[1:]) if hasattr(x, "shape") else None for name, x in tables.items()}
    if len(set(widths.values())) > 1 or None in widths.values():
        raise ValueError(f"all node types must have features `x` of the same width, got {widths}; pad or project them")
    try:
        found = given.to_homogeneous()
    except (ValueError, RuntimeError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"HeteroData cannot be made one type ({error}); call .to_homogeneous() yourself") from None
    notes.append(
        f"{len(given.node_types)} node and {len(given.edge_types)} edge types are not distinguished; nodes of types "
        "without labels are unlabelled"
    )
    return found


def _union(graphs: Sequence[Data]) -> Data:
    keys = [set(one.keys()) for one in graphs]
    if odd := next((place for place, found in enumerate(keys) if found != keys[0]), None):
        differ = ", ".join(sorted(keys[odd] ^ keys[0]))
        raise ValueError(f"graphs 0 and {odd} of the list differ in {differ}; give all of them the same attributes")
    graphs = [one.clone() for one in graphs]
    for one in graphs:
        if isinstance(label := one.get("y"), torch.Tensor | int | float) and torch.as_tensor(label).dim() == 0:
            one.y = torch.as_tensor(label).view(1)
    try:
        return Batch.from_data_list(graphs)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ValueError(f"the graphs of the list do not fit together: {error}") from None


def _of_split_links(parts: Sequence[Data], notes: list[str]) -> Data:
    """The three parts that `RandomLinkSplit` gives; messages run along the first one's edges."""
    found = parts[0].clone()
    pairs = [torch.as_tensor(part.edge_label_index) for part in parts]
    found.edge_label_index = torch.cat(pairs, dim=1)
    found.edge_label = torch.cat([torch.as_tensor(part.edge_label) for part in parts])
    part_of = torch.arange(len(parts)).repeat_interleave(torch.tensor([one.size(1) for one in pairs]))
    for number, part in enumerate(PARTS):
        found[f"{part}_mask"] = part_of == number
    notes.append("three parts from RandomLinkSplit: messages run along the edges of the first")
    return found
