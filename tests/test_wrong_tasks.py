"""Every public function that takes a task is given wrong ones: it answers, or says itself what is wrong."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from run_samples import TINY
from samples import graph_task, link_task, node_task

import stemlib
import study
from stemlib.audit.trainings import Effort
from stemlib.audit.watch import watch_list, write_watch
from stemlib.data.graph import plain, undirected_pairs
from stemlib.data.tasks import Split, Task
from stemlib.presets import ModelConfig, TrainConfig
from stemlib.stress.conditions import Condition, corrupt
from stemlib.stress.shifts import tail_buckets
from stemlib.theory.a_priori import Budget
from stemlib.theory.coverage import coverage
from stemlib.training.evaluation import predict
from stemlib.training.pretrained import Pretrained, save_pretrained
from study.families import build
from study.method import Method
from study.methods import named
from study.protocols import CANDIDATES, Protocol
from study.rivals.settings import DGIConfig, ProbeConfig

OWN = (str(Path(stemlib.__file__).parent), str(Path(study.__file__).parent))
SMALL = ModelConfig(hidden=8, codes=4)


def regression() -> Task:
    task = node_task()
    return replace(task, regression=True, labels=torch.randn(task.instances, 2, dtype=torch.double))


def unlabelled() -> Task:
    task = node_task()
    return replace(task, labels=torch.full_like(task.labels, -1))


WRONG: dict[str, Callable[[], Task]] = {
    "of links": link_task,
    "of graphs": graph_task,
    "a regression": regression,
    "without labels": unlabelled,
    "without a split": lambda: replace(node_task(), splits={}),
    "of wider features": lambda: node_task(noise_features=4),
    "of more classes": lambda: node_task(classes=6),
}
APART_FROM_MODELS = ("hops", "encoder_folder", "train_encoder")  # they take a model's settings, or ask its reach
# `model` is settings, or asked for its reach alone, or a user's own beside those that are trained.
NO_NETWORK = ("hops", "encoder_folder", "train_encoder", "report", "audit")
OF_ANOTHER_SHAPE = ("of links", "of graphs", "of wider features", "of more classes")


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public function of both packages that takes a task or a condition."""
    for package in (stemlib, study):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if info.name.endswith("__main__"):
                continue
            module = importlib.import_module(info.name)
            for name, found in vars(module).items():
                mine = inspect.isfunction(found) and found.__module__ == module.__name__
                if mine and not name.startswith("_") and takes_a_task(found):
                    yield f"{info.name}.{name}", found


def takes_a_task(found: Callable[..., Any]) -> bool:
    hints = [str(parameter.annotation) for parameter in inspect.signature(found).parameters.values()]
    return any("Task" in hint or "Condition" in hint for hint in hints)


FUNCTIONS = dict(functions())


def some(task: Task) -> torch.Tensor:
    return torch.arange(min(8, task.instances))


def split_of(task: Task) -> Split:
    return Split("s", torch.arange(0, 10), torch.arange(10, 15), torch.arange(15, 20))


def protocol() -> Protocol:
    return Protocol("tiny", (("random", 0), ("random", 1)), candidates=CANDIDATES[:1], epochs=1)


def methods() -> list[Method]:
    return [replace(method, train=TrainConfig(epochs=1)) for method in named(TINY, "gcn")]


def checkpoint(folder: Path) -> Path:
    save_pretrained(Pretrained(SMALL, 3), folder, {})
    return folder


def report_of(folder: Path) -> Path:
    task = node_task()
    write_watch(folder, task, watch_list(task, pd.DataFrame({"part": ["test"] * task.instances, "wrong": 0.0})))
    return folder


def pairs_of(task: Task) -> int:
    return undirected_pairs(plain(task.graph.edge_index), task.graph.num_nodes)[0].numel()


def condition(task: Task) -> Condition:
    return Condition("clean", task, some(task))


SUPPLIED: dict[str, Callable[[Task, Path], Any]] = {
    "task": lambda task, folder: task,
    "condition": lambda task, folder: condition(task),
    "clean": lambda task, folder: condition(task),
    "perturbed": lambda task, folder: corrupt(condition(task), "masked", 0.5, 0)[0],
    "conditions": lambda task, folder: [condition(task)],
    "runs": lambda task, folder: [(task, split_of(task), 0)],
    "index": lambda task, folder: some(task),
    "asked": lambda task, folder: some(task),
    "train": lambda task, folder: TrainConfig(epochs=1),
    "losses": lambda task, folder: torch.rand(len(some(task))),
    "covariates": lambda task, folder: {"place": torch.arange(task.instances).float()},
    "worth": lambda task, folder: torch.rand(pairs_of(task)),
    "covariate": lambda task, folder: torch.arange(task.instances).float(),
    "buckets": lambda task, folder: tail_buckets(torch.arange(task.instances).float()),
    "split": lambda task, folder: split_of(task),
    "split_name": lambda task, folder: next(iter(task.splits), "none"),
    "scale": lambda task, folder: torch.ones(2, task.labels.size(-1)),
    "model": lambda task, folder: build(SMALL, node_task()),
    "models": lambda task, folder: [build(SMALL, node_task())],
    "methods": lambda task, folder: methods(),
    "method": lambda task, folder: methods()[0],
    "candidates": lambda task, folder: methods(),
    "protocol": lambda task, folder: protocol(),
    "preset": lambda task, folder: TINY,
    "seeds": lambda task, folder: [0, 1],
    "seed": lambda task, folder: 0,
    "kept": lambda task, folder: some(task),
    "meeting": lambda task, folder: [(condition(task), {})],
    "readout": lambda task, folder: "logits",
    "rates": lambda task, folder: [0.5],
    "combined": lambda task, folder: [0.5],
    "rate": lambda task, folder: 0.5,
    "draws": lambda task, folder: 1,
    "kind": lambda task, folder: "masked",
    "damage": lambda task, folder: "masked",
    "name": lambda task, folder: "degree",
    "reader": lambda task, folder: "a reader",
    "experiment": lambda task, folder: "wrong-tasks",
    "width": lambda task, folder: 3,
    "axis": lambda task, folder: plt.subplots()[1],
    "root": lambda task, folder: folder,
    "folder": lambda task, folder: checkpoint(folder),
    "config": lambda task, folder: SMALL,
    "classes": lambda task, folder: 3,
    "replicate": lambda task, folder: 1,
    "decide": lambda task, folder: lambda met: predict(build(SMALL, node_task()), met, some(met)).argmax(-1),
    "found": lambda task, folder: coverage(build(SMALL, node_task()), condition(node_task())),
    "budget": lambda task, folder: Budget("deleted", 1),
    "nodes": lambda task, folder: some(task),
    "hops": lambda task, folder: 1,
    "targets": lambda task, folder: {"away": node_task(seed=1)},
    "target": lambda task, folder: node_task(seed=1),
    "tasks": lambda task, folder: [node_task(seed=1), task],
    "time": lambda task, folder: torch.arange(float(task.instances)),
    "borders": lambda task, folder: [5.0, 9.0],
    "only": lambda task, folder: ["uniform"],
    "out": lambda task, folder: folder / "report",
    "effort": lambda task, folder: Effort(
        hidden=8, epochs=2, patience=2, steps=4, seeds=1, candidates=1, draws=1, tried=("mlp", "routed")
    ),
    "trained": lambda task, folder: {},
    "network": lambda task, folder: build(SMALL, node_task()),
    "networks": lambda task, folder: [build(SMALL, node_task())],
    "names": lambda task, folder: ["gcn"],
    "others": lambda task, folder: {},
    "risk": lambda task, folder: pd.DataFrame({"part": ["test"] * task.instances, "wrong": 0.0}),
}
# Where a name means something else than elsewhere.
APART: dict[tuple[str, str], Callable[[Task, Path], Any]] = {
    ("filtered", "train"): lambda task, folder: some(task),
    ("tuned", "split"): lambda task, folder: next(iter(task.splits), "none"),
    ("tuned_runs", "budget"): lambda task, folder: TINY,
    ("tuned_runs", "runs"): lambda task, folder: [(next(iter(task.splits), "none"), 0)],
    ("one_by_one", "paths"): lambda task, folder: torch.zeros(2, SMALL.layers, dtype=torch.long),
    ("best", "split"): lambda task, folder: next(iter(task.splits), "none"),
    ("encoder_folder", "model"): lambda task, folder: ProbeConfig(hidden=8),
    ("encoder_folder", "config"): lambda task, folder: DGIConfig(steps=1),
    ("train_encoder", "model"): lambda task, folder: ProbeConfig(hidden=8),
    ("train_encoder", "config"): lambda task, folder: DGIConfig(steps=1),
    ("start_from_encoder", "model"): lambda task, folder: build(ProbeConfig(hidden=8), node_task()),
    ("start_from_encoder", "config"): lambda task, folder: DGIConfig(steps=1),
    ("from_pretrained", "config"): lambda task, folder: None,
    ("draw_molecule", "index"): lambda task, folder: 0,
    ("afterwards", "budget"): lambda task, folder: 1,
    ("who", "condition"): lambda task, folder: "degree low",
    ("write_watch", "found"): lambda task, folder: pd.DataFrame({"covariate": ["degree"]}),
    ("damage_list", "scores"): lambda task, folder: pd.DataFrame(columns=["method", "kind", "seed", "rate", "score"]),
    ("damage_list", "chosen"): lambda task, folder: "gcn",
    ("damage_list", "overlap"): lambda task, folder: 0.0,
    ("watched", "folder"): lambda task, folder: report_of(folder),
    ("covered", "models"): lambda task, folder: {"stem": build(SMALL, node_task())},
    ("draw_embeddings", "networks"): lambda task, folder: {"stem": build(SMALL, node_task())},
    ("draw_embeddings", "tasks"): lambda task, folder: {"first": task},
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_wrong_task_is_answered_or_refused_in_the_study_s_own_words(
    name: str, wrong: str, runs: Path, tmp_path: Path
) -> None:
    function, task = FUNCTIONS[name], WRONG[wrong]()
    read = inspect.signature(function).parameters
    needed = [
        key for key, one in read.items() if one.default is one.empty or key in ("seeds", "index", "root", "effort")
    ]
    supplied = {key: APART.get((function.__name__, key)) or SUPPLIED[key] for key in needed}
    refusal = None
    try:
        answer = function(**{key: make(task, tmp_path) for key, make in supplied.items()})
        if isinstance(answer, Iterator):
            list(answer)
    except (ValueError, TypeError, FloatingPointError) as error:
        refusal = error
    if refusal is not None:
        where = traceback.extract_tb(refusal.__traceback__)[-1].filename
        assert where.startswith(OWN), f"{type(refusal).__name__} {refusal} in {where}"
    elif "model" in read and function.__name__ not in NO_NETWORK:
        assert wrong not in OF_ANOTHER_SHAPE, "it answered for a task of another shape than the model's"
