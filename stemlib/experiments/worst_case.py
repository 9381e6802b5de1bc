"""Frozen networks under an adversary's damage, beside the random damage of the same budget (`stress`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
from torch import nn

from stemlib.adversary import edge_worth, worst_deletion, worst_masking
from stemlib.conditions import Condition, scores
from stemlib.experiments.stress import RATES, frozen
from stemlib.methods import Method
from stemlib.shifts import Buckets
from stemlib.statistics import summary
from stemlib.tasks import Task


def worst_case_scores(
    experiment: str,
    task: Task,
    buckets: Buckets,
    methods: Iterable[Method],
    seeds: Iterable[int],
    damage: str,
    rates: Sequence[float] = RATES,
) -> pd.DataFrame:
    """Every network on the clean test instances, and on what the adversary makes of them against that network.

    Args:
        experiment, task, buckets, methods, seeds: see `stemlib.experiments.stress.stress_scores`.
        damage: `masked` or `deleted`.
        rates: budgets, see `stemlib.adversary`.

    Returns:
        One row per method, seed and rate: `method`, `seed`, `kind` (`clean` or the damage), `rate`, `score` (per cent).

    Raises:
        ValueError: another damage.
    """
    methods, rows = list(methods), []
    for seed in seeds:
        models, (clean, *_) = frozen(experiment, task, buckets, methods, seed)
        for name, model in models.items():
            for kind, rate, met in [("clean", 0.0, clean), *worst_conditions(model, clean, damage, rates, seed)]:
                score = 100 * scores(model, [met])[met.name]
                rows.append({"method": name, "seed": seed, "kind": kind, "rate": rate, "score": score})
    return pd.DataFrame(rows)


def worst_conditions(
    model: nn.Module, clean: Condition, damage: str, rates: Sequence[float], seed: int
) -> Iterator[tuple[str, float, Condition]]:
    """The damage's name, its rate, and the condition that the adversary makes against one network."""
    if damage not in ("masked", "deleted"):
        raise ValueError(f"unknown damage {damage!r}; there are masked and deleted")
    worth = edge_worth(model, clean, seed) if damage == "deleted" and rates else None
    for rate in rates:
        met, _ = worst_masking(model, clean, rate) if worth is None else worst_deletion(clean, worth, rate)
        yield damage, rate, met


def chance_and_adversary(rows: pd.DataFrame, rate: float = 0.4) -> pd.DataFrame:
    """Test score with nothing, and with a rate of damage by chance and by the adversary: `mean ± standard deviation`.

    Args:
        rows: of both, with `task`, `method`, `seed`, `kind`, `rate`, `score`, and whether it is the `adversary`'s.
        rate: of the damage.

    Returns:
        Text, one row per task and method, columns `clean`, `chance`, `adversary`.
    """
    rows = rows[rows.rate.isin([0.0, rate])]
    by = np.select([rows.kind == "clean", rows.adversary.astype(bool)], ["clean", "adversary"], "chance")
    of_seed = rows.assign(by=by).groupby(["task", "method", "by", "seed"], sort=False).score.mean().reset_index()
    text = summary(of_seed, ["task", "method", "by"], "score").text.unstack("by").fillna("")
    return text.reindex(columns=["clean", "chance", "adversary"], fill_value="")
