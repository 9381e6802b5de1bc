"""The pool that a model is pretrained on: graphs of every kind in one feature space.

A step shows one data set. With weights `w_d` and numbers of nodes `n_d`, data set `d` has the share

    p_d = w_d sqrt(n_d) / sum_e w_e sqrt(n_e)

of the steps. The reference repeats every node `w_d` times in one list, which makes the share `w_d n_d`: of the staged
data Cora would have one step in two hundred; the square root gives it one in thirty. A graph of some hundred nodes has
few steps, but is seen whole in each, and thereby more often than any node of HIV. Nor is the data set of a step left to
luck: step `t` takes the data set in whose interval of the unit line, as long as its share, the point
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

from stemlib.data.built_in import BUILT_IN, mixed_graph
from stemlib.data.features import require_unit_features, unit_features
from stemlib.data.graph import plain
from stemlib.data.public import available, load
from stemlib.data.tasks import Kind, Task
from stemlib.files import digest

# The reference's; what stands for one of its data sets weighs as much, the built-in graph as a citation graph.
WEIGHTS = {
    "cora": 5.0, "citeseer": 5.0, "pubmed": 5.0, "ogbn-arxiv": 5.0, "ogbn-arxiv-predictions": 5.0, "wikics": 5.0,
    "wn18rr": 5.0, "fb15k237": 10.0, "hiv": 1.0, "chembl": 0.1, "chembl-10k": 0.1, "pcba": 0.1, BUILT_IN: 5.0,
}  # fmt: skip
OTHER_WEIGHTS: dict[Kind, float] = {"node": 1.0, "link": 1.0, "graph": 0.1}  # of data sets that the reference lacks
# Regressions stay out of the default pool, so that a checkpoint can be tried on files that it has never met. Their
# molecules it may have: 61 % of ESOL's, 12 % of lipo's and 3 % of the activities' stand in other sets of the pool.
HELD_OUT = {"esol", "lipo", "chembl-activities"}
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
        """What processes can share out among them: nodes, or whole molecules."""
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
        ValueError: no member, two of one name, a weight that is not positive, or features of another form.
    """

    def __init__(self, members: Iterable[Member]) -> None:
        self.members = list(members)
        if not self.members:
            raise ValueError("the pool is empty: name data sets; stemlib.training.pool.at_hand lists those at hand")
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
        return digest([[member.task.name, member.weight, member.task.checksum] for member in self.members])

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


def at_hand(whole: bool = False) -> list[str]:
    """The built-in graph, and every data set whose raw files are there, but for `HELD_OUT`; no graph comes twice.

    Nothing is downloaded.

    Args:
        whole: all of ChEMBL and PCBA, whose molecules take minutes to parse, instead of a sample of ChEMBL.
    """
    names = available()
    left_out = HELD_OUT | ({"chembl-10k"} if whole else {"chembl", "pcba"})
    if "ogbn-arxiv" in names:
        left_out.add("ogbn-arxiv-predictions")
    return [*(name for name in names if name not in left_out), BUILT_IN]


def load_pool(width: int, names: Iterable[str] | None = None, *, nodes: int = 10_000, whole: bool = False) -> Pool:
    """The pool of some data sets, with the reference's weights where it has one and `OTHER_WEIGHTS` else.

    Args:
        width: of all features.
        names: as `stemlib.data.public.load` takes them, or `built-in`. Default: what is `at_hand`.
        nodes: of the built-in graph.
        whole: see `at_hand`.

    Raises:
        ValueError: an unknown name, or none.
        FileNotFoundError: raw files are missing and cannot be downloaded.
    """
    names = at_hand(whole) if names is None else names
    tasks = (mixed_graph(nodes) if name == BUILT_IN else load(name, width=width) for name in names)
    return Pool(Member(unit_features(task, width), WEIGHTS.get(task.name, OTHER_WEIGHTS[task.kind])) for task in tasks)
