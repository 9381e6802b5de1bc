"""Networks trained against the floors of part 1 of docs/theory.md, and the drawn graphs that they are trained on.

`NodeRegressor` is the study's own model with one output, routed or not; `CappedNetwork` is a small nonlinear
rule whose reliance on the shift-sensitive feature cannot pass a cap. `train_worst_case` trains either for what the
floors are about: the least risk in the worst of several conditions.

Example:
    >>> model, context = HomophilyModel(mu=1.0, sigma=2.0, d=8, h=0.9), RouterContext(m=2.0, t=1.0)
    >>> graph = condition_graph(model, context, nodes=100, seed=0, mirrored=False)
    >>> network = train_worst_case(NodeRegressor(experts=2), [(graph, graph.y)], steps=2)
    >>> network(graph).shape
    torch.Size([100])
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from stemlib.data.built_in import contextual_sbm
from stemlib.data.graph import Graph, sorted_by_target
from stemlib.model.encoder import path_gates
from stemlib.model.messages import neighbour_mean
from stemlib.model.stem import StemGNN
from stemlib.presets import ModelConfig
from stemlib.theory.floor import HomophilyModel, Samples
from stemlib.theory.floor_nonlinear import FrequencyModel, RouterContext


def condition_graph(model: HomophilyModel, context: RouterContext, nodes: int, seed: int, *, mirrored: bool) -> Data:
    """A graph of one condition of model 1a, drawn at homophily `h` or, mirrored, at `1 - h`.

    Returns:
        `Data` with `x` `[N, 2]` (own feature; context, of mean `m`, mirrored `-m`), `y` `[N]` in {-1., 1.},
        and `edge_index` `[2, N d]` sorted by target.

    Raises:
        ValueError: the model's degree is not a whole number.
    """
    if model.d != int(model.d):
        raise ValueError(f"a drawn graph needs a whole degree d, got {model.d}")
    h = 1 - model.h if mirrored else model.h
    graph = contextual_sbm(
        nodes, degree=model.d, homophily=h, mu=model.mu, sigma=model.sigma, noise_features=1, seed=seed
    )
    own, noise = graph.x.T
    centre = -context.m if mirrored else context.m
    graph.x = torch.stack([own, centre + context.t / model.sigma * noise], dim=1)
    graph.y = 2.0 * graph.y - 1
    graph.edge_index = sorted_by_target(Graph.of(graph)).edge_index
    return graph


def one_hop(graph: Data) -> Samples:
    """What one round of message passing sees (float64): own feature, its mean over the neighbours, label."""
    own = graph.x[:, :1].double()
    return Samples(own.flatten(), neighbour_mean(own, graph.edge_index).flatten(), graph.y.double())


def matched_pairs(model: FrequencyModel, count: int, generator: torch.Generator, condition: int) -> Samples:
    """Model 1b by message passing: nodes in pairs, features `x ~ N(0, 1)`, one neighbour each.

    The low-pass `u = (x + mean_j x_j) / sqrt(2)` and the high-pass `v = (x - mean_j x_j) / sqrt(2)` are
    independent and standard normal, as in the model. The two nodes of a pair share `u` and, except for its sign, `v`.

    Args:
        model: gives the noise of the target.
        count: number of nodes, even.
        generator: of the draw.
        condition: 0 or 1.

    Raises:
        ValueError: `count` is odd or below 2, or the condition is neither 0 nor 1.
    """
    if count < 2 or count % 2 or condition not in (0, 1):
        raise ValueError(f"pairs need an even count >= 2 and condition 0 or 1, got {count=}, {condition=}")
    x, noise = torch.randn(2, count, 1, dtype=torch.float64, generator=generator)
    node = torch.arange(count)
    mean = neighbour_mean(x, torch.stack([node ^ 1, node]))  # 0 and 1 are neighbours, so are 2 and 3, ...
    u, v = (x + mean) / math.sqrt(2), (x - mean) / math.sqrt(2)
    target = (v if condition else u) + model.sigma * noise
    return Samples(u.flatten(), v.flatten(), target.flatten())


class NodeRegressor(nn.Module):
    """`StemGNN` without tokens and with one output: `[mean_j x_j ; x_i] W_k` mixed by the router, then a line.

    Args:
        experts: `K`; with 1 every node takes the same rule, which is static inference.
        layers: rounds of message passing; a network of one layer and one expert is linear.
        hidden: width.
    """

    def __init__(self, experts: int, layers: int = 1, hidden: int = 8) -> None:
        super().__init__()
        config = ModelConfig(hidden=hidden, layers=layers, experts=experts, codebook="none", dropout=0.0)
        self.model = StemGNN(config, in_width=2, classes=1)

    def forward(self, graph: Data, gates: Sequence[Tensor | None] | None = None) -> Tensor:
        """Predictions `[N]` from `graph.x` `[N, 2]`; `gates` (`[N, K]` per layer) are forced where given."""
        return self.model.classify(self.model.encode(graph, gates).z)[0].squeeze(1)

    @torch.no_grad()
    def rules(self) -> Tensor:
        """`(a, b)` of every expert of a one-layer network, `[K, 2]`: weights of own feature and neighbour mean."""
        # Rows of an expert: mean of the own features, mean of the contexts, own feature, own context.
        weights = self.model.encoder.layers[0].weight @ self.model.head.effective_weight.T  # [K, 4, 1]
        return weights[:, [2, 0], 0]


@torch.no_grad()
def misroute(network: NodeRegressor, graph: Data, share: float, generator: torch.Generator) -> Tensor:
    """Predictions `[N]` with every node sent to one expert, except a random `share`, sent to the other.

    The first is the expert that the network's own gates prefer on this graph.

    Args:
        network: of one layer and two experts.
        graph: of one condition.
        share: probability of the wrong expert, in [0, 1].
        generator: decides which nodes are misrouted.
    """
    right = network.model.encode(graph).gates[0].mean(0).argmax().item()
    (gates,) = path_gates([right], graph.num_nodes, experts=2)
    wrong = torch.rand(graph.num_nodes, 1, generator=generator) < share
    return network(graph, [torch.where(wrong, gates.flip(1), gates)])


class CappedNetwork(nn.Module):
    """`f(u, v) = a u + b v + w . tanh(p u + q v + r) + c` with `|df/dv| <= cap` whatever the weights.

    The slope in `v` is at most `|b| + sum_k |w_k q_k|`, for `tanh` has slopes in [0, 1]; where that exceeds
    the cap, `b` and `q` are scaled down to meet it. Computes in float64.

    Args:
        cap: `B`, above 0; `math.inf` for none.
        width: number of `tanh` units; 0 leaves a linear rule.

    Raises:
        ValueError: a cap that is not above 0.
    """

    def __init__(self, cap: float = math.inf, width: int = 8) -> None:
        super().__init__()
        if not cap > 0:
            raise ValueError(f"cap must be above 0, got {cap}")
        self.cap = cap
        self.line = nn.Parameter(torch.zeros(3, dtype=torch.float64))  # a, b, c
        units = torch.randn(4, width, dtype=torch.float64)  # w, p, q, r
        units[0] /= max(width, 1)
        self.units = nn.Parameter(units)

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        """Predictions `[N]` from `u` and `v` `[N]`, float64."""
        a, b, c = self.line
        w, p, q, r = self.units
        scale = 1 / ((b.abs() + (w * q).abs().sum()) / self.cap).clamp(min=1)
        hidden = torch.tanh(torch.addcmul(r, u[:, None], p) + v[:, None] * (scale * q))  # [N, width]
        return a * u + scale * b * v + hidden @ w + c


def train_worst_case(
    network: nn.Module, conditions: Sequence[tuple[Any, ...]], *, steps: int = 150, lr: float = 0.1
) -> nn.Module:
    """Train in place for the least `max_e R_e`, full batch, and return the network in evaluation mode.

    Args:
        network: called on a condition's inputs, gives predictions `[N]`.
        conditions: one or more, each the network's inputs followed by the target `[N]`: `Samples`, or
            `(graph, y)`.
        steps: of Adam, the learning rate falling from `lr` to 0 along a cosine.
        lr: the first learning rate.
    """
    optimiser = torch.optim.Adam(network.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    network.train()
    for _ in range(steps):
        risks = [(target - network(*inputs)).square().mean() for *inputs, target in conditions]
        optimiser.zero_grad(set_to_none=True)
        torch.stack(risks).max().backward()
        optimiser.step()
        schedule.step()
    return network.eval()
