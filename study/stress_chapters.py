"""What the chapters on shift and damage (07 to 12) share: a stress test by name, kept records, and how to read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from stemlib.presets import preset as named_preset
from stemlib.stress.shifts import instance_covariate, tail_buckets
from study.method import Method
from study.methods import named
from study.paper_tables import demand_scores
from study.protocols import TRAININGS, protocol_of
from study.records import kept_results
from study.stress import StressTest


def stress_test(
    preset: str,
    dataset: str,
    methods: str | Sequence[Method],
    covariate: str,
    seeds: int,
    epochs: int = 0,
    penalised: bool = False,
) -> StressTest:
    """The stress test that a chapter's parameters ask for, tuned; in the smoke preset there is nothing to choose.

    Every method may have the same trainings, see `study.protocols.with_trainings`, unless parts are taken away.

    Args:
        preset, dataset: by name.
        methods: names of `study.methods.METHODS` with spaces between, or methods.
        covariate: see `stemlib.stress.shifts.covariates`.
        seeds: how many; 0 for the preset's, or 3 if that has fewer.
        epochs: at most, of every method; 0 for the protocol's.
        penalised: whether all candidates penalise the head, as when parts are taken away one by one.
    """
    budget, protocol = named_preset(preset), protocol_of(dataset)
    if preset == "smoke":
        protocol = replace(protocol, candidates=protocol.candidates[:1])
    alike = preset != "smoke" and not penalised
    protocol = replace(
        protocol.penalised if penalised else protocol, epochs=epochs or protocol.epochs, trained_alike=alike
    )
    task = protocol.task(budget)
    compared = named(budget, *methods.split()) if isinstance(methods, str) else methods
    buckets = tail_buckets(instance_covariate(task, covariate))
    test = StressTest(task, buckets, compared, range(seeds or max(3, budget.seeds)), covariate=covariate)
    first = [protocol.methods(method, budget)[0] for method in compared]
    replace(test, methods=first).foretell(len(protocol.candidates) + len(TRAININGS) * alike)
    return test.tuned(protocol, budget)


def kept_demands(own: pd.DataFrame, *demands: str, covariate: str | None = None) -> pd.DataFrame:
    """The rows of `demand_scores` of the grid's kept records; while there are none, a run's own, with a message.

    Args:
        own: rows of `StressTest.scores`.
        demands: which ones.
        covariate: the only one that counts; None for any.
    """
    kept = kept_results("stress", own)
    if covariate is not None and not (kept.covariate == covariate).any():
        print(f"no {covariate} shift is kept yet: this run's own is shown")
        kept = own
    found = demand_scores(kept[kept.covariate == (covariate or kept.covariate)])
    return found[found.demand.isin(demands)]


def changes_in_the_worst(parts: pd.DataFrame) -> pd.DataFrame:
    """How risk and its parts change from `clean` to the bucket of the largest risk, one row per method.

    Args:
        parts: from `StressTest.coverage`; without rows if no network routes.
    """
    if parts.empty:
        return parts
    means = parts.groupby(["method", "bucket"], sort=False)[list("RCSX")].mean()
    worst = means.drop("clean", level="bucket").R.groupby("method", sort=False).idxmax()
    return means.sub(means.xs("clean", level="bucket")).loc[list(worst)].round(3).add_prefix("d")


def headline(what: str, scores: pd.DataFrame) -> str:
    """One line with each method's mean.

    Args:
        what: the scores are.
        scores: rows with `method` and `score`.
    """
    means = scores.groupby("method", sort=False).score.mean()
    return f"{what}: " + ", ".join(f"{name} {value:.1f}" for name, value in means.items())
