"""Pathways as strings: a node's top expert in every layer, and how far apart the strings of two networks or nodes are.

In OLMoE, pathways of similar inputs draw together after the training loss has reached its floor, while memorisation
turns into generalisation. There the distance is Levenshtein's. Expert 0 of one layer is not expert 0 of the next, so
letters of different layers never match; strings are equally long, gaps never pay, and the edit distance is the number
of layers that differ (Hamming's). Here it is their share: 0 for the same path, 1 for none in common.

Training keeps only its best state, not one per epoch: its course is followed through networks trained from one seed for
more and more epochs. Networks before and after fine-tuning are compared in the same way.
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
        raise ValueError("pathways need routed layers, and this network has none")
    return torch.stack([gate.argmax(-1) for gate in gates], dim=1)


def pathway_distance(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """The share of layers in which a node's top expert differs between two sets of gates, `[N]` float64.

    Experts are matched by number: those of two seeds have nothing in common, and are as far apart as chance has it.

    Raises:
        ValueError: gates of other nodes or another number of layers; no layer is routed.
    """
    first, second = pathways(one), pathways(other)
    if first.shape != second.shape:
        raise ValueError(f"cannot compare pathways of {tuple(first.shape)} and {tuple(second.shape)} nodes and layers")
    return (first != second).double().mean(1)


def pathway_spread(gates: Sequence[Tensor], labels: Tensor) -> float:
    """The mean distance between two different nodes of the same class, over all such pairs.

    Args:
        gates: of some nodes, `[M, K]` per layer: those of training if the question is memorisation.
        labels: their classes `[M]`.

    Raises:
        ValueError: no layer is routed, or no two nodes share a class.
    """
    found, sizes = pathways(gates), torch.bincount(labels)
    pairs = (sizes * (sizes - 1)).sum()
    if not pairs:
        raise ValueError("no two of these nodes share a class, so there are no pathways to compare")
    same = [(labels * gate.size(1) + top).bincount() for gate, top in zip(gates, found.unbind(1), strict=True)]
    return 1 - sum((count * (count - 1)).sum() / pairs for count in same).item() / len(same)
