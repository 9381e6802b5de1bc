"""Rounding replicates: the same run repeated, with features that differ in their last digits.

    python -m study.rounding cora chameleon cornell

A different processor or number of threads adds in a different order and so rounds differently. What that does to a
score is measured on one machine: features are multiplied by `1 + 1e-7 noise`, about the spacing of float32, and the run
has the same split and seed. `docs/reproducibility.md` says what was found.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import torch

from stemlib.data.tasks import Task
from stemlib.presets import PRESETS
from stemlib.stress.conditions import is_scored, shift_protocol
from stemlib.stress.shifts import Buckets, instance_covariate, tail_buckets
from stemlib.training.evaluation import scores
from study.computing import add_device
from study.interrupt import interruptible
from study.method import Method
from study.methods import METHODS, named
from study.protocols import PROTOCOLS, protocol_of
from study.records import KEPT, save_results
from study.trained import trained_model

EXPERIMENT = "rounding"
NOISE = 1e-7  # relative
COMPARED = ("stem", "tokens", "routed", "gcn")
RUN = ["task", "method", "condition", "seed"]  # what all replicates share


def perturbed(task: Task, replicate: int) -> Task:
    """The task with features `x * (1 + NOISE * noise)`; zeros stay zero, and replicate 0 is the task itself.

    Where nodes have types, the types' table is perturbed, so that nodes of one type stay alike. The `content` changes,
    and so does the folder of a run; the `checksum`, of where the data came from, does not.

    Args:
        task: of any kind.
        replicate: seed of the noise.
    """
    if replicate == 0:
        return task
    x = task.graph.x
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(replicate), dtype=torch.double)
    return replace(task, graph=replace(task.graph, x=(x.double() * (1 + NOISE * noise)).to(x.dtype)))


def replicates(
    task: Task, buckets: Buckets, methods: Sequence[Method], seeds: Sequence[int], count: int = 3
) -> pd.DataFrame:
    """Every run `count` times, by the shift protocol; finished runs are read back.

    Args:
        task: what is learnt.
        buckets: see `stemlib.stress.conditions.shift_protocol`.
        methods: those that are trained.
        seeds: one split and initialisation each.
        count: of replicates, the unperturbed one among them.

    Returns:
        One row per method, seed, replicate and condition (`clean`, then the other buckets): with the `task` and the
        `score` in per cent. All replicates are evaluated in the same way, on the features as they are.
    """
    rows = []
    for seed in seeds:
        inside, split, conditions = shift_protocol(task, buckets, seed)
        asked = [condition for condition in conditions if is_scored(condition)]
        for replicate in range(count):
            noisy = perturbed(inside, replicate)
            for method in methods:
                model = trained_model(EXPERIMENT, noisy, split.name, method, seed)
                about = {"task": task.name, "method": method.name, "seed": seed, "replicate": replicate}
                rows += [
                    about | {"condition": name, "score": 100 * score} for name, score in scores(model, asked).items()
                ]
    return pd.DataFrame(rows)


def rounding_variance(results: pd.DataFrame, task: str, method: str, condition: str = "clean") -> float:
    """Variance of a single run's score due to rounding, in squared points: within seeds, pooled over them.

    The spread of scores over seeds includes it already, in expectation: rounding is drawn anew in every run. It should
    be added where nothing else says how runs of one seed differ: to the variance of a single run, to an interval over
    test instances, or as the least variance of a few runs that happen to agree. On another processor, the mean of `n`
    seeds differs with a variance of `2 / n` times this.

    Args:
        results: of `replicates`; the kept ones are `study.records.read_results("rounding")`.
        task, method, condition: whose.

    Raises:
        ValueError: there are no two replicates of a seed.
    """
    of_these = (results.task == task) & (results.method == method) & (results.condition == condition)
    within = results[of_these].groupby("seed").score.var(ddof=1).dropna()
    if within.empty:
        raise ValueError(
            f"no rounding replicates of {method!r} on {task!r} under {condition!r}: "
            f"python -m study.rounding {task} --methods {method}"
        )
    return float(within.mean())


def moves(results: pd.DataFrame) -> pd.DataFrame:
    """How far replicates lie from the unperturbed run of their seed, in points.

    Returns:
        One row per `task`, `condition` and `method`: `std` (the root of `rounding_variance`), `mean move`,
        `largest move`, and the share of replicates that are `unmoved`.
    """
    first = results[results.replicate == 0].set_index(RUN).score.rename("first")
    moved = results[results.replicate > 0].join(first, on=RUN)
    moved["move"] = (moved.score - moved["first"]).abs()
    rows = [
        {"task": task, "condition": condition, "method": method}
        | {"std": rounding_variance(results, task, method, condition) ** 0.5}
        | {"mean move": part.move.mean(), "largest move": part.move.max(), "unmoved": (part.move == 0).mean()}
        for (task, condition, method), part in moved.groupby(["task", "condition", "method"], sort=False)
    ]
    return pd.DataFrame(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m study.rounding", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="+", choices=PROTOCOLS, metavar="NAME", help=", ".join(PROTOCOLS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=COMPARED, metavar="METHOD")
    parser.add_argument("--covariate", default="degree", help="by which graphs are shifted (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: %(default)s)")
    parser.add_argument("--replicates", type=int, default=3, help="runs of every seed (default: %(default)s)")
    parser.add_argument("--preset", choices=KEPT, default="laptop", help="the budget (default: %(default)s)")
    add_device(parser)
    options = parser.parse_args(arguments)
    budget, found = PRESETS[options.preset], []
    for name in options.names:
        protocol = protocol_of(name)
        task = protocol.task(budget)
        buckets = tail_buckets(instance_covariate(task, options.covariate))
        # Not tuned: the question is how far rounding carries, not which method is best.
        methods = [protocol.methods(method, budget)[0] for method in named(budget, *options.methods)]
        found.append(replicates(task, buckets, methods, range(options.seeds), options.replicates))
    results = pd.concat(found, ignore_index=True)
    path = save_results(results, EXPERIMENT)
    print(f"{moves(results).round(2).to_string(index=False)}\n{path}", flush=True)


if __name__ == "__main__":
    sys.exit(interruptible(main))
