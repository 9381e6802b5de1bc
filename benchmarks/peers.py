"""Seconds of an epoch, and to the best validation score: STEM-GNN beside what a user would use instead.

    python benchmarks/peers.py [--repeats 100]

`pyg-gcn`, `pyg-sage` and `pyg-gat` are PyTorch Geometric's own models, trained as in its examples: the whole graph,
Adam, and after every step a second pass that scores validation and test nodes. `gcn` and `sage` are the same networks
in this library, `tokens` the form of GFT (dense layers and tokens), `stem` all of STEM-GNN; all as the study trains
them. Data sets and splits are the study's, all networks are 128 wide; `repeats` is the number of epochs, ten times
fewer on ogbn-arxiv. `times_sage` is an epoch's time in epochs of PyG's GraphSAGE.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import product

import pandas as pd
import torch
from measuring import Row, peak_mb, table
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn.models import GAT, GCN, GraphSAGE

from stemlib.data.graph import plain
from stemlib.data.tasks import Split, Task
from stemlib.presets import change, preset
from stemlib.training.finetune import fit
from study.families import build
from study.methods import named
from study.protocols import protocol_of

DATA = {"cora": 1, "pubmed": 1, "ogbn-arxiv-predictions": 10}  # an epoch of the last one takes seconds
WIDTH = 128
PYG: dict[str, Callable[..., nn.Module]] = {"pyg-gcn": GCN, "pyg-sage": GraphSAGE, "pyg-gat": GAT}
SPECIAL = {"pyg-gcn": {"cached": True}, "pyg-gat": {"heads": 8}}
OURS = ("gcn", "sage", "tokens", "stem")


def as_pyg_does(name: str, task: Task, split: Split, epochs: int) -> tuple[list[float], list[float]]:
    """Seconds and validation accuracies of all epochs."""
    shape = {"hidden_channels": WIDTH, "num_layers": 2, "out_channels": task.outputs, "dropout": 0.5}
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


def measure(name: str, method: str, repeats: int) -> Row:
    """One row of the table."""
    budget, protocol, epochs = preset("laptop"), protocol_of(name), max(2, repeats // DATA[name])
    task = protocol.task(budget)
    split = task.split(protocol.runs[0][0])
    torch.manual_seed(0)
    if method in PYG:
        seconds, scores = as_pyg_does(method, task, split, epochs)
        epoch = statistics.median(seconds[1:])
    else:
        each = protocol.methods(*named(budget, method), budget)[-1]
        progress = fit(build(each.model, task), task, split, change(each.train, epochs=epochs, patience=epochs), 0)
        scores = [row["val"] for row in progress.history]
        epoch = progress.seconds / epochs
    best = max(range(epochs), key=scores.__getitem__)
    row: Row = {"task": name, "method": method, "epoch_s": epoch, "best_val": 100 * scores[best]}
    return row | {"epochs_to_best": best + 1, "to_best_s": epoch * (best + 1), "peak_mb": peak_mb()}


def finish(rows: pd.DataFrame) -> pd.DataFrame:
    """With every epoch's time in epochs of PyG's GraphSAGE."""
    sage = rows[rows.method == "pyg-sage"].set_index("task").epoch_s
    return rows.assign(times_sage=rows.epoch_s / rows.task.map(sage))


if __name__ == "__main__":
    table(__file__, list(product(DATA, [*PYG, *OURS])), measure, finish)
