"""How far one layer's output moves when its input does: Statement 3.11 of docs/theory.md.

A layer is `sum_k g_k (mean_j x_j W_k + x_i V_k)`, with one `k` and `g = 1` if it is dense. Bounds are node by node,
from each node's clean states and gates.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from stemlib.data.graph import Graph
from stemlib.model.stem import StemGNN
from stemlib.theory.certificates import rounding
from stemlib.theory.gate_bounds import expert_spread, total_variation
from stemlib.theory.neighbourhoods import Neighbourhoods


class Layer(NamedTuple):
    """A layer and its clean pass, in float64.

    Attributes:
        neighbours: `W` averaged with the mean gates, then every `W_k`, then every `W_k - W_l`: `[P, d_in, d_out]`.
        own: the same for `V`, the residual included.
        router: the differences of the router's rows, `[pairs, d_in, 1]`.
        gates: `[N, K]`.
        distance: total variation of each node's gates from the mean gates, `[N]`.
        spread: the largest distance between two experts' clean outputs, `[N]`.
        norms: operator norms of the maps in `neighbours`, `own` and `router`.
        unit: what rounding can do to 1 in the products of each node, `[N]`.
        rounded: bounds on all that is added up in the output and in the router's logits, on clean input: `[2, N]`.
        steepest: how fast the first grows with neighbours' mean and own state, the second with own state: `[3]`.
        messages: what is averaged over neighbours, `[N, d_in]`.
    """

    neighbours: Tensor
    own: Tensor
    router: Tensor
    gates: Tensor
    distance: Tensor
    spread: Tensor
    norms: tuple[Tensor, Tensor, Tensor]
    unit: Tensor
    rounded: Tensor
    steepest: Tensor
    messages: Tensor

    @property
    def experts(self) -> Tensor:
        """Every `W_k`, `[K, d_in, d_out]`."""
        return self.neighbours[1 : 1 + self.gates.size(1)]

    def at(self, nodes: Tensor) -> Layer:
        """The layer for some nodes alone."""
        of_nodes = ("gates", "distance", "spread", "unit", "messages")
        found = {name: getattr(self, name)[nodes] for name in of_nodes}
        return self._replace(rounded=self.rounded[:, nodes], **found)

    def mixed(self, bounds: Tensor) -> Tensor:
        """A bound for the map that the gates mix, from bounds for its parts `[..., N, P]`: the smaller of two."""
        each = (self.gates * bounds[..., 1 : 1 + self.gates.size(1)]).sum(-1)
        return torch.minimum(each, bounds[..., 0] + self.distance * self.apart(bounds))

    def apart(self, bounds: Tensor) -> Tensor:
        """The largest bound among those for differences of experts, `[..., N]`."""
        return largest(bounds[..., 1 + self.gates.size(1) :])

    def output(self, mean: Tensor, own: Tensor, osc: Tensor, direct: Tensor, raw: Tensor) -> Tensor:
        """How far the layer's output moves at most in real arithmetic, `[..., N]`.

        Args:
            mean: bounds of the neighbours' own moves, averaged, through `neighbours`, `[..., N, P]`.
            own: of the own state's move through `own`, `[..., N, P]`.
            osc: of the oscillation of the router's logits, `[..., N]`.
            direct: of what missing neighbours do to the mean, through the map that the gates mix, `[..., N]`.
            raw: of the same before any map, `[..., N]`.
        """
        apart = raw * self.apart(self.norms[0]) + self.apart(mean) + self.apart(own)
        return direct + self.mixed(mean) + self.mixed(own) + torch.tanh(osc / 4) * (self.spread + apart)

    def rounding(self, mean: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """What rounding can do to the output with its gates held, and to the router's oscillation, `[..., N]` each.

        Args:
            mean: how far the mean of the neighbours' magnitudes may have grown, `[..., N]`.
            own: how far the own state may have moved, `[..., N]`; 0 if it was only masked.
        """
        of_mean, of_own, of_router = self.steepest
        output = self.rounded[0] + of_mean * mean + of_own * own
        return self.unit * output, 2 * self.unit * (self.rounded[1] + of_router * own)


def clean_layers(model: StemGNN, graph: Graph, near: Neighbourhoods, dtype: torch.dtype) -> tuple[list[Layer], Tensor]:
    """The layers with their clean pass, and embeddings `[N, d]`.

    Args:
        model: in float64.
        graph: its features in float64.
        near: the graph's neighbourhoods.
        dtype: in which the deployed model computes.
    """
    encoder, layers = model.encoder, []
    encoding = encoder(graph, keep_outputs=True)
    routed = zip(encoder.routers, encoding.gates, encoding.outputs, strict=True)
    for layer, x, is_routed in zip(encoder.layers, encoding.inputs, encoder.is_routed, strict=True):
        if is_routed:
            router, gates, outputs = next(routed)
            neighbours, own = layer.weight.chunk(2, dim=1)
            own = own + torch.eye(x.size(1)).to(own) if layer.residual else own
            logits, biases = router.weight, torch.stack([x.new_zeros(()), router.bias.norm()])
            spread, messages = expert_spread(outputs), x
        else:
            neighbours, own = (each.weight.T.unsqueeze(0) for each in (layer.lin_l, layer.lin_r))
            logits, biases = x.new_zeros(1, x.size(1)), torch.stack([layer.lin_l.bias.norm(), x.new_zeros(())])
            gates, spread, messages = x.new_ones(len(x), 1), x.new_zeros(len(x)), x.relu()
        average = gates.mean(0)
        maps = [
            torch.cat([torch.einsum("k,kab->ab", average, each).unsqueeze(0), each, differences(each)])
            for each in (neighbours, own)
        ]
        maps.append(differences(logits.unsqueeze(2)))
        rows = [torch.linalg.vector_norm(each, dim=2).amax(0) for each in (neighbours, own, logits.unsqueeze(2))]
        sizes, mean = x.abs(), near.mean(messages.abs())
        # Adding zeros rounds nothing, and no damage makes a zero entry of the first input non-zero.
        entries = 2 * x.size(1) if layers else (sizes > 0).sum(1) + (mean > 0).sum(1)
        unit = (entries + near.degree + len(logits) + 16) * rounding(1, dtype)
        rounded = mean @ rows[0] + sizes @ rows[1] + biases[0], sizes @ rows[2] + biases[1] + 1
        steepest = torch.stack([torch.linalg.vector_norm(each) for each in rows])
        distance, norms = total_variation(gates, average), tuple(map(spectral, maps))
        layers.append(Layer(*maps, gates, distance, spread, norms, unit, torch.stack(rounded), steepest, messages))
    return layers, encoding.z


def differences(maps: Tensor) -> Tensor:
    """Differences of maps `[K, a, b]`, pair by pair, `[K (K - 1) / 2, a, b]`."""
    first, second = torch.triu_indices(len(maps), len(maps), offset=1)
    return maps[first] - maps[second]


def largest(values: Tensor) -> Tensor:
    """The largest value along the last dimension; 0 if there is none."""
    return values.amax(-1) if values.size(-1) else values.new_zeros(values.shape[:-1])


def spectral(maps: Tensor) -> Tensor:
    """Operator norms `[P]` of maps `[P, a, b]`."""
    return torch.linalg.matrix_norm(maps, 2) if len(maps) else maps.new_zeros(0)
