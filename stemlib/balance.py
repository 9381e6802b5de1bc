"""The three demands on one frozen model: fit clean data, hold under shift, stay stable under corruption."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd
import torch

from stemlib.conditions import CORRUPTIONS, corrupt, scores, shift_protocol
from stemlib.finetune import run, trained_model
from stemlib.methods import Method
from stemlib.records import table
from stemlib.shifts import Buckets
from stemlib.splits import stratified_split
from stemlib.tasks import Task

RATES = (0.2, 0.4, 0.6, 0.8)


def stress_scores(
    experiment: str,
    task: Task,
    buckets: Buckets,
    methods: Iterable[Method],
    seeds: Iterable[int],
    rates: Sequence[float] = RATES,
) -> pd.DataFrame:
    """Train every method inside the `ID` bucket and meet it with every condition; finished runs are read back.

    Corruption damages the `ID` test instances, at test time only; its draw has the seed of the run.

    Returns:
        One row per method, seed and condition: `method`, `seed`, `condition`, `kind` (`clean`, `shift` or a
        corruption), `rate`, and `score` in per cent.
    """
    methods, rows = list(methods), []
    for seed in seeds:
        inside, split, conditions = shift_protocol(task, buckets, seed)
        kinds = {"clean": ("clean", 0.0)} | {c.name: ("shift", 0.0) for c in conditions[1:]}
        for kind in CORRUPTIONS:
            for rate in rates:
                conditions.append(corrupt(conditions[0], kind, rate, seed)[0])
                kinds[conditions[-1].name] = (kind, rate)
        for method in methods:
            model = trained_model(experiment, inside, split.name, method, seed)
            for name, value in scores(model, conditions).items():
                kind, rate = kinds[name]
                row = {"method": method.name, "seed": seed, "condition": name, "kind": kind, "rate": rate}
                rows.append(row | {"score": 100 * value})
    return pd.DataFrame(rows)


def clean_scores(experiment: str, task: Task, methods: Iterable[Method], seeds: Iterable[int]) -> pd.DataFrame:
    """Test accuracy without shift or corruption: on the `public` split where there is one, and on 50/25/25.

    Every seed draws its own 50/25/25 split; the public split is the same for all.

    Returns:
        One row per method, split and seed, as `stemlib.records.table` gives them, in per cent.
    """
    methods, records = list(methods), []
    for seed in seeds:
        drawn = stratified_split(torch.arange(task.instances), task.labels, seed, name="50-25-25")
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
