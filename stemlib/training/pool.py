"""The pool that a model is pretrained on: graphs of every kind in one feature space.

A step shows one data set. With weights `w_d` and numbers of nodes `n_d`, data set `d` has the share

    p_d = w_d sqrt(n_d) / sum_e w_e sqrt(n_e)

of the steps. The reference repeats every node `w_d` times in one list, which makes the share `w_d n_d`: on the staged
data Cora would get one step in two hundred; the square root gives it one in thirty. A graph of a few hundred nodes gets
few steps, but is seen whole in each, and so more often than any node of HIV. Nor is the data set of a step left to
chance: step `t` takes the data set in whose interval of the unit line, as long as its share, the point
`u + t (sqrt(5) - 1) / 2 mod 1` lies. This is the most even sequence of its kind: no data set waits longer than
`2 / p_d` steps, and what a step takes depends on seed and step alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from stemlib.cache import digest
from stemlib.data.features import require_unit_features
from stemlib.data.graph import plain
from stemlib.data.tasks import Task

GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Member:
    """A data set of the pool and its weight."""

    task: Task
    weight: float

    @property
    def nodes(self) -> int:
        """Number of nodes `n_d`."""
        return self.task.graph.num_nodes

    @property
    def units(self) -> int:
        """What processes can share out among themselves: nodes, or whole molecules."""
        return self.task.instances if self.task.kind == "graph" else self.nodes

    @cached_property
    def edge_keys(self) -> Tensor:
        """`source N + target` of every edge, sorted, `[E]`."""
        source, target = plain(self.task.graph.edge_index)
        return (source * self.nodes + target).sort().values


class Pool:
    """Data sets to pretrain on.

    Args:
        members: with features as `unit_features` gives them, all of one width.

    Raises:
        ValueError: no member, two of the same name, a weight that is not positive, or features of another form.
    """

    def __init__(self, members: Iterable[Member]) -> None:
        self.members = list(members)
        if not self.members:
            raise ValueError("the pool is empty: give it at least one `Member`")
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"the names of a pool's data sets must differ, got {', '.join(self.names)}")
        for member in self.members:
            if not member.weight > 0:
                raise ValueError(f"the weight of {member.task.name!r} must be positive, got {member.weight:g}")
            require_unit_features(member.task, self.width, "a pool")

    @property
    def names(self) -> list[str]:
        """The data sets' names, in order."""
        return [member.task.name for member in self.members]

    @property
    def width(self) -> int:
        """Of node and edge features."""
        return self.members[0].task.graph.x.size(1)

    @property
    def checksum(self) -> str:
        """Of all that a run depends on: data, weights, and their order."""
        return digest([[member.task.name, member.weight, member.task.graph.content] for member in self.members])

    @cached_property
    def shares(self) -> Tensor:
        """The share `p_d` of each data set in the steps, `[D]`."""
        raw = [member.weight * math.sqrt(member.nodes) for member in self.members]
        return torch.tensor(raw, dtype=torch.double) / sum(raw)

    def drawn(self, step: int, seed: int) -> int:
        """Which data set a step shows."""
        start = np.random.default_rng(seed).random()
        position = (start + step * GOLDEN) % 1.0
        index = int(torch.searchsorted(self.shares.cumsum(0), position, right=True))
        return min(index, len(self.members) - 1)  # the last sum may round to just below one

    def epoch_steps(self, batch_size: int) -> int:
        """Steps of one of the reference's epochs, which shows every node as often as its data set's weight says."""
        return max(1, round(sum(member.weight * member.nodes for member in self.members) / batch_size))
