"""The three demands on one frozen model: fit clean data, hold under shift, stay stable under corruption.

Scores come from `study.stress`; here they are read as one balance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from stemlib.data.splits import stratified_split
from stemlib.data.tasks import Task
from stemlib.stress.conditions import CORRUPTIONS, shift_protocol
from stemlib.stress.shifts import Buckets
from stemlib.training.evaluation import predict
from study.methods import Method
from study.records import table
from study.trained import run, trained_model


def clean_scores(experiment: str, task: Task, methods: Iterable[Method], seeds: Iterable[int]) -> pd.DataFrame:
    """Test accuracy without shift or corruption: on the `public` split where there is one, and on 50/25/25.

    Every seed draws its own 50/25/25 split; the public split is the same for all.

    Returns:
        One row per method, split and seed, as `study.records.table` gives them, in per cent.
    """
    methods, records = list(methods), []
    for seed in seeds:
        drawn = stratified_split(torch.arange(task.instances), task.strata, seed, name="50-25-25")
        with_draw = task.with_split(drawn)
        for name in [name for name in ("public", drawn.name) if name in with_draw.splits]:
            records += [run(experiment, with_draw, name, method, seed) for method in methods]
    return table(records)


def three_way_balance(stress: pd.DataFrame) -> pd.DataFrame:
    """Fit, worst shifted bucket and mean over corruptions, one row per method and seed, in per cent."""
    by_run = ["method", "seed"]
    parts = {
        "fit": stress[stress.kind == "clean"].groupby(by_run, sort=False).score.mean(),
        "shift": stress[stress.kind == "shift"].groupby(by_run, sort=False).score.min(),
        "corruption": stress[stress.kind.isin(list(CORRUPTIONS))].groupby(by_run, sort=False).score.mean(),
    }
    return pd.DataFrame(parts).reset_index()


def shared_balance(stress: pd.DataFrame, ours: str = "stem") -> pd.DataFrame:
    """The three demands as means over seeds and shifts, of the methods that were met wherever ours was.

    Args:
        stress: rows of `study.stress.stress_scores` with `task` and `covariate`; a grid may be half done.
        ours: the method.

    Returns:
        One row per task and method, `task`, `method`, `fit`, `shift` and `corruption`: each task weighs alike, however
        many seeds it has. No rows where ours was met with nothing.
    """
    met = ["task", "covariate"]
    wherever = stress.loc[stress.method == ours, met].drop_duplicates()
    rows = stress.merge(wherever)
    places = rows.drop_duplicates([*met, "method"]).method.value_counts()
    rows = rows[rows.method.isin(places.index[places == len(wherever)])]
    parts = [three_way_balance(part).assign(task=task) for (task, _), part in rows.groupby(met, sort=False)]
    if not parts:
        return pd.DataFrame(columns=["task", "method", "fit", "shift", "corruption"])
    means = pd.concat(parts).groupby(["task", "method"], sort=False)[["fit", "shift", "corruption"]].mean()
    return means.reset_index()


def not_dominated(frame: pd.DataFrame, columns: list[str]) -> pd.Series:
    """Which rows no other row beats: at least as good in every column and better in one, `[n]` bool.

    Args:
        frame: one row per method.
        columns: the larger, the better.
    """
    values = frame[columns].to_numpy()
    as_good = (values[:, None] >= values[None]).all(-1)  # [n, n]: is the first at least as good as the second
    beats = as_good & (values[:, None] > values[None]).any(-1)
    return pd.Series(~beats.any(0), index=frame.index)


def size(model: nn.Module, task: Task, index: Tensor | None = None) -> dict[str, float]:
    """How large a network is, and what an evaluation takes.

    Args:
        model: the network.
        task: what it is asked about.
        index: instances that are asked about at once, `[n]`; None for all.

    Returns:
        `values`: trained and fixed ones; `MFLOP`: millions of floating-point operations of the evaluation's products,
        of all features, be they words that `stemlib.model.sparse_features` would make less work of; sums over neighbours do
        not count.
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
