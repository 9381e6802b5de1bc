"""A graph as arrays in one file: PyG's `Data`, NumPy and safetensors archives, MATLAB files."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.sparse
import torch
from safetensors.torch import load_file
from torch_geometric.data import Data
from torch_geometric.data.data import DataEdgeAttr, DataTensorAttr
from torch_geometric.data.storage import BaseStorage, EdgeStorage, GlobalStorage, NodeStorage

from stemlib.data.readings import Reader
from stemlib.data.tasks import PARTS

# Names that published graphs use for each; the first that a file has is read.
CALLED = {
    "x": ("x", "attrb", "fea", "features", "node_features", "X"),
    "y": ("y", "group", "gnd", "labels", "node_labels", "label"),
    "edge_index": ("edge_index", "edges"),
    "adjacency": ("A", "network", "W", "adj"),
    **{f"{part}_mask": (f"{part}_mask", f"{part}_masks") for part in PARTS},
}
PYG = [DataEdgeAttr, DataTensorAttr, BaseStorage, EdgeStorage, GlobalStorage, NodeStorage]


def read_arrays(path: Path, reader: Reader) -> tuple[Data | list[Data], dict[str, Any]]:
    """The graph, or graphs, of a file, and what a JSON file of the same name says about it.

    Raises:
        ValueError: the file cannot be read, or has no graph.
    """
    beside = path.with_suffix(".json")
    about = json.loads(beside.read_text()) if beside.is_file() else {}
    if path.suffix in (".pt", ".pth"):
        return _of_torch(path), about
    if path.suffix == ".mat":
        try:
            arrays = scipy.io.loadmat(path)
        except NotImplementedError:
            raise ValueError(f"{path} is a MATLAB 7.3 file; save it with save(..., '-v7')") from None
        arrays = {name: value for name, value in arrays.items() if not name.startswith("__")}
    elif path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    else:
        arrays = load_file(path)
    return _of_arrays(path, arrays, reader), about


def _of_torch(path: Path) -> Data | list[Data]:
    try:
        with torch.serialization.safe_globals(PYG):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{path} is damaged or holds more than tensors, and is not opened, as it could run any code; save "
            f"`data.to_dict()` of a Data of tensors instead ({str(error).splitlines()[0]})"
        ) from None
    if isinstance(found, Mapping):
        found = Data.from_dict(dict(found))
    graphs = found if isinstance(found, list) else [found]
    if not graphs or not all(isinstance(one, Data) for one in graphs):
        raise ValueError(
            f"{path} must hold a Data, a dictionary of tensors or a list of Data, got {type(found).__name__}"
        )
    return found


def _of_arrays(path: Path, arrays: Mapping[str, Any], reader: Reader) -> Data:
    """A graph from named arrays; those not in `CALLED` are carried along."""
    given = {}
    for name, called in CALLED.items():
        if found := [one for one in called if one in arrays]:
            given[name] = arrays[found[0]]
            if found[0] != name:
                reader.notes.append(f"`{name}` read from {found[0]!r}")
    adjacency = given.pop("adjacency", None)
    if "edge_index" not in given:
        if adjacency is None or adjacency.ndim != 2 or adjacency.shape[0] != adjacency.shape[1]:
            raise ValueError(
                f"{path} has no edges: neither {' nor '.join((*CALLED['edge_index'], *CALLED['adjacency']))}"
            )
        matrix = scipy.sparse.coo_matrix(adjacency)
        given["edge_index"] = np.stack([matrix.row[matrix.data != 0], matrix.col[matrix.data != 0]]).astype(np.int64)
        given["num_nodes"] = matrix.shape[0]
        if np.unique(matrix.data[matrix.data != 0]).size > 1:
            reader.notes.append("edge weights are not read: every edge weighs the same")
    if "y" in given:
        given["y"] = _labels(given["y"], reader)
    known = {one for called in CALLED.values() for one in called}
    rest = {name: value for name, value in arrays.items() if name not in known}
    # Published lists of splits have them in rows, `[S, N]`; PyG in columns.
    for name in (f"{part}_mask" for part in PARTS):
        if name in given and given[name].ndim == 2 and "y" in given and given[name].shape[1] == len(given["y"]):
            given[name] = given[name].T
    return Data(**rest, **given)


def _labels(y: Any, reader: Reader) -> Any:
    """One column, the place of the 1 in rows with exactly one; several binary labels stay `[M, T]`."""
    y = y.toarray() if scipy.sparse.issparse(y) else np.asarray(y)
    if y.ndim == 2 and 1 in y.shape:
        return y.reshape(-1)
    if y.ndim == 2 and np.isin(y, [0, 1]).all():
        if (y.sum(1) == 1).all():
            reader.notes.append(f"`y` {list(y.shape)}: a row's class is the position of its 1")
            return y.argmax(1)
        return y.astype(np.float32)
    return y
