"""Milliseconds of an epoch (step and evaluation) on real bags of words: features as full and as sparse matrices.

    python benchmarks/sparse_features.py [--repeats 7]

The laptop preset's networks, every step with dropout on the features. Both forms take turns; the ratio is the median
over turns.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import product

import pandas as pd
import torch
from measuring import Row, seconds_by_turns, table

from stemlib.data.public import load
from stemlib.data.splits import stratified_split
from stemlib.model import sparse_features
from stemlib.presets import change, preset
from stemlib.training.evaluation import answer, evaluation_batches
from stemlib.training.finetune import train_epoch, training_batches
from study.families import build
from study.methods import named

DATA_SETS = ("cora", "citeseer", "cora-ml", "dblp", "squirrel", "actor")


def measure(dataset: str, name: str, repeats: int) -> Row:
    """One row of the table."""
    (method,) = named(preset("laptop"), name)
    method = replace(method, model=change(method.model, input_dropout=0.5))
    worth = sparse_features.FEWEST
    epochs = {}
    for form, fewest in (("full", sys.maxsize), ("sparse", worth)):
        task = load(dataset, width=None)  # loaded anew: a graph keeps the form in which it was first read
        split = stratified_split(torch.arange(task.instances), task.labels, seed=0)
        sparse_features.FEWEST = fewest  # a STEM-GNN's batches are made with it, the other networks ask again
        torch.manual_seed(0)
        model = build(method.model, task)
        optimiser = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
        shown = list(training_batches(model, task, split, method.train)(None))
        asked = list(evaluation_batches(model, task, torch.cat([split.val, split.test]))(None))

        def epoch(model=model, optimiser=optimiser, shown=shown, asked=asked, fewest=fewest) -> None:
            sparse_features.FEWEST = fewest
            train_epoch(model, shown, method.train, optimiser)
            answer(model, asked, dataset)

        epochs[form] = epoch
    seconds, x = seconds_by_turns(epochs, repeats), task.graph.x
    row: Row = {"dataset": dataset, "method": name, "width": x.size(1)}
    row["not_zero"] = x.count_nonzero().item() / x.numel()
    row |= {f"{form}_ms": 1e3 * seconds[form].median() for form in epochs}
    return row | {"ratio": (seconds["full"] / seconds["sparse"]).median()}


if __name__ == "__main__":
    table(__file__, product(DATA_SETS, ("mlp", "gcn", "sage", "gat", "stem")), measure, pd.DataFrame)
