"""Networks that are different graph filters, whose logits are mixed with one weight each, found on validation."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from stemlib.data.graph import Graph
from stemlib.data.tasks import Kind, read_out
from stemlib.devices import device_of
from stemlib.model.filter_networks import NETWORK_FILTERS, FilterLayer, personalised, spreads_of
from stemlib.model.layers import Dropout
from stemlib.model.losses import task_loss, task_loss_slope
from stemlib.model.messages import edge_mean
from stemlib.model.network import Network, Output
from stemlib.model.sparse_features import compacted
from stemlib.presets import MixtureConfig, TrainConfig

GATE_STEPS = 20  # of exponentiated gradient, at most
ENOUGH, SHORTEST = 1e-7, 1e-9  # gain below which no step follows; length below which none is halved


class Mixture(Network):
    """`K` networks, each a filter of its own; logits `sum_k g_k z_k` with weights `g`, the gate, on the simplex.

    For classes that is `softmax(sum_k g_k log softmax(z_k))`, since a row's constant does not count. A name that occurs
    twice in `filters` is two networks that start differently. Each is trained by its own loss and read out as a
    `Baseline` is; if edges have features, all but `self` read their mean, appended to the node's own.

    A validated gate is computed from the answers on validation after every epoch, see `validated_gate`. Validation then
    chooses `K - 1` numbers besides the epoch, so that its score is a little too good; pseudo-counts hold the gate back
    where validation is small.

    Args:
        config: which filters, how large, which gate.
        in_width, classes, kind, edge_width: see `Network`.

    Raises:
        ValueError: a filter that does not exist, or none.
    """

    def __init__(
        self, config: MixtureConfig, in_width: int, classes: int, kind: Kind = "node", edge_width: int | None = None
    ) -> None:
        super().__init__(config, in_width, classes, kind, edge_width)
        self.names = config.filters.split()
        if not self.names or not set(self.names) <= NETWORK_FILTERS.keys():
            known = ", ".join(NETWORK_FILTERS)
            raise ValueError(f"filters must be some of {known}, separated by spaces; got {config.filters!r}")
        first = [in_width + (edge_width or 0) * (name != "self") for name in self.names]
        widths = [first] + [[config.hidden] * len(self.names)] * (config.layers - 1)
        outs = [config.hidden] * (config.layers - 1) + [classes]
        self.layers = nn.ModuleList(FilterLayer(self.names, *sizes) for sizes in zip(widths, outs, strict=True))
        self.input_dropout, self.dropout = Dropout(config.input_dropout), Dropout(config.dropout)
        self.register_buffer("gate", torch.full((len(self.names),), 1 / len(self.names)))

    @property
    def last_maps(self) -> list[nn.Module]:
        """The last layer, of all networks."""
        return [self.layers[-1]]

    def forward(self, graph: Graph | Data, instances: Tensor | None) -> Output:
        """Logits of nodes `[M]`, pairs of nodes `[M, 2]`, or all graphs (None): the networks' own, and mixed."""
        graph = Graph.of(graph).on(device_of(self))
        x = compacted(graph)
        if self.edge_width is not None and set(self.names) != {"self"}:
            x = torch.cat([x, edge_mean(graph, graph.edge_attr)], dim=1)
        spreads = spreads_of(self.names, graph, x.dtype)
        first = self.layers[0]
        states = first(first.of_one(self.input_dropout(x)), spreads)
        for before, layer in pairwise(self.layers):
            hidden = (torch.cat(states, dim=1) + before.bias).relu_()
            states = layer(layer.of_each(self.dropout(hidden)), spreads)
        z = torch.cat(personalised(self.names, states, spreads), dim=1) + self.layers[-1].bias
        parts = read_out(z, graph, instances, self.kind, self.config.pool).unflatten(1, (len(self.names), -1))
        mixed = self.mixed(parts)
        return Output(mixed, mixed, parts=parts)

    def mixed(self, parts: Tensor) -> Tensor:
        """`sum_k g_k z_k`, `[M, classes]`, of the networks' own logits `[M, K, classes]`."""
        return parts.transpose(1, 2) @ self.gate.to(parts)

    def settled(self, answers: Tensor, labels: Tensor, regression: bool = False) -> Tensor:
        """Weigh the networks by their answers on validation, the first of `answers` `[M, K, classes]`; then mix all."""
        if self.config.gate == "validated":
            self.gate.copy_(validated_gate(answers[: len(labels)], labels, regression, self.config.gate_counts))
        return self.mixed(answers)

    def loss(self, output: Output, labels: Tensor, regression: bool = False) -> Tensor:
        """The mean of the networks' own losses: each must do well alone, and leave nothing it could learn to others."""
        parts = output.parts[: len(labels)].unbind(1)
        return torch.stack([task_loss(part, labels, regression) for part in parts]).mean()

    def penalty(self, output: Output, train: TrainConfig) -> Tensor:
        """As for every network, averaged over the `K` networks: their loss is a mean as well."""
        return super().penalty(output, train) / len(self.names)


@torch.no_grad()
def validated_gate(parts: Tensor, labels: Tensor, regression: bool = False, counts: float = 5.0) -> Tensor:
    """Weights `g` `[K]` that minimise `n loss(sum_k g_k z_k) - counts sum_k log g_k`, a convex function on the simplex.

    Every network starts with `counts` instances in its favour, against the `n` of validation: the smaller `n`, the
    nearer the weights stay to uniform. The function falls from step to step, starting at uniform, so that
    `counts K KL(uniform || g) <= n (loss at uniform - loss at g)`: with the loss at uniform `l` the distance
    `sum_k |g_k - 1 / K|` is at most `sqrt(2 n l / (counts K))`.

    The steps are of exponentiated gradient, each halved until it gains half of what its slope promises; they restart at
    uniform every time, so that the weights depend only on the present networks.

    Args:
        parts: validation's logits `[n, K, classes]`.
        labels: their labels.
        regression: whether they are numbers.
        counts: pseudo-counts of each network.
    """
    size, networks, classes = parts.shape
    columns = parts.double().transpose(1, 2).reshape(-1, networks)  # once, not at every step
    labels = labels.double() if labels.is_floating_point() else labels

    def mixed(log_gate: Tensor) -> Tensor:
        return (columns @ log_gate.exp()).view(size, classes)

    def badness(log_gate: Tensor) -> Tensor:
        fit = task_loss(mixed(log_gate), labels, regression)
        return (size * fit - counts * log_gate.sum()) / (size + counts * networks)

    log_gate, rate = columns.new_zeros(networks).log_softmax(0), 1.0
    value = badness(log_gate)
    for _ in range(GATE_STEPS):
        gate = log_gate.exp()
        fall = task_loss_slope(mixed(log_gate), labels, regression).flatten() @ columns
        slope = (size * fall - counts / gate) / (size + counts * networks)
        while True:
            moved = (log_gate - rate * (slope - slope.mean())).log_softmax(0)
            hoped = slope @ (gate - moved.exp())
            if (gain := value - (after := badness(moved))) >= hoped / 2 or rate < SHORTEST:
                break
            rate /= 2
        if not gain > 0:
            break
        log_gate, value, rate = moved, after, 2 * rate
        if gain < ENOUGH:
            break
    return log_gate.exp()
