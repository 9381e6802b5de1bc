"""What networks cost: values, operations, seconds of training, and by how much selection on test would flatter them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from stemlib.data.tasks import Task
from stemlib.stress.conditions import shift_protocol
from stemlib.stress.shifts import Buckets
from stemlib.training.evaluation import predict
from study.methods import Method
from study.trained import run, trained_model


def size(model: nn.Module, task: Task, index: Tensor | None = None) -> dict[str, float]:
    """How large a network is, and what an evaluation takes.

    Args:
        model: the network.
        task: what it is asked about.
        index: instances that are asked about at once, `[n]`; None for all.

    Returns:
        `values`: trained and fixed ones; `MFLOP`: millions of floating-point operations of the evaluation's products,
        of all features, be they words that `stemlib.model.sparse_features` would make less work of; sums over
        neighbours do not count.
    """
    graph = copy(task.graph)
    graph.x = torch.ones_like(graph.x)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        predict(model, replace(task, graph=graph), index)
    return {"values": sum(value.numel() for value in model.parameters()), "MFLOP": counter.get_total_flops() / 1e6}


def run_costs(
    experiment: str, task: Task, buckets: Buckets, methods: Iterable[Method], seeds: Sequence[int]
) -> pd.DataFrame:
    """What the runs of `study.stress.stress_scores` cost; finished ones are read back.

    Args:
        experiment, task, buckets, methods, seeds: as there.

    Returns:
        One row per method and seed: `values` and `MFLOP` (see `size`, of the clean test instances, of the first seed's
        network), `seconds` of training, and `optimism`: by how many points the best test epoch beats the one that
        validation chose.
    """
    methods, rows, sizes = list(methods), [], {}
    for seed in seeds:
        inside, split, _ = shift_protocol(task, buckets, seed)
        for method in methods:
            if method.name not in sizes:
                model = trained_model(experiment, inside, split.name, method, seed)
                sizes[method.name] = size(model, inside, split.test)
            record = run(experiment, inside, split.name, method, seed)
            optimism = 100 * (record.metrics["test_best"] - record.metrics["test"])
            row = {"method": method.name, "seed": seed, "seconds": record.seconds, "optimism": optimism}
            rows.append(row | sizes[method.name])
    return pd.DataFrame(rows)
