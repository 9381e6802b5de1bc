"""A tiny pool of every kind of graph, and settings for a few steps on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from samples import graph_task, link_task, node_task, small_model
from torch import Tensor

from stemlib.data.features import unit_features
from stemlib.presets import PretrainConfig
from stemlib.training.pool import Member, Pool
from stemlib.training.pretrain import pretrain
from stemlib.training.pretrain_run import Run
from stemlib.training.pretrained import load_pretrained

WIDTH = 6
MODEL = small_model(dropout=0.3)
CONFIG = PretrainConfig(
    steps=8, batch_size=40, fanout=3, lr=1e-2, edge_share=0.5, log_every=3
)  # several data sets, windows and batches


def tiny_pool() -> Pool:
    """Nodes without edge features, links with typed edges, graphs with features edge by edge."""
    tasks = (node_task(), link_task(), graph_task())
    return Pool(Member(unit_features(task, WIDTH), weight) for task, weight in zip(tasks, (1, 2, 3), strict=True))


def config(**changes: Any) -> PretrainConfig:
    return replace(CONFIG, **changes)


def tiny_run(model: Any = MODEL, seed: int = 0, file: Path = Path("none"), **changes: Any) -> Run:
    return Run(tiny_pool(), model, config(**changes), seed, "cpu", file)


def weights(folder: Path) -> dict[str, Tensor]:
    return load_pretrained(folder).state_dict()


def tables(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.glob("*.csv")}


def checkpoint(folder: Path, **changes: Any) -> Path:
    """A pretrained model of a few steps in a runs folder."""
    return pretrain(tiny_pool(), MODEL, config(**({"steps": 2} | changes)), root=folder)
