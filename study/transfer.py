"""Does pretraining help? Networks fine-tuned from checkpoints and from scratch, and plain ones, on the same splits.

    python -m study.transfer cora wn18rr
    python -m study.transfer cora --variants usual reference own others --labels 5

Networks are trained inside each data set's ordinary degrees, with all training labels and with few, and tested clean,
shifted and damaged (see `stress.py` in this folder); settings are chosen on validation, separately for every way to
start. The first command starts from the released checkpoints, which seeds take in turn, with their tokens frozen and
without tokens, and keeps `05_transfer-<name>.csv` in `data/results/`. The second pretrains `study.variants` first and
keeps `05_variants-<name>.csv`, with what came of the pretraining itself in `05_variant_runs-<name>.csv`. Finished runs
are read back, so that a killed collection continues.

With few labels to train on there are as few to validate on; with `--whole-validation` there are all, as in version 0.2,
and `05_transfer_whole_validation-<name>.csv` is kept. Few labels that are learnt in batches are passed through several
times between evaluations, see `Protocol.for_few`. In a knowledge graph, few labels are few triples that are asked
about: its training triples stay in the graph, with their relations, for every way to start.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from stemlib.data.built_in import BUILT_IN
from stemlib.data.features import unit_features
from stemlib.data.public import DATA_SETS
from stemlib.data.tasks import Task
from stemlib.presets import PRESETS, Preset
from stemlib.stress.shifts import instance_covariate, tail_buckets
from study.computing import add_device
from study.interrupt import interruptible
from study.method import Method
from study.methods import named, pretrained, stem
from study.paths import DATA
from study.pool import load_pool
from study.protocols import FILTERED, PROTOCOLS, Protocol, protocol_of, split_overlap
from study.records import KEPT, read_all_results, save_results
from study.statistics import paired_difference
from study.stress import StressTest
from study.variants import VARIANTS, in_numbers, pretrained_variant

EXPERIMENT, KEPT_AS = "05_pretraining", "05_transfer"
BUDGETS = (0, 10, 5, 3)  # training instances per class; 0: all
COVARIATE = "degree"
RATE = 0.4  # of corruption
RIVALS = ("mlp", "gcn", "sage", "routed")  # from scratch, in the features of pretraining


def unit_task(name: str, preset: Preset) -> Task:
    """A data set, or the built-in graph, in the feature space of pretraining."""
    return unit_features(replace(protocol_of(name), width=preset.hidden).task(preset), preset.hidden)


def starts(preset: Preset, checkpoints: dict[str, Sequence[Path]]) -> list[Method]:
    """From scratch, and from every checkpoint.

    Args:
        preset: the budget.
        checkpoints: folders by name, which seeds take in turn.

    Returns:
        The methods; for a checkpoint, `<name>` with its tokens frozen, and `<name>, no tokens`, its encoder alone under
        a plain head.
    """
    methods = [stem(preset)]
    for name, folders in checkpoints.items():
        methods.append(pretrained(preset, folders, name))
        methods.append(pretrained(preset, folders, f"{name}, no tokens", freeze_tokens=False, codebook="none"))
    return methods


def compared(
    task: Task,
    methods: Iterable[Method],
    seeds: Sequence[int],
    protocol: Protocol,
    preset: Preset,
    budgets: Iterable[int] = BUDGETS,
    whole_validation: bool = False,
) -> pd.DataFrame:
    """Scores of every way to start with every budget of labels.

    Args:
        task: with features as pretraining has them.
        methods: see `starts`; each has the protocol's candidates of settings, chosen on the first seed's validation.
        seeds: one run each.
        protocol: gives candidates, batches, epochs.
        preset: the budget.
        budgets: instances per class to train on, and as many to validate; 0 for all.
        whole_validation: whether only the training labels are few; see `stemlib.data.splits.few_labels`.

    Returns:
        The rows of `StressTest.scores` with `labels` (the budget), the chosen `lr`, `weight_decay`, `lipschitz` and
        `dropout`, `whole_validation`, the `preset`, and twelve digits of the `checkpoint`'s sha256, empty from scratch.
    """
    methods, frames = list(methods), []
    buckets = tail_buckets(instance_covariate(task, COVARIATE))
    for labels in budgets:
        few = {"per_class": labels or None, "whole_validation": whole_validation}
        test = StressTest(task, buckets, methods, seeds, EXPERIMENT, **few).tuned(protocol, preset)
        settings = pd.DataFrame(
            {"method": method.name, "seed": seed} | _start(method.at(seed)) for method in test.methods for seed in seeds
        )
        found = test.scores((RATE,)).drop(columns="covariate")
        found = found.assign(labels=labels, preset=preset.name, whole_validation=whole_validation)
        frames.append(found.merge(settings, on=["method", "seed"]))
    return pd.concat(frames, ignore_index=True)


def _start(method: Method) -> dict[str, str | float]:
    return {"checkpoint": method.settings.get("checkpoint", "")[:12]} | method.tuned


def released(preset: Preset) -> list[Path]:
    """The folders of the preset's released checkpoints: one for each seed of pretraining that there is."""
    return [file.parent for file in sorted((DATA / "checkpoints").glob(f"{preset.name}*/model.json"))]


def gains(scores: pd.DataFrame, method: str, baseline: str = "stem") -> pd.DataFrame:
    """How many points a method gains on the baseline, paired by seed.

    A seed varies split, damage and fine-tuning. A checkpoint is one run of pretraining, so that its luck is in no
    interval.

    Args:
        scores: from `compared`, of any number of tasks.
        method: a way to start.
        baseline: another.

    Returns:
        One row per task, budget and kind of condition: `task`, `labels`, `kind`, `gain`, and its 95 % interval `low`
        to `high`, see `paired_difference` and `split_overlap`.
    """
    by = ["task", "labels", "kind"]
    means = scores.groupby([*by, "method", "seed"], sort=False).score.mean().reset_index()
    rows = []
    for (task, labels, kind), frame in means.groupby(by, sort=False):
        found = paired_difference(frame, "score", method, baseline, overlap=split_overlap(task, labels, kind))
        rows.append([task, labels, kind, *found[:3]])
    return pd.DataFrame(rows, columns=[*by, "gain", "low", "high"])


def kept_comparisons() -> pd.DataFrame:
    """The rows of `compared` that are kept for the released checkpoints, in the order of `DATA_SETS`.

    Raises:
        FileNotFoundError: none are kept.
    """
    rows = read_all_results(KEPT_AS)
    order = [*DATA_SETS, BUILT_IN]
    return rows.sort_values(
        "task", key=lambda tasks: tasks.str.removesuffix(FILTERED).map(order.index), kind="stable", ignore_index=True
    )


def results(
    name: str,
    preset: Preset,
    checkpoints: dict[str, Sequence[Path]],
    seeds: int,
    budgets: Sequence[int] = BUDGETS,
    rivals: Sequence[str] = RIVALS,
    whole_validation: bool = False,
) -> pd.DataFrame:
    """The comparison on one data set by its protocol, with rivals; see `starts` and `compared`."""
    methods = [*starts(preset, checkpoints), *named(preset, *rivals)]
    task, protocol = unit_task(name, preset), protocol_of(name)
    return compared(task, methods, range(seeds), protocol, preset, budgets, whole_validation)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m study.transfer", description=__doc__.split("\n")[0])
    add, choices = parser.add_argument, [BUILT_IN, *PROTOCOLS]
    add("names", nargs="+", choices=choices, metavar="NAME", help=", ".join(choices))
    add("--preset", choices=KEPT, default="laptop", help="the budget (default: %(default)s)")
    add("--seeds", type=int, default=5, help="runs of each kind (default: %(default)s)")
    add("--labels", type=int, nargs="+", default=BUDGETS, help="per class; 0: all (default: %(default)s)")
    add("--variants", nargs="+", choices=VARIANTS, metavar="VARIANT", help=", ".join(VARIANTS))
    add("--whole-validation", action="store_true", help="few labels are only those to train on")
    add_device(parser)
    options = parser.parse_args(arguments)
    preset = PRESETS[options.preset]
    if options.variants is None and not released(preset):
        parser.error(
            f"there is no checkpoint in {DATA / 'checkpoints' / preset.name}: run python -m study.pretrain "
            f"--preset {preset.name} --release {preset.name} first"
        )
    pool = load_pool(preset.hidden, nodes=preset.nodes, whole=not preset.limited) if options.variants else None
    for name in options.names:
        kind, checkpoints = KEPT_AS, {"pretrained": released(preset)}
        if pool is not None:
            kind = "05_variants"
            checkpoints = {variant: [pretrained_variant(variant, pool, preset, name)] for variant in options.variants}
            runs = {(name, variant): in_numbers(folder, name) for variant, (folder,) in checkpoints.items()}
            numbers = pd.DataFrame.from_dict(runs, orient="index").rename_axis(["task", "variant"])
            save_results(numbers.reset_index(), f"05_variant_runs-{name}")
        rivals = RIVALS if pool is None else ()  # the same for every variant: they are among the first command's rows
        whole = options.whole_validation
        found = results(name, preset, checkpoints, options.seeds, options.labels, rivals, whole)
        kind = f"{kind}_whole_validation" if whole else kind
        print(f"{name}: {save_results(found, f'{kind}-{name}')}", flush=True)


if __name__ == "__main__":
    sys.exit(interruptible(main))
