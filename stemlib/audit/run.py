"""One audit: train alike, stress, take apart, and keep the model to freeze."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from stemlib.audit.drawn import is_drawn, shifted_by
from stemlib.audit.forecast import foretell
from stemlib.audit.found import Found
from stemlib.audit.measure import certify, choose, decomposition_table, routes, score_table, worst_table
from stemlib.audit.own_model import given
from stemlib.audit.risk import ranked, risk_table, signal_table
from stemlib.audit.trainings import FULL, Effort, Trainings
from stemlib.audit.watch import damage_list, watch_list
from stemlib.data.feature_space import FeatureSpace
from stemlib.data.tasks import Task
from stemlib.training.evaluation import evaluate
from stemlib.training.saved import save

UNSEEN = (
    "the split was drawn here: unless the model was trained only on this task's training part, it has seen nodes that "
    "it is tested on, and its scores are too good. Give the split that it was trained with (masks or a column)"
)


def audit(
    task: Task,
    folder: str | Path,
    effort: Effort = FULL,
    *,
    others: Mapping[str, Task] | None = None,
    model: nn.Module | None = None,
    space: FeatureSpace | None = None,
    device: str = "auto",
) -> Found:
    """Measure what models are worth on a graph, what breaks them and where they fail; resumable.

    Args:
        task: of nodes, links or graphs; classes, binary labels or numbers.
        folder: gets `trainings/`, and `frozen/` with the model to freeze, or with the `space` of a given model.
        effort: `FULL`, or `QUICK` for a first look.
        others: other graphs that the trained models meet, by name.
        model: one that is already trained, any module with `forward(x, edge_index)`: then none is trained here.
        space: what the features were made with, saved with the model; None for the task's own.
        device: where networks are trained, see `stemlib.devices.device`; a model that is given stays where it is.

    Raises:
        ValueError: a task that cannot be learnt, or another graph that does not fit; a device that is not available.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    covariates, notes, overlap = shifted_by(task), [], 0.0
    if model is None:
        trainings = Trainings(task, folder / "trainings", effort, covariates, device)
        foretell(trainings)
        trained, notes, overlap = trainings.run(), trainings.notes, trainings.overlap
    else:
        trained = {"whole": [given(model, task, covariates)]}
        if is_drawn(task):
            notes.append(UNSEEN)
            print(UNSEEN, flush=True)
    print("now everything is stressed and taken apart", flush=True)
    scores = score_table(trained, effort.draws, dict(others or {}))
    chosen, level = choose(scores, overlap)
    best = max(trained["whole"], key=lambda one: one.val[chosen])
    routed, drawn = best.models.get("routed"), best.drawn
    risk = risk_table(best.models, chosen, drawn, effort.draws, covariates)
    signals = signal_table(risk, task.regression)
    risk, signal = ranked(risk, signals)
    found = Found(
        task=drawn.task,
        scores=scores,
        decomposition=decomposition_table(trained),
        certified=certify(routed, drawn) if routes(routed) else [],
        risk=risk,
        signals=signals,
        watch=watch_list(drawn.task, risk),
        worst=worst_table(trained["whole"], chosen),
        damage=damage_list(drawn.task, scores, chosen, overlap),
        chosen=chosen,
        level=level,
        signal=signal,
        overlap=overlap,
        notes=notes,
    )
    if model is None:
        frozen = best.models[chosen]
        metrics = evaluate(frozen, drawn.task, drawn.split)
        save(frozen.cpu(), folder / "frozen", drawn.task, space, drawn.split, metrics)  # off the device, so last
    elif space is not None:
        space.save(folder / "frozen")  # for a later graph, which is to be read as this one was
    return found
