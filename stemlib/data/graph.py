"""The prepared graph: what the library reads of a graph, in an object of its own.

`Graph.of` makes one from a user's `Data`, once; the `Data` is left alone, whatever else it holds. What the library
computes from a graph (edges sorted by target, neighbourhood means, adjacency matrices) is kept here and nowhere else.

Example:
    >>> path = Graph(torch.ones(3, 2), torch.tensor([[0, 1], [1, 2]]))
    >>> path.num_nodes, path.num_edges, path.without_edges(torch.tensor([True, False])).num_edges
    (3, 2, 1)
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.data import Data

from stemlib.cache import digest
from stemlib.data.feature_source import FeatureSource, Step

T = TypeVar("T")
CONTENT = ("x", "edge_index", "edge_attr", "edge_type", "node_type", "edge_pair", "batch", "ptr", "scaffold")
READ = ("x", "edge_index", "edge_attr", "batch", "ptr")  # of a user's `Data`; `edge_type` as `Graph.of` says


@dataclass(eq=False)
class Graph:
    """A graph, or a disjoint union of graphs.

    Attributes:
        x: node features `[N, d]`; with `node_type` a table `[A, d]` of its types, because a million atoms have only
            some hundred types.
        edge_index: source and target `[2, E]`; an `EdgeIndex` once sorted, see `sorted_by_target`.
        edge_attr: edge features `[E, d_e]`; with `edge_type` a table `[T, d_e]` of its types.
        edge_type: rows of `edge_attr`, `[E]`.
        node_type: rows of `x`, `[N]`.
        edge_pair: which instance of a link task an edge stands for, `[E]`.
        batch: which graph of a union a node is in, `[N]`.
        ptr: the first node of each graph of a union, and `N`, `[G + 1]`.
        scaffold: numbers of molecules' scaffolds `[G]`; only the library's own readers set it.
        num_nodes: `N`; None for the number of rows of `x`, or of `node_type`.
        nodes: in a part of a graph, the nodes' numbers in the whole, `[N]`.
        hops: in a part of a graph, see `stemlib.data.sampling.neighbourhood`.
        source: what `x` was made from, if it is not the data's own features; no network reads it, and it is not part of
            the `content`.
        edge_steps: the steps that made `edge_attr` from the data's own edge features or texts; unread, as `source` is.
        space: the `stemlib.data.feature_space.FeatureSpace` that the features were made with, where one was given.
        about: what is carried along as given; no network reads it.
    """

    x: Tensor | None = None
    edge_index: Tensor | None = None
    edge_attr: Tensor | None = None
    edge_type: Tensor | None = None
    node_type: Tensor | None = None
    edge_pair: Tensor | None = None
    batch: Tensor | None = None
    ptr: Tensor | None = None
    scaffold: Tensor | None = None
    num_nodes: int | None = None
    nodes: Tensor | None = None
    hops: tuple[Hop, ...] = ()
    source: FeatureSource | None = field(default=None, repr=False)
    edge_steps: tuple[Step, ...] = field(default=(), repr=False)
    space: Any = field(default=None, repr=False)
    about: Mapping[str, Any] = field(default_factory=dict, repr=False)
    _derived: dict[Hashable, tuple[list[tuple[Tensor, int]], Any]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.num_nodes is None:
            rows = self.x if self.node_type is None else self.node_type
            self.num_nodes = 0 if rows is None or rows.dim() == 0 else rows.size(0)  # `len` would fix it in an export

    @classmethod
    def of(cls, data: Data | Graph) -> Graph:
        """The prepared graph of a `Data`; one that is already prepared is returned.

        `x`, `edge_index`, `edge_attr`, `batch` and `ptr` are read as PyG means them; `edge_type` `[E]` only where
        `edge_attr` does not have one row per edge: it then names rows of that table. All else is carried in `about`.
        """
        if isinstance(data, Graph):
            return data
        given = data.to_dict()
        read = {name: given.pop(name) for name in READ if name in given}
        edges, table = read.get("edge_index"), read.get("edge_attr")
        by_edge = isinstance(table, Tensor) and isinstance(edges, Tensor) and table.size(0) == edges.size(-1)
        if "edge_type" in given and table is not None and not by_edge:
            read["edge_type"] = given.pop("edge_type")
        given.pop("num_nodes", None)
        return cls(**read, num_nodes=data.num_nodes, about=given)

    @property
    def num_edges(self) -> int:
        """Number of directed edges `E`."""
        return self.edge_index.size(1)

    @property
    def content(self) -> str:
        """sha256 of every value that is read; editing a value in place changes it."""
        parts = {name: value for name in CONTENT if (value := getattr(self, name)) is not None}

        def summed() -> str:
            return digest({name: digest(plain(value)) for name, value in parts.items()})

        return self.derived("content", summed, *parts.values())

    @property
    def per_edge(self) -> dict[str, Tensor]:
        """What is stored edge by edge: `edge_type` where there are types, otherwise `edge_attr`; and `edge_pair`."""
        names = ("edge_attr" if self.edge_type is None else "edge_type", "edge_pair")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def with_edges(self, edge_index: Tensor, places: Tensor) -> Graph:
        """The graph with other edges, and the `places` (positions `[e]` or a mask `[E]`) of what it stores by edge."""
        other = replace(self, edge_index=edge_index, **{name: value[places] for name, value in self.per_edge.items()})
        # What was derived from the nodes alone still holds for the same values: a step's graph in DropEdge needs it.
        kept = {
            key: made for key, made in self._derived.items() if all(one is not self.edge_index for one, _ in made[0])
        }
        other._derived.update(kept)
        return other

    def without_edges(self, hidden: Tensor) -> Graph:
        """The graph without the edges of the mask `hidden` `[E]`; sorted edges stay sorted."""
        edges = plain(self.edge_index)[:, ~hidden]
        if is_sorted(self.edge_index):
            size = self.edge_index.sparse_size()
            edges = EdgeIndex(edges, sparse_size=size, sort_order="col").fill_cache_()
        return self.with_edges(edges, ~hidden)

    def to(self, device: torch.device | str) -> Graph:
        """The graph on a device."""
        values = {item.name: getattr(self, item.name) for item in fields(self) if item.init}
        moved = {name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **moved, hops=tuple(hop.to(device) for hop in self.hops))

    def on(self, device: torch.device | str) -> Graph:
        """The graph itself if it is on that device, otherwise a copy there, made once."""
        tensors = [value for item in fields(self) if isinstance(value := getattr(self, item.name), Tensor)]
        if all(value.device == torch.device(device) for value in tensors):
            return self
        return self.derived(("on", device), lambda: self.to(device), *tensors)

    def derived(self, key: Hashable, make: Callable[[], T], *of: Tensor) -> T:
        """`make()`, or its last result if that was made from the same tensors `of`, none of them changed since."""
        if any(one.is_inference() for one in of):
            return make()  # such a tensor does not count its changes
        last, now = self._derived.get(key), [(one, one._version) for one in of]
        if last is None or not all(a is b and m == n for (a, m), (b, n) in zip(last[0], now, strict=True)):
            with torch.inference_mode(False):  # made in an evaluation, it may serve a training step next
                last = self._derived[key] = now, make()
        return last[1]

    def __getstate__(self) -> dict[str, Any]:
        """A copy derives everything anew: sparse matrices cannot be copied."""
        return self.__dict__ | {"_derived": {}}


@dataclass(eq=False)
class Hop(Graph):
    """The edges that one layer reads, from the nodes of its input to the first `num_nodes` of them.

    Attributes:
        mean: the mean of the input's features, `[num_nodes, d]`, where it is cached.
        products: gives the first layer's inputs and products, see `stemlib.training.shared_products`.
    """

    mean: Tensor | None = None
    products: Callable[[], tuple[Tensor, Tensor]] | None = None

    def with_edges(self, edge_index: Tensor, places: Tensor) -> Hop:
        """As `Graph.with_edges`; what was cached for the old edges is dropped."""
        return replace(super().with_edges(edge_index, places), mean=None, products=None)


def plain(edge_index: Tensor) -> Tensor:
    """`edge_index` as a tensor without caches, in the same order."""
    return edge_index.as_tensor() if isinstance(edge_index, EdgeIndex) else edge_index


def is_sorted(edge_index: Tensor) -> bool:
    """Whether edges are known to be sorted by target."""
    return isinstance(edge_index, EdgeIndex) and edge_index.is_sorted_by_col


def sorted_by_target(graph: Graph) -> Graph:
    """The graph with its edges, and what belongs to them, sorted by target: an `EdgeIndex` with filled caches."""
    if is_sorted(graph.edge_index):
        return graph
    size = (graph.num_nodes, graph.num_nodes)
    index, order = EdgeIndex(plain(graph.edge_index), sparse_size=size).sort_by("col")
    return graph.with_edges(index.fill_cache_(), slice(None) if order is None else order)


def node_features(graph: Graph, nodes: Tensor | None = None) -> Tensor:
    """Features of some nodes (default: all), `[n, d]`, of a graph that has them by node or by node type."""
    if graph.node_type is None:
        return graph.x if nodes is None else graph.x[nodes]
    return graph.x[graph.node_type if nodes is None else graph.node_type[nodes]]


def undirected_pairs(edges: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
    """The undirected edges, `lower N + higher` of their ends, `[P]`, and which of them each edge `[2, E]` is, `[E]`."""
    return (edges.min(0).values * nodes + edges.max(0).values).unique(return_inverse=True)
