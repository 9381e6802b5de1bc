"""Stress tests: frozen models on shifted instances, on damaged graphs, and on both at once.

A model is trained on the clean graph, inside the in-distribution bucket. Damage happens at test time only, around the
tested instances; its draws are the same for all methods.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import pandas as pd
import torch
from torch import nn

from stemlib.data.tasks import Split, Task
from stemlib.model.stem import StemGNN
from stemlib.presets import Preset
from stemlib.stress.conditions import Condition, corrupt, is_scored
from stemlib.stress.domains import domain_protocol
from stemlib.stress.shifts import Buckets
from stemlib.theory.coverage import coverages
from stemlib.theory.sensitivity import sensitivity
from stemlib.training.adversary import worst_conditions
from stemlib.training.evaluation import scores
from study.costs import size
from study.forecast import forecast
from study.meetings import kept_apart, meetings, scores_along, with_filtered
from study.method import Method
from study.methods import main_method
from study.protocols import Protocol, split_overlap, tuned
from study.statistics import against_strongest
from study.trained import run, trained_model

RATES = (0.2, 0.4, 0.6, 0.8)
READ_OUT = ["factor", "base, %", "amplification, %", "cross, %"]  # of a sensitivity
READ_OUT += ["token_gain", "tokens_explained", "tokens_kept"]


@dataclass(frozen=True)
class StressTest:
    """Methods that are trained inside the `ID` bucket of a task, and then tested on what they were not trained on.

    Finished runs are read back. Tables of scores have a row per method, seed and condition, `task` and `covariate` too.

    Attributes:
        task: what is learnt.
        buckets: what is tested, see `stemlib.stress.conditions.shift_protocol`.
        methods: those that are trained.
        seeds: one run each; a seed also draws the split of a node task, and the damage.
        experiment: under which the runs are kept.
        covariate: that of the buckets, by name.
        per_class: instances per class to train on, and to validate; None for all.
        whole_validation: whether only the training instances are few; see `stemlib.data.splits.few_labels`.
        own_split: name of the task's split that is kept; see `stemlib.stress.conditions.shift_protocol`.
        targets: other graphs to test on, by name; see `stemlib.stress.domains.domain_protocol`.
    """

    task: Task
    buckets: Buckets
    methods: Sequence[Method]
    seeds: Sequence[int]
    experiment: str = "stress"
    covariate: str = ""
    per_class: int | None = None
    whole_validation: bool = False
    own_split: str | None = None
    targets: Mapping[str, Task] = field(default_factory=dict)

    def drawn(self, seed: int) -> tuple[Task, Split, list[Condition]]:
        """What a seed draws, see `stemlib.stress.domains.domain_protocol`."""
        drawn_by = (seed, self.per_class, self.whole_validation, self.own_split)
        return domain_protocol(self.task, self.targets, *drawn_by, self.buckets)

    def tuned(self, protocol: Protocol, preset: Preset) -> StressTest:
        """The test with the settings for each method that do best inside the `ID` bucket, clean, on the first seed.

        Args:
            protocol: has the candidates, batches and epochs; for few labels see `Protocol.for_few`. With
                `trained_alike` the best settings are chosen first, then the training with them, see `with_trainings`.
            preset: the budget.
        """
        seed = self.seeds[0]
        inside, split, _ = self.drawn(seed)
        if self.per_class is not None:
            protocol = protocol.for_few(split.train.numel(), preset)
        run_of = (self.experiment, inside, split.name)
        chosen = [tuned(*run_of, method, protocol, preset, seed) for method in self.methods]
        return replace(self, methods=chosen)

    def foretell(self, candidates: int = 1) -> None:
        """Say how long the trainings may take, see `forecast`, after trying every seed's split and every method.

        Args:
            candidates: settings for each method, among which the first seed chooses.

        Raises:
            ValueError: a bucket that a seed cannot split, or a method that this task does not take.
        """
        try:
            split_by = [self.drawn(seed) for seed in self.seeds]
        except ValueError as error:
            by = self.covariate or "this covariate"
            message = f"{self.task.name} cannot be shifted by {by}: {error}; take another covariate or data set"
            raise ValueError(message) from None
        for method in self.methods:
            method.build(split_by[0][0])
        runs = [(inside, split, seed) for seed, (inside, split, _) in zip(self.seeds, split_by, strict=True)]
        forecast(self.experiment, runs + runs[:1] * (candidates - 1), self.methods)

    def networks(self) -> Iterator[tuple[int, dict[str, nn.Module], list[Condition]]]:
        """Seed by seed, the networks by method, trained if they are not yet; and `clean`, then the other buckets."""
        return ((seed, models, conditions) for seed, models, conditions, _ in self._trained())

    def _trained(self) -> Iterator[tuple[int, dict[str, nn.Module], list[Condition], dict[str, float]]]:
        """`networks`, and each method's validation score in per cent, by which rivals are chosen."""
        for seed in self.seeds:
            inside, split, conditions = self.drawn(seed)
            run_of = (self.experiment, inside, split.name)
            models = {each.name: trained_model(*run_of, each, seed) for each in self.methods}
            validated = {each.name: 100 * run(*run_of, each, seed).metrics["val"] for each in self.methods}
            yield seed, models, conditions, validated

    def routed(self) -> Iterator[tuple[int, str, StemGNN, list[Condition]]]:
        """Those of the networks that have routes, one after another, with seed and name."""
        for seed, models, conditions in self.networks():
            for name, model in models.items():
                if isinstance(model, StemGNN) and model.encoder.routed_layers:
                    yield seed, name, model, conditions

    def scores(self, rates: Sequence[float] = RATES, draws: int = 1, combined: Sequence[float] = ()) -> pd.DataFrame:
        """Test score of each trained network under each condition: clean, shifted, corrupted, and both.

        Args:
            rates: of corruption of the `ID` test instances.
            draws: of every corruption of a trained model.
            combined: rates at which the other buckets are corrupted as well.

        Returns:
            Rows with `condition`, `kind` (`clean`, `shift`, a corruption, or `shift, <corruption>`), `rate`, `draw`,
            and in per cent `score` (NaN where a bucket has only one class and ROC-AUC is undefined, or only one number
            to predict) and `val`, the run's on validation. Where training gives some of the test away, the same rows
            again, as the task `<name>-filtered`, on what it does not give away; see `stemlib.data.leaks`.
        """
        rows, kept = [], kept_apart(self.task)
        for seed, models, conditions, validated in self._trained():
            for meeting in meetings(conditions, rates, draws, combined, seed):
                asked = list(with_filtered(self.task, meeting, kept))
                for name, model in models.items():
                    found = scores(model, [condition for condition, _ in asked if is_scored(condition)])
                    for condition, about in asked:
                        row = {"method": name, "seed": seed, "val": validated[name]} | about
                        rows.append(row | {"score": 100 * found.get(condition.name, float("nan"))})
        return self._named(rows)

    def _named(self, rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
        frame = pd.DataFrame(rows).assign(covariate=self.covariate)
        return frame if "task" in frame else frame.assign(task=self.task.name)

    def scores_along(self) -> pd.DataFrame:
        """`scores_along` the covariate, of every network on all instances that it has not been trained on."""
        frames = []
        for _, models, conditions in self.networks():
            task = conditions[0].task
            unseen = torch.cat([condition.index for condition in conditions if condition.task is task])
            for name, model in models.items():
                frames.append(scores_along(model, task, unseen, self.buckets.covariate).assign(method=name))
        return pd.concat(frames)

    def worst_case(self, damage: str, rates: Sequence[float] = RATES) -> pd.DataFrame:
        """Every network on the clean test instances, and on what an adversary makes of them against that network.

        Args:
            damage: `masked` or `deleted`.
            rates: see `stemlib.training.adversary.worst_conditions`.

        Returns:
            Rows as those of `scores`, without `condition`, `draw` and `val`.
        """
        rows = []
        for seed, models, (clean, *_) in self.networks():
            for name, model in models.items():
                for rate, met in chain([(0.0, clean)], worst_conditions(model, clean, damage, rates, seed)):
                    about = {"method": name, "seed": seed, "kind": damage if rate else "clean", "rate": rate}
                    rows.append(about | {"score": 100 * scores(model, [met])[met.name]})
        return self._named(rows)

    def coverage(self) -> pd.DataFrame:
        """Risk, coverage, selection and mixing of the routed networks, one row per bucket, seed and network.

        Returns:
            `method`, `seed`, `bucket`, `R`, `C`, `S`, `X`, and `C_own`, `S_own`, `X_own`, which differ for links and
            graphs.
        """
        parts = [*"RCSX", "C_own", "S_own", "X_own"]
        rows = [
            {"method": name, "seed": seed, "bucket": found.condition} | {part: getattr(found, part) for part in parts}
            for seed, name, model, conditions in self.routed()
            for found in coverages(model, conditions, losses=["ce"])
        ]
        return pd.DataFrame(rows, columns=["method", "seed", "bucket", *parts])

    def sensitivity(self, damage: str, rates: Iterable[float]) -> pd.DataFrame:
        """Base and amplification of the routed networks, and what their tokens do.

        Returns:
            One row per rate, seed and network: `method`, `rate` and `Sensitivity.summary` (at least `READ_OUT`), with
            base, amplification and twice their cross term in per cent of the squared change, and the `order_gap`.
        """
        parts = pd.DataFrame(
            {"method": name, "rate": rate} | sensitivity(model, clean, corrupt(clean, damage, rate, seed)[0]).summary()
            for rate in rates
            for seed, name, model, (clean, *_) in self.routed()
        )
        if parts.empty:
            return pd.DataFrame(columns=["method", "rate", "residual", *READ_OUT])
        return parts.reindex(columns=parts.columns.union(READ_OUT, sort=False))

    def costs(self) -> pd.DataFrame:
        """What the runs cost.

        Returns:
            One row per method and seed: `parameters` and `MFLOP` (see `study.costs.size`, of the clean test instances,
            of the first seed's network), `seconds` of training, and `optimism`: by how many points the best test epoch
            beats the one that validation chose.
        """
        rows, sizes = [], {}
        for seed in self.seeds:
            inside, split, _ = self.drawn(seed)
            for method in self.methods:
                if method.name not in sizes:
                    model = trained_model(self.experiment, inside, split.name, method, seed)
                    sizes[method.name] = size(model, inside, split.test)
                record = run(self.experiment, inside, split.name, method, seed)
                optimism = 100 * (record.metrics["test_best"] - record.metrics["test"])
                row = {"method": method.name, "seed": seed, "seconds": record.seconds, "optimism": optimism}
                rows.append(row | sizes[method.name])
        return pd.DataFrame(rows)

    def leads(self, scores: pd.DataFrame, by: str) -> pd.DataFrame:
        """The whole model, or the first method, against the strongest other, see `against_strongest`, paired by seed.

        Args:
            scores: one row per `method`, group and `seed`; see `main_method`.
            by: the column that makes a group.

        Returns:
            The table of `against_strongest`; for a single method, a table without rows.
        """
        names = list(scores.method.unique())
        if len(names) < 2:
            return pd.DataFrame(columns=[by, "strongest", "ours", "theirs", "difference"])
        scores = scores[scores.score.notna()]
        kinds = scores.kind if "kind" in scores else pd.Series("clean", scores.index)
        if self.own_split is None and self.task.kind == "node":
            overlap = [split_overlap(self.task.name, self.per_class or 0, kind) for kind in kinds]
        else:
            overlap = 0.0  # all seeds have the split that the task came with
        scores = scores.assign(overlap=overlap)
        return against_strongest(scores, "score", main_method(names), by, overlap="overlap").round(2)
