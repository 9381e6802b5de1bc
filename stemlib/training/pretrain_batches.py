"""What a step of pretraining is shown: seed nodes with their neighbourhoods, or a union of molecules.

Only nodes whose whole sampled neighbourhood is in the batch are asked for an embedding: the seeds, and the far ends
of the edges that are to be reconstructed. Nodes that only lend them features are not. As in the reference, messages
may run along the very edges that are to be reconstructed, and all data sets' nodes count, whatever split they are in.
No label of a node or molecule is read. In a knowledge graph the features of edges are its relations, which are what a
triple's label says, but those of training triples only, as no others are edges of the message graph. Where a data set
has no edge features (the reference gives such edges one constant vector, from which nothing can be learnt), that
objective is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from stemlib.data.batches import union_of_graphs
from stemlib.data.graph import Graph, plain
from stemlib.data.sampling import incoming, neighbourhood, sampled_neighbourhood
from stemlib.stress.views import shown_columns, with_fewer_edges
from stemlib.training.pool import Member


@dataclass(frozen=True)
class PretrainBatch:
    """A part of one data set.

    Attributes:
        graph: the clean graph.
        seen: what the student sees of it, with the features that `columns` shows; see `stemlib.stress.views`. It is
            drawn on the CPU, which knows how many edges are left: a GPU would have to be waited for.
        columns: of the features, `[d]`; None for all.
        computed: how many of its first nodes are embedded.
        seeds: those that node objectives are about, `[B]`.
        edges: to be reconstructed, `[2, E]`, among the computed nodes.
        edge_features: of these edges, `[E, d]`; None where the data set has none.
        non_edges: pairs of computed nodes that are not edges, `[2, E']`, `E' <= E`.
    """

    graph: Graph
    seen: Graph
    columns: Tensor | None
    computed: int
    seeds: Tensor
    edges: Tensor
    edge_features: Tensor | None
    non_edges: Tensor

    def to(self, device: torch.device | str) -> PretrainBatch:
        """The batch on a device."""
        values = {item.name: getattr(self, item.name) for item in fields(self)} | {"seen": replace(self.seen, x=None)}
        moved = {name: value.to(device) if hasattr(value, "to") else value for name, value in values.items()}
        return PretrainBatch(**moved | {"seen": replace(moved["seen"], x=moved["graph"].x)})  # features once, not twice


@dataclass(frozen=True)
class Draws:
    """The random numbers of one step: those that all processes share, and those of this one.

    They follow from seed, step and process alone, so that a resumed run needs no generator's state.
    """

    shared: torch.Generator
    own: torch.Generator
    rank: int = 0
    world: int = 1


def draws(seed: int, step: int, rank: int = 0, world: int = 1) -> Draws:
    """The generators of a step; PyTorch's global one, which dropout and routing noise use, is seeded too."""
    torch.manual_seed(_mixed(seed, step, rank, 1))
    shared = torch.Generator().manual_seed(_mixed(seed, step, 0, 2))
    own = torch.Generator().manual_seed(_mixed(seed, step, rank, 3))
    return Draws(shared, own, rank, world)


def _mixed(*key: int) -> int:
    """One number from several, so that neighbouring steps' generators have nothing in common.

    The last number of the key must not be 0: `SeedSequence` ignores trailing zeros.
    """
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def draw_batch(
    member: Member,
    size: int,
    fanouts: Sequence[int | None],
    edge_share: float,
    draws: Draws,
    hidden: tuple[float, float] = (0.0, 0.0),
    *,
    layered: bool = True,
) -> PretrainBatch:
    """This process's part of a batch.

    Args:
        member: the data set.
        size: seed nodes of all processes together, drawn without replacement; of molecules, as many whole ones as
            have about that many atoms.
        fanouts: one for each layer of the model, the layer nearest to the seeds first; None for all neighbours.
        edge_share: share to reconstruct of the sampled edges that end in seeds, or of the molecules' bonds.
        draws: random numbers.
        hidden: the shares of features and of edges hidden from the student; see `stemlib.stress.views.view`.
        layered: whether the neighbourhood comes hop by hop, which spares the model what no seed needs; False for
            one whole graph, which some models need (`Encoder.reach` is 0).
    """
    if member.task.kind == "graph":
        return _molecules(member, size, edge_share, draws, hidden)
    graph = member.task.graph
    seeds = torch.randperm(member.nodes, generator=draws.shared)[:size][draws.rank :: draws.world]
    chosen = _some(incoming(graph, seeds, fanouts[0], draws.own), edge_share, draws.own)
    ends = plain(graph.edge_index)[:, chosen]
    nodes, position = torch.cat([seeds, *ends]).unique(return_inverse=True)
    pairs = _random_pairs(len(nodes), chosen.numel(), draws.own)
    part = (neighbourhood if layered else sampled_neighbourhood)(graph, nodes, fanouts, draws.own)
    return PretrainBatch(
        graph=part,
        **_seen(part, *hidden),
        computed=len(nodes),
        seeds=position[: len(seeds)],
        edges=position[len(seeds) :].view(2, -1),
        edge_features=_features(graph, chosen),
        non_edges=pairs[:, ~_contained(keys(nodes[pairs], member.nodes), member.edge_keys)],
    )


def _seen(graph: Graph, feature_dropout: float, edge_dropout: float) -> dict[str, Graph | Tensor | None]:
    columns = shown_columns(graph, feature_dropout)
    return {"columns": columns, "seen": with_fewer_edges(graph, edge_dropout)}


def _molecules(
    member: Member, size: int, edge_share: float, draws: Draws, hidden: tuple[float, float]
) -> PretrainBatch:
    graph, molecules = member.task.graph, member.task.instances
    count = max(draws.world, round(size * molecules / member.nodes))
    index = torch.randperm(molecules, generator=draws.shared)[:count][draws.rank :: draws.world]
    union = union_of_graphs(graph, index)
    chosen = _some(torch.arange(union.num_edges), edge_share, draws.own)
    pairs = _random_pairs(union.num_nodes, chosen.numel(), draws.own)
    bonds = keys(plain(union.edge_index), union.num_nodes).sort().values
    return PretrainBatch(
        graph=union,
        **_seen(union, *hidden),
        computed=union.num_nodes,
        seeds=torch.arange(union.num_nodes),
        edges=plain(union.edge_index)[:, chosen],
        edge_features=_features(union, chosen),
        non_edges=pairs[:, ~_contained(keys(pairs, union.num_nodes), bonds)],
    )


def keys(pairs: Tensor, nodes: int) -> Tensor:
    """One number for each pair of nodes `[2, P]`, `[P]`."""
    return pairs[0] * nodes + pairs[1]


def _some(edges: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A share of the edges `[e]`, at least one where there are any and the share is not zero."""
    count = max(round(share * edges.numel()), 1 if share else 0)
    return edges[torch.randperm(edges.numel(), generator=generator)[:count]]


def _random_pairs(nodes: int, count: int, generator: torch.Generator) -> Tensor:
    """Pairs of different nodes, uniform, `[2, count]`; none where there is only one node."""
    if nodes < 2:
        return torch.empty(2, 0, dtype=torch.long)
    source = torch.randint(nodes, (count,), generator=generator)
    target = (source + torch.randint(1, nodes, (count,), generator=generator)) % nodes
    return torch.stack([source, target])


def _contained(values: Tensor, table: Tensor) -> Tensor:
    """Which of the values `[P]` are in a sorted table `[E]`."""
    if not table.numel():
        return torch.zeros_like(values, dtype=torch.bool)
    return table[torch.searchsorted(table, values).clamp(max=table.numel() - 1)] == values


def _features(graph: Graph, edges: Tensor) -> Tensor | None:
    """Features of some edges `[e]`, `[e, d]`; None where the graph has none."""
    if graph.edge_attr is None:
        return None
    return graph.edge_attr[edges if graph.edge_type is None else graph.edge_type[edges]]
