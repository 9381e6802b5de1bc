"""Whether direction tells the label: graphs where it does and where it does not, and the correlation by brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from samples import graph_task, link_task, node_task

from stemlib.data.graph import Graph
from stemlib.data.tasks import Task
from study.directedness import DIRECTED, directedness


def task_of(labels: torch.Tensor, edges: torch.Tensor) -> Task:
    return Task("toy", "node", Graph(torch.ones(len(labels), 1), edges), labels, {}, checksum="toy")


def drawn(step: int, nodes: int = 900, degree: int = 4) -> Task:
    """Three classes; every edge leads from its source to the class `step` further round."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(nodes) % 3
    source = torch.randint(nodes, (degree * nodes,), generator=generator)
    target = 3 * torch.randint(nodes // 3, source.shape, generator=generator) + (source + step) % 3
    return task_of(labels, torch.stack([source, target]))


def test_where_classes_send_in_a_ring_direction_tells() -> None:
    found = directedness(drawn(step=1))
    assert found.score > DIRECTED
    assert min(found.in_out, found.out_in) > 2 * found.in_in


def test_where_classes_send_to_their_own_it_does_not() -> None:
    assert directedness(drawn(step=0)).score < DIRECTED / 2


def test_an_undirected_graph_has_no_direction() -> None:
    ring = drawn(step=1)
    edges = torch.cat([ring.graph.edge_index, ring.graph.edge_index.flip(0)], 1)
    assert directedness(task_of(ring.labels, edges)).score == 0


def test_a_pattern_says_what_the_correlation_over_all_pairs_is() -> None:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(3, (15,), generator=generator)
    edges = torch.randint(15, (2, 30), generator=generator)
    found = directedness(task_of(labels, torch.cat([edges, edges[:, :4]], 1)))
    sends = np.zeros((15, 15))
    for source, target in edges.T.tolist():
        if source != target:
            sends[target, source] = 1
    assert sends.sum() < 30
    pairs = ~np.eye(15, dtype=bool)
    agree = (labels.unsqueeze(0) == labels.unsqueeze(1)).numpy()[pairs]
    for name, walks in (("in_in", sends @ sends), ("in_out", sends @ sends.T), ("out_in", sends.T @ sends)):
        assert found[name] == pytest.approx(np.corrcoef(walks[pairs] > 0, agree)[0, 1] ** 2)


def test_what_has_no_classes_of_nodes_or_no_edges_is_refused() -> None:
    for task in (link_task(), graph_task()):
        with pytest.raises(ValueError, match="not one class for every node"):
            directedness(task)
    with pytest.raises(ValueError, match="no pair of nodes is within two hops"):
        directedness(task_of(node_task().labels, torch.zeros(2, 0, dtype=torch.long)))
