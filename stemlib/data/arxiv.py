"""ogbn-arxiv: papers, citations, subjects, split by year.

Read from OGB's own raw files, without the package `ogb`. A second entry has the same nodes, edges, labels, years
and split, but other features: the classes that a language model named from title and abstract, zero-shot. It stands
in where the official 128-dimensional vectors are not at hand; results on the two are not comparable.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from torch import Tensor
from torch_geometric.data import Data, download_url, extract_zip
from torch_geometric.utils import to_undirected

from stemlib.data.features import FORMAT, reduced
from stemlib.data.graph import Graph
from stemlib.data.raw_files import UNREADABLE, RawFiles, require
from stemlib.data.registry import DataSet
from stemlib.data.tasks import Kind, Split, Task

ARCHIVE = "http://snap.stanford.edu/ogb/data/nodeproppred/arxiv.zip"
CLASSES = 40
SHARED = ["raw/node-label.csv.gz", "raw/node_year.csv.gz"]
PARTS = [f"split/time/{part}.csv.gz" for part in ("train", "valid", "test")]
OFFICIAL = ["raw/edge.csv.gz", "raw/node-feat.csv.gz"]
PREDICTED = ["adj_full.npz", "llm_topk_predictions.csv.gz"]


@dataclass(frozen=True, kw_only=True)
class Arxiv(DataSet):
    """ogbn-arxiv.

    Attributes:
        predictions: whether features are the language model's predictions.
    """

    kind: Kind = "node"
    predictions: bool = False

    def raw(self) -> tuple[Data, Split, RawFiles]:
        """Graph (undirected, with `year` `[N]`), its split `time`, and the files."""
        names = SHARED + PARTS + (PREDICTED if self.predictions else OFFICIAL)
        fetch = None if self.predictions else self._fetch
        files = require([f"{self.folder}/{name}" for name in names], self.source, fetch)
        *shared, edge_file, feature_file = files.paths.values()
        try:
            labels, years, *parts = (_table(path)[:, 0] for path in shared)
            if self.predictions:
                edges = torch.tensor(np.stack(scipy.sparse.load_npz(edge_file).nonzero()), dtype=torch.long)
                x = ranked_classes(feature_file, labels.numel())
            else:
                edges = _table(edge_file).T
                x = _table(feature_file, np.float32)
        except UNREADABLE as error:
            raise ValueError(f"{self.folder} cannot be read as ogbn-arxiv: {error}") from error
        edge_index = to_undirected(edges, num_nodes=labels.numel())
        graph = Data(x=x, edge_index=edge_index, y=labels, year=years)
        return graph, Split("time", *(part.sort().values for part in parts)), files

    def load(self, width: int | None, encoder: str, message_edges: str) -> Task:
        """See `DataSet.load`."""
        graph, split, files = self.raw()
        native = graph.x.size(1)
        graph.x, source = reduced(graph.x, width, self.name)
        return self._task(
            replace(Graph.of(graph), source=source),
            graph.y,
            {"time": split},
            "A node is a computer-science paper, an edge a citation (taken in both directions), the label its arXiv "
            f"category. {self.description} Features: {native} columns.",
            [files.checksum, width, FORMAT],
            notes=files.notes,
        )

    def _fetch(self, folder: Path) -> None:
        extract_zip(download_url(ARCHIVE, str(folder), log=False), str(folder), log=False)
        shutil.move(folder / "arxiv", folder / self.folder)


def ranked_classes(path: Path, nodes: int) -> Tensor:
    """Up to five class numbers per line, best first, as `[N, 40]`: the k-th named class gets 1 / k."""
    named = pd.read_csv(path, header=None, names=list(range(5)), skip_blank_lines=False).to_numpy()
    if len(named) != nodes:
        raise ValueError(f"{path.name} has {len(named)} lines for {nodes} nodes")
    row, rank = np.isfinite(named).nonzero()
    x = torch.zeros(nodes, CLASSES)
    x[row, named[row, rank].astype(int)] = torch.from_numpy(1 / (1 + rank)).float()
    return x


def _table(path: Path, dtype: type = np.int64) -> Tensor:
    return torch.tensor(pd.read_csv(path, header=None, dtype=dtype).to_numpy())
