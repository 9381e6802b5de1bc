"""Seconds of one fine-tuning epoch, ours against the authors' algorithm: the same weights, protocol, machine and run.

    python benchmarks/speed.py [--repeats 7]

Every case and algorithm runs in a process of its own, so that peak memory is its own. Floating-point operations are
those of the matrix products, bytes those that operations read and write, counted on the step itself; the peaks are the
best of several 4096^3 float32 products and of several copies after it. The goals, met or missed, are printed,
and the table, which is kept in `benchmarks/speed.csv`.

What makes ours faster, and the file of `stemlib/` that explains it:

- **Receptive field** (`data/sampling.py`): a layer computes the nodes that the next one reads, and no others.
  Exact where layers are means over neighbours and nothing (batch norm) reads all nodes at once.
- **Sparse means** (`model/messages.py`): a neighbourhood mean is one sparse product, its gradient the transposed one.
  Gather and scatter write every edge's message to memory and read it again.
- **One product for all experts** (`model/experts.py`): weights side by side, `[N, 2 d] @ [2 d, K d']`, residual once.
  No copy of the input per expert; mixing is a sum over `K` scaled tensors, not a tiny product per node.
- **Blocks** (`model/experts.py`): 2,048 rows go through experts and mixing together.
  Beyond the first layer `[N, K, d']` is never in memory as a whole: it is mixed while it lies in the processor's cache.
- **What stays is kept** (`training/epochs.py`): batches, their hops and the mean of the features are made once a run.
  They change only where neighbours are drawn, instances shuffled, or dropout falls on the features.
- **First products shared** (`training/shared_products.py`): no weight changes between an evaluation and the next step.
  So the first layer's expert products from one serve the other, if that layer's input is fixed.
- **Nothing unread** (`model/stem.py`): terms of weight 0, frozen tokens' losses, the projection back are left out.
  An evaluation asks for its instances, once for all parts of a split.
- **Folded tables** (`model/folded.py`): which code wins does not depend on the query's length.
  So projection and codebook are one matrix, and tokens and head become one look-up per head.
- **The head as one map** (`model/head.py`): the mean of the heads' logits is the logits of their mean.
  One product in place of one per head.
- **Freed memory is kept** (`memory.py`): what a step frees serves the next one.
  By default a large tensor goes back to the system, which fills its pages with zeros when they are asked for again.

Dropout by 64 random bits for four values (`model/layers.py`), straight through in one formula (`model/tokens.py`) and
fused AdamW are on both sides: the reference's algorithm has them here as well.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import pandas as pd
import torch
from measuring import Row, bandwidth, flops, matrix_peak, peak_mb, table, traffic
from reference_algorithm import ReferenceAlgorithm, agreement

from stemlib.data.built_in import built_in
from stemlib.data.splits import per_class_split, stratified_split
from stemlib.data.tasks import Split, Task
from stemlib.presets import change, preset
from stemlib.training.evaluation import answer, evaluation_batches, predict
from stemlib.training.finetune import start_tokens, train_epoch, training_batches
from stemlib.training.shared_products import share_first_products
from study.families import build
from study.method import Method
from study.methods import reference

CLASSES = 7
ALGORITHMS = ("reference", "ours")


class Case(NamedTuple):
    """A graph's size, the width of features and layers, and how many nodes train (the rest: a quarter validates)."""

    nodes: int
    degree: float
    width: int
    training: str  # few: 20 nodes of each class; half: 50/25/25


CASES = {
    "cora-768": Case(2708, 4, 768, "few"),
    "cora-768-half": Case(2708, 4, 768, "half"),
    "cora-128": Case(2708, 4, 128, "few"),
    "pubmed-128": Case(19_717, 4.5, 128, "few"),
    "pubmed-768": Case(19_717, 4.5, 768, "few"),
    "arxiv-128": Case(169_343, 13.7, 128, "half"),
}


def task_of(case: Case) -> tuple[Task, Split]:
    """A built-in graph of that size and its split."""
    task = built_in(case.nodes, classes=CLASSES, degree=case.degree, noise_features=case.width - CLASSES)
    if case.training == "half":
        return task, stratified_split(torch.arange(case.nodes), task.labels, seed=0)
    return task, per_class_split(task.labels, seed=0)


def epoch_seconds(train: Callable[[], object], evaluate: Callable[[], object], repeats: int) -> list[float]:
    """Median seconds of a training step and of the evaluation after it, over `repeats` epochs after one to warm up."""
    seconds = []
    for _ in range(repeats + 1):
        times = [time.perf_counter()]
        for action in (train, evaluate):
            action()
            times.append(time.perf_counter())
        seconds.append((times[1] - times[0], times[2] - times[1]))
    return [statistics.median(column) for column in zip(*seconds[1:], strict=True)]


def setting(name: str) -> tuple[Method, ReferenceAlgorithm]:
    """The network of a case, in the reference's configuration, and the authors' algorithm on it."""
    task, split = task_of(CASES[name])
    method = reference(change(preset("paper"), hidden=CASES[name].width))
    torch.manual_seed(0)
    model = build(method.model, task)
    start_tokens(model, task, split)
    model.tokens.freeze()
    optimiser = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], fused=True)
    return method, ReferenceAlgorithm(model, task, split, optimiser)


def our_epoch(name: str, method: Method, on: ReferenceAlgorithm) -> tuple[Callable[[], None], Callable[[], None]]:
    """A training step and an evaluation as this library does them, on the network, task and split of `on`."""
    shown = training_batches(on.model, on.task, on.split, method.train)(None)
    asked = evaluation_batches(on.model, on.task, torch.cat([on.split.val, on.split.test]))(None)
    shared = share_first_products(on.model.encoder, on.task.graph, [batch.graph for batch in shown + asked])

    def train() -> None:
        train_epoch(on.model, shown, method.train, on.optimiser)
        shared.forget()

    def evaluate() -> None:
        answer(on.model, asked, name)

    return train, evaluate


def measure(name: str, algorithm: str, repeats: int) -> Row:
    """One row of the table."""
    method, theirs = setting(name)
    row: Row = {"case": name, "algorithm": algorithm, **CASES[name]._asdict()}
    if algorithm == "reference":
        train, evaluate = theirs.train_step, theirs.evaluate
    else:
        train, evaluate = our_epoch(name, method, theirs)
    row["train_s"], row["evaluate_s"] = epoch_seconds(train, evaluate, repeats)
    row["peak_mb"] = peak_mb()
    for what, action in (("train", train), ("evaluate", evaluate)):
        row[f"{what}_gflop"], row[f"{what}_gb"] = flops(action), traffic(action)
    if algorithm == "ours":
        row["difference"] = agreement(theirs.evaluate(), predict(theirs.model, theirs.task))
        if row["difference"] > 1e-5:
            raise AssertionError(f"{name}: the two algorithms' logits differ by {row['difference']:.1e}")
    return row | {"peak_gflops": matrix_peak(), "peak_gbs": bandwidth()}


GOALS = {
    "epoch_s": {"cora-128": 5.5, "cora-768": 4.5, "cora-768-half": 3.0, "arxiv-128": 6.0},
    "evaluate_s": {name: 2.5 if case.width == 768 else 3.5 for name, case in CASES.items()},
}


def goals(faster: pd.DataFrame) -> pd.DataFrame:
    """Goals beside what was found, from the table of `ratios`: `what`, `found`, `goal`, `met`."""
    rows = [
        {"what": f"{what.removesuffix('_s')}, {case}", "found": faster.loc[case, what], "goal": goal}
        for what, by_case in GOALS.items()
        for case, goal in by_case.items()
        if case in faster.index
    ]
    return pd.DataFrame(rows).assign(met=lambda rows: rows.found >= rows.goal)


def ratios(table: pd.DataFrame) -> pd.DataFrame:
    """How many times less time and memory ours takes, by case."""
    table = table.assign(epoch_s=table.train_s + table.evaluate_s)
    wide = table.pivot(index="case", columns="algorithm").loc[table.case.unique()]
    columns = ("train_s", "evaluate_s", "epoch_s", "peak_mb")
    return pd.DataFrame({name: wide[name, "reference"] / wide[name, "ours"] for name in columns})


def finish(rows: pd.DataFrame) -> pd.DataFrame:
    """With the shares of the peaks; prints the goals beside what was found."""
    for what in ("train", "evaluate"):
        rows[f"{what}_peak_share"] = rows[f"{what}_gflop"] / rows[f"{what}_s"] / rows.peak_gflops
        rows[f"{what}_band_share"] = rows[f"{what}_gb"] / rows[f"{what}_s"] / rows.peak_gbs
    faster = ratios(rows)
    print("\nreference / ours\n" + faster.to_string(float_format="%.2f"))
    print("\ntimes faster\n" + goals(faster).to_string(index=False, float_format="%.2f"))
    return rows


if __name__ == "__main__":
    table(__file__, product(CASES, ALGORITHMS), measure, finish)
