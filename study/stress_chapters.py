"""What the chapters on shift and on damage (07 to 10) share, step by step: one task, its tails, methods and seeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any

import pandas as pd
import torch
from torch import nn

from stemlib.data.tasks import Task
from stemlib.model.stem import StemGNN
from stemlib.presets import Preset
from stemlib.presets import preset as named_preset
from stemlib.stress.conditions import Condition, corrupt
from stemlib.stress.shifts import Buckets, instance_covariate, tail_buckets
from stemlib.theory.coverage import coverages
from stemlib.theory.sensitivity import sensitivity
from stemlib.training.evaluation import scores
from study.adversary import worst_conditions
from study.methods import Method, named
from study.paper_tables import demand_scores
from study.protocols import Protocol, protocol_of, split_overlap
from study.records import kept_results
from study.statistics import against_strongest
from study.stress import RATES, frozen, scores_along, stress_scores, tuned

EXPERIMENT = "stress"  # whose runs these chapters and 11 share
READ_OUT = ["factor", "amplification, %", "token_gain", "tokens_certified", "tokens_kept"]  # of a sensitivity


@dataclass(frozen=True)
class StressTest:
    """Methods that are trained in the ordinary middle of a covariate, and who meets what.

    Attributes:
        task: what is learnt.
        covariate: of its instances.
        buckets: by the covariate; all but the ordinary one are met at test only.
        seeds: one run of every method each.
        candidates: methods before their settings are chosen.
        protocol: has the settings to choose from.
        preset: the budget.
    """

    task: Task
    covariate: str
    buckets: Buckets
    seeds: range
    candidates: Sequence[Method]
    protocol: Protocol
    preset: Preset

    @cached_property
    def given(self) -> dict[str, Any]:
        """What every step takes; the methods with settings that validation chose on the first seed."""
        given = {"experiment": EXPERIMENT, "task": self.task, "buckets": self.buckets}
        how = {"seed": self.seeds[0], "protocol": self.protocol, "preset": self.preset}
        return given | {"methods": tuned(**given, methods=self.candidates, **how)}

    def networks(self) -> Iterator[tuple[int, dict[str, nn.Module], list[Condition]]]:
        """Seed by seed, the trained networks and the conditions that they meet, see `study.stress.frozen`."""
        for seed in self.seeds:
            yield seed, *frozen(**self.given, seed=seed)

    def routed(self) -> Iterator[tuple[int, str, StemGNN, list[Condition]]]:
        """Those of the networks that have routes, one after the other, with seed and name."""
        for seed, models, conditions in self.networks():
            for name, model in models.items():
                if isinstance(model, StemGNN) and model.encoder.routed_layers:
                    yield seed, name, model, conditions

    def scores(self, rates: Sequence[float] = RATES, draws: int = 1) -> pd.DataFrame:
        """The rows of `study.stress.stress_scores` with `task` and `covariate`."""
        return self._named(stress_scores(**self.given, seeds=self.seeds, rates=rates, draws=draws))

    def _named(self, rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(task=self.task.name, covariate=self.covariate)

    def scores_along(self) -> pd.DataFrame:
        """`study.stress.scores_along` the covariate, of every network on all instances it was not trained on."""
        frames = []
        for _, models, conditions in self.networks():
            unseen, task = torch.cat([condition.index for condition in conditions]), conditions[0].task
            for name, model in models.items():
                frames.append(scores_along(model, task, unseen, self.buckets.covariate).assign(method=name))
        return pd.concat(frames)

    def worst_case(self, damage: str, rates: Sequence[float] = RATES) -> pd.DataFrame:
        """Every network on the clean test instances, and on what an adversary makes of them against that network.

        Args:
            damage: `masked` or `deleted`.
            rates: see `study.adversary.worst_conditions`.

        Returns:
            Rows as those of `scores`, without `condition` and `draw`.
        """
        rows = []
        for seed, models, (clean, *_) in self.networks():
            for name, model in models.items():
                for rate, met in chain([(0.0, clean)], worst_conditions(model, clean, damage, rates, seed)):
                    about = {"method": name, "seed": seed, "kind": damage if rate else "clean", "rate": rate}
                    rows.append(about | {"score": 100 * scores(model, [met])[met.name]})
        return self._named(pd.DataFrame(rows))

    def coverage(self) -> pd.DataFrame:
        """Risk, coverage, selection and mixing of the routed networks: `method`, `bucket`, `R`, `C`, `S`, `X`."""
        return pd.DataFrame(
            {"method": name, "bucket": found.condition} | {part: getattr(found, part) for part in "RCSX"}
            for _, name, model, conditions in self.routed()
            for found in coverages(model, conditions, losses=["ce"])
        )

    def sensitivity(self, damage: str, rates: Iterable[float]) -> pd.DataFrame:
        """Base and amplification of the routed networks, and what their tokens do.

        Returns:
            One row per rate, seed and network: `method`, `rate`, `Sensitivity.summary` (at least `READ_OUT`), and
            `amplification, %`, its share in the squares of base and amplification.
        """
        parts = pd.DataFrame(
            {"method": name, "rate": rate} | sensitivity(model, clean, corrupt(clean, damage, rate, seed)[0]).summary()
            for rate in rates
            for seed, name, model, (clean, *_) in self.routed()
        )
        parts["amplification, %"] = 100 * parts.amplification / (parts.amplification + parts.base)
        return parts.reindex(columns=parts.columns.union(READ_OUT, sort=False))

    def leads(self, scores: pd.DataFrame, by: str) -> pd.DataFrame:
        """The whole model against the strongest other method, see `against_strongest`, paired by seed.

        Args:
            scores: one row per `method`, group and `seed`.
            by: the column that makes a group.
        """
        scores = scores.assign(overlap=split_overlap(self.task.name))
        return against_strongest(scores, "score", "stem", by, overlap="overlap").round(2)


def stress_test(preset: str, dataset: str, methods: str, covariate: str, seeds: int) -> StressTest:
    """The stress test that a chapter's parameters ask for; in the smoke preset nothing is tuned.

    Args:
        preset, dataset: by name.
        methods: names of `study.methods.METHODS`, with spaces between.
        covariate: see `stemlib.stress.shifts.covariates`.
        seeds: how many; 0 for the preset's, but never fewer than 3.
    """
    budget, protocol = named_preset(preset), protocol_of(dataset)
    if preset == "smoke":
        protocol = replace(protocol, candidates=protocol.candidates[:1])
    task, seed_list = protocol.task(budget), range(seeds or max(3, budget.seeds))
    buckets = tail_buckets(instance_covariate(task, covariate))
    return StressTest(task, covariate, buckets, seed_list, named(budget, *methods.split()), protocol, budget)


def kept_demands(own: pd.DataFrame, *demands: str, covariate: str | None = None) -> pd.DataFrame:
    """The rows of `demand_scores` of the grid's kept records; while there are none, a run's own, which is said.

    Args:
        own: rows of `StressTest.scores`.
        demands: those that are asked about.
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
        parts: from `StressTest.coverage`.
    """
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
