"""Small graphs and tasks that the tests share."""

from __future__ import annotations

from copy import copy

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Data

from stemlib.data.built_in import built_in
from stemlib.data.checks import checked
from stemlib.data.graph import Graph
from stemlib.data.splits import stratified_split
from stemlib.data.tasks import Split, Task
from stemlib.presets import BaselineConfig, ModelConfig

settings.register_profile("unhurried", deadline=None)  # no test depends on how busy the machine is
settings.load_profile("unhurried")
few = settings(max_examples=25)
fewer = settings(max_examples=8)  # for what is held for many kinds of model
EXACT = {"rtol": 1e-9, "atol": 1e-12}  # of identities in float64

# PyG's convolutions are dense layers of the reference's code only, which parity tests hold: two stand for all.
BACKBONES = ("sage", "gat")
ENCODERS = [("all", "sage"), ("last", "sage"), ("none", "sage"), ("last", "gat"), ("none", "gcn")]
BASELINES = ("mlp", "gcn", "sage", "gat", "gin")


def small_model(**settings: object) -> ModelConfig:
    """A model of a few hundred parameters."""
    return ModelConfig(**{"hidden": 8, "heads": 2, "codes": 6, "dropout": 0.0, **settings})


def small_baseline(kind: str, **settings: object) -> BaselineConfig:
    return BaselineConfig(kind, **{"hidden": 8, "dropout": 0.0, "input_dropout": 0.0, **settings})


def random_graph(
    nodes: int = 12, edges: int = 30, *, width: int = 6, edge_width: int = 3, edge_features: str = "none", seed: int = 0
) -> Graph:
    """Uniform edges in float64, self-loops and repeats among them; edge features `none`, by `rows` or `types`."""
    generator = torch.Generator().manual_seed(seed)
    graph = Graph(
        x=torch.randn(nodes, width, generator=generator, dtype=torch.double),
        edge_index=torch.randint(nodes, (2, edges), generator=generator),
    )
    if edge_features != "none":
        rows = edges if edge_features == "rows" else 4
        graph.edge_attr = torch.randn(rows, edge_width, generator=generator, dtype=torch.double)
    if edge_features == "types":
        graph.edge_type = torch.randint(4, (edges,), generator=generator)
    return graph


graphs = st.builds(
    random_graph,
    nodes=st.integers(1, 8),
    edges=st.integers(0, 25),
    edge_features=st.sampled_from(["none", "rows", "types"]),
    seed=st.integers(0, 2**31),
)


def renumbered(graph: Graph, order: Tensor, edge_order: Tensor) -> Graph:
    """The same graph with node `order[k]` called `k` and the edges listed in another order."""
    out = copy(graph)
    out.x = graph.x[order]
    out.edge_index = order.argsort()[graph.edge_index][:, edge_order]
    for name in graph.per_edge:
        setattr(out, name, getattr(graph, name)[edge_order])
    return out


def ring(nodes: int = 12) -> Data:
    """Two classes in turn, one third each to train, validate and test."""
    index = torch.arange(nodes)
    graph = Data(x=torch.randn(nodes, 3), edge_index=torch.stack([index, (index + 1) % nodes]), y=index % 2)
    for i, part in enumerate(("train", "val", "test")):
        graph[f"{part}_mask"] = index // (nodes // 3) == i
    return graph


def node_task(nodes: int = 80, seed: int = 0, **settings: float) -> Task:
    """Three classes, well apart."""
    defaults = {"classes": 3, "degree": 4, "homophily": 0.8, "mu": 2.0, "sigma": 1.0}
    return built_in(nodes, seed=seed, name="tiny", **(defaults | settings))


def link_task(pairs: int = 60, seed: int = 0) -> Task:
    """Whether one of two nodes is of class 0; the edges have one of four types."""
    generator = torch.Generator().manual_seed(seed)
    nodes = node_task(seed=seed)
    drawn = torch.randint(nodes.instances, (pairs, 2), generator=generator)
    labels = (nodes.labels[drawn] == 0).any(1).long()
    graph = copy(nodes.graph)
    graph.edge_type = torch.randint(4, (graph.num_edges,), generator=generator)
    graph.edge_attr = torch.randn(4, 5, generator=generator)
    split = stratified_split(torch.arange(pairs), labels, seed, name="random")
    return checked(Task("tiny-links", "link", graph, labels, {"random": split}, pairs=drawn, checksum=f"links-{seed}"))


def graph_task(count: int = 32, seed: int = 0) -> Task:
    """Two binary labels of graphs of 1 to 6 nodes, some of them missing; an edge has features of its own."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 7, (count,), generator=generator)
    first = sizes.cumsum(0) - sizes
    batch = torch.arange(count).repeat_interleave(sizes)
    target = torch.arange(len(batch)).repeat_interleave(2)
    source = first[batch[target]] + (torch.rand(len(target), generator=generator) * sizes[batch[target]]).long()
    alternating = torch.stack([torch.arange(count) % 2, torch.arange(count) // 2 % 2], 1).float()
    graph = Graph(
        x=torch.randn(len(batch), 4, generator=generator) + 2 * alternating[batch].repeat(1, 2),
        edge_index=torch.stack([source, target]),
        edge_attr=torch.randn(len(target), 3, generator=generator),
        batch=batch,
        ptr=torch.cat([first, first.new_tensor([len(batch)])]),
    )
    labels = alternating.clone()
    labels[:: count // 4, 1] = float("nan")
    parts = torch.arange(count).split([count // 2, count // 4, count - count // 2 - count // 4])
    return checked(
        Task("tiny-graphs", "graph", graph, labels, {"random": Split("random", *parts)}, checksum=f"g-{seed}")
    )


TASKS = {"node": node_task, "link": link_task, "graph": graph_task}
