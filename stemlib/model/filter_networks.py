"""Layers of several networks at once, each of which is a different graph filter.

A filter's layer is a sum of terms: states are mapped, then spread over edges by means (`m`) or a GCN's normalised sums
(`p`), or left in place (an empty word); `mm` are means of means. The networks of a layer share the product with their
common input, and one sparse product per kind.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stemlib.data.graph import Graph
from stemlib.model.kinds.filters import RESTART, STEPS
from stemlib.model.messages import Spread, means, normalised

# An MLP; a GCN; a GraphSAGE; an MLP whose answers are spread by `personalised`; one with all these terms and `mm`.
NETWORK_FILTERS = {"self": ("",), "low": ("p",), "mean": ("m", ""), "ppr": ("",), "rich": ("mm", "m", "p", "")}


class FilterLayer(nn.Module):
    """A layer of several filters' networks.

    Args:
        names: the names of the `K` filters.
        in_widths: width of each network's input.
        out_width: width `d` of each network's states.

    Attributes:
        weight: each network's, `[in, terms d]`.
        bias: `[K d]`.
    """

    def __init__(self, names: Sequence[str], in_widths: Sequence[int], out_width: int) -> None:
        super().__init__()
        self.names, self.out_width = names, out_width
        blocks = [
            [nn.init.xavier_uniform_(torch.empty(width, out_width)) for _ in NETWORK_FILTERS[name]]
            for name, width in zip(names, in_widths, strict=True)
        ]
        self.weight = nn.ParameterList(nn.Parameter(torch.cat(terms, dim=1)) for terms in blocks)
        self.bias = nn.Parameter(torch.zeros(len(names) * out_width))

    def of_one(self, x: Tensor) -> list[Tensor]:
        """One input `[N, d_in]`, full or sparse, mapped for every term of every network, `[N, d]`, as one product.

        A network that reads less of it than the others reads its first columns.
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
        terms = [(k, term) for k, name in enumerate(self.names) for term in NETWORK_FILTERS[name]]
        left = dict(zip(terms, mapped, strict=True))
        # The longest words first: their results are added to the shorter ones before these are spread.
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


def spreads_of(names: Sequence[str], graph: Graph, dtype: torch.dtype) -> dict[str, Spread]:
    """The matrices `[N, N]` by which some filters spread states, by kind; made once per graph."""
    read = "".join(term for name in names for term in NETWORK_FILTERS[name])
    spreads = {}
    if "m" in read:
        spreads["m"] = means(graph, dtype)
    if "p" in read or "ppr" in names:
        spreads["p"] = normalised(graph, dtype)
    return spreads


def personalised(names: Sequence[str], states: list[Tensor], spreads: dict[str, Spread]) -> list[Tensor]:
    """The networks' states `[N, d]`, those of `ppr` after eight steps of `z = 0.9 P z + 0.1 z_0` (APPNP)."""
    places = [k for k, name in enumerate(names) if name == "ppr"]
    if not places:
        return states
    z = torch.cat([states[k] for k in places], dim=1)
    again = RESTART * z
    for _ in range(STEPS):
        z = torch.add(again, spreads["p"] @ z, alpha=1 - RESTART)
    spread = dict(zip(places, z.chunk(len(places), dim=1), strict=True))
    return [spread.get(k, own) for k, own in enumerate(states)]
