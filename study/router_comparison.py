"""Routers, kinds of experts and training terms beside the published ones: scores, and what makes up the errors.

    python -m study.router_comparison cora chameleon --seeds 10 --width 64

Every network compared differs from the one with experts and without tokens (`routed`) in one choice, and shares the
settings that validation chose for `routed`. Kept are `16_scores-<name>.csv`, `16_coverage-<name>.csv`,
`16_sensitivity-<name>.csv` and `16_costs-<name>.csv` in `data/results/`. Finished runs are read back.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, get_args, get_type_hints

import pandas as pd

from stemlib.data.built_in import BUILT_IN
from stemlib.data.tasks import Task
from stemlib.model.kinds import EXPERTS
from stemlib.model.routers import ROUTERS
from stemlib.presets import PRESETS, Preset, TrainConfig
from stemlib.stress.conditions import corrupt
from stemlib.stress.shifts import instance_covariate, tail_buckets
from stemlib.theory.sensitivity import sensitivity
from study.computing import add_device
from study.decompositions import independent_losses
from study.interrupt import interruptible
from study.method import Method
from study.methods import routed
from study.protocols import PROTOCOLS, Protocol, protocol_of
from study.records import KEPT, save_results
from study.stress import StressTest
from study.trained import APART, trained_model

EXPERIMENT, RATE = "16_routers", 0.4
TERMS = [term for term in get_args(get_type_hints(TrainConfig)["term"]) if term not in ("none", "prior")]
# What a choice needs beside its name.
BESIDE: dict[str, dict[str, Any]] = {"anchored": {"term": "prior"}, "topk": {"term": "balance"}}


def choices() -> dict[str, dict[str, Any]]:
    """What differs from the published layer, by name: a router, a kind of experts, both, or a training term."""
    routers = {name: {"router": name} | BESIDE.get(name, {}) for name in ROUTERS if name != "linear"}
    kinds = {name: {"expert": name} for name in EXPERTS if name != "mean"}
    on_filters = {f"filters, {name}": kinds["filters"] | found for name, found in routers.items()}
    terms = {name: {"term": name} for name in TERMS} | {"frozen_late": {"router_share": 0.5}}
    return {"one expert": {"experts": 1}} | routers | kinds | on_filters | terms


def methods_of(base: Method, chosen: dict[str, dict[str, Any]]) -> list[Method]:
    """The base, then the base with each of some `choices`."""
    return [base, *(base.changed(*item) for item in chosen.items())]


def shifted(task: Task, preset: Preset, protocol: Protocol, seeds: Sequence[int], only: Sequence[str]) -> StressTest:
    """The published layer and some of `choices` (none for all) with its settings, under shift by degree.

    Raises:
        ValueError: an unknown choice.
    """
    known = choices()
    if unknown := set(only) - known.keys():
        raise ValueError(f"unknown choices {sorted(unknown)}; there are {', '.join(known)}")
    buckets = tail_buckets(instance_covariate(task, "degree"))
    base = StressTest(task, buckets, [routed(preset)], seeds, EXPERIMENT, "degree").tuned(protocol, preset)
    return replace(base, methods=methods_of(base.methods[0], {name: known[name] for name in only or known}))


def compared(name: str, preset: Preset, protocol: Protocol, seeds: Sequence[int], only: Sequence[str] = ()) -> dict:
    """Everything that is kept for one data set, by the name of its table.

    Args:
        name: of the data set.
        preset: the budget.
        protocol: has the candidates of the published form.
        seeds: one run each.
        only: some of `choices`; none for all.

    Raises:
        ValueError: an unknown choice, or one that the data set's task does not take.
    """
    task = protocol.task(preset)
    test = shifted(task, preset, protocol, seeds, only)
    coverage = [test.coverage(), pd.DataFrame(seeds_apart(test, test.methods[0].changed("one expert", {"experts": 1})))]
    tables = {
        "scores": test.scores((RATE,))[["method", "seed", "condition", "kind", "score", "val"]],
        "coverage": pd.concat(coverage)[["method", "seed", "bucket", *"RCSX"]],
        "sensitivity": pd.DataFrame(damaged(test)),
        "costs": test.costs(),
    }
    return {table: rows.assign(task=task.name).round(6) for table, rows in tables.items()}


def seeds_apart(test: StressTest, one: Method) -> Iterator[dict[str, Any]]:
    """The null of experts: as many networks of one expert each as the base has experts, trained apart on its split.

    Args:
        test: whose first method is the base.
        one: the network with one expert.

    Yields:
        What `StressTest.coverage` has: `R` is of their mixed probabilities, `C` takes each instance's best network,
        `C + S` is a single network's loss. Nothing for labels that are not a single class.
    """
    for seed in test.seeds:
        inside, split, conditions = test.drawn(seed)
        if inside.labels.dim() > 1:
            return
        apart = [seed + APART * k for k in range(test.methods[0].model.experts)]
        models = [trained_model(test.experiment, inside, split.name, one, each) for each in apart]
        for condition, losses in zip(conditions, independent_losses(models, conditions, ["ce"]), strict=True):
            risk = (math.log(losses.size(1)) - (-losses).logsumexp(1)).mean().item()
            best, single = losses.amin(1).mean().item(), losses.mean().item()
            about = {"method": "as many seeds", "seed": seed, "bucket": condition.name}
            yield about | {"R": risk, "C": best, "S": single - best, "X": risk - single}


def damaged(test: StressTest) -> Iterator[dict[str, Any]]:
    """What damage changes, network by network: the part that frozen gates leave, and what gates add.

    Yields:
        `method`, `seed`, `damage`; `base` and `amplification` of the change in mean cross-entropy, which add up to it;
        `fluctuation`, the amplification's share of the embedding's squared change in per cent.
    """
    for seed, name, model, (clean, *_) in test.routed():
        for damage in ("masked", "deleted"):
            perturbed, _ = corrupt(clean, damage, RATE, seed)
            base, *layers = sensitivity(model, clean, perturbed, "loss").sequential.mean.squeeze(1).tolist()
            share = sensitivity(model, clean, perturbed).sequential.summary()["amplification, %"]
            about = {"method": name, "seed": seed, "damage": damage}
            yield about | {"base": base, "amplification": sum(layers), "fluctuation": share}


def command_line(name: str, about: str) -> argparse.ArgumentParser:
    """The options of a command of this comparison: data sets, budget, seeds and device."""
    parser = argparse.ArgumentParser(prog=f"python -m study.{name}", description=about.split("\n")[0])
    add, names = parser.add_argument, [BUILT_IN, *PROTOCOLS]
    add("names", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    add("--preset", choices=KEPT, default="laptop", help="the budget (default: %(default)s)")
    add("--width", type=int, help="of the layers (default: the preset's)")
    add("--seeds", type=int, default=5, help="runs of each (default: %(default)s)")
    add_device(parser)
    return parser


def budget(options: argparse.Namespace) -> Preset:
    """The preset that a command was given, with its width."""
    preset = PRESETS[options.preset]
    return replace(preset, hidden=options.width or preset.hidden)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = command_line("router_comparison", __doc__)
    parser.add_argument("--only", nargs="+", default=(), metavar="CHOICE", help=", ".join(choices()))
    options = parser.parse_args(arguments)
    for name in options.names:
        found = compared(name, budget(options), protocol_of(name), range(options.seeds), options.only)
        for table, rows in found.items():
            print(f"{name}: {save_results(rows, f'16_{table}-{name}')}", flush=True)


if __name__ == "__main__":
    sys.exit(interruptible(main))
