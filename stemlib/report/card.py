"""The report card: train, stress, take apart, and write down what came out in one folder."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from stemlib.audit.found import Found
from stemlib.audit.measure import MAJORITY
from stemlib.audit.run import audit
from stemlib.audit.trainings import FULL, QUICK, Effort
from stemlib.audit.watch import write_watch
from stemlib.data.feature_space import FeatureSpace
from stemlib.data.tasks import Task
from stemlib.files import installed_versions, write_atomically
from stemlib.report import words
from stemlib.report.answers import answers
from stemlib.report.figures import draw
from stemlib.report.page import Answer, page

FIRST = 12  # rows of the risk table on the page
TRIED = (
    "What was tried: an MLP, which sees the features alone; a GCN and GraphSAGE, plain graph networks; a mixture of "
    "five networks, each with its own filter of the graph, weighted on validation; and a routed network, whose router "
    "chooses among experts for every node. All were tuned alike on validation. The selected ensemble averages those "
    "that together fit validation best (greedy selection)."
)
LONGEST = 24  # characters of a name on the page
COLUMNS = {
    "flips": "share of damaged copies of the graph in which the answer changes",
    "radius": "how far the input of the routed network's last layer may move before its answer changes",
    "disagreement": "between the networks that are mixed",
    "risk": "rank by the best column, from 0 to 1 (most at risk)",
}


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
    device: str = "auto",
) -> Card:
    """Say on one page what models are worth on a graph, what breaks them and which instances to watch; resumable.

    Args:
        task: of nodes, links or graphs; classes, binary labels or numbers.
        out: the folder that is written.
        effort: `FULL`, or `QUICK` for a first look.
        others: other graphs that the trained models meet, by name.
        model: one that is already trained, any module with `forward(x, edge_index)`: then none is trained here.
        names: of the instances, for `risk.csv`.
        read: what was read and converted; None for the task's notes.
        space: what the features were made with, saved with the model; None for the task's own.
        device: where networks are trained, see `stemlib.devices.device`; a model that is given stays where it is.

    Raises:
        ValueError: a task that cannot be learnt, or another graph that does not fit; a device that is not available.

    Example:
        >>> from stemlib.data.built_in import mixed_graph
        >>> card = report(mixed_graph(2000), "report", QUICK)  # doctest: +SKIP
    """
    began = time.perf_counter()
    found = audit(task, out, effort, others=others, model=model, space=space, device=device)
    found.notes[:0] = task.notes if read is None else read
    card = Card(Path(out), found, answers(found))
    _write(card, names, effort, time.perf_counter() - began)
    return card


def _write(card: Card, names: Sequence[str] | None, effort: Effort, seconds: float) -> None:
    """Write all files, the page last."""
    out, found = card.folder, card.found
    task, risk = found.task, found.risk.copy()
    if names is not None:
        risk.insert(0, "name", np.asarray(names, dtype=object)[risk.index])
    if task.labels.dim() == 2 and task.outputs == 1 and not task.regression:
        risk["answer"] = [answer for (answer,) in risk.answer]
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
        "effort": asdict(effort) if len(found.methods) > 1 else None,
        "seconds": round(seconds, 1),
        "versions": installed_versions(),
    }
    with write_atomically(out / "report.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2))
    with write_atomically(out / "report.html") as temporary:
        temporary.write_text(_html(card, risk, figures, effort, seconds))


def effects(found: Found) -> pd.DataFrame:
    """Mean scores, one row per condition and one column per method: the page's table."""
    order = found.scores.drop_duplicates(["kind", "condition"])
    table = found.scores.groupby(["kind", "condition", "method"], sort=False).score.mean().unstack()
    table = table.loc[list(zip(order.kind, order.condition, strict=True)), [*found.methods, MAJORITY]]
    names = {
        "clean": "as trained",
        "filtered": "without pairs that training gives away",
        "inside": "ordinary, tails kept out of training",
    }
    table.index = [names.get(kind, words.who(found.task, condition)) for kind, condition in table.index]
    return table.rename(columns=words.method).round(1).replace(np.nan, "")


def _html(card: Card, risk: pd.DataFrame, figures: dict[str, Path], effort: Effort, seconds: float) -> str:
    found = card.found
    task, kind = found.task, words.KINDS[found.task.kind]
    test = risk[risk.part == "test"].drop(columns=["part"]).head(FIRST)
    first = test[["risk", *test.columns.drop("risk")]]
    if not task.regression:
        first = first.assign(wrong=first.wrong.map({1.0: "yes", 0.0: "no"}))
    if "name" in first:
        short = [name if len(name) <= LONGEST else f"{name[:LONGEST]}…" for name in first.pop("name").astype(str)]
        first = first.set_axis(pd.Index(short, name="name"))
    told = [f"{name}: {meaning}." for name, meaning in COLUMNS.items() if name in first]
    told += ["Tenths: 1 is the lowest, 10 the highest."] * any(name.endswith("_tenth") for name in first)
    tables = {
        "losses": (f"Mean scores: {words.METRICS[task.metric]}.", effects(found)),
        "risk": (
            f"The {len(first)} test {kind} most at risk; all others are in risk.csv. {' '.join(told)}",
            first.round(2).assign(risk=first.risk.round(3)),
        ),
    }
    clean = words.mean(found.of(found.chosen, "clean"))
    fallback = words.mean(found.of(MAJORITY, "clean"))
    begin = "Freeze" if len(found.methods) > 1 else "This is about"
    if found.useless:
        begin = "Nothing here is reliably better than always giving the most frequent answer. The least bad is"
    lead = [
        f"{begin} {words.the(found.chosen)}: it scores {clean} "
        f"({words.METRICS[task.metric]}), where {words.the(MAJORITY)} scores {fallback}. Numbers in brackets are 95 % "
        f"intervals."
    ]
    if len(found.methods) > 1:
        less = " This was a first look: without --quick more is tried." if effort.epochs < FULL.epochs else ""
        done = f" Settings tried for each: {effort.candidates}; trainings of each: {effort.seeds}.{less}"
        lead.append(TRIED + done)
    asked = f"{task.instances} {kind}, " if task.kind != "node" else ""
    counts = [f"{asked}{task.graph.num_nodes} nodes, {task.graph.num_edges} edges (each direction)"]
    notes = found.notes if found.notes and found.notes[0].startswith(f"{task.graph.num_nodes} nodes") else None
    footer = f"Made in {seconds / 60:.1f} minutes by stemlib.report; settings and versions are in report.json."
    title = f"Report card: {task.name}" if len(found.methods) > 1 else f"Report card: your model on {task.name}"
    return page(title, lead, notes or counts + found.notes, card.answers, figures, tables, words.TERMS, footer)


__all__ = ["FULL", "QUICK", "Card", "Effort", "report"]
