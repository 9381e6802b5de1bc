"""Randomised smoothing over deletions and maskings: Statement 3.14 of docs/theory.md.

The smoothed classifier asks a network about many copies of the input, in each of which every item (an undirected edge,
or a feature) is independently missing with probability `p`, and takes the majority. Taking `r` more items does not
change the copies that lack them anyway: these are a share `p^r` of all. So a class with a share of more than
`1 - p^r / 2` keeps its majority (Bojchevski, Gasteiger and Guennemann, ICML 2020, without additions). It holds for any
network, and for damage anywhere in the graph.

Example:
    >>> certified_radius(torch.tensor([0.45, 0.6, 0.9, 0.99]), rate=0.5).tolist()
    [-1, 0, 2, 5]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.stats import beta
from torch import Tensor
from torch.nn import functional as F

from stemlib.data.tasks import Task
from stemlib.stress.conditions import CORRUPTIONS

Decide = Callable[[Task], Tensor]  # the classes `[M]` that a network gives the instances of a task


@dataclass(frozen=True)
class Smoothed:
    """The smoothed classifier's answers for `M` instances.

    Attributes:
        classes: the majority class `[M]`; -1 where the votes do not show, with confidence, that there is one.
        share: lower bound on the probability of that class, `[M]`.
        radius: how many items may be missing, anywhere, without a new majority, `[M]`; -1 where it abstains.
    """

    classes: Tensor
    share: Tensor
    radius: Tensor

    def covered(self, budget: int) -> Tensor:
        """Which answers cannot be changed by taking `budget` items, mask `[M]`."""
        return self.radius >= budget


def votes(decide: Decide, task: Task, damage: str, rate: float, draws: int, seed: int, classes: int) -> Tensor:
    """How often each class is given over random copies of the whole input, `[M, classes]`.

    Args:
        decide: gives the instances' classes; binary labels count as separate instances with classes 0 and 1.
        task: any.
        damage: `masked` or `deleted`, see `stemlib.stress.corruptions`.
        rate: probability that an item is missing.
        draws: number of copies.
        seed: that of the first copy; the next ones follow.
        classes: their number.

    Raises:
        ValueError: a decided class is none of these.
    """
    everywhere = torch.ones(task.graph.num_nodes, dtype=torch.bool)
    counts = torch.zeros(())
    for draw in range(seed, seed + draws):
        met = task.with_graph(CORRUPTIONS[damage](task.graph, everywhere, rate, draw).graph)
        decided = decide(met)
        if decided.numel() and int(decided.max()) >= classes:
            raise ValueError(f"{task.name!r}: class {int(decided.max())} was decided, but classes={classes}")
        counts = counts + F.one_hot(decided, classes)
    return counts.long()


def smoothed(
    decide: Decide, task: Task, damage: str, rate: float, draws: int, seed: int, classes: int, alpha: float = 0.05
) -> Smoothed:
    """The smoothed classifier, from `draws` copies of which a tenth choose the class and the others bound its share.

    Each instance's certificate is wrong with probability `alpha` at most, over the draws; nothing corrects for their
    number, so that of many a share of up to `alpha` may be wrong. All radii of one instance hold together.

    Args:
        decide, task, damage, rate, seed, classes: see `votes`.
        draws: at least 20.
        alpha: one minus the confidence.

    Raises:
        ValueError: a rate or a confidence outside (0, 1), or too few draws.
    """
    if not (0 < rate < 1 and 0 < alpha < 1 and draws >= 20):
        raise ValueError(f"smoothing needs rate, alpha in (0, 1) and draws >= 20, got {rate:g}, {alpha:g}, {draws}")
    first = draws // 10
    chosen = votes(decide, task, damage, rate, first, seed, classes).argmax(-1)
    counts = votes(decide, task, damage, rate, draws - first, seed + first, classes)
    share = lower_bound(counts.gather(1, chosen.unsqueeze(1)).squeeze(1), draws - first, alpha)
    radius = certified_radius(share, rate)
    return Smoothed(torch.where(radius >= 0, chosen, -1), share, radius)


def lower_bound(hits: Tensor, draws: int, alpha: float) -> Tensor:
    """Clopper and Pearson's lower bound, one-sided with confidence `1 - alpha`, for a probability with `hits` `[M]`."""
    bound = beta.ppf(alpha, hits.double().numpy(), draws - hits.double().numpy() + 1)
    return torch.from_numpy(bound).nan_to_num(nan=0.0)  # without hits


def certified_radius(share: Tensor, rate: float) -> Tensor:
    """The largest `r` with `share > 1 - p^r / 2` `[M]`; -1 where `share <= 1/2`, and no limit where it is 1."""
    beyond = (2 * (1 - share.double())).log() / math.log(rate)  # of the strict inequality: r < beyond
    return (beyond.clamp(max=1e9).ceil() - 1).clamp(min=-1).long()
