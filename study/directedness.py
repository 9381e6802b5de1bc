"""Whether to use a directed graph as directed: how much its directed patterns differ in what they say about labels.

The idea is AMUD's (Sun et al., 2024, with ADPA). Two nodes agree where they have the same class, `Y`, and a pattern
joins them or not, `G`; what the pattern says about the labels is the squared correlation `R^2(G, Y)` over all ordered
pairs of different nodes. `Y` is symmetric in the two nodes, so that `R^2` is the same for a pattern and its transpose:
one hop has one value, and two hops have three. Their spread is the score; AMUD itself uses another scale.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse

from stemlib.data.graph import plain
from stemlib.data.tasks import Task
from study.cards import node_classes

DIRECTED = 0.5  # scores above this


def directedness(task: Task) -> pd.Series:
    """`R^2` of the two-hop patterns, named as in `stemlib.model.kinds.directed`, and the `score` `1 - min / max`.

    The score is 0 for an undirected graph, or where all patterns say equally much, and 1 where one of them says nothing
    and another something. Above `DIRECTED` it is worthwhile to tell the directions apart, provided that the largest
    `R^2` is worth anything (Actor's is 4e-6). Repeated edges and self-loops do not count. All pairs within two hops are
    looked at; hubs make them many.

    Raises:
        ValueError: nodes do not have one class each, or no pair is within two hops.
    """
    classes = node_classes(task)
    if classes is None:
        raise ValueError(f"directedness compares the classes of nodes; {task.name!r} has not one class for every node")
    (source, target), label = plain(task.graph.edge_index).numpy(), classes.numpy()
    off, nodes = source != target, len(label)
    sends = scipy.sparse.csr_matrix((np.ones(off.sum(), bool), (target[off], source[off])), shape=(nodes, nodes))
    patterns = {"in_in": (sends, sends), "in_out": (sends, sends.T), "out_in": (sends.T, sends)}
    pairs, counts = nodes * (nodes - 1), np.bincount(label)
    agree = (counts * (counts - 1)).sum() / pairs
    found = {}
    for name, (nearer, farther) in patterns.items():
        pattern = (nearer @ farther).tocoo()
        one, other = pattern.row[pattern.row != pattern.col], pattern.col[pattern.row != pattern.col]
        joined, both = len(one) / pairs, (label[one] == label[other]).sum() / pairs
        variances = joined * (1 - joined) * agree * (1 - agree)
        found[name] = (both - joined * agree) ** 2 / variances if variances else 0.0
    most = max(found.values())
    if not most:
        raise ValueError(f"{task.name!r}: no pair of nodes is within two hops, or classes do not vary")
    return pd.Series(found | {"score": 1 - min(found.values()) / most})
