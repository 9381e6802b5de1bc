"""Small runs, and what they leave behind."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import torch
from samples import small_model

from stemlib.data.tasks import Task
from stemlib.presets import Preset, TrainConfig
from stemlib.stress.shifts import instance_covariate, tail_buckets
from study.families import load_model
from study.method import Method
from study.protocols import CANDIDATES, Protocol
from study.records import Record
from study.trained import run_folder

TRAIN = TrainConfig(lr=0.02, weight_decay=0.01, epochs=6, patience=6)


def method(name: str = "stem", **settings: object) -> Method:
    """A small routed, tokenised model with every source of noise; settings of model and training mixed."""
    train = {key: value for key, value in settings.items() if hasattr(TRAIN, key)}
    model = {key: value for key, value in settings.items() if key not in train}
    return Method(name, small_model(**({"dropout": 0.3} | model)), replace(TRAIN, **train))


def weights(task: Task, what: Method, seed: int = 0) -> dict[str, torch.Tensor]:
    return load_model(run_folder("t", task, task.split("random"), what, seed)).state_dict()


def history(task: Task, what: Method, seed: int = 0) -> pd.DataFrame:
    return pd.read_csv(run_folder("t", task, task.split("random"), what, seed) / "history.csv")


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def untimed(record: Record) -> Record:
    """What two runs of the same thing have in common."""
    return replace(record, seconds=0.0, peak_memory_mb=0.0)


# Every source of noise and every kind of state: shuffling, dropout, DropEdge, Gumbel noise, dead codes, running means
# and targets.
NOISY = method(
    epochs=14, patience=14, batch_size=16, routing=0.1, commitment=0.1, norm="batch", edge_dropout=0.2, consistency=0.5
)

TINY = Preset("tiny", hidden=8, epochs=3, patience=3, seeds=1, nodes=80)
SHORT = Protocol("tiny", runs=(("random", 0), ("random", 1)), candidates=CANDIDATES[:2])
METHODS = [method("one"), method("two", routed="none")]


def shifted(task: Task) -> dict:
    return {"task": task, "buckets": tail_buckets(instance_covariate(task, "degree"), tail=0.3)}
