"""First results on every public data set: one protocol, stated as data, equal for every method.

`python -m stemlib.first_results cora pubmed` trains MLP, GCN, GraphSAGE and STEM-GNN from scratch on each, and writes
`data/results/02_benchmarks-<name>.csv` after each. Finished runs are read back, so that a killed collection continues.

Every method has the same candidates of training settings; the one with the best validation score on the first seed
and split is used for all. Published figures stand here as well, with what differs between their protocol and this.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pandas as pd

from stemlib.benchmarks import load
from stemlib.finetune import run
from stemlib.methods import Method, named
from stemlib.presets import PRESETS, Preset, change
from stemlib.records import save_results, table
from stemlib.tasks import Task

EXPERIMENT = "02_benchmarks"
METHODS = ("mlp", "gcn", "sage", "stem")


class Candidate(NamedTuple):
    """Training settings to choose among; the input's dropout is that of the layers."""

    lr: float
    weight_decay: float
    dropout: float


CANDIDATES = (
    Candidate(1e-2, 0.5, 0.5),
    Candidate(1e-2, 5e-4, 0.5),
    Candidate(5e-3, 1e-3, 0.2),
    Candidate(1e-3, 1e-2, 0.2),
)
TWO = (CANDIDATES[0], CANDIDATES[2])  # the most and a little regularised
FEW_LABELS, MANY_LABELS = CANDIDATES[:1], CANDIDATES[2:3]  # where there is no time to choose


@dataclass(frozen=True)
class Protocol:
    """How a data set is learnt.

    Attributes:
        name: of the data set, as `benchmarks.load` takes it.
        runs: (split, seed) of every run, the first of which also chooses among the candidates.
        width: of the features; None for the native ones.
        candidates: of training settings.
        batch_size: instances per step; 0 for all.
        epochs: at most, and no more than the preset's.
        patience: at most, and no more than the preset's.
    """

    name: str
    runs: tuple[tuple[str, int], ...]
    width: int | None = None
    candidates: tuple[Candidate, ...] = CANDIDATES
    batch_size: int = 0
    epochs: int = 1000
    patience: int = 200

    def tasks(self) -> list[Task]:
        """The data set; a link data set in both forms of its message graph, `<name>` and `<name>-all`.

        In the second, the reference's, messages run along validation and test triples as well: the answer to a
        test question lies on an edge of the graph.
        """
        task = load(self.name, width=self.width)
        if task.kind != "link":
            return [task]
        leaky = load(self.name, width=self.width, message_edges="all")
        return [task, replace(leaky, name=f"{self.name}-all")]

    def method(self, name: str, settings: Candidate, preset: Preset) -> Method:
        """A method of `METHODS` with a candidate's settings within the preset's budget."""
        (base,) = named(preset, name)
        train = change(
            base.train,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            batch_size=self.batch_size,
            epochs=min(self.epochs, preset.epochs),
            patience=min(self.patience, preset.patience),
        )
        model = change(base.model, dropout=settings.dropout, input_dropout=settings.dropout)
        return Method(name, model, train)


def _each(names: str, split: str, seeds: int, public: int = 0, **settings: Any) -> dict[str, Protocol]:
    """The same protocol for several data sets; `{}` in the split's name is the seed; `public`: seeds on that split."""
    runs = *((split.format(seed), seed) for seed in range(seeds)), *(("public", seed) for seed in range(public))
    return {name: Protocol(name, runs, **settings) for name in names.split()}


# Budgets for two cores: what the data set's size allows, the same for every method.
MEDIUM = {"candidates": TWO, "epochs": 150, "patience": 20}
LARGE = {"candidates": MANY_LABELS, "epochs": 30, "patience": 8}
MOLECULES = {"width": 128, "batch_size": 128}

PROTOCOLS: dict[str, Protocol] = {
    **_each("cora", "draw-{}", 10, public=3),
    **_each("pubmed", "draw-{}", 10, **MEDIUM),
    **_each("wikics", "fixed-{}", 3, **MEDIUM),
    **_each("ogbn-arxiv ogbn-arxiv-predictions", "time", 3, candidates=MANY_LABELS, epochs=150, patience=20),
    **_each("wn18rr fb15k237", "given", 3, width=128, batch_size=8192, **LARGE),
    **_each("hiv pcba", "scaffold", 3, **MOLECULES, **LARGE),
    **_each("cornell texas wisconsin", "fixed-{}", 5, **MEDIUM),
    **_each("citeseer cora-ml amazon-computers amazon-photo dblp", "draw-{}", 3, **MEDIUM),
    # Thousands of words: on two cores an epoch with all of them takes minutes.
    **_each("coauthor-cs coauthor-physics", "draw-{}", 3, width=256, **MEDIUM),
    **_each("chameleon squirrel minesweeper tolokers actor", "fixed-{}", 3, **MEDIUM),
    **_each("sider clintox bace bbbp", "scaffold", 3, width=128, batch_size=32, candidates=TWO, epochs=30, patience=8),
    **_each("tox21 toxcast", "scaffold", 3, **MOLECULES, **LARGE),
    **_each("muv", "scaffold", 3, **MOLECULES, **LARGE | {"epochs": 10}),
}


def tuned(task: Task, protocol: Protocol, preset: Preset) -> list[Method]:
    """Every method with the candidate of the best validation score on the first run, the first of equals."""
    split, seed = protocol.runs[0]

    def validation(method: Method) -> float:
        return run(EXPERIMENT, task, split, method, seed).metrics["val"]

    choices = ([protocol.method(name, c, preset) for c in protocol.candidates] for name in METHODS)
    return [max(methods, key=validation) if len(methods) > 1 else methods[0] for methods in choices]


def task_results(task: Task, protocol: Protocol, preset: Preset) -> pd.DataFrame:
    """All runs of the tuned methods on one task.

    Returns:
        One row per method and run as `records.table` gives them, in per cent, with the split's `hash`, the chosen
        `lr`, `weight_decay` and `dropout`, the `metric` and the `preset`.
    """
    frames = []
    for method in tuned(task, protocol, preset):
        records = [run(EXPERIMENT, task, split, method, seed) for split, seed in protocol.runs]
        chosen = {name: getattr(method.train, name) for name in ("lr", "weight_decay")}
        chosen |= {"dropout": method.model.dropout, "metric": task.metric, "preset": preset.name}
        frames.append(table(records).assign(hash=[record.split_hash for record in records], **chosen))
    return pd.concat(frames, ignore_index=True)


def results(name: str, preset: Preset) -> pd.DataFrame:
    """First results on a data set, both forms of a link data set among them; see `task_results`.

    Raises:
        ValueError: no protocol of that name.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"no protocol for {name!r}; there are {', '.join(PROTOCOLS)}")
    protocol = PROTOCOLS[name]
    return pd.concat([task_results(task, protocol, preset) for task in protocol.tasks()], ignore_index=True)


class Published(NamedTuple):
    """A figure that others report: test score in per cent, and what differs in how they came to it."""

    task: str
    model: str
    score: float
    differs: str


TEXTS = "features from texts by a language model"

PUBLISHED = (
    Published("cora", "GCN", 75.7, TEXTS),
    Published("cora", "GFT", 78.6, f"pretrained; {TEXTS}"),
    Published("pubmed", "GCN", 75.6, TEXTS),
    Published("pubmed", "GFT", 77.2, f"pretrained; {TEXTS}"),
    Published("wikics", "GFT", 79.4, f"pretrained; {TEXTS}"),
    Published("ogbn-arxiv", "GFT", 71.9, f"pretrained; {TEXTS}"),
    Published("ogbn-arxiv-predictions", "GFT", 71.9, f"pretrained; {TEXTS}, not predicted classes"),
    Published("wn18rr-all", "GCN", 73.8, TEXTS),
    Published("wn18rr-all", "GFT", 91.9, f"pretrained; {TEXTS}"),
    Published("fb15k237-all", "GFT", 89.7, f"pretrained; {TEXTS}"),
    Published("hiv", "GFT", 72.7, "pretrained; another scaffold split"),
    Published("pcba", "GFT", 77.9, "pretrained; another split"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m stemlib.first_results", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="+", choices=PROTOCOLS, metavar="NAME", help=", ".join(PROTOCOLS))
    parser.add_argument("--preset", choices=PRESETS, default="laptop", help="the budget (default: %(default)s)")
    options = parser.parse_args(arguments)
    for name in options.names:
        path = save_results(results(name, PRESETS[options.preset]), f"{EXPERIMENT}-{name}")
        print(f"{name}: {path}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
