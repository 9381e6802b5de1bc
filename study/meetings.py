"""What a frozen network is tested on, one graph after another, its names in tables, and scores along a covariate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from stemlib.data.leaks import filtered
from stemlib.data.scores import score
from stemlib.data.tasks import Task
from stemlib.stress.conditions import CORRUPTIONS, Condition, alone, corrupt, is_scored
from stemlib.training.evaluation import predict
from study.protocols import FILTERED

BETWEEN_DRAWS = 1000  # seeds are smaller, so that no two draws of a table are the same
Meeting = list[tuple[Condition, dict[str, Any]]]  # conditions on one graph, with what a table says about them


def meetings(
    conditions: Sequence[Condition], rates: Sequence[float], draws: int, combined: Sequence[float], seed: int
) -> Iterator[Meeting]:
    """The conditions of a stress test, one graph after another: all at once would fill the memory.

    Args:
        conditions: `clean`, then the shifted buckets.
        rates, draws, combined: see `StressTest.scores`.
        seed: of the damage.
    """
    kinds = ["clean", *["shift"] * (len(conditions) - 1)]
    yield [(met, {"kind": kind, "rate": 0.0, "draw": 0}) for met, kind in zip(conditions, kinds, strict=True)]
    for met, kind in zip(conditions, kinds, strict=True):
        of_condition, prefix = (rates, "") if kind == "clean" else (combined, "shift, ")
        small = alone(met) if of_condition else met
        for damage in CORRUPTIONS:
            for rate in of_condition:
                for draw in range(draws):
                    damaged, _ = corrupt(small, damage, rate, seed + draw * BETWEEN_DRAWS)
                    yield [(damaged, {"kind": prefix + damage, "rate": rate, "draw": draw})]


def kept_apart(task: Task) -> Tensor:
    """The instances that training, on the task's first split, does not give away; see `stemlib.data.leaks.filtered`."""
    every = torch.arange(task.instances)
    return filtered(task, next(iter(task.splits.values())).train, every) if task.kind == "link" else every


def with_filtered(task: Task, meeting: Meeting, kept: Tensor) -> Iterator[tuple[Condition, dict[str, Any]]]:
    """Each condition, as tables name it; and the part of it among those `kept`, if that is smaller."""
    for met, about in meeting:
        about = {"task": task.name, "condition": met.name} | about
        yield met, about
        if task.kind != "link" or met.task.pairs is not task.pairs:
            continue  # not links, or those of another graph: training gives none of them away
        left = met.index[torch.isin(met.index, kept)]
        if 0 < left.numel() < met.index.numel():
            yield replace(met, name=f"{met.name}{FILTERED}", index=left), about | {"task": f"{task.name}{FILTERED}"}


def scores_along(model: nn.Module, task: Task, index: Tensor, covariate: Tensor, groups: int = 10) -> pd.DataFrame:
    """The score of equally large groups of instances, in the order of a covariate.

    Args:
        model: a trained model.
        task: what it is asked about.
        index: instances that it has not been trained on, `[n]`.
        covariate: of all instances, `[M]`.
        groups: how many.

    Returns:
        One row per group: the `covariate`'s mean, `score` in per cent (NaN where it is undefined), `instances`.
    """
    ordered = index[covariate[index].argsort(stable=True)]
    logits = predict(model, task, ordered)
    rows = []
    for place in torch.arange(ordered.numel()).tensor_split(groups):
        members = Condition("group", task, ordered[place])
        labels = task.labels[members.index]
        value = score(logits[place], labels, task.regression) if is_scored(members) else float("nan")
        mean = covariate[members.index].mean().item()
        rows.append({"covariate": mean, "score": 100 * value, "instances": place.numel()})
    return pd.DataFrame(rows)
