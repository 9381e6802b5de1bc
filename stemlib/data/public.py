"""The public data sets behind one interface: `load("cora")` gives a `Task`, and no later code knows the difference.

What is known of them is in `catalogue.yaml`. Splits have names: `public` (Planetoid's), `public-rest` (the same,
tested on all the rest, as the reference does), `draw-0` to `draw-9` (drawn in the public one's form, of web pages
50/25/25), `fixed-0` onwards (published with the data), `time` (ogbn-arxiv), `given` (triples), `scaffold` (molecules).
`data/results/splits.csv` has the hash of each.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Literal

import pandas as pd
import yaml

from stemlib.data.arxiv import Arxiv
from stemlib.data.features import TFIDF
from stemlib.data.molecules import ChEMBL, ChEMBLActivities, MoleculeDataSet
from stemlib.data.nodes import NodeDataSet
from stemlib.data.pages import Pages
from stemlib.data.registry import DataSet
from stemlib.data.tasks import PARTS, Task
from stemlib.data.triples import KnowledgeGraph
from stemlib.paths import data_folder

WIDTH = 768  # the reference's
CLASSES = (NodeDataSet, Pages, Arxiv, KnowledgeGraph, MoleculeDataSet, ChEMBLActivities, ChEMBL)


def _catalogue() -> dict[str, DataSet]:
    readers, found = {reader.__name__: reader for reader in CLASSES}, {}
    for group in yaml.safe_load(Path(__file__).with_name("catalogue.yaml").read_text()):
        reader, entries = readers[group.pop("reader")], group.pop("data_sets")
        found |= {name: reader(name=name, **group, **entry) for name, entry in entries.items()}
    return found


DATA_SETS = _catalogue()


def available() -> list[str]:
    """The names whose raw files lie in the data folder, so that `load` downloads nothing."""
    return [name for name, entry in DATA_SETS.items() if (data_folder() / entry.folder).is_dir()]


def data_set(name: str) -> DataSet:
    """What is known of a data set: source, licence, published statistics.

    Raises:
        ValueError: unknown name; lists the known ones and the closest.
    """
    if name not in DATA_SETS:
        close = difflib.get_close_matches(name.lower(), DATA_SETS, n=3)
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else "."
        raise ValueError(f"unknown data set {name!r}{hint} There are: {', '.join(DATA_SETS)}")
    return DATA_SETS[name]


def load(
    name: str, *, width: int | None = WIDTH, encoder: str = TFIDF, message_edges: Literal["train", "all"] = "train"
) -> Task:
    """Load a public data set.

    Args:
        name: one of `DATA_SETS`.
        width: columns of node and edge features; None for the native ones.
        encoder: of text, for data sets that have text: see `stemlib.data.features.encode_texts`. Cora, CiteSeer, Texas
            and Wisconsin have texts for encoders other than the default, which takes their published words.
        message_edges: for link tasks: the triples that messages run along.

    Raises:
        ValueError: unknown name or option; damaged raw files.
        ImportError: the encoder's package is not installed.
        FileNotFoundError: raw files are missing; names them, their source and `STEMLIB_DATA`.
    """
    if message_edges not in ("train", "all"):
        raise ValueError(f"message_edges must be 'train' or 'all', got {message_edges!r}")
    return data_set(name).load(width, encoder, message_edges)


def split_table(task: Task) -> pd.DataFrame:
    """One row for each split of a task: sizes and hash, for two people to compare."""
    sizes = {name: {part: len(getattr(split, part)) for part in PARTS} for name, split in task.splits.items()}
    rows = [{"task": task.name, "split": name, **sizes[name], "hash": task.splits[name].hash} for name in sizes]
    return pd.DataFrame(rows)
