"""Stress tests: frozen models meet shifted instances, damaged graphs, and both at once.

A model is trained on the clean graph, inside the in-distribution bucket. Damage happens at test time only, around the
instances that are met; its draws are the same for all methods.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from stemlib.data.tasks import Task, score
from stemlib.presets import Preset
from stemlib.stress.conditions import CORRUPTIONS, Condition, alone, corrupt, is_scored, shift_protocol
from stemlib.stress.shifts import Buckets
from stemlib.training.evaluation import predict, scores
from study.methods import Method
from study.protocols import Protocol, best
from study.trained import trained_model

RATES = (0.2, 0.4, 0.6, 0.8)
BETWEEN_DRAWS = 1000  # seeds lie below, so that no two draws of a table are the same
Meeting = list[tuple[Condition, dict[str, Any]]]  # conditions on one graph, with what a table says of them


def stress_scores(
    experiment: str,
    task: Task,
    buckets: Buckets,
    methods: Iterable[Method],
    seeds: Iterable[int],
    rates: Sequence[float] = RATES,
    *,
    draws: int = 1,
    combined: Sequence[float] = (),
    per_class: int | None = None,
) -> pd.DataFrame:
    """Train every method inside the `ID` bucket and meet it with every condition; finished runs are read back.

    Args:
        experiment: under which the runs are kept.
        task: what is learnt.
        buckets: who is met, see `stemlib.stress.conditions.shift_protocol`.
        methods: what learns.
        seeds: one run each; a seed also draws the split of a node task, and the damage.
        rates: of corruption of the `ID` test instances.
        draws: of every corruption of a trained model.
        combined: rates at which the other buckets are corrupted as well.
        per_class: training instances per class; None for all.

    Returns:
        One row per method, seed and condition: `method`, `seed`, `condition`, `kind` (`clean`, `shift`, a corruption,
        or `shift, <corruption>`), `rate`, `draw`, and `score` in per cent (NaN where a bucket has one class alone and
        ROC-AUC is undefined, or one number alone is to be predicted).
    """
    methods, rows = list(methods), []
    for seed in seeds:
        models, conditions = frozen(experiment, task, buckets, methods, seed, per_class)
        for meeting in meetings(conditions, rates, draws, combined, seed):
            met = [condition for condition, _ in meeting if is_scored(condition)]
            for name, model in models.items():
                found = scores(model, met)
                for condition, about in meeting:
                    row = {"method": name, "seed": seed, "condition": condition.name} | about
                    rows.append(row | {"score": 100 * found.get(condition.name, float("nan"))})
    return pd.DataFrame(rows)


def frozen(
    experiment: str, task: Task, buckets: Buckets, methods: Iterable[Method], seed: int, per_class: int | None = None
) -> tuple[dict[str, nn.Module], list[Condition]]:
    """The networks of one seed, by method, trained inside the `ID` bucket if they are not yet, and whom they meet.

    Args:
        experiment, task, buckets, methods, per_class: see `stress_scores`.
        seed: of the run.

    Returns:
        The networks, and the conditions: `clean`, then every other bucket.
    """
    inside, split, conditions = shift_protocol(task, buckets, seed, per_class)
    models = {method.name: trained_model(experiment, inside, split.name, method, seed) for method in methods}
    return models, conditions


def tuned(
    experiment: str,
    task: Task,
    buckets: Buckets,
    methods: Iterable[Method],
    seed: int,
    protocol: Protocol,
    preset: Preset,
    per_class: int | None = None,
) -> list[Method]:
    """Each method with those settings of the protocol's candidates that do best inside the `ID` bucket, clean.

    Args:
        experiment, task, buckets, methods, per_class: see `stress_scores`.
        seed: of the run whose validation score decides.
        protocol: has the candidates, batches and epochs; of few labels see `Protocol.for_few`.
        preset: the budget.
    """
    inside, split, _ = shift_protocol(task, buckets, seed, per_class)
    if per_class is not None:
        protocol = protocol.for_few(split.train.numel(), preset)
    return [best(experiment, inside, split.name, protocol.methods(method, preset), seed) for method in methods]


def meetings(
    conditions: Sequence[Condition], rates: Sequence[float], draws: int, combined: Sequence[float], seed: int
) -> Iterator[Meeting]:
    """The conditions of a stress test one graph after the other, for all of them would fill the memory.

    Args:
        conditions: `clean`, then the shifted buckets.
        rates, draws, combined, seed: see `stress_scores`.
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
