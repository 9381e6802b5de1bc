"""The report card: train, stress, take apart, and write down what came out in one folder."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from stemlib.data.feature_space import FeatureSpace
from stemlib.data.tasks import Task
from stemlib.files import installed_versions, write_atomically
from stemlib.report import words
from stemlib.report.answers import answers
from stemlib.report.drawn import shifted_by, whole
from stemlib.report.figures import draw
from stemlib.report.found import Answer, Found, effects
from stemlib.report.measure import MAJORITY, certify, choose, decomposition_table, routes, score_table, worst_table
from stemlib.report.own_model import OwnModel
from stemlib.report.page import page
from stemlib.report.risk import ranked, risk_table, signal_table
from stemlib.report.trainings import FULL, QUICK, TAIL, Effort, Trained, Trainings
from stemlib.report.watch import damage_list, watch_list, write_watch
from stemlib.stress.conditions import MOST_OVERLAP, Condition
from stemlib.stress.shifts import tail_buckets
from stemlib.training.evaluation import evaluate
from stemlib.training.saved import save

FIRST = 12  # rows of the risk table on the page
TRIED = (
    "What was tried: an MLP, which sees the features alone; a GCN and GraphSAGE, plain graph networks; a mixture of "
    "five networks, each with another filter of the graph, weighted on validation; and a routed network, whose router "
    "chooses among experts for every node. All were tuned alike on validation. The selected ensemble averages those of "
    "them that together fit validation best (greedy selection)."
)
COLUMNS = (
    "flips: share of damaged copies of the graph in which the answer changes. radius: how far what the last layer of "
    "the routed network reads may move before its answer changes. disagreement: between the networks that are mixed. "
    "Tenths: 1 is the lowest, 10 the highest. risk: the rank by the best column, 1 being most at risk."
)


@dataclass(frozen=True)
class Card:
    """A report that was written.

    Attributes:
        folder: `report.html`, `report.json`, `scores.csv`, `decomposition.csv`, `risk.csv`, `figures/`, `frozen/`.
        found: what was measured.
        answers: what the page says.
    """

    folder: Path
    found: Found
    answers: list[Answer]


def report(
    task: Task,
    out: str | Path,
    effort: Effort = FULL,
    *,
    others: Mapping[str, Task] | None = None,
    model: nn.Module | None = None,
    names: Sequence[str] | None = None,
    read: Sequence[str] | None = None,
    space: FeatureSpace | None = None,
) -> Card:
    """Say on one page what models are worth on a graph, what breaks them, whom to watch; killed, it goes on.

    Args:
        task: of nodes, links or graphs; classes, binary labels or numbers.
        out: the folder that is written.
        effort: `FULL`, or `QUICK` for a first look.
        others: other graphs that the trained models meet, by name.
        model: one that is already trained, any module with `forward(x, edge_index)`: then none is trained here.
        names: of the instances, for `risk.csv`.
        read: what was read and converted; None for the task's notes.
        space: what the features were made with, saved with the model; None for the task's own.

    Raises:
        ValueError: a task that cannot be learnt, or an other graph that does not fit.

    Example:
        >>> from stemlib.data.built_in import mixed_graph
        >>> card = report(mixed_graph(2000), "report", QUICK)  # doctest: +SKIP
    """
    began, out, others = time.perf_counter(), Path(out), dict(others or {})
    out.mkdir(parents=True, exist_ok=True)
    if model is None:
        trainings = Trainings(task, out / "trainings", effort)
        _announce(task, trainings)
        trained, notes = trainings.run(), trainings.notes
        covariates, overlap = trainings.covariates, trainings.overlap
    else:
        covariates, notes, overlap = shifted_by(task), [], 0.0
        trained = {"whole": [_given(model, task, covariates)]}
    print("trained; now everything is stressed and taken apart", flush=True)
    scores = score_table(trained, effort.draws, others)
    chosen, level = choose(scores, overlap)
    best = max(trained["whole"], key=lambda one: one.val[chosen])
    certified = certify(best.models["routed"], best.drawn) if routes(best.models.get("routed", nn.Identity())) else []
    risk = risk_table(best.models, chosen, best.drawn, effort.draws, covariates)
    signals = signal_table(risk, task.regression)
    risk, signal = ranked(risk, signals)
    found = Found(
        task=best.drawn.task,
        scores=scores,
        decomposition=decomposition_table(trained),
        certified=certified,
        risk=risk,
        signals=signals,
        watch=watch_list(best.drawn.task, risk),
        worst=worst_table(trained["whole"], chosen),
        damage=damage_list(best.drawn.task, scores, chosen, overlap),
        chosen=chosen,
        level=level,
        signal=signal,
        overlap=overlap,
        notes=[*(task.notes if read is None else read), *notes],
    )
    if model is None:
        split = best.drawn.split
        metrics = evaluate(best.models[chosen], best.drawn.task, split)
        save(best.models[chosen].cpu(), out / "frozen", best.drawn.task, space, split, metrics)
    card = Card(out, found, answers(found))
    _write(card, names, time.perf_counter() - began)
    return card


def _announce(task: Task, trainings: Trainings) -> None:
    """What will be done, and how long it may take."""
    runs = sum(map(len, trainings.drawn.values()))
    tried = trainings.effort.candidates
    print(
        f"{task.name}: {len(trainings.effort.tried)} methods; settings tried for each: {tried}; trainings "
        f"of each: {runs}, {trainings.effort.seeds} of them on the whole task"
        + (", the others with the tails of every covariate held out" if len(trainings.drawn) > 1 else ""),
        flush=True,
    )
    seconds = trainings.estimate()
    told = f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"
    print(f"at most about {told} of training; stopped, the same call goes on from there", flush=True)


def _given(model: nn.Module, task: Task, covariates: Mapping[str, torch.Tensor]) -> Trained:
    """A model that is trained already, as if it were one training; tails are those of its test."""
    drawn, tails = whole(task, 0), {}
    for name, values in covariates.items():
        found = tail_buckets(values, TAIL)
        for side in ("low", "high"):
            index = found.members[f"OOD-{side}"]
            index = index[torch.isin(index, drawn.split.test)]
            if index.numel() and found.overlap[f"OOD-{side}"] <= MOST_OVERLAP:
                tails[f"{name} {side}"] = index
    own = OwnModel(model, task)
    conditions = [*drawn.conditions, *(Condition(name, drawn.task, index) for name, index in tails.items())]
    val = 100 * evaluate(own, drawn.task, drawn.split, ["val"])["val"]
    return Trained(drawn._replace(conditions=conditions), {"model": own}, {"model": val})


def _write(card: Card, names: Sequence[str] | None, seconds: float) -> None:
    """All files; the page last."""
    out, found = card.folder, card.found
    task, risk = found.task, found.risk.copy()
    if names is not None:
        risk.insert(0, "name", np.asarray(names, dtype=object)[risk.index])
    if task.class_names and task.labels.dim() == 1:
        risk["answer"] = np.asarray(task.class_names, dtype=object)[risk.answer]
    for name, table in (("scores", found.scores), ("decomposition", found.decomposition), ("risk", risk)):
        with write_atomically(out / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=name == "risk")
    write_watch(out, task, pd.concat([found.watch, found.damage], ignore_index=True))
    figures = draw(found, out / "figures")
    content = {
        "task": task.name,
        "kind": task.kind,
        "metric": task.metric,
        "read": found.notes,
        "answers": {one.question: one.sentences for one in card.answers},
        "chosen": found.chosen,
        "certified": [one._asdict() for one in found.certified],
        "signals": json.loads(found.signals.to_json(orient="records")),
        "worst case": json.loads(found.worst.to_json(orient="records")),
        "watch": json.loads(found.watch.to_json(orient="records")),
        "seconds": round(seconds, 1),
        "versions": installed_versions(),
    }
    with write_atomically(out / "report.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2))
    with write_atomically(out / "report.html") as temporary:
        temporary.write_text(_html(card, risk, figures, seconds))


def _html(card: Card, risk: pd.DataFrame, figures: dict[str, Path], seconds: float) -> str:
    found = card.found
    task, kind = found.task, words.KINDS[found.task.kind]
    test = risk[risk.part == "test"].drop(columns=["part"]).head(FIRST)
    first = test.set_index("name") if "name" in test else test
    tables = {
        "losses": (f"Mean scores: {words.METRICS[task.metric]}.", effects(found)),
        "risk": (f"The {len(first)} test {kind} most at risk; all others are in risk.csv. {COLUMNS}", first.round(2)),
    }
    clean = words.mean(found.of(found.chosen, "clean"))
    fallback = words.mean(found.of(MAJORITY, "clean"))
    begin = "Freeze" if len(found.methods) > 1 else "This is of"
    if found.useless:
        begin = "Nothing here is reliably better than always giving the most frequent answer. The least bad is"
    lead = [
        f"{begin} {words.the(found.chosen)}: it scores {clean} "
        f"({words.METRICS[task.metric]}), where {words.the(MAJORITY)} scores {fallback}. Numbers in brackets are 95 % "
        f"intervals."
    ]
    if len(found.methods) > 1:
        lead.append(TRIED)
    counts = [f"{task.instances} {kind}, {task.graph.num_nodes} nodes, {task.graph.num_edges} edges (each direction)"]
    notes = found.notes if found.notes and found.notes[0].startswith(f"{task.graph.num_nodes} nodes") else None
    footer = (
        f"Made in {seconds / 60:.1f} minutes by python -m stemlib.report; settings and versions are in report.json."
    )
    return page(f"Report card: {task.name}", lead, notes or counts + found.notes, card.answers, figures, tables, footer)


__all__ = ["FULL", "QUICK", "Card", "Effort", "report"]
