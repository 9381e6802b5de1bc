"""What training gives away of a test: pairs whose answer it contains, edges along the asked pairs, twins of nodes."""

from __future__ import annotations

import torch
from torch import Tensor

from stemlib.data.graph import Graph, plain, undirected_pairs
from stemlib.data.tasks import Task

CHUNK = 2**24  # features hashed at once
WORDS = {
    "twins": "nodes with a twin in training (equal features and neighbours)",
    "answered": "pairs that are in training with the same label, in either direction; a filtered score leaves them out",
    "validated": "pairs that are in validation with the same label, in either direction",
    "joined": "pairs joined by an edge that carries messages, in either direction; their labels may be read off it",
}


def filtered(task: Task, train: Tensor, asked: Tensor) -> Tensor:
    """The instances of `asked` that training does not give away; all of them except in link tasks.

    Training gives away a pair that it knows with the same label, in either direction. It knows its own instances
    `train`, and those that an edge of the graph stands for.
    """
    if task.kind != "link":
        return asked
    answers, edges = _answers(task), task.graph.edge_pair
    known = train if edges is None else torch.cat([train, edges[edges >= 0]])
    return asked[~torch.isin(answers[asked], answers[known])]


def _answers(task: Task) -> Tensor:
    """A number for each pair with its label, `[M]`, the same for both directions."""
    _, pair = undirected_pairs(task.pairs.T, task.graph.num_nodes)
    _, label = task.labels.nan_to_num(-1).unique(dim=0, return_inverse=True)
    return pair * task.instances + label


def shares(task: Task) -> dict[str, dict[str, float]]:
    """What is given away, by the names of `WORDS`: the share of each split's test, by the split's name."""
    splits = task.splits.values()
    if task.kind == "graph":
        return {}
    if task.kind == "node":
        groups = _twin_groups(task.graph)
        return {"twins": {split.name: _share(torch.isin(groups[split.test], groups[split.train])) for split in splits}}
    nodes, answers = task.graph.num_nodes, _answers(task)
    edges, _ = undirected_pairs(plain(task.graph.edge_index), nodes)
    along = torch.isin(task.pairs.min(1).values * nodes + task.pairs.max(1).values, edges)
    return {
        "answered": {
            split.name: 1 - len(filtered(task, split.train, split.test)) / len(split.test) for split in splits
        },
        "validated": {split.name: _share(torch.isin(answers[split.test], answers[split.val])) for split in splits},
        "joined": {split.name: _share(along[split.test]) for split in splits},
    }


def leaks(task: Task) -> list[str]:
    """`shares` as notes of a task; shares of zero are not mentioned."""
    notes = []
    for what, by_split in shares(task).items():
        if some := [f"{name} {share:.1%}" for name, share in by_split.items() if share]:
            notes.append(f"test {WORDS[what]}: {', '.join(some)}")
    return notes


def _share(mask: Tensor) -> float:
    return mask.double().mean().item()


def _twin_groups(graph: Graph) -> Tensor:
    """A number for each node `[N]`, the same for nodes of equal features whose incoming edges have equal sources.

    Sums of random 63-bit numbers stand for both: two that differ agree by chance once in 2^63.
    """
    generator = torch.Generator().manual_seed(0)

    def numbers(size: int) -> Tensor:
        return torch.randint(-(2**62), 2**62, (size,), generator=generator)

    bits = graph.x.float().contiguous().view(torch.int32)
    weights = numbers(bits.size(1))
    rows = torch.cat([(part * weights).sum(1) for part in bits.split(max(1, CHUNK // bits.size(1)))])
    own = rows if graph.node_type is None else rows[graph.node_type]
    source, target = plain(graph.edge_index)
    around = torch.zeros(graph.num_nodes, dtype=torch.long).index_add_(0, target, numbers(graph.num_nodes)[source])
    return own + around * 31
