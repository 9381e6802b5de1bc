"""Pathways as strings: a node's top expert in every layer, and how far the strings of two networks or nodes are apart.

In OLMoE pathways of alike inputs draw together after the training loss is at its floor, while what was memorised
becomes general. There the distance is Levenshtein's. Expert 0 of one layer is another expert than expert 0 of the next,
so that letters of different layers never match; strings are equally long, no gap is worth while, and the edit distance
is the number of layers that differ (Hamming's). Here it is their share: 0 the same path, 1 none in common.

A training keeps its best state alone, not one of every epoch: its course is followed by networks that are trained from
one seed for more and more epochs. Before and after fine-tuning compare in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def pathways(gates: Sequence[Tensor]) -> Tensor:
    """The top expert of every node and routed layer, `[N, L]`, from gates `[N, K]` per layer; the first of a tie.

    Raises:
        ValueError: no layer is routed.
    """
    if not gates:
        raise ValueError("pathways are of routed layers, and this network has none")
    return torch.stack([gate.argmax(-1) for gate in gates], dim=1)


def pathway_distance(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """The share of layers in which a node's top expert is another one in two sets of gates, `[N]` float64.

    Experts go by their numbers: those of two seeds have none in common, and are as far apart as chance has it.

    Raises:
        ValueError: gates of other nodes or another number of layers; no layer is routed.
    """
    first, second = pathways(one), pathways(other)
    if first.shape != second.shape:
        raise ValueError(f"pathways of {tuple(first.shape)} and {tuple(second.shape)} nodes and layers do not compare")
    return (first != second).double().mean(1)


def pathway_spread(gates: Sequence[Tensor], labels: Tensor) -> float:
    """The mean distance of two different nodes of the same class, over all such pairs.

    Args:
        gates: of some nodes, `[M, K]` per layer: those of training, where it is memorising that is asked about.
        labels: their classes `[M]`.

    Raises:
        ValueError: no layer is routed, or no two nodes share a class.
    """
    found, sizes = pathways(gates), torch.bincount(labels)
    pairs = (sizes * (sizes - 1)).sum()
    if not pairs:
        raise ValueError("no two of these nodes are of the same class, so that no pathways compare")
    same = [(labels * gate.size(1) + top).bincount() for gate, top in zip(gates, found.unbind(1), strict=True)]
    return 1 - sum((count * (count - 1)).sum() / pairs for count in same).item() / len(same)
