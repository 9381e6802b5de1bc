"""Seconds of an epoch, and to the best validation score: STEM-GNN beside what a user would take instead.

    python benchmarks/peers.py [--repeats 30]

`pyg-gcn`, `pyg-sage` and `pyg-gat` are PyTorch Geometric's own models, trained as its examples do it: the whole graph,
Adam, and after every step a second pass that scores validation and test nodes. `gcn` and `sage` are the same networks by
this library, `tokens` the form of GFT (dense layers and tokens), `stem` all of STEM-GNN; all as the study trains them.
`repeats` is how many epochs are taken; graphs and splits are those of `speed.py`. `times_sage` is an epoch in those of
PyG's GraphSAGE of the same width.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import product

import pandas as pd
import torch
from measuring import Row, peak_mb, table
from speed import CASES, task_of
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn.models import GAT, GCN, GraphSAGE

from stemlib.data.graph import plain
from stemlib.data.tasks import Split, Task
from stemlib.presets import change, preset
from stemlib.training.finetune import fit
from study.families import build
from study.methods import named

SIZES = ("cora-128", "pubmed-128", "arxiv-128")
PYG: dict[str, Callable[..., nn.Module]] = {"pyg-gcn": GCN, "pyg-sage": GraphSAGE, "pyg-gat": GAT}
SPECIAL = {"pyg-gcn": {"cached": True}, "pyg-gat": {"heads": 8}}
OURS = ("gcn", "sage", "tokens", "stem")
MOST = {"arxiv-128": 6}  # epochs; where one takes seconds


def as_pyg_does(name: str, task: Task, split: Split, width: int, epochs: int) -> tuple[list[float], list[float]]:
    """Seconds and validation accuracies of all epochs."""
    shape = {"hidden_channels": width, "num_layers": 2, "out_channels": task.outputs, "dropout": 0.5}
    model = PYG[name](task.graph.x.size(1), **shape, **SPECIAL.get(name, {}))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    x, edges, labels = task.graph.x, plain(task.graph.edge_index), task.labels
    seconds, scores = [], []
    for _ in range(epochs):
        start = time.perf_counter()
        model.train()
        optimiser.zero_grad()
        F.cross_entropy(model(x, edges)[split.train], labels[split.train]).backward()
        optimiser.step()
        model.eval()
        with torch.no_grad():
            predicted = model(x, edges).argmax(-1)
        val, _ = (accuracy(predicted[part], labels[part]) for part in (split.val, split.test))
        seconds.append(time.perf_counter() - start)
        scores.append(val)
    return seconds, scores


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    return (predicted == labels).double().mean().item()


def measure(case: str, method: str, repeats: int) -> Row:
    """One row of the table."""
    task, split = task_of(CASES[case])
    width, epochs = CASES[case].width, min(repeats, MOST.get(case, repeats))
    torch.manual_seed(0)
    if method in PYG:
        seconds, scores = as_pyg_does(method, task, split, width, epochs)
        epoch = statistics.median(seconds[1:])
    else:
        (each,) = named(change(preset("laptop"), hidden=width), method)
        progress = fit(build(each.model, task), task, split, change(each.train, epochs=epochs, patience=epochs), 0)
        scores = [row["val"] for row in progress.history]
        epoch = progress.seconds / epochs
    best = max(range(epochs), key=scores.__getitem__)
    row: Row = {"case": case, "method": method, "epoch_s": epoch, "best_val": 100 * scores[best]}
    return row | {"epochs_to_best": best + 1, "to_best_s": epoch * (best + 1), "peak_mb": peak_mb()}


def finish(rows: pd.DataFrame) -> pd.DataFrame:
    """With every epoch in those of PyG's GraphSAGE."""
    sage = rows[rows.method == "pyg-sage"].set_index("case").epoch_s
    return rows.assign(times_sage=rows.epoch_s / rows.case.map(sage))


if __name__ == "__main__":
    table(__file__, list(product(SIZES, [*PYG, *OURS])), measure, finish)
