"""Networks that are different graph filters, whose logits are mixed by one weight each, found on validation.

A filter's layer is a sum of terms: states are mapped, then spread over edges by means (`m`), by a GCN's normalised sums
(`p`), or stay (an empty word); `mm` are means of means. All networks of a layer share one sparse product per kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from stemlib.data.graph import Graph, sorted_by_target
from stemlib.data.tasks import Kind, read_out
from stemlib.devices import device_of
from stemlib.model.layers import Dropout
from stemlib.model.losses import task_loss
from stemlib.model.messages import Spread, edge_mean, mean_over, normalised
from stemlib.model.network import Network, Output
from stemlib.model.sparse_features import compacted
from stemlib.presets import MixtureConfig, TrainConfig

# An MLP; a GCN; a GraphSAGE; an MLP whose answers are spread by `personalised`; one that reads all of it at two hops.
FILTERS = {"self": ("",), "low": ("p",), "mean": ("m", ""), "ppr": ("",), "rich": ("mm", "m", "p", "")}
STEPS, RESTART = 8, 0.1  # of `personalised`
GATE_STEPS = 20  # of exponentiated gradient, at most
ENOUGH, SHORTEST = 1e-7, 1e-9  # gain of a step after which none follows; length of a step that is not halved


class FilterLayer(nn.Module):
    """A layer of several filters' networks.

    Args:
        names: of the filters, `K`.
        in_widths: width of what each network reads.
        out_width: width `d` of each network's states.

    Attributes:
        weight: of each network `[in, terms d]`.
        bias: `[K d]`.
    """

    def __init__(self, names: Sequence[str], in_widths: Sequence[int], out_width: int) -> None:
        super().__init__()
        self.names, self.out_width = names, out_width
        blocks = [
            [nn.init.xavier_uniform_(torch.empty(width, out_width)) for _ in FILTERS[name]]
            for name, width in zip(names, in_widths, strict=True)
        ]
        self.weight = nn.ParameterList(nn.Parameter(torch.cat(terms, dim=1)) for terms in blocks)
        self.bias = nn.Parameter(torch.zeros(len(names) * out_width))

    def of_one(self, x: Tensor) -> list[Tensor]:
        """One input `[N, d_in]`, full or sparse, mapped for every term of every network, `[N, d]`, as one product.

        A network that reads less of it than others reads its first columns.
        """
        reads = [F.pad(weight, (0, 0, 0, x.size(1) - len(weight))) for weight in self.weight]
        return list((x @ torch.cat(reads, dim=1)).split(self.out_width, dim=1))

    def of_each(self, states: Tensor) -> list[Tensor]:
        """The networks' own states, side by side `[N, K d_in]`, mapped for every term of each, `[N, d]`."""
        own = states.split([len(weight) for weight in self.weight], dim=1)
        mapped = [state @ weight for state, weight in zip(own, self.weight, strict=True)]
        return [term for terms in mapped for term in terms.split(self.out_width, dim=1)]

    def forward(self, mapped: Sequence[Tensor], spreads: dict[str, Spread]) -> list[Tensor]:
        """Every network's sum over its terms, `[N, d]`, of what it mapped for each; without bias."""
        terms = [(k, term) for k, name in enumerate(self.names) for term in FILTERS[name]]
        left = dict(zip(terms, mapped, strict=True))
        # The longest words first: what they leave is added to the shorter ones before these are spread.
        for length in range(max(len(term) for _, term in terms), 0, -1):
            for kind, spread in spreads.items():
                now = [key for key in left if len(key[1]) == length and key[1][-1] == kind]
                if not now:
                    continue
                found = spread @ torch.cat([left.pop(key) for key in now], dim=1)
                for (k, term), states in zip(now, found.split(self.out_width, dim=1), strict=True):
                    rest = (k, term[:-1])
                    left[rest] = left[rest] + states if rest in left else states
        return [left[k, ""] for k in range(len(self.names))]


class Mixture(Network):
    """`K` networks, each a filter of its own; logits `sum_k g_k z_k` with weights `g` on the simplex.

    Of classes that is `softmax(sum_k g_k log softmax(z_k))`, for a row's constant does not count. A name that stands
    twice in `filters` is two networks that start apart. Read-out as a `Baseline`'s, of each network; where edges have
    features, all but `self` read their mean behind the node's own.

    The validated gate is fitted to validation's answers after every epoch, see `validated_gate`: validation then
    chooses `K - 1` numbers beside the epoch, and its score is a little too good by that. Its weights hold those back.

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
        if not self.names or not set(self.names) <= FILTERS.keys():
            known = ", ".join(FILTERS)
            raise ValueError(f"filters must be some of {known}, with a space between; got {config.filters!r}")
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
        spreads = self._spreads(graph, x.dtype)
        first = self.layers[0]
        states = first(first.of_one(self.input_dropout(x)), spreads)
        for before, layer in pairwise(self.layers):
            hidden = (torch.cat(states, dim=1) + before.bias).relu_()
            states = layer(layer.of_each(self.dropout(hidden)), spreads)
        z = torch.cat(self._personalised(states, spreads), dim=1) + self.layers[-1].bias
        parts = read_out(z, graph, instances, self.kind, self.config.pool).unflatten(1, (len(self.names), -1))
        mixed = self.mixed(parts)
        return Output(mixed, mixed, parts=parts)

    def _spreads(self, graph: Graph, dtype: torch.dtype) -> dict[str, Spread]:
        read = {kind for name in self.names for term in FILTERS[name] for kind in term}
        spreads = {}
        if "m" in read:
            spreads["m"] = graph.derived(
                ("mean", dtype), lambda: mean_over(sorted_by_target(graph).edge_index, dtype), graph.edge_index
            )
        if "p" in read or "ppr" in self.names:
            spreads["p"] = normalised(graph, dtype)
        return spreads

    def _personalised(self, states: list[Tensor], spreads: dict[str, Spread]) -> list[Tensor]:
        """The states `[N, d]`, those of `ppr` after eight steps of `z = 0.9 P z + 0.1 z_0` (APPNP)."""
        places = [k for k, name in enumerate(self.names) if name == "ppr"]
        if not places:
            return states
        z = torch.cat([states[k] for k in places], dim=1)
        again = RESTART * z
        for _ in range(STEPS):
            z = torch.add(again, spreads["p"] @ z, alpha=1 - RESTART)
        spread = dict(zip(places, z.chunk(len(places), dim=1), strict=True))
        return [spread.get(k, own) for k, own in enumerate(states)]

    def mixed(self, parts: Tensor) -> Tensor:
        """`sum_k g_k z_k`, `[M, classes]`, of the networks' own logits `[M, K, classes]`."""
        return parts.transpose(1, 2) @ self.gate.to(parts)

    def settled(self, answers: Tensor, labels: Tensor, regression: bool = False) -> Tensor:
        """Weigh the networks by validation's answers, the first of `answers` `[M, K, classes]`; then mix all."""
        if self.config.gate == "validated":
            of_validation = answers[: len(labels)]
            self.gate.copy_(validated_gate(of_validation, labels, regression, self.config.gate_counts))
        return self.mixed(answers)

    def loss(self, output: Output, labels: Tensor, regression: bool = False) -> Tensor:
        """The mixture's loss, and the mean of the networks' own, so that each learns even with a weight near zero."""
        own = [task_loss(part, labels, regression) for part in output.parts[: len(labels)].unbind(1)]
        return super().loss(output, labels, regression) + self.config.alone * torch.stack(own).mean()

    def penalty(self, output: Output, train: TrainConfig) -> Tensor:
        """As every network's, the mean over its networks: their loss is a mean as well."""
        return super().penalty(output, train) / len(self.names)


def validated_gate(parts: Tensor, labels: Tensor, regression: bool = False, counts: float = 5.0) -> Tensor:
    """Weights `g` `[K]` that minimise `n loss(sum_k g_k z_k) - counts sum_k log g_k`, a convex function on the simplex.

    Every network has `counts` instances that speak for it from the start, against the `n` of validation: the fewer
    these are, the nearer the weights stay to uniform. The function falls from step to step, and begins at uniform, so
    that `counts K KL(uniform || g) <= n (loss at uniform - loss at g)`: with the loss at uniform `l` the distance
    `sum_k |g_k - 1 / K|` is at most `sqrt(2 n l / (counts K))`.

    Steps of exponentiated gradient, each halved until it lowers the function; they begin anew at uniform every time, so
    that the weights depend on the networks as they are and on nothing before.

    Args:
        parts: validation's logits `[n, K, classes]`.
        labels: of these.
        regression: whether they are numbers.
        counts: for each network.
    """
    size, networks, classes = parts.shape
    columns = parts.double().transpose(1, 2).reshape(-1, networks)  # once, not at every step
    labels = labels.double() if labels.is_floating_point() else labels

    def badness(log_gate: Tensor) -> Tensor:
        fit = task_loss((columns @ log_gate.exp()).view(size, classes), labels, regression)
        return (size * fit - counts * log_gate.sum()) / (size + counts * networks)

    def moved(rate: float) -> Tensor:
        return (log_gate - rate * (slope - slope.mean())).log_softmax(0)

    log_gate, rate = columns.new_zeros(networks).log_softmax(0), 1.0
    for _ in range(GATE_STEPS):
        gate = log_gate.exp().requires_grad_()
        with torch.enable_grad():
            value = badness(gate.log())
        (slope,) = torch.autograd.grad(value, gate)
        while not (found := badness(moved(rate))) <= value and rate > SHORTEST:
            rate /= 2
        if not found < value:
            break
        log_gate, rate = moved(rate), 2 * rate
        if value - found < ENOUGH:
            break
    return log_gate.exp().to(torch.get_default_dtype())
