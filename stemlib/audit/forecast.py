"""How long the trainings of an audit take at most, from one to three epochs of each method."""

from __future__ import annotations

import time
from dataclasses import replace

from stemlib.audit.trainings import DRAWN_BATCH, Method, Trainings, is_large, methods
from stemlib.presets import change
from stemlib.training.families import build
from stemlib.training.finetune import fit

LONG = 10.0  # seconds; one epoch as long as this is enough for an estimate


def foretell(trainings: Trainings) -> None:
    """Say what will be done, and how long it may take."""
    runs, task, effort = sum(map(len, trainings.drawn.values())), trainings.drawn["whole"][0].task, trainings.effort
    apart = ", the others with the tails of every covariate held out" * (len(trainings.drawn) > 1)
    print(
        f"{task.name}: {len(effort.tried)} methods; settings tried for each: {effort.candidates}; trainings of each: "
        f"{runs}, {effort.seeds} of them on the whole task{apart}",
        flush=True,
    )
    seconds = estimate(trainings)
    told = f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"
    print(f"at most about {told} of training, unless the machine gets busier; ", end="")
    print("if stopped, the same call continues from there", flush=True)


def estimate(trainings: Trainings) -> float:
    """Seconds that all trainings take at most, finished ones too."""
    drawn, total = trainings.drawn["whole"][0], 0.0
    runs = sum(map(len, trainings.drawn.values())) + trainings.effort.candidates - 1
    for base in methods(trainings.effort):
        method = trainings.candidates(base, drawn.task, drawn.split)[0]
        if is_large(drawn.task):  # an epoch from some of its batches
            few, more = (_timed(trainings, method, 1, DRAWN_BATCH * count) for count in (2, 6))
            first = step = few + max(more - few, 0) / 4 * (drawn.split.train.numel() / DRAWN_BATCH - 2)
        else:
            first = step = _timed(trainings, method, 1)
            if first < LONG:
                step = max(_timed(trainings, method, 3) - first, 0) / 2
        total += runs * (first + step * (method.train.epochs - 1))
    return total


def _timed(trainings: Trainings, method: Method, epochs: int, trained: int | None = None) -> float:
    """Seconds of some epochs on the first `trained` training instances."""
    drawn = trainings.drawn["whole"][0]
    split, train = replace(drawn.split, train=drawn.split.train[:trained]), change(method.train, epochs=epochs)
    began = time.perf_counter()
    fit(build(method.config, drawn.task).to(trainings.where), drawn.task, split, train, 0)
    return time.perf_counter() - began
