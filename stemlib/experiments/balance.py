"""The three demands on one frozen model: fit clean data, hold under shift, stay stable under corruption.

Scores come from `stemlib.experiments.stress`; here they are read as one balance.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
import torch

from stemlib.conditions import CORRUPTIONS
from stemlib.finetune import run
from stemlib.methods import Method
from stemlib.records import table
from stemlib.splits import stratified_split
from stemlib.tasks import Task


def clean_scores(experiment: str, task: Task, methods: Iterable[Method], seeds: Iterable[int]) -> pd.DataFrame:
    """Test accuracy without shift or corruption: on the `public` split where there is one, and on 50/25/25.

    Every seed draws its own 50/25/25 split; the public split is the same for all.

    Returns:
        One row per method, split and seed, as `stemlib.records.table` gives them, in per cent.
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
