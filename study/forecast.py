"""How long trainings will take, said before they start."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import torch

from stemlib.data.tasks import Split, Task, standardised
from stemlib.presets import change
from stemlib.training.finetune import fit
from study.method import Method
from study.records import read_record
from study.trained import run_folder

LONG = 60.0  # seconds; only longer forecasts are printed
MORE = 3  # epochs after the first that are timed


def forecast(experiment: str, runs: Iterable[tuple[Task, Split, int]], methods: Sequence[Method]) -> float:
    """Seconds that the unfinished runs of some methods take, if none ends early; printed if more than `LONG`.

    A few epochs of each method are timed on its first unfinished run; finished runs count for nothing. The state of
    PyTorch's generator is left as it was.

    Args:
        experiment: under which the runs are kept.
        runs: task, split and seed of each.
        methods: each trained in every run.
    """
    state, total, left = torch.get_rng_state(), 0.0, 0
    runs = [(standardised(task, split), split, seed) for task, split, seed in runs]
    alone = dict.fromkeys(one for method in methods for one in method.members or (method,))
    for method in alone:
        missing = [one for one in runs if read_record(run_folder(experiment, *one[:2], method, one[2])) is None]
        if missing:
            total += len(missing) * _seconds(*missing[0][:2], method)
            left += len(missing)
    torch.set_rng_state(state)
    if total > LONG:
        told = f"{max(2, round(total / 60))} minutes" if total < 5400 else f"{total / 3600:.1f} hours"
        print(
            f"at most about {told} for {left} trainings on this machine; fewer methods, seeds or epochs take less, and "
            "after an interruption finished ones are read back",
            flush=True,
        )
    return total


def _seconds(task: Task, split: Split, method: Method) -> float:
    """Seconds of one run: its first epoch, the others as long as the next few; an encoder without labels doubles it."""
    taken = {}
    for epochs in (1, 1 + MORE):
        model, began = method.build(task), time.perf_counter()
        fit(model, task, split, change(method.train, epochs=epochs), 0)
        taken[epochs] = time.perf_counter() - began
        if taken[1] > LONG / 30:  # then one epoch is enough
            break
    step = max(taken[1 + MORE] - taken[1], 0.0) / MORE if len(taken) > 1 else taken[1]
    return (taken[1] + step * (method.train.epochs - 1)) * (1 if method.pretext is None else 2)
