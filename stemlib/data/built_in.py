"""The built-in graph: a contextual stochastic block model that model 1a of docs/theory.md solves in closed form.

Every node has a class; its own feature is `mu * (class signal) + N(0, sigma^2)`, and each of its `d`
neighbours shares its class with probability `h`. With two classes the signal is `y = +-1`, and the mean
of the neighbours' features has mean `(2h - 1) mu y` and variance `(sigma^2 + 4 h (1-h) mu^2) / d`.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor
from torch_geometric.data import Data

from stemlib.data.checks import checked
from stemlib.data.graph import Graph
from stemlib.data.splits import stratified_split
from stemlib.data.tasks import Task

BUILT_IN = "built-in"  # the name of the graph that needs no data


def contextual_sbm(
    nodes: int = 2000,
    *,
    classes: int = 2,
    degree: float | Tensor = 8,
    homophily: float | Tensor = 0.9,
    mu: float = 1.0,
    sigma: float = 2.0,
    noise_features: int = 0,
    seed: int = 0,
) -> Data:
    """Draw a graph.

    Every node draws its in-neighbours: a same-class node with probability `homophily`, otherwise
    one of another class, uniformly. Edges therefore run neighbour -> node, in-degree is exact, and degree and
    homophily can be set node by node.

    Args:
        nodes: number of nodes `N`.
        classes: number of classes `C`. With 2, features are one column with means `-mu`, `+mu`; with more,
            `C` columns with mean `mu` in the class's own column.
        degree: in-degree of every node, or a tensor `[N]` (any distribution; rounded).
        homophily: probability that a neighbour has the same class, or a tensor `[N]`.
        mu: size of the class signal.
        sigma: standard deviation of the feature noise.
        noise_features: number of further columns of `N(0, sigma^2)` that carry no signal.
        seed: of the generator; the same seed gives the same graph.

    Returns:
        `Data` with `x` `[N, d]`, `edge_index` `[2, E]`, `y` `[N]`, and `homophily`, `in_degree` `[N]` as
        asked for.

    Raises:
        ValueError: a parameter out of range, named.
    """
    if classes < 2 or nodes < 2 * classes:
        raise ValueError(f"need classes >= 2 and nodes >= 2 * classes, got {classes} classes, {nodes} nodes")
    if not (math.isfinite(mu) and 0 <= sigma < math.inf and noise_features >= 0):
        raise ValueError(f"need finite mu, sigma >= 0 and noise_features >= 0, got {mu}, {sigma}, {noise_features}")
    for setting, value in (("homophily", homophily), ("degree", degree)):
        if torch.is_tensor(value) and value.shape not in ((), (nodes,)):
            raise ValueError(f"{setting} must be a number or [{nodes}], got {tuple(value.shape)}")
    h = torch.as_tensor(homophily, dtype=torch.float).expand(nodes)
    d = torch.as_tensor(degree, dtype=torch.float).round().long().expand(nodes)
    if not ((h >= 0) & (h <= 1)).all():
        raise ValueError(f"homophily must lie in [0, 1], got {h.min():g}..{h.max():g}")
    if (d < 0).any():
        raise ValueError(f"degree must not be negative, got {int(d.min())}")

    generator = torch.Generator().manual_seed(seed)
    y = torch.randperm(nodes, generator=generator) % classes  # balanced to within one node
    target = torch.arange(nodes).repeat_interleave(d)
    same = torch.rand(target.numel(), generator=generator) < h[target]
    other = (y[target] + torch.randint(1, classes, (target.numel(),), generator=generator)) % classes
    source = _draw_of_class(torch.where(same, y[target], other), y, target, classes, generator)

    one_hot = torch.nn.functional.one_hot(y, classes).float()
    signal = one_hot[:, 1:] - one_hot[:, :1] if classes == 2 else one_hot
    clean = torch.cat([mu * signal, torch.zeros(nodes, noise_features)], dim=1)
    x = clean + sigma * torch.randn(clean.shape, generator=generator)
    return Data(x=x, edge_index=torch.stack([source, target]), y=y, homophily=h.clone(), in_degree=d.clone())


def _draw_of_class(wanted: Tensor, y: Tensor, target: Tensor, classes: int, generator: torch.Generator) -> Tensor:
    """A uniformly drawn node `[E]` of each wanted class `[E]`, never the target itself."""
    order = y.argsort(stable=True)
    size = torch.bincount(y, minlength=classes)
    first = size.cumsum(0) - size
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order)) - first[y[order]]  # position of a node within its class
    same = wanted == y[target]
    choices = size[wanted] - same.long()
    draw = (torch.rand(len(wanted), generator=generator, dtype=torch.double) * choices).long()
    draw += (same & (draw >= rank[target])).long()  # skip the target
    return order[first[wanted] + draw]


def built_in(nodes: int = 2000, *, seed: int = 0, name: str = BUILT_IN, **settings: float | Tensor) -> Task:
    """The built-in graph as a node task with a stratified 50/25/25 split named `random`.

    Args:
        nodes: number of nodes.
        seed: of graph and split.
        name: the task's name.
        settings: of `contextual_sbm`.
    """
    graph = contextual_sbm(nodes, seed=seed, **settings)
    split = stratified_split(torch.arange(nodes), graph.y, seed=seed, name="random")
    per_node = {key: value for key, value in settings.items() if torch.is_tensor(value)}
    shown = settings | dict.fromkeys(per_node, "per node")
    hashes = {key: hashlib.sha256(value.numpy().tobytes()).hexdigest()[:12] for key, value in per_node.items()}
    return checked(
        Task(
            name=name,
            kind="node",
            graph=Graph.of(graph),
            labels=graph.y,
            splits={"random": split},
            description="contextual stochastic block model; a node is a point of a Gaussian mixture, an edge "
            f"a drawn neighbour, the label the mixture component; settings {shown}",
            checksum=f"seed-{seed}-nodes-{nodes}-{sorted((settings | hashes).items())}",
        )
    )


def mixed_graph(nodes: int = 2000, seed: int = 0, **settings: float) -> Task:
    """The built-in graph of the experiments: four classes, and degree and homophily that vary from node to node.

    Four nodes in five are homophilous (0.75 to 0.95), the fifth heterophilous (0.1 to 0.4); in-degrees are
    2 plus an exponential of mean 6, at most 40. So degree and homophily can both shift.
    """
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(nodes, generator=generator)
    homophilous = torch.rand(nodes, generator=generator) < 0.8
    homophily = torch.where(homophilous, 0.75 + 0.2 * uniform, 0.1 + 0.3 * uniform)
    degree = (2 + torch.empty(nodes).exponential_(1 / 6, generator=generator)).clamp(max=40)
    defaults = {"classes": 4, "mu": 1.0, "sigma": 1.0, "noise_features": 12}
    return built_in(nodes, seed=seed, degree=degree, homophily=homophily, **(defaults | settings))
