"""What trained networks are worth under every condition, where a loss comes from, and what is certain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeGuard

import pandas as pd
import torch
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn

from stemlib.audit.drawn import Drawn
from stemlib.audit.statistics import paired_test
from stemlib.audit.trainings import Trained, is_large
from stemlib.data.leaks import filtered
from stemlib.data.scores import score
from stemlib.data.tasks import Task
from stemlib.model.stem import StemGNN
from stemlib.stress.conditions import CORRUPTIONS, Condition, alone, corrupt, is_scored
from stemlib.stress.domains import met_elsewhere
from stemlib.theory.a_priori import Budget, a_priori
from stemlib.theory.coverage import coverages
from stemlib.theory.coverage_report import null_coverage, report
from stemlib.theory.sensitivity import sensitivity
from stemlib.training.adversary import worst_conditions
from stemlib.training.evaluation import predict, scores

RATES = (0.2, 0.4, 0.6, 0.8)
SHARE = 0.4  # of features or edges, for what is looked at under one rate alone
BETWEEN_DRAWS = 1000  # seeds are smaller
ATTACKED = 0.2  # of features or edges, by an adversary: one of `RATES`, to compare with random damage
CERTIFIED = 1000  # instances that are asked for a certificate, at most
MAJORITY = "majority"
OF_RISK = ["R", "C", "S", "X", "dR", "dC", "dS", "dX", "C_shuffled"]
OF_CHANGE = ["base, %", "amplification, %", "cross, %", "factor"]


class Certified(NamedTuple):
    """How many of some test instances no damage within a budget can change; or why that is not known."""

    budget: str
    held: int
    asked: int
    refused: str = ""

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval of the share."""
        found = binomtest(self.held, self.asked).proportion_ci(method="wilson")
        return found.low, found.high


def _meetings(
    protocol: str, drawn: Drawn, seed: int, draws: int, others: Mapping[str, Task]
) -> Iterator[tuple[Condition, dict[str, Any]]]:
    """What the networks of one protocol meet, with what a table says of it."""
    for met in drawn.conditions:
        kind = {"whole": "clean", "inside": "inside"}[protocol] if met.name == "clean" else "shift"
        yield met, {"kind": kind, "rate": 0.0}
    if protocol == "inside":
        return
    told = filtered(drawn.task, drawn.split.train, drawn.split.test)
    if 0 < told.numel() < drawn.split.test.numel():
        yield Condition("filtered", drawn.task, told), {"kind": "filtered", "rate": 0.0}
    small = alone(drawn.conditions[0])
    for damage in CORRUPTIONS:
        for rate in RATES:
            for draw in range(draws):
                yield corrupt(small, damage, rate, seed + draw * BETWEEN_DRAWS)[0], {"kind": damage, "rate": rate}
    for name, task in others.items():
        yield met_elsewhere(drawn.task, name, task), {"kind": "other graph", "rate": 0.0}


def score_table(trained: Mapping[str, list[Trained]], draws: int, others: Mapping[str, Task]) -> pd.DataFrame:
    """One row per protocol, seed, method and condition; `score`, `val` and `balanced` accuracy in per cent.

    `majority` always gives the most frequent answer in training. For links, `filtered` are the clean ones without
    those that training gives away, see `stemlib.data.leaks`.
    """
    rows = []
    for protocol, networks in trained.items():
        for seed, (drawn, models, val) in enumerate(networks):
            for met, about in _meetings(protocol, drawn, seed, draws, others):
                if not is_scored(met):
                    continue
                about = {"protocol": protocol, "seed": seed, "condition": met.name, **about}
                for name, model in models.items():
                    row = about | {"method": name, "val": val[name], "score": 100 * scores(model, [met])[met.name]}
                    if about["kind"] == "clean" and met.task.labels.dim() == 1:
                        row["balanced"] = _balanced(model, met)
                    rows.append(row)
                constant = _most_frequent(drawn).expand(met.index.numel(), -1)
                value = score(constant, met.task.labels[met.index], met.task.regression)
                rows.append(about | {"method": MAJORITY, "score": 100 * value})
    return pd.DataFrame(rows)


def spared(task: Task, damage: str) -> str:
    """Why no adversary tries a kind of damage on a task; empty if one does."""
    if is_large(task):
        return "the graph is too large"
    if damage == "masked" and task.graph.source is not None:
        return "they were made from other columns"
    if damage == "deleted" and task.regression:
        return "the search needs classes"
    return ""


def worst_table(trained: list[Trained], chosen: str) -> pd.DataFrame:
    """The chosen method when an adversary who knows it and the labels does the damage, see `worst_conditions`.

    Args:
        trained: networks of one protocol.
        chosen: the method that is attacked.

    Returns:
        One row per seed and damage: `kind` (`masked` or `deleted`), `seed`, `score` in per cent. No rows where it is
        `spared`.
    """
    rows = []
    for seed, (drawn, models, _) in enumerate(trained):
        model, clean = models[chosen], alone(drawn.conditions[0])
        for damage in [one for one in CORRUPTIONS if not spared(drawn.task, one)]:
            ((_, met),) = worst_conditions(model, clean, damage, [ATTACKED], seed)
            rows.append({"kind": damage, "seed": seed, "score": 100 * scores(model, [met])[met.name]})
    return pd.DataFrame(rows, columns=["kind", "seed", "score"])


def _balanced(model: nn.Module, met: Condition) -> float:
    answers = predict(model, met.task, met.index).argmax(-1)
    return 100 * balanced_accuracy_score(met.task.labels[met.index], answers)


def _most_frequent(drawn: Drawn) -> Tensor:
    """The logits `[1, classes]` of the most frequent class in training; 0 for binary labels or numbers."""
    task, constant = drawn.task, torch.zeros(1, drawn.task.outputs)
    if task.labels.dim() == 1:
        constant[0, task.labels[drawn.split.train].bincount().argmax()] = 1
    return constant


def decomposition_table(trained: Mapping[str, list[Trained]]) -> pd.DataFrame:
    """Coverage, selection and mixing of the routed networks in every condition; and base and amplification of damage.

    Returns:
        One row per seed and condition: `R`, `C`, `S`, `X` in nats, their changes `dR`, `dC`, `dS`, `dX` from the clean
        instances of the same training, the null `C_shuffled`; of damage also `base, %`, `amplification, %`,
        `cross, %` and `factor`. No rows for a regression.
    """
    rows = []
    for protocol, networks in trained.items():
        for seed, (drawn, models, _) in enumerate(networks):
            if drawn.task.regression or "routed" not in models:
                continue
            model, conditions, changes = models["routed"], list(drawn.conditions), {}
            if protocol == "whole":
                clean = alone(conditions[0])
                damaged = [corrupt(clean, damage, SHARE, seed)[0] for damage in CORRUPTIONS]
                changes = {met.name: sensitivity(model, clean, met).summary() for met in damaged}
                conditions = [clean, *damaged]
            found = coverages(model, conditions, losses=["ce"])
            table = report(found, [null_coverage(one) for one in found])
            for row in table.to_dict("records"):
                more = changes.get(row["condition"], {})
                rows.append(
                    {"protocol": protocol, "seed": seed, "condition": row["condition"]}
                    | {name: row[name] for name in OF_RISK}
                    | {name: more[name] for name in OF_CHANGE if more}
                )
    return pd.DataFrame(rows, columns=["protocol", "seed", "condition", *OF_RISK, *OF_CHANGE])


def certify(model: nn.Module, drawn: Drawn) -> list[Certified]:
    """The share of a routed network's test instances that no deleted edge, or no masked feature, can change."""
    index = drawn.split.test
    if index.numel() > CERTIFIED:
        index = index[torch.randperm(index.numel(), generator=torch.Generator().manual_seed(0))[:CERTIFIED]]
    found = []
    for budget, words in ((Budget("deleted", 1), "deleted edge"), (Budget("masked own", 1), "masked feature")):
        try:
            kept = a_priori(model, drawn.task, index, budget)
            found.append(Certified(words, int(kept.sum()), index.numel()))
        except ValueError as error:
            found.append(Certified(words, 0, index.numel(), str(error)))
    return found


def routes(model: nn.Module | None) -> TypeGuard[StemGNN]:
    """Whether the decompositions can take a model apart."""
    return isinstance(model, StemGNN) and model.encoder.routed_layers > 0


def choose(scores: pd.DataFrame, overlap: float) -> tuple[str, list[str]]:
    """The method to freeze; and those that validation cannot tell from its best.

    Among these the sum of validation score and mean under stress decides.

    Args:
        scores: of `score_table`.
        overlap: see `stemlib.audit.statistics.paired_test`.
    """
    rows = scores[(scores.kind == "clean") & (scores.method != MAJORITY)]
    val = rows.pivot_table(index="seed", columns="method", values="val", sort=False)
    best = val.mean().idxmax()
    level = [name for name in val if name == best or not _ahead(val[best] - val[name], overlap)]
    stressed = scores[scores.kind.isin(["shift", *CORRUPTIONS, "other graph"])].groupby("method").score.mean()
    return max(level, key=lambda name: val[name].mean() + stressed.get(name, 0.0)), level


def _ahead(differences: pd.Series, overlap: float) -> bool:
    return len(differences) < 2 or paired_test(differences, overlap).low > 0
