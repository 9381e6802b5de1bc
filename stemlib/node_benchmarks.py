"""Node classification: one graph, classes (or binary labels) of its nodes, published or drawn splits.

All but ogbn-arxiv (`stemlib.arxiv`) are read by PyTorch Geometric's own classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric import datasets
from torch_geometric.data import Data, InMemoryDataset

from stemlib.cache import digest
from stemlib.features import FORMAT, reduced, row_normalised
from stemlib.raw_files import RawFiles, open_dataset
from stemlib.registry import Benchmark
from stemlib.splits import per_class_split
from stemlib.tasks import Split, Task, checked

DRAWS = 10


def mask_splits(graph: Data, name: str = "fixed") -> dict[str, Split]:
    """Splits from the masks `train_mask`, `val_mask`, `test_mask` of a graph, each `[N]` or `[N, S]`.

    Args:
        graph: has the masks; one that is `[N]` holds for all `S` splits.
        name: of a single split; of several, followed by `-0`, `-1`, ...
    """
    masks = [graph[f"{part}_mask"] for part in ("train", "val", "test")]
    if all(mask.dim() == 1 for mask in masks):
        return {name: Split(name, *(mask.nonzero().flatten() for mask in masks))}
    count = max(mask.size(1) for mask in masks if mask.dim() == 2)
    columns = [mask.view(mask.size(0), -1).expand(-1, count).T for mask in masks]
    parts = ([mask.nonzero().flatten() for mask in split] for split in zip(*columns, strict=True))
    return {f"{name}-{i}": Split(f"{name}-{i}", *split) for i, split in enumerate(parts)}


def drawn_splits(graph: Data) -> dict[str, Split]:
    """`draw-0` to `draw-9`: 20 of every class to train, 500 to validate, the rest to test."""
    draws = [per_class_split(graph.y, seed) for seed in range(DRAWS)]
    return {split.name: split for split in draws}


def planetoid_splits(graph: Data) -> dict[str, Split]:
    """`public` (Planetoid's), `public-rest` (the same, tested on all the rest) and `draw-0` to `draw-9`."""
    public = mask_splits(graph, "public")["public"]
    rest = ~(graph.train_mask | graph.val_mask)
    others = {"public-rest": Split("public-rest", public.train, public.val, rest.nonzero().flatten())}
    return {"public": public} | others | drawn_splits(graph)


class FilteredWikipedia(datasets.HeterophilousGraphDataset):
    """Chameleon and Squirrel without their duplicated nodes, from the same source in the same format."""

    def __init__(self, root: str, name: str) -> None:
        self.name = f"{name}_filtered"
        InMemoryDataset.__init__(self, root)
        self.load(self.processed_paths[0])


@dataclass(frozen=True, kw_only=True)
class NodeBenchmark(Benchmark):
    """A graph with labelled nodes that a PyG class reads.

    Attributes:
        dataset: the class.
        arguments: of the class, after `root`.
        words: whether features are counts or weights of words, to be normalised by row.
        binary: whether the two classes are scored as one binary label, by ROC-AUC, as published.
        splits: makes the splits from the graph.
    """

    dataset: type[InMemoryDataset]
    arguments: tuple[str | bool, ...] = ()
    words: bool = True
    binary: bool = False
    splits: Callable[[Data], dict[str, Split]] = mask_splits

    def raw(self) -> tuple[Data, RawFiles]:
        """The graph as the class gives it, with its native features `x` `[N, F]`."""
        return open_dataset(self.dataset, *self.arguments, folder=self.folder, source=self.source)

    def load(self, width: int | None, encoder: str, message_edges: str) -> Task:
        graph, files = self.raw()
        native = graph.x.size(1)
        x = reduced(row_normalised(graph.x) if self.words else graph.x.float(), width, self.name)
        how = "rows divided by their sums" if self.words else "as given"
        if width is not None and width < native:
            how += f", truncated SVD of all nodes' rows to {width}"
        return checked(
            Task(
                name=self.name,
                kind="node",
                graph=Data(x=x, edge_index=graph.edge_index, y=graph.y),
                labels=graph.y.float().unsqueeze(1) if self.binary else graph.y,
                splits=self.splits(graph),
                description=f"{self.description} Features: {native} columns, {how}. Source: {self.source}",
                checksum=digest([files.checksum, width, FORMAT]),
                notes=files.notes,
            )
        )


def _node(name: str, nodes: int, edges: int, features: int, classes: int, **fields: Any) -> NodeBenchmark:
    counts = {"nodes": nodes, "edges": edges, "features": features, "classes": classes}
    return NodeBenchmark(name=name, kind="node", statistics=counts, **fields)


def _planetoid(name: str, subject: str, nodes: int, edges: int, features: int, classes: int) -> NodeBenchmark:
    return _node(
        name.lower(), nodes, edges, features, classes,
        source="https://github.com/kimiyoung/planetoid (data/ind.*)",
        licence="MIT",
        description=f"A node is a paper on {subject}, an edge a citation in either direction, the label a topic.",
        folder=f"Planetoid/{name}/raw",
        dataset=datasets.Planetoid,
        arguments=(name,),
        splits=planetoid_splits,
    )


def _webkb(name: str, nodes: int, edges: int) -> NodeBenchmark:
    return _node(
        name.lower(), nodes, edges, 1703, 5,
        source="https://github.com/graphdml-uiuc-jlu/geom-gcn",
        licence="none stated",
        description="A node is a page of a university, an edge a link (directed), the label whose page it is.",
        folder=f"WebKB/{name.lower()}/raw",
        dataset=datasets.WebKB,
        arguments=(name,),
    )


def _filtered(name: str, nodes: int, edges: int, features: int) -> NodeBenchmark:
    return _node(
        name, nodes, edges, features, 5,
        source=f"https://github.com/yandex-research/heterophilous-graphs (data/{name}_filtered.npz)",
        licence="MIT",
        description="A node is a Wikipedia article (duplicates removed), an edge a link in either direction, the "
        "label a class of monthly traffic.",
        folder="other/heterophilous",
        dataset=FilteredWikipedia,
        arguments=(name,),
    )


def _heterophilous(
    name: str, nodes: int, edges: int, features: int, classes: int, description: str, binary: bool
) -> NodeBenchmark:
    return _node(
        name, nodes, edges, features, classes,
        source=f"https://github.com/yandex-research/heterophilous-graphs (data/{name.replace('-', '_')}.npz)",
        licence="MIT",
        description=description,
        folder=f"HeterophilousGraphDataset/{name.replace('-', '_')}/raw",
        dataset=datasets.HeterophilousGraphDataset,
        arguments=(name,),
        words=False,
        binary=binary,
    )


def _shchur(
    name: str, dataset: type[InMemoryDataset], argument: str, description: str, nodes: int, edges: int, features: int,
    classes: int,
) -> NodeBenchmark:
    repository = "abojchevski/graph2gauss" if dataset is datasets.CitationFull else "shchur/gnn-benchmark"
    return _node(
        name, nodes, edges, features, classes,
        source=f"https://github.com/{repository}",
        licence="MIT",
        description=description,
        folder=f"{dataset.__name__}/{argument}/raw",
        dataset=dataset,
        arguments=(argument,),
        splits=drawn_splits,
    )


PAPERS = "A node is a paper, an edge a citation in either direction, the label a field."
GOODS = "A node is a product, an edge says that two are often bought together, the label a category."
AUTHORS = "A node is an author, an edge a joint paper, the label the most active field."

NODE_BENCHMARKS = [
    _planetoid("Cora", "machine learning", 2708, 10556, 1433, 7),
    _planetoid("CiteSeer", "computer science", 3327, 9104, 3703, 6),
    _planetoid("PubMed", "diabetes", 19717, 88648, 500, 3),
    NodeBenchmark(
        name="wikics",
        kind="node",
        source="https://github.com/pmernyei/wiki-cs-dataset (dataset/data.json)",
        licence="MIT",
        description="A node is a computer-science article of Wikipedia, an edge a link in either direction, the "
        "label a branch; features are means of GloVe vectors.",
        folder="WikiCS/raw",
        statistics={"nodes": 11701, "features": 300, "classes": 10},
        dataset=datasets.WikiCS,
        arguments=(None, None, True),  # no transforms, undirected
        words=False,
    ),
    _filtered("chameleon", 890, 17708, 2325),
    _filtered("squirrel", 2223, 93996, 2089),
    _heterophilous(
        "minesweeper", 10000, 78804, 7, 2,
        "A node is a cell of a grid, an edge joins neighbouring cells, the label says whether there is a mine; "
        "scored by ROC-AUC.", True,
    ),
    _heterophilous(
        "tolokers", 11758, 1038000, 10, 2,
        "A node is a crowd worker, an edge a shared task, the label whether the worker was banned; scored by "
        "ROC-AUC.", True,
    ),
    _node(
        "actor", 7600, 30019, 932, 5,
        source="https://github.com/graphdml-uiuc-jlu/geom-gcn (new_data/film)",
        licence="none stated",
        description="A node is an actor, an edge a mention on one Wikipedia page (directed), the label a class of "
        "the page's words.",
        folder="Actor/raw",
        dataset=datasets.Actor,
    ),
    _webkb("Cornell", 183, 298),
    _webkb("Texas", 183, 325),
    _webkb("Wisconsin", 251, 515),
    _shchur("amazon-computers", datasets.Amazon, "Computers", GOODS, 13752, 491722, 767, 10),
    _shchur("amazon-photo", datasets.Amazon, "Photo", GOODS, 7650, 238162, 745, 8),
    _shchur("coauthor-cs", datasets.Coauthor, "CS", AUTHORS, 18333, 163788, 6805, 15),
    _shchur("coauthor-physics", datasets.Coauthor, "Physics", AUTHORS, 34493, 495924, 8415, 5),
    _shchur("dblp", datasets.CitationFull, "dblp", PAPERS, 17716, 105734, 1639, 4),
    _shchur("cora-ml", datasets.CitationFull, "cora_ml", PAPERS, 2995, 16316, 2879, 7),
]
