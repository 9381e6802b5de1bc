"""What the theory's reports cost, in evaluations, on a graph of Cora's size.

    python benchmarks/theory.py [--repeats 7]

An evaluation is counted in two ways: `predict`, which computes only what the instances read and looks up tokens and
head in tables, and `forward`, a plain `model(graph, instances)` with whole codes. The instances are all nodes, so that
neither is cheaper because only a part is asked for. The goals are `K + 3` for a coverage report (all paths, both
losses) and 6 for a sensitivity report.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pandas as pd
import torch
from measuring import Row, seconds_by_turns, table

from stemlib.data.built_in import built_in
from stemlib.data.splits import stratified_split
from stemlib.data.tasks import Task
from stemlib.model.stem import StemGNN
from stemlib.presets import change, preset
from stemlib.stress.conditions import Condition, corrupt
from stemlib.theory.coverage import coverages
from stemlib.theory.replay import Readout
from stemlib.theory.sensitivity import sensitivity
from stemlib.training.evaluation import predict
from stemlib.training.finetune import start_tokens
from study.methods import stem

CLASSES, NODES = 7, 2708


def setting(width: int) -> tuple[StemGNN, Task, Condition, Condition]:
    """A model with started tokens, its task, all nodes, and the same with a fifth of the features masked."""
    task = built_in(NODES, classes=CLASSES, degree=4, noise_features=width - CLASSES)
    torch.manual_seed(0)
    method = stem(change(preset("paper"), hidden=width))
    model = method.build(task)
    start_tokens(model, task, stratified_split(torch.arange(NODES), task.labels, seed=0))
    clean = Condition("all", task, torch.arange(NODES))
    return model.eval(), task, clean, corrupt(clean, "masked", 0.2, 0)[0]


def measure(width: int, report: str, repeats: int) -> Row:
    """One row of the table; report and evaluations are timed in turns, and their ratios are medians over turns."""
    model, task, clean, perturbed = setting(width)
    actions: dict[str, Callable[[], object]] = {
        "report_s": lambda: (
            coverages(model, [clean])
            if report == "coverage"
            else sensitivity(model, clean, perturbed, report.removeprefix("sensitivity, "))
        ),
        "predict_s": lambda: predict(model, task),
        "forward_s": lambda: model(task.graph, clean.index),
    }
    limit = model.config.experts + 3 if report == "coverage" else 6
    with torch.no_grad():
        seconds = seconds_by_turns(actions, repeats)
    row = {"width": width, "report": report, "limit": limit} | seconds.median().to_dict()
    return row | {f"in_{name}s": (seconds.report_s / seconds[f"{name}_s"]).median() for name in ("predict", "forward")}


REPORTS = ("coverage", *(f"sensitivity, {readout}" for readout in get_args(Readout)))

if __name__ == "__main__":
    table(__file__, [(width, report) for width in (128, 768) for report in REPORTS], measure, pd.DataFrame)
