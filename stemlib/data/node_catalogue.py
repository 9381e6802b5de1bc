"""The catalogue of node benchmarks: names, sources, licences, published counts."""

from __future__ import annotations

from typing import Any

from torch_geometric import datasets
from torch_geometric.data import InMemoryDataset

from stemlib.data.nodes import FilteredWikipedia, NodeBenchmark, drawn_splits, planetoid_splits


def _node(name: str, nodes: int, edges: int, features: int, classes: int, **fields: Any) -> NodeBenchmark:
    counts = {"nodes": nodes, "edges": edges, "features": features, "classes": classes}
    return NodeBenchmark(name=name, kind="node", statistics=counts, **fields)


def _planetoid(name: str, subject: str, nodes: int, edges: int, features: int, classes: int) -> NodeBenchmark:
    return _node(
        name.lower(),
        nodes,
        edges,
        features,
        classes,
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
        name.lower(),
        nodes,
        edges,
        1703,
        5,
        source="https://github.com/graphdml-uiuc-jlu/geom-gcn",
        licence="none stated",
        description="A node is a page of a university, an edge a link (directed), the label whose page it is.",
        folder=f"WebKB/{name.lower()}/raw",
        dataset=datasets.WebKB,
        arguments=(name,),
    )


def _filtered(name: str, nodes: int, edges: int, features: int) -> NodeBenchmark:
    return _node(
        name,
        nodes,
        edges,
        features,
        5,
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
        name,
        nodes,
        edges,
        features,
        classes,
        source=f"https://github.com/yandex-research/heterophilous-graphs (data/{name.replace('-', '_')}.npz)",
        licence="MIT",
        description=description,
        folder=f"HeterophilousGraphDataset/{name.replace('-', '_')}/raw",
        dataset=datasets.HeterophilousGraphDataset,
        arguments=(name,),
        words=False,
        binary=binary,
    )


def _from_npz(
    name: str,
    dataset: type[InMemoryDataset],
    argument: str,
    description: str,
    nodes: int,
    edges: int,
    features: int,
    classes: int,
) -> NodeBenchmark:
    repository = "abojchevski/graph2gauss" if dataset is datasets.CitationFull else "shchur/gnn-benchmark"
    return _node(
        name,
        nodes,
        edges,
        features,
        classes,
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
        "minesweeper",
        10000,
        78804,
        7,
        2,
        "A node is a cell of a grid, an edge joins neighbouring cells, the label says whether there is a mine; "
        "scored by ROC-AUC.",
        True,
    ),
    _heterophilous(
        "tolokers",
        11758,
        1038000,
        10,
        2,
        "A node is a crowd worker, an edge a shared task, the label whether the worker was banned; scored by "
        "ROC-AUC.",
        True,
    ),
    _node(
        "actor",
        7600,
        30019,
        932,
        5,
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
    _from_npz("amazon-computers", datasets.Amazon, "Computers", GOODS, 13752, 491722, 767, 10),
    _from_npz("amazon-photo", datasets.Amazon, "Photo", GOODS, 7650, 238162, 745, 8),
    _from_npz("coauthor-cs", datasets.Coauthor, "CS", AUTHORS, 18333, 163788, 6805, 15),
    _from_npz("coauthor-physics", datasets.Coauthor, "Physics", AUTHORS, 34493, 495924, 8415, 5),
    _from_npz("dblp", datasets.CitationFull, "dblp", PAPERS, 17716, 105734, 1639, 4),
    _from_npz("cora-ml", datasets.CitationFull, "cora_ml", PAPERS, 2995, 16316, 2879, 7),
]
