"""ogbn-arxiv: papers, citations, subjects, split by year.

Read from OGB's own raw files, without the package `ogb`. A second entry has the same nodes, edges, labels, years
and split, but other features: the classes that a language model named from title and abstract, zero-shot. It stands
in where the official 128-dimensional vectors are not at hand; results on the two are not comparable.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from torch import Tensor
from torch_geometric.data import Data, download_url, extract_zip
from torch_geometric.utils import to_undirected

from stemlib.data.checks import checked
from stemlib.data.features import FORMAT, reduced
from stemlib.data.raw_files import UNREADABLE, RawFiles, require
from stemlib.data.registry import Benchmark
from stemlib.data.tasks import Split, Task
from stemlib.files import digest

ARCHIVE = "http://snap.stanford.edu/ogb/data/nodeproppred/arxiv.zip"
CLASSES = 40
SHARED = (
    "raw/node-label.csv.gz",
    "raw/node_year.csv.gz",
    "split/time/train.csv.gz",
    "split/time/valid.csv.gz",
    "split/time/test.csv.gz",
)


@dataclass(frozen=True, kw_only=True)
class Arxiv(Benchmark):
    """ogbn-arxiv.

    Attributes:
        predictions: whether features are the language model's predictions.
    """

    predictions: bool = False

    def raw(self) -> tuple[Data, Split, RawFiles]:
        """Graph (undirected, with `year` `[N]`), its split `time`, and the files."""
        own = ("adj_full.npz", "llm_topk_predictions.csv.gz")
        names = SHARED + (own if self.predictions else ("raw/edge.csv.gz", "raw/node-feat.csv.gz"))
        fetch = None if self.predictions else self._fetch
        files = require([f"{self.folder}/{name}" for name in names], self.source, fetch)
        path = {name: files.paths[f"{self.folder}/{name}"] for name in names}
        try:
            labels, years, *parts = (_column(path[name]) for name in SHARED)
            if self.predictions:
                edges = np.stack(scipy.sparse.load_npz(path[own[0]]).nonzero())
                x = ranked_classes(path[own[1]], labels.numel())
            else:
                edges = pd.read_csv(path["raw/edge.csv.gz"], header=None).to_numpy().T
                features = pd.read_csv(path["raw/node-feat.csv.gz"], header=None, dtype=np.float32)
                x = torch.tensor(features.to_numpy())
        except UNREADABLE as error:
            raise ValueError(f"{self.folder} cannot be read as ogbn-arxiv: {error}") from error
        edge_index = to_undirected(torch.tensor(edges, dtype=torch.long), num_nodes=labels.numel())
        graph = Data(x=x, edge_index=edge_index, y=labels, year=years)
        return graph, Split("time", *(part.sort().values for part in parts)), files

    def load(self, width: int | None, encoder: str, message_edges: str) -> Task:
        graph, split, files = self.raw()
        native = graph.x.size(1)
        graph.x = reduced(graph.x, width, self.name)
        return checked(
            Task(
                name=self.name,
                kind="node",
                graph=graph,
                labels=graph.y,
                splits={"time": split},
                description=f"A node is a computer-science paper, an edge a citation (taken in both directions), the "
                f"label its arXiv category. {self.description} Features: {native} columns. Source: {self.source}",
                checksum=digest([files.checksum, width, FORMAT]),
                notes=files.notes,
            )
        )

    def _fetch(self, folder: Path) -> None:
        extract_zip(download_url(ARCHIVE, str(folder), log=False), str(folder), log=False)
        shutil.move(folder / "arxiv", folder / self.folder)


def ranked_classes(path: Path, nodes: int) -> Tensor:
    """Up to five class numbers a line, best first, as `[N, 40]`: the k-th named class gets 1 / k."""
    named = pd.read_csv(path, header=None, names=list(range(5)), skip_blank_lines=False).to_numpy()
    if len(named) != nodes:
        raise ValueError(f"{path.name} has {len(named)} lines for {nodes} nodes")
    row, rank = np.isfinite(named).nonzero()
    x = torch.zeros(nodes, CLASSES)
    x[row, named[row, rank].astype(int)] = torch.from_numpy(1 / (1 + rank)).float()
    return x


def _column(path: Path) -> Tensor:
    return torch.tensor(pd.read_csv(path, header=None)[0].to_numpy())


COUNTS = {"nodes": 169343, "edges": 2315598, "classes": 40, "train": 90941, "val": 29799, "test": 48603}

ARXIV: list[Benchmark] = [
    Arxiv(
        name="ogbn-arxiv",
        kind="node",
        source=f"{ARCHIVE}, unpacked",
        licence="ODC-BY",
        description="A feature vector is the mean of word vectors of title and abstract.",
        folder="ogbn_arxiv",
        statistics=COUNTS | {"features": 128},
    ),
    Arxiv(
        name="ogbn-arxiv-predictions",
        kind="node",
        source="edges: https://github.com/DEEP-PolyU/NetBenchmark; labels, years, split: OGB's, "
        "https://github.com/rpholvichith/GNN_paper2025; predictions: https://github.com/XiaoxinHe/TAPE",
        licence="edges Apache-2.0, predictions MIT, labels ODC-BY (OGB's)",
        description="NOT the official features: up to five classes that a language model named from title and "
        "abstract (no label used), the k-th with weight 1/k; the first alone is right for 73.5 % of the papers.",
        folder="other/ogbn_arxiv",
        statistics=COUNTS | {"features": 40},
        predictions=True,
    ),
]
