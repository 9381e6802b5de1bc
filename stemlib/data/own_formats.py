"""Which of a user's files are read, and tables and networks as frames whose index says where each row is from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import networkx
import pandas as pd

from stemlib.data.own_labels import GAPS
from stemlib.data.own_splits import shown
from stemlib.data.readings import Reader

TABLES = (".csv", ".tsv", ".parquet")
NETWORKS = (".graphml", ".gml")
ARRAYS = (".pt", ".pth", ".npz", ".safetensors", ".mat")
PARTS = {"train": "train", "valid": "val", "val": "val", "test": "test"}  # files of triples
TRIPLE = ("head", "relation", "tail")
AS_WRITTEN = ("id", "source", "target", "smiles", *TRIPLE)  # columns of names, in which "NA" may be a country


def found(path: Path) -> Path | dict[str, Path]:
    """The one file to read, or several tables: `edges` and `nodes`, or `train`, `valid` and `test`.

    Raises:
        FileNotFoundError: there is nothing of that name.
        ValueError: no file to read, or several; names them.
    """
    known = (*TABLES, *ARRAYS, *NETWORKS)
    if not path.exists():
        raise FileNotFoundError(f"no such file or folder: {str(path)!r}")
    if path.is_file():
        if path.suffix not in known:
            raise ValueError(f"{path}: known file types are {', '.join(known)}")
        if path.stem not in ("edges", "nodes") or path.suffix not in TABLES:
            return path
    folder = path if path.is_dir() else path.parent
    files = {file.stem: file for file in sorted(folder.iterdir()) if file.suffix in known}
    for parts in (("edges", "nodes"), tuple(PARTS)):
        if parts[0] in files and files[parts[0]].suffix in TABLES:
            return {part: files[part] for part in parts if part in files}
    files.pop("texts", None)
    if len(files) != 1:
        raise ValueError(
            f"{folder} has {', '.join(file.name for file in files.values()) or 'no file to read'}; it needs edges.csv "
            f"(and nodes.csv), or train.tsv, valid.tsv and test.tsv, or one file of {', '.join(known)}; or name a file"
        )
    return next(iter(files.values()))


def table(path: Path, columns: Mapping[str, Any], reader: Reader) -> pd.DataFrame:
    """A table whose index is the file's lines (but Parquet's own); names of nodes stay as they are written.

    Args:
        path: `.csv` (with commas, semicolons or tabs), `.parquet`, or `.tsv`, which may be triples without a header.
        columns: what the columns are called, see `stemlib.data.own_files.read_own`.
        reader: takes notes.

    Raises:
        ValueError: the file is empty or not a table.
        ImportError: a Parquet file, but no package to read it.
    """
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    with path.open(encoding="utf-8-sig") as file:
        head = file.readline().rstrip("\r\n")
    separator = "\t" if path.suffix == ".tsv" else max(",;\t", key=head.count)
    written = [columns[name] for name in AS_WRITTEN]
    labels = [columns["label"]] if isinstance(columns["label"], str) else columns["label"]  # whose gaps are reported
    titles, triple = head.split(separator), [columns[name] for name in TRIPLE]
    headless = path.suffix == ".tsv" and len(titles) == len(triple) and not set(titles) & {*triple, *written}
    try:
        frame = pd.read_csv(
            path,
            sep=separator,
            header=None if headless else 0,
            names=triple if headless else None,
            dtype=dict.fromkeys(triple if headless else {*titles} & {*written}, str),
            keep_default_na=False,
            na_values={
                title: [""] if headless or title in (*written, *labels) else ["", *GAPS]
                for title in (triple if headless else titles)
            },
            quoting=3 if path.suffix == ".tsv" else 0,  # in triples, quotes are ordinary characters
            skip_blank_lines=False,  # lines are counted
            encoding="utf-8-sig",
            low_memory=False,
        )
    except pd.errors.ParserError as error:
        raise ValueError(f"{path} is not a table: {error}") from None
    first = 1 if headless else 2
    frame.index = pd.RangeIndex(first, first + len(frame), name=f"{path.name} line")
    if headless and len(frame) > 1 and not frame[1:].isin(titles).any(axis=None):
        reader.notes.append(
            f"{path.name} line 1 is read as a triple, but none of {shown(titles)} occurs again: if they are titles, "
            "give them as head, relation, tail"
        )
    return frame.dropna(how="all")


def network(path: Path, columns: Mapping[str, Any], reader: Reader) -> tuple[pd.DataFrame, pd.DataFrame, bool]:
    """Edges and nodes of a GraphML or GML file, and whether edges run one way.

    Raises:
        ValueError: NetworkX cannot read it.
    """
    try:
        graph = networkx.read_graphml(path) if path.suffix == ".graphml" else _gml(path)
    except (networkx.NetworkXError, SyntaxError, ValueError, KeyError) as error:
        raise ValueError(f"NetworkX cannot read {path}: {error}") from None
    edges = networkx.to_pandas_edgelist(graph, source=columns["source"], target=columns["target"])
    nodes = pd.DataFrame([{columns["id"]: node} | about for node, about in graph.nodes(data=True)])
    reader.notes.append(f"read by NetworkX: {'directed' if graph.is_directed() else 'undirected'}")
    return edges.rename_axis("edge"), nodes.rename_axis("node"), graph.is_directed()


def _gml(path: Path) -> networkx.Graph:
    try:
        return networkx.read_gml(path)
    except networkx.NetworkXError:
        return networkx.read_gml(path, label="id")  # its labels are classes, not names: several nodes share one
