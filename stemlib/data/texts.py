"""Texts of the nodes of published graphs, in place of the words that the graphs come with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from torch import Tensor

from stemlib.data.features import encode_texts

PARTS = ("title", "abstract", "text")  # columns that are read, in this order


def read_texts(path: Path, nodes: int) -> list[str]:
    """The text of each node of a graph, empty where there is none.

    Args:
        path: a table with one or more of `PARTS`, and a column `..._index` with the node of each row, -1 for none.
        nodes: of the graph.

    Raises:
        ValueError: two rows for one node, or a node that the graph does not have.
    """
    table = pd.read_csv(path, keep_default_na=False)
    index = table[next(name for name in table if name.endswith("_index"))]
    parts = [table[name].str.strip() for name in PARTS if name in table]
    texts = pd.Series([". ".join(filter(None, row)) for row in zip(*parts, strict=True)], index, dtype=object)
    texts = texts[texts.index >= 0]
    if texts.index.has_duplicates or (len(texts) and texts.index.max() >= nodes):
        raise ValueError(
            f"{path} must name each of {nodes} nodes, 0 to {nodes - 1}, at most once; it is of another graph"
        )
    return texts.reindex(range(nodes), fill_value="").tolist()


def encode_some(texts: Sequence[str], width: int | None, encoder: str, name: str) -> Tensor:
    """What a sentence encoder makes of texts, `[T, d]`, see `encode_texts`; a row of zeros where a text is empty.

    Args:
        texts: may be empty, but not all of them.
        width, encoder, name: as in `encode_texts`.

    Raises:
        ValueError, ImportError: as `encode_texts`.
    """
    there = [bool(text.strip()) for text in texts]
    found = encode_texts([text for text, known in zip(texts, there, strict=True) if known], width, encoder, name).x
    x = found.new_zeros(len(texts), found.size(1))
    x[there] = found
    return x
