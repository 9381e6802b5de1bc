"""A data set on a card: its counts, its distributions and a picture of a piece of it, all from the task alone.

Degrees and homophilies are those of the undirected graph without self-loops and repeats.
"""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from rdkit import Chem
from rdkit.Chem.rdDepictor import Compute2DCoords
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import (
    degree,
    homophily,
    k_hop_subgraph,
    remove_self_loops,
    scatter,
    subgraph,
    to_networkx,
    to_undirected,
)

from stemlib.data.batches import union_of_graphs
from stemlib.data.graph import Graph, plain
from stemlib.data.leaks import shares
from stemlib.data.scores import score
from stemlib.data.tasks import UNLABELLED, Task
from stemlib.stress.shifts import feature_homophily
from study.figures import PALETTE

DEGREE_BINS = np.array([0, 1, *(2**power for power in range(1, 15)), np.inf])
HOMOPHILY_BINS = np.linspace(0, 1, 21)
LABELS = {"accuracy": "classes", "roc_auc": "binary labels", "r2": "targets"}
MOST_NODES, LOOKED_AT = 40, 100  # nodes in a drawing, and nodes tried for one
ATOM_COLOURS = {"C": PALETTE["grey"], "N": PALETTE["blue"], "O": PALETTE["red"], "S": PALETTE["yellow"]}


def neighbours(graph: Graph) -> Tensor:
    """Every pair of different nodes that an edge joins, in both directions, `[2, E']`."""
    return remove_self_loops(to_undirected(plain(graph.edge_index), num_nodes=graph.num_nodes))[0]


def node_classes(task: Task) -> Tensor | None:
    """A node task's classes `[N]`, two for one binary label; None for other tasks, regressions and unlabelled nodes."""
    if (
        task.kind != "node"
        or task.labelled().numel() < task.instances
        or task.regression
        or (task.labels.dim() == 2 and task.labels.size(1) > 1)
    ):
        return None
    return task.labels.view(-1).long()


def adjusted_homophily(edges: Tensor, classes: Tensor) -> float:
    """Edge homophily less what the classes' degrees give by chance, 1 at most (Platonov et al., 2023).

    Args:
        edges: in both directions, `[2, E]`.
        classes: `[N]`.
    """
    by_chance = (torch.bincount(classes[edges[0]]) / edges.size(1)).square().sum().item()
    return (homophily(edges, classes) - by_chance) / (1 - by_chance)


def card(task: Task) -> dict[str, Any]:
    """What there is to count, by name; what is not defined for the task is left out.

    `edges` are directed, as messages run; `isolated`, the shares of classes and of positive and known labels are in
    per cent; `feature homophily` is the mean cosine similarity of neighbours over nodes that have any. What training
    gives away of a test (`stemlib.data.leaks.WORDS`) is in per cent, for the split that loses most.
    """
    graph, edges, classes = task.graph, neighbours(task.graph), node_classes(task)
    found: dict[str, Any] = {
        "task": task.name,
        "kind": task.kind,
        "instances": task.instances,
        "nodes": graph.num_nodes,
        "edges": graph.num_edges,
        "features": graph.x.size(1),
        "edge features": task.edge_width or 0,
        LABELS[task.metric]: task.outputs,
        "metric": task.metric,
        "mean degree": edges.size(1) / graph.num_nodes,
        "isolated": 100 - 100 * edges[0].unique().numel() / graph.num_nodes,
    }
    if edges.size(1):
        if classes is not None:
            found["edge homophily"] = homophily(edges, classes)
            found["adjusted homophily"] = adjusted_homophily(edges, classes)
        found["feature homophily"] = feature_homophily(graph)[edges[0].unique()].mean().item()
    for what, by_split in shares(task).items():
        found[what] = 100 * max(by_split.values(), default=0.0)
    if task.regression:
        found |= _mean_answer(task)
    return found | class_balance(task.labels, task.regression)


def _mean_answer(task: Task) -> dict[str, float]:
    """The score of always predicting the mean of the training labels on the first split, `R^2` in per cent.

    A target without labels in training gets the mean of all.
    """
    split = next(iter(task.splits.values()))
    learnt = task.labels[split.train]
    mean = learnt.nanmean(0).nan_to_num(learnt.nanmean().item())
    parts = {part: task.labels[getattr(split, part)] for part in ("val", "test")}
    return {f"mean answer, {part}": 100 * score(mean.expand_as(labels), labels, True) for part, labels in parts.items()}


def class_balance(labels: Tensor, regression: bool = False) -> dict[str, float]:
    """Shares in per cent: of the largest and the smallest class; or of known labels, and of positive ones among them.

    Args:
        labels: classes `[M]`, or `[M, T]` with NaN where missing.
        regression: whether `[M, T]` labels are numbers, none of which is positive.
    """
    if labels.dim() == 1:
        known = labels[labels != UNLABELLED]
        if not known.numel():
            raise ValueError("no instance has a label: classes have no shares")
        shares = 100 * torch.bincount(known) / known.numel()
        return {"largest class": shares.max().item(), "smallest class": shares.min().item()}
    known = labels[labels.isfinite()].double()
    positive = {} if regression else {"positive": 100 * known.mean().item()}
    return positive | {"known": 100 * known.numel() / labels.numel()}


def distributions(task: Task) -> pd.DataFrame:
    """How degree and homophily are distributed over nodes.

    Returns:
        One row per `quantity` (`degree`, `label homophily` for node tasks, `feature homophily`) and bin that is not
        empty: `task`, `quantity`, `low` (included), `high`, and `share` of the nodes in per cent. Homophilies count
        only nodes with a neighbour; values below 0 are in the lowest bin.
    """
    graph, edges, classes = task.graph, neighbours(task.graph), node_classes(task)
    count = degree(edges[0], graph.num_nodes)
    values = {"degree": (count, DEGREE_BINS)}
    if classes is not None:
        same = (classes[edges[0]] == classes[edges[1]]).float()
        alike = scatter(same, edges[0], dim_size=graph.num_nodes, reduce="mean")
        values["label homophily"] = (alike[count > 0], HOMOPHILY_BINS)
    values["feature homophily"] = (feature_homophily(graph)[count > 0], HOMOPHILY_BINS)
    frames = []
    for quantity, (value, bins) in values.items():
        counts, _ = np.histogram(value.double().numpy().clip(bins[0], bins[-1]), bins)
        frame = pd.DataFrame({"low": bins[:-1], "high": bins[1:], "share": 100 * counts / max(1, counts.sum())})
        frames.append(frame[counts > 0].assign(quantity=quantity))
    columns = ["task", "quantity", "low", "high", "share"]
    return pd.concat(frames, ignore_index=True).assign(task=task.name)[columns]


def small_neighbourhood(graph: Graph, most: int = MOST_NODES) -> tuple[Tensor, Tensor, int]:
    """A piece of a graph to draw: around the one of the first nodes with neighbours that has most within two hops.

    Args:
        graph: any.
        most: nodes to draw. If every node has more within two hops, some within one hop are taken.

    Returns:
        The nodes `[n]`, the edges among them in both directions, `[2, e]`, as positions among the nodes, and the
        position of the node in the middle.
    """
    edges, total = neighbours(graph), graph.num_nodes

    def around(node: Tensor, hops: int) -> Tensor:
        nodes, *_ = k_hop_subgraph(int(node), hops, edges, num_nodes=total)
        return nodes

    looked_at = edges[0].unique()[:LOOKED_AT]
    sizes = torch.tensor([around(node, 2).numel() for node in looked_at], dtype=torch.long)
    fitting = torch.where(sizes <= most, sizes, 0)
    node = looked_at[fitting.argmax()] if sizes.numel() else torch.tensor(0)
    nodes = around(node, 2 if fitting.any() else 1)
    nodes = torch.cat([node.view(1), nodes[nodes != node][: most - 1]]).sort().values
    inside, _ = subgraph(nodes, edges, relabel_nodes=True, num_nodes=total)
    return nodes, inside, int(torch.searchsorted(nodes, node))


def draw_neighbourhood(task: Task, axis: Axes) -> None:
    """Draw a small neighbourhood, coloured by class where nodes have one; the node in the middle is a square."""
    nodes, edges, middle = small_neighbourhood(task.graph)
    picture = to_networkx(Data(edge_index=edges, num_nodes=nodes.numel()), to_undirected=True)
    place = nx.spring_layout(picture, seed=0, iterations=200)
    classes, colours = node_classes(task), list(PALETTE.values())
    colour = [colours[0 if classes is None else int(classes[i]) % len(colours)] for i in nodes]
    nx.draw_networkx_edges(picture, place, ax=axis, edge_color="0.7")
    for shape, shown in (("o", [i for i in picture if i != middle]), ("s", [middle])):
        nx.draw_networkx_nodes(
            picture, place, shown, ax=axis, node_size=60, node_shape=shape, node_color=[colour[i] for i in shown]
        )
    axis.axis("off")


def draw_molecule(task: Task, index: int, axis: Axes) -> None:
    """Draw a molecule as the graph that the network reads, with atoms where a chemist puts them, and carbon unnamed.

    Args:
        task: of molecules, with their `smiles` in its graph.
        index: of the molecule.
        axis: to draw on.

    Raises:
        ValueError: the graphs are not molecules.
    """
    if "smiles" not in task.graph.about:
        raise ValueError(f"{task.name!r} is not of molecules: its graph has no `smiles` to draw")
    graph = union_of_graphs(task.graph, torch.tensor([index]))
    molecule = Chem.MolFromSmiles(task.graph.about["smiles"][index])
    Compute2DCoords(molecule)
    points = molecule.GetConformer().GetPositions()[:, :2]
    symbols = [atom.GetSymbol() for atom in molecule.GetAtoms()]
    picture = to_networkx(Data(edge_index=plain(graph.edge_index), num_nodes=len(symbols)), to_undirected=True)
    doubled = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in molecule.GetBonds() if b.GetBondTypeAsDouble() > 1]
    nx.draw_networkx_edges(picture, points, ax=axis, edge_color="0.6")
    nx.draw_networkx_edges(picture, points, doubled, ax=axis, edge_color="0.6", width=3)
    colour = [ATOM_COLOURS.get(symbol, PALETTE["green"]) for symbol in symbols]
    nx.draw_networkx_nodes(picture, points, ax=axis, node_size=110, node_color=colour)
    named = {place: symbol for place, symbol in enumerate(symbols) if symbol != "C"}
    nx.draw_networkx_labels(picture, points, named, font_size=7, font_color="white", ax=axis)
    axis.set_aspect("equal")
    axis.axis("off")
