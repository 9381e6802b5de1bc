"""A university's web pages: their texts, the links between them, and whose pages they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stemlib.data.features import FORMAT, encode_texts
from stemlib.data.graph import Graph
from stemlib.data.raw_files import RawFiles, require
from stemlib.data.registry import DataSet
from stemlib.data.splits import stratified_split
from stemlib.data.tasks import Kind, Task

DRAWS = 10


@dataclass(frozen=True, kw_only=True)
class Pages(DataSet):
    """A table of pages with `node`, `category`, `links` (numbers of pages) and `text`.

    Attributes:
        file: of the table, in the folder.
    """

    kind: Kind = "node"
    file: str

    def raw(self) -> tuple[pd.DataFrame, RawFiles]:
        """The table, in the order of its nodes."""
        files = require([f"{self.folder}/{self.file}"], self.source)
        (path,) = files.paths.values()
        return pd.read_csv(path).sort_values("node", ignore_index=True), files

    def load(self, width: int | None, encoder: str, message_edges: str) -> Task:
        """See `DataSet.load`; the splits `draw-0` to `draw-9` are 50/25/25 within every class."""
        pages, files = self.raw()
        labels = torch.tensor(pages.category.astype("category").cat.codes.to_numpy()).long()
        every = torch.arange(len(pages))
        x, source = encode_texts(pages.text.tolist(), width, encoder, self.name)
        return self._task(
            Graph(x, links_between(pages), source=source),
            labels,
            {f"draw-{seed}": stratified_split(every, labels, seed, f"draw-{seed}") for seed in range(DRAWS)},
            f"{self.description} Features: the page's text, encoded by {encoder}.",
            [files.checksum, width, encoder, FORMAT],
            notes=files.notes,
        )


def links_between(pages: pd.DataFrame) -> Tensor:
    """Directed links `[2, E]` from the column `links` of a table of pages in the order of its nodes."""
    links = pages.links.dropna().astype(str).str.split().explode().astype(int)
    return torch.from_numpy(np.stack([links.index, links]))
