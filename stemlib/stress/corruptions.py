"""What is damaged at test time: masked features and deleted edges around the instances under test.

Both return a new graph and what they really did; the trained model has never seen the damage before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stemlib.data.graph import Graph, node_features, plain, undirected_pairs
from stemlib.data.tasks import Task

SAMPLE = 64  # nodes whose features are compared with what the graph's source makes


@dataclass(frozen=True)
class Corruption:
    """A damaged graph and the damage.

    Attributes:
        graph: the graph after corruption; the original is left alone.
        rate: the rate that was asked for.
        hit: how many features were masked, or undirected edges deleted.
        candidates: out of how many: features of the nodes under test, as `mask_features` counts them, or edges with an
            end among them.
    """

    graph: Graph
    rate: float
    hit: int
    candidates: int

    @property
    def realised(self) -> float:
        """The share that was really hit; 0 where there was nothing to hit."""
        return self.hit / self.candidates if self.candidates else 0.0


def touched_nodes(task: Task, index: Tensor) -> Tensor:
    """The nodes of some instances, as a mask `[N]`: themselves, the ends of links, or all nodes of graphs."""
    mask = torch.zeros(task.graph.num_nodes, dtype=torch.bool)
    if task.kind == "graph":
        chosen = torch.zeros(task.instances, dtype=torch.bool)
        chosen[index] = True
        return chosen[task.graph.batch]
    mask[task.select(index).flatten()] = True
    return mask


def mask_features(graph: Graph, nodes: Tensor, rate: float, seed: int) -> Corruption:
    """Set each feature of the given nodes to zero with probability `rate`, independently.

    Features are those of the data. If `x` holds them, entries of `x` are masked, zeros included, by the reference's
    draw: one uniform number for every entry of `x`, used on the nodes' rows. If `x` was made from them (the graph has
    a `source`: weights of words or of a text's terms, through an SVD, rows of length 1), the weights are masked and the
    rows encoded anew; only nonzero weights count, and a node with none of them hit keeps its row to the bit. A sentence
    encoder's vectors cannot be traced back: their coordinates are masked. Edge features stay as they are.

    Args:
        graph: `x` `[N, d]`; a table of node types is spelled out.
        nodes: mask `[N]` of nodes to damage.
        rate: in [0, 1].
        seed: of the draw.

    Raises:
        ValueError: an impossible rate or mask of nodes; an `x` that its source did not make.
    """
    _check(graph, nodes, rate)
    generator = torch.Generator().manual_seed(seed)
    x = node_features(graph)
    if graph.source is not None:
        return _mask_source(replace(graph, x=x, node_type=None), nodes.nonzero().flatten(), rate, generator)
    hit = (torch.rand(x.shape, generator=generator) < rate) & nodes.unsqueeze(1)
    out = replace(graph, x=x.masked_fill(hit, 0.0), node_type=None)
    return Corruption(out, rate, int(hit.sum()), int(nodes.sum()) * x.size(1))


def _mask_source(graph: Graph, nodes: Tensor, rate: float, generator: torch.Generator) -> Corruption:
    """`mask_features` for what the features of some nodes `[n]` were made from."""
    source = graph.source
    source.require(graph.x[nodes[:SAMPLE]], nodes[:SAMPLE])
    raw = source.raw_of(nodes)
    hit = torch.rand(raw.nnz, generator=generator) < rate
    row = torch.arange(nodes.numel()).repeat_interleave(torch.from_numpy(raw.indptr).diff())
    changed = row[hit].unique()
    raw.data[hit.numpy()] = 0
    raw.eliminate_zeros()
    raw = raw[changed.numpy()]
    x = graph.x.index_copy(0, nodes[changed], source.encode(raw).to(graph.x.dtype))
    out = replace(graph, x=x, source=source.with_raw(nodes[changed], raw, len(x)))
    return Corruption(out, rate, int(hit.sum()), hit.numel())


def delete_edges(graph: Graph, nodes: Tensor, rate: float, seed: int) -> Corruption:
    """Delete each undirected edge with an end among the given nodes with probability `rate`, independently.

    All edges between two nodes share one fate, in both directions, and a self-loop is one edge. On an
    undirected graph this is the reference's draw; the reference makes every graph undirected first, which
    would add edges to a directed one (and turn triples into other facts), so it is left to the caller.

    Args:
        graph: `edge_index` `[2, E]`, optionally `edge_attr` and `edge_type`.
        nodes: mask `[N]`.
        rate: in [0, 1].
        seed: of the draw.
    """
    _check(graph, nodes, rate)
    pairs, pair_of_edge = undirected_pairs(plain(graph.edge_index), graph.num_nodes)
    candidate = nodes[pairs // graph.num_nodes] | nodes[pairs % graph.num_nodes]
    generator = torch.Generator().manual_seed(seed)
    deleted = torch.zeros_like(candidate)
    deleted[candidate] = torch.rand(int(candidate.sum()), generator=generator) < rate
    out = thinned(graph, deleted[pair_of_edge])
    return Corruption(out, rate, int(deleted.sum()), int(candidate.sum()))


def thinned(graph: Graph, missing: Tensor) -> Graph:
    """The graph without the edges of the mask `missing` `[E]`, not sorted: a task sorts the damaged graph anew.

    That is the order of edges, and so of sums, in which damaged graphs have always been evaluated: bits depend on it.
    """
    return graph.with_edges(plain(graph.edge_index)[:, ~missing], ~missing)


def _check(graph: Graph, nodes: Tensor, rate: float) -> None:
    if not 0 <= rate <= 1:
        raise ValueError(f"a corruption's rate must lie in [0, 1], got {rate:g}")
    if nodes.dtype != torch.bool or nodes.shape != (graph.num_nodes,):
        raise ValueError(f"nodes must be a boolean mask [{graph.num_nodes}], got {nodes.dtype} {tuple(nodes.shape)}")
    if not nodes.any():
        raise ValueError("no node to corrupt: the mask of nodes under test is empty")
