"""Which instances are evaluated: buckets by a covariate that deployment shifts.

Training happens inside the in-distribution bucket; the others are used only at test time. The node covariates are the
reference's; links and graphs read them as means of their nodes, and graphs also have sizes and scaffolds, so that
every kind of task can be shifted.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy.sparse
import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.data import Data
from torch_geometric.transforms import NodePropertySplit
from torch_geometric.utils import degree, remove_self_loops, scatter, to_networkx, to_undirected

from stemlib.data.graph import Graph, plain
from stemlib.data.tasks import Task, read_out

TAIL = 0.15  # share of instances in each outer bucket
ROWS_AT_ONCE = 256  # of two-step walks: those of all nodes of FB15K-237 would fill a matrix of 2 GB
VALUES_AT_ONCE = 2**20  # of edges' features: few enough for the cache; all of Coauthor Physics' would take 17 GB


@dataclass(frozen=True)
class Buckets:
    """Instances in buckets.

    Attributes:
        covariate: what the instances are sorted by, `[M]`.
        borders: covariate values at the borders, as reported by the reference.
        members: instance indices per bucket. For outer buckets the covariate is no larger (`OOD-low`) or
            no smaller (`OOD-high`) than anywhere in `ID`; ties at a border fall either way.
    """

    covariate: Tensor
    borders: tuple[float, ...]
    members: dict[str, Tensor]

    @property
    def counts(self) -> dict[str, int]:
        """Number of instances in each bucket."""
        return {name: index.numel() for name, index in self.members.items()}

    @property
    def overlap(self) -> dict[str, float]:
        """For every other bucket, the share of `ID` that ties with it: 1 if the covariate does not tell them apart.

        0 for a bucket that lies on neither side of `ID`, as one of another covariate does.
        """
        inside = self.covariate[self.members["ID"]]
        found = {}
        for name, index in self.members.items():
            if name != "ID":
                values = self.covariate[index]
                tied = values.max() <= inside.min() or inside.max() <= values.min()
                found[name] = torch.isin(inside, values).double().mean().item() if tied else 0.0
        return found


def node_degree(graph: Graph) -> Tensor:
    """Degree on the undirected graph, `[N]` float; a self-loop counts once."""
    edges = to_undirected(plain(graph.edge_index), num_nodes=graph.num_nodes)
    return degree(edges[0], graph.num_nodes)


def feature_homophily(graph: Graph) -> Tensor:
    """Mean cosine similarity to the undirected neighbours, self left out, `[N]`; 0 without any."""
    edges, _ = remove_self_loops(to_undirected(plain(graph.edge_index), num_nodes=graph.num_nodes))
    unit = F.normalize(graph.x, dim=-1)
    if graph.node_type is None:
        some = edges.split(max(1, VALUES_AT_ONCE // unit.size(1)), dim=1)
        similarity = torch.cat([(unit[ends[0]] * unit[ends[1]]).sum(-1) for ends in some])
    else:  # a table of types: their similarities are few
        similarity = (unit @ unit.T)[graph.node_type[edges[0]], graph.node_type[edges[1]]]
    return scatter(similarity, edges[0], dim_size=graph.num_nodes, reduce="mean")


def graph_size(graph: Graph) -> Tensor:
    """Number of nodes of each graph of a union, `[M]` float."""
    return graph.ptr.diff().float()


def scaffold_frequency(graph: Graph) -> Tensor:
    """How many molecules of the data set have a molecule's Bemis-Murcko scaffold, `[M]` float.

    Args:
        graph: molecules, with the numbers of their scaffolds `[M]`.
    """
    _, group, size = graph.scaffold.unique(return_inverse=True, return_counts=True)
    return size[group].float()


def concentration(graph: Graph) -> Tensor:
    """Mean over a node's neighbours of the share of neighbours that the two have in common, `[N]`; 0 without any.

        c_i = mean_{j in N_i} |N_i and N_j| / |N_i or N_j|,   N_i the undirected neighbours, self left out

    Topological concentration (Wang et al., 2024) with subgraphs of one hop, normalised as by Jaccard.
    """
    edges, _ = remove_self_loops(to_undirected(plain(graph.edge_index), num_nodes=graph.num_nodes))
    one, shape = np.ones(edges.size(1), np.float32), (graph.num_nodes, graph.num_nodes)
    linked = scipy.sparse.csr_matrix((one, edges.numpy()), shape=shape)
    count, total = np.diff(linked.indptr), np.zeros(graph.num_nodes)
    for first in range(0, graph.num_nodes, ROWS_AT_ONCE):
        rows = linked[first : first + ROWS_AT_ONCE]
        common = (rows @ linked).multiply(rows).tocoo()
        node, other = common.row + first, common.col
        np.add.at(total, node, common.data / (count[node] + count[other] - common.data))
    return torch.from_numpy(total / count.clip(min=1)).float()


def node_property(graph: Graph, name: str) -> Tensor:
    """What PyG's `NodePropertySplit` sorts nodes by, on the undirected graph without self-loops, `[N]`.

    Args:
        graph: of a node or link task.
        name: `popularity` (PageRank), `locality` (PageRank from the most popular node) or `density` (clustering).
    """
    whole = Data(edge_index=plain(graph.edge_index), num_nodes=graph.num_nodes)
    measured = NodePropertySplit(name, [1.0, 0.0, 0.0, 0.0, 0.0])  # its split of the nodes is not used
    return measured.compute_fn(to_networkx(whole, to_undirected=True, remove_self_loops=True), ascending=False)


NODE_COVARIATES = {"degree": node_degree, "homophily": feature_homophily}
# Of nodes and links; they read the whole graph: a minute or more for a million edges.
WHOLE_COVARIATES = {name: partial(node_property, name=name) for name in ("popularity", "locality", "density")}
GIVEN_COVARIATES = ("time", "year", "domain")  # one number per instance, which the graph carries in `about`, `[M]`
LINK_COVARIATES = {"concentration": concentration}  # of nodes too
GRAPH_COVARIATES = {"size": graph_size, "scaffold": scaffold_frequency}
_IN_WORDS = {
    "degree": "number of neighbours",
    "homophily": "likeness to the neighbours",
    "locality": "closeness to the best-connected node",
    "concentration": "connectedness of the neighbours",
    "size": "number of nodes",
    "scaffold": "frequency of the scaffold",
}


def in_words(covariate: str) -> str:
    """A covariate in plain words; one that has none is left as it is."""
    return _IN_WORDS.get(covariate, covariate)


def covariates(task: Task, every: bool = False) -> list[str]:
    """The covariates by which a task can be shifted.

    Args:
        task: of any kind.
        every: also those that are slow on large graphs (PyG's `popularity`, `locality` and `density`, of nodes and
            links), and `time`, `year` and `domain` where the graph carries such numbers `[M]` in its `about`.
    """
    of_graphs = [name for name in GRAPH_COVARIATES if name == "size" or task.graph.scaffold is not None]
    found = [*NODE_COVARIATES, *{"node": [], "link": LINK_COVARIATES, "graph": of_graphs}[task.kind]]
    if not every:
        return found
    about = [name for name in GIVEN_COVARIATES if np.shape(task.graph.about.get(name)) == (task.instances,)]
    return [*found, *([] if task.kind == "graph" else WHOLE_COVARIATES), *about]


def instance_covariate(task: Task, name: str) -> Tensor:
    """A covariate of every instance of a node, link or graph task, `[M]`.

    Degree and homophily belong to nodes: a link takes the mean of its two ends, a graph the mean of its nodes, so that
    a molecule's degree is its density (twice the bonds per atom). The same goes for popularity, locality and density.
    Concentration, the mean of two ends, is for links; size and scaffold are for graphs. Time and domain are given.

    Raises:
        ValueError: a covariate that is unknown or not of this task.
    """
    if name not in (known := covariates(task, every=True)):
        raise ValueError(f"no covariate {name!r} for the {task.kind} task {task.name}; there are {', '.join(known)}")
    if name in GIVEN_COVARIATES:
        return torch.as_tensor(task.graph.about[name]).double()
    if name in GRAPH_COVARIATES:
        return GRAPH_COVARIATES[name](task.graph)
    values = (NODE_COVARIATES | WHOLE_COVARIATES | LINK_COVARIATES)[name](task.graph).unsqueeze(1)
    instances = None if task.kind == "graph" else task.select(torch.arange(task.instances))
    return read_out(values, task.graph, instances, task.kind).squeeze(1)


def tail_buckets(covariate: Tensor, tail: float = TAIL) -> Buckets:
    """Lowest share `OOD-low`, highest share `OOD-high`, the middle `ID` (the reference's 15 / 70 / 15 %).

    Args:
        covariate: `[M]`.
        tail: share of each outer bucket, rounded down, at least one instance.

    Raises:
        ValueError: fewer than 3 instances, NaN, or tails that leave no middle.
    """
    _check_covariate(covariate)
    count = covariate.numel()
    outer = max(1, math.floor(count * tail))
    if tail <= 0 or 2 * outer >= count:
        raise ValueError(f"two tails of {tail:g} leave no middle of {count} instances")
    # The reference's sort is not stable; on ties it may pick other instances of the same covariate value.
    low, middle, high = covariate.argsort().split([outer, count - 2 * outer, outer])
    borders = (covariate[low[-1]].item(), covariate[high[0]].item())
    return Buckets(covariate, borders, {"ID": middle, "OOD-low": low, "OOD-high": high})


def alignment_buckets(covariate: Tensor) -> Buckets:
    """Lowest, second and third tenth `OOD3`, `OOD2`, `OOD1`; `ID` from 30 to 80 %; the rest unused.

    Raises:
        ValueError: fewer than 10 instances, or NaN.
    """
    _check_covariate(covariate)
    count = covariate.numel()
    if count < 10:
        raise ValueError(f"alignment buckets are tenths and need 10 instances, got {count}")
    order = covariate.argsort()
    edges = [math.floor(count * share) for share in (0, 0.1, 0.2, 0.3, 0.8)]
    ood3, ood2, ood1, inside = (order[a:b] for a, b in itertools.pairwise(edges))
    borders = tuple(covariate[i].item() for i in (ood3[-1], ood2[-1], ood1[-1], inside[0], inside[-1]))
    return Buckets(covariate, borders, {"ID": inside, "OOD1": ood1, "OOD2": ood2, "OOD3": ood3})


def _check_covariate(covariate: Tensor) -> None:
    if covariate.dim() != 1 or covariate.numel() < 3:
        raise ValueError(f"a covariate needs one value for each of at least 3 instances, got {tuple(covariate.shape)}")
    if not covariate.isfinite().all():
        raise ValueError(f"the covariate is NaN or infinite for {int((~covariate.isfinite()).sum())} instances")
