"""Random routed networks and tasks in float64, for identities that hold for all of them."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import torch
from hypothesis import strategies as st
from samples import graph_task, random_graph, small_model
from torch import nn

from stemlib.data.graph import Graph, plain, sorted_by_target
from stemlib.data.tasks import Task
from stemlib.model.stem import StemGNN
from stemlib.stress.conditions import Condition
from stemlib.stress.corruptions import delete_edges, mask_features
from study.families import build


def exact(task: Task) -> Task:
    """The task in float64."""
    graph = copy(task.graph)
    for name in ("x", "edge_attr"):
        if getattr(graph, name) is not None:
            setattr(graph, name, getattr(graph, name).double())
    labels = task.labels.double() if task.labels.is_floating_point() else task.labels
    return replace(task, graph=graph, labels=labels)


def random_task(kind: str, seed: int = 0, *, nodes: int = 9, edges: int = 20, edge_features: str = "none") -> Task:
    """A task of any kind on a random graph: self-loops, repeated edges and isolated nodes among it."""
    if kind == "graph":
        return exact(graph_task(count=8, seed=seed))
    graph = random_graph(nodes, edges, edge_features=edge_features, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.randint(nodes, (7, 2), generator=generator) if kind == "link" else None
    labels = torch.randint(3, (nodes if pairs is None else 7,), generator=generator)
    labels[0] = 2  # so that there are three classes
    return Task("random", kind, sorted_by_target(graph), labels, {}, pairs)


def without_returns(task: Task) -> Task:
    """The task without self-loops, and without edges between the ends of a link."""
    graph = copy(task.graph)
    source, target = plain(graph.edge_index)
    keep = source != target
    if task.pairs is not None:
        keys = torch.cat([task.pairs, task.pairs.flip(1)]) @ torch.tensor([graph.num_nodes, 1])
        keep &= ~torch.isin(source * graph.num_nodes + target, keys)
    graph.edge_index = torch.stack([source, target])[:, keep]
    if graph.edge_attr is not None:
        name = "edge_type" if graph.edge_type is not None else "edge_attr"
        setattr(graph, name, getattr(graph, name)[keep])
    return task.with_graph(sorted_by_target(graph))


def random_model(task: Task, seed: int = 0, **settings: object) -> StemGNN:
    """A network in float64 whose experts, gates and tokens differ enough to matter."""
    torch.manual_seed(seed)
    model = build(small_model(**settings), task).double().eval()
    for router in model.encoder.routers:
        router.weight.data *= 5
    for norm in model.encoder.norms:
        if isinstance(norm, nn.BatchNorm1d):
            nn.init.uniform_(norm.running_mean, -1, 1)
            nn.init.uniform_(norm.running_var, 0.5, 2)
    model.head.linear.weight.data *= 5
    return model


def condition(task: Task, name: str = "clean") -> Condition:
    """All instances."""
    return Condition(name, task, torch.arange(task.instances))


def damaged(task: Task, seed: int = 0, features: float = 0.4, edges: float = 0.3) -> Condition:
    """All instances with features masked and edges deleted everywhere."""
    everywhere = torch.ones(task.graph.num_nodes, dtype=torch.bool)
    graph: Graph = mask_features(task.graph, everywhere, features, seed).graph
    graph = delete_edges(graph, everywhere, edges, seed).graph
    return condition(task.with_graph(graph), "damaged")


seeds = st.integers(0, 2**31)
architectures = st.fixed_dictionaries(
    {
        "experts": st.integers(2, 4),
        "layers": st.integers(1, 3),
        "routed": st.sampled_from(["all", "last"]),
        "norm": st.sampled_from(["none", "batch", "layer"]),
        "codebook": st.sampled_from(["none", "reference", "ema", "learnable"]),
        "code_width": st.sampled_from([None, 3]),
    }
)
kinds = st.sampled_from(["node", "link", "graph"])
