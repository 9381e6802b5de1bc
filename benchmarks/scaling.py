"""Seconds of a training step and of an evaluation, and peak memory, on built-in graphs of 10^4 to 10^6 nodes.

    python benchmarks/scaling.py [--repeats 3]

Every node has 10 incoming edges, so that the largest graph has 10^7; width 64, half the nodes train, the other half
is evaluated. `whole` takes a step on all training nodes at once; `batches` an epoch of steps on 8,192 training nodes
each, with at most five drawn neighbours per node and layer, and evaluates as `whole` does. The last rows are slopes of
log seconds over log nodes: 1 is linear.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from measuring import Row, median_seconds, peak_mb, table

from stemlib.data.built_in import built_in
from stemlib.data.splits import stratified_split
from stemlib.presets import change, preset
from stemlib.training.evaluation import answer, evaluation_batches
from stemlib.training.finetune import start_tokens, train_epoch, training_batches
from study.families import build
from study.methods import reference

WIDTH, DEGREE, CLASSES = 64, 10, 7
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
BATCH, FANOUT = 8192, 5


def measure(nodes: int, steps: str, repeats: int) -> Row:
    """One row of the table."""
    task = built_in(nodes, classes=CLASSES, degree=DEGREE, noise_features=WIDTH - CLASSES)
    split = stratified_split(torch.arange(nodes), task.labels, seed=0)
    method = reference(change(preset("paper"), hidden=WIDTH))
    train = change(method.train, batch_size=BATCH, fanout=FANOUT) if steps == "batches" else method.train
    torch.manual_seed(0)
    model = build(method.model, task)
    start_tokens(model, task, split)
    model.tokens.freeze()
    loaded = peak_mb()
    optimiser = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], fused=True)
    shown = training_batches(model, task, split, train)
    asked = evaluation_batches(model, task, torch.cat([split.val, split.test]))(None)
    generator = torch.Generator().manual_seed(0)
    row: Row = {"nodes": nodes, "edges": task.graph.num_edges, "steps": steps}
    row["train_s"] = median_seconds(lambda: train_epoch(model, shown(generator), train, optimiser), repeats)
    row["train_mb"] = peak_mb()
    row["evaluate_s"] = median_seconds(lambda: answer(model, asked, task.name), repeats)
    return row | {"graph_mb": loaded, "peak_mb": peak_mb()}


def slopes(table: pd.DataFrame) -> pd.DataFrame:
    """With a last row per kind of step: the slopes of log-log fits."""
    rows = []
    for steps, part in table.groupby("steps", sort=False):
        row = {"nodes": "slope", "edges": "slope", "steps": steps}
        for name in ("train_s", "evaluate_s"):
            row[name] = np.polyfit(np.log(part.nodes), np.log(part[name]), 1)[0]
        rows.append(row)
    return pd.concat([table, pd.DataFrame(rows)], ignore_index=True)


if __name__ == "__main__":
    table(__file__, [(n, steps) for steps in ("whole", "batches") for n in SIZES], measure, slopes)
