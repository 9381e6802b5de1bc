"""What each expert of a routed layer computes, by name: the paper's means, and what others propose.

A kind is a module that is built from the layer's widths and the configuration, with

- `gather(mean, x, graph)`: what it reads from other nodes, a row per routed node `[T, ...]`, from the neighbourhood
  means `[T, d]` (edge features included), the senders' states `[S, d]` and the edges that they send along;
- `expert_outputs(gathered, own)`: every expert's output `[T, K, d']` from that and own states `[T, d]`;
- `whole`: whether it reads more than the edges that end in its nodes;
- `side_by_side`: whether its experts are no more than maps `weight` `[K, 2 d, d']` of `[mean ; own]` (and the
  residual), computed as one product: see `stemlib.model.experts`.

In some kinds layers share experts: `join` sees to that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from torch import nn

from stemlib.model.experts import RoutedSAGE
from stemlib.model.kinds.filters import Filters
from stemlib.model.kinds.made import BigLittle, Hyper
from stemlib.model.kinds.modulated import Modulated, Prompted
from stemlib.model.kinds.sharing import Reuse, SharedPool, lend, share
from stemlib.model.kinds.together import Collaborating, Condenser
from stemlib.presets import ModelConfig


def mean(in_width: int, out_width: int, config: ModelConfig) -> RoutedSAGE:
    """`[mean_j h_j ; h_i] W_k`: the paper's own, `K` copies of one filter."""
    return RoutedSAGE(in_width, out_width, config.experts, config.expert_init)


EXPERTS: dict[str, Callable[[int, int, ModelConfig], nn.Module]] = {
    "mean": mean,
    "filters": Filters,
    "shared_pool": SharedPool,
    "reuse": Reuse,
    "modulated": Modulated,
    "condenser": Condenser,
    "prompted": Prompted,
    "collaborating": Collaborating,
    "big_little": BigLittle,
    "hyper": Hyper,
}
JOINED: dict[str, Callable[[Sequence[nn.Module]], None]] = {"shared_pool": share, "reuse": lend}


def join(expert: str, layers: Iterable[nn.Module]) -> None:
    """Join all routed layers of an encoder, given in order, if its kind of experts is one that layers share."""
    if expert in JOINED:
        JOINED[expert]([*layers])
