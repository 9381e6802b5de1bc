"""First results on every public data set, by the protocols of `study.protocols`.

    python -m study.first_results cora pubmed

MLP, GCN, GraphSAGE and STEM-GNN are trained from scratch on each data set, and its `02_data_sets-<name>.csv` in
`data/results/` is written before the next starts. Finished runs are read back, so that a killed collection continues.

The candidate with the best validation score on the first seed and split is used for all. Published figures are listed
here as well, with what sets their protocol apart from this one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from stemlib import __version__
from stemlib.data.tasks import Task
from stemlib.presets import PRESETS, Preset
from study.computing import add_device
from study.interrupt import interruptible
from study.method import Method
from study.methods import named
from study.protocols import FILTERED, PROTOCOLS, Protocol, best, protocol_of
from study.records import KEPT, read_all_results, save_results, table
from study.trained import run

EXPERIMENT = "02_data_sets"
OLDEST = "0.2"  # version of kept rows that do not say theirs: fewer candidates, less patience, repairs for one method
METHODS = ("mlp", "gcn", "sage", "stem")


def tuned(task: Task, protocol: Protocol, preset: Preset) -> list[Method]:
    """Every method with the candidate that has the best validation score on the first run."""
    split, seed = protocol.runs[0]
    bases = named(preset, *METHODS)
    return [best(EXPERIMENT, task, split, protocol.methods(base, preset), seed) for base in bases]


def task_results(task: Task, protocol: Protocol, preset: Preset) -> pd.DataFrame:
    """All runs of the tuned methods on one task.

    Returns:
        One row per method and run as `records.table` gives them, in per cent, with the chosen `lr`, `weight_decay`
        and `dropout`, the `metric`, the `preset` and the `library`'s version.
    """
    frames = []
    for method in tuned(task, protocol, preset):
        records = [run(EXPERIMENT, task, split, method, seed) for split, seed in protocol.runs]
        frames.append(
            table(records).assign(**method.tuned, metric=task.metric, preset=preset.name, library=__version__)
        )
    return pd.concat(frames, ignore_index=True)


def results(name: str, preset: Preset) -> pd.DataFrame:
    """First results on a data set, in both forms if it is a link data set; see `task_results`.

    Raises:
        ValueError: no protocol of that name.
    """
    how = protocol_of(name)
    return pd.concat([task_results(task, how, preset) for task in how.tasks(preset)], ignore_index=True)


def kept_runs() -> pd.DataFrame:
    """The rows of `results` that are kept, in the order of `PROTOCOLS`.

    Returns:
        The rows, with `splits`: the split's name without its number, so that `draw-0`, `draw-1`, ... are one; and the
        version of the `library` that made them. Where training gives away part of a test, `<task>-filtered` has the
        same runs' scores without it.

    Raises:
        FileNotFoundError: no rows are kept.
    """
    rows, order = read_all_results(EXPERIMENT), list(PROTOCOLS)
    if "test_filtered" in rows:
        without = rows[rows.test_filtered.notna()]
        without = without.assign(task=without.task + FILTERED, test=without.test_filtered, test_best=float("nan"))
        rows = pd.concat([rows, without], ignore_index=True)
    rows["library"] = rows["library"].fillna(OLDEST) if "library" in rows else OLDEST
    rows["splits"] = rows.split.str.replace(r"-\d+$", "", regex=True)
    place = (
        rows.task.str.removesuffix(FILTERED).str.removesuffix("-all").map(order.index)
    )  # the two forms of a link data set stay in their order
    return rows.iloc[place.argsort(kind="stable")].reset_index(drop=True)


class Published(NamedTuple):
    """A figure that others report: test score in per cent, and what differs in how it was obtained."""

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
    Published("fb15k237-all", "GFT", 89.7, f"pretrained; {TEXTS}; ten epochs here"),
    Published("hiv", "GFT", 72.7, "pretrained; another scaffold split"),
    Published("pcba", "GFT", 77.9, "pretrained; another split"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    name = "python -m study.first_results"
    parser = argparse.ArgumentParser(prog=name, description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="+", choices=PROTOCOLS, metavar="NAME", help=", ".join(PROTOCOLS))
    parser.add_argument("--preset", choices=KEPT, default="laptop", help="the budget (default: %(default)s)")
    add_device(parser)
    options = parser.parse_args(arguments)
    for name in options.names:
        path = save_results(results(name, PRESETS[options.preset]), f"{EXPERIMENT}-{name}")
        print(f"{name}: {path}", flush=True)


if __name__ == "__main__":
    sys.exit(interruptible(main))
