"""Does the verdict on the published form depend on the features? Texts through a sentence encoder in place of words.

    python -m study.texts cora citeseer cornell texas washington wisconsin
    python -m study.texts cora citeseer --preset paper --device cuda

Nodes have the vectors that MiniLM gives for their texts: 384 columns, one space for all graphs. Tests are on clean
instances, shifted ones, and those with 40 % of their columns masked or of their edges deleted. Compared are the
published form from scratch, as this study tunes it (`stem`) and with the authors' own settings (`reference`); filters,
mixtures and plain networks, all except `reference` with the same candidates and trainings; and the published form
pretrained on these graphs together, with the authors' codebook: frozen, as theirs, free, and free with the
orthogonality term, the only one that moves its codes. Kept is `17_texts-<name>.csv` in `data/results/`, or at width 768
`17_texts_768-<name>.csv`. Finished runs are read back. The first call encodes the texts, which takes minutes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from stemlib.data.features import MINILM
from stemlib.data.public import load
from stemlib.data.tasks import Task
from stemlib.presets import PRESETS, ModelConfig, Preset
from stemlib.stress.shifts import instance_covariate, tail_buckets
from stemlib.training.pool import Member, Pool
from stemlib.training.pretrain import pretrain
from study.balance_tables import demands_of
from study.better_balance import DRAWS, RATE, SMALLER, averaged_draws, shifted_by
from study.computing import add_device, chosen
from study.interrupt import interruptible
from study.method import Method
from study.methods import named, pretrained
from study.paths import RUNS
from study.pool import OTHER_WEIGHTS, WEIGHTS
from study.protocols import protocol_of
from study.records import KEPT, save_results
from study.stress import StressTest

NAMES = ("cora", "citeseer", "cornell", "texas", "washington", "wisconsin")
EXPERIMENT = "texts"
PUBLISHED = ("stem", "reference")  # the published form from scratch
RIVALS = ("mlp", "gcn", "sage", "gat", "acm", "ensemble", "averaged")
FREE, ORTHOGONAL = "pretrained, free tokens", "pretrained, orthogonal"
BUDGET_OF = "citeseer"  # all have its candidates and epochs
STEPS = 2000  # of pretraining, on two cores
COLUMNS = ["task", "covariate", "method", "condition", "kind", "rate", "seed", "score", "val"]


def text_task(name: str) -> Task:
    """A data set whose nodes have their texts' vectors, 384 columns of length one; zeros where there is no text."""
    return load(name, width=None, encoder=MINILM)


def checkpoint(preset: Preset, tasks: Iterable[Task], steps: int | None = STEPS, seed: int = 0) -> Path:
    """The published form, with the authors' codebook, pretrained on some graphs in one space, or found finished.

    Args:
        preset: the budget.
        tasks: with features as `text_task` has them.
        steps: None for the preset's.
        seed: of the run.
    """
    pool = Pool(Member(task, WEIGHTS.get(task.name, OTHER_WEIGHTS[task.kind])) for task in tasks)
    model = ModelConfig(hidden=preset.hidden, codes=min(128, preset.hidden), codebook="reference")
    config = preset.pretrain() if steps is None else preset.pretrain(steps=steps)
    return pretrain(pool, model, config, seed, chosen(), root=RUNS / "pretraining")


def fine_tuned(preset: Preset, folder: Path) -> list[Method]:
    """From a checkpoint: tokens frozen, free, and free with the term that keeps their codes apart."""
    free = pretrained(preset, [folder], FREE, freeze_tokens=False)
    return [pretrained(preset, [folder]), free, free.changed(ORTHOGONAL, {"orthogonality": 1.0})]


def text_scores(task: Task, preset: Preset, methods: Sequence[Method], seeds: Sequence[int]) -> pd.DataFrame:
    """Scores of methods on a task with texts, each with the candidates and trainings of `BUDGET_OF`.

    The authors' own settings are left as they are.

    Returns:
        `COLUMNS` of the rows of `StressTest.scores`; the draws of a corruption are averaged.
    """
    by, protocol = shifted_by(task.name), replace(protocol_of(BUDGET_OF), trained_alike=True)
    buckets = tail_buckets(instance_covariate(task, by))
    fixed = [method for method in methods if method.name == "reference"]
    test = StressTest(task, buckets, [each for each in methods if each not in fixed], seeds, EXPERIMENT, by)
    test = test.tuned(protocol, preset)
    test = replace(test, methods=[*test.methods, *fixed])
    return averaged_draws(test.scores((RATE,), DRAWS))[COLUMNS]


def published(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, and `published`: on each data set, the one of `PUBLISHED` that validates best on the first seed.

    The authors' settings are thus one more candidate of the published form.
    """
    parts = [rows]
    for _, part in rows[rows.method.isin(PUBLISHED)].groupby("task", sort=False):
        best = part[part.seed == part.seed.min()].groupby("method").val.first().idxmax()
        parts.append(part[part.method == best].assign(method="published"))
    return pd.concat(parts, ignore_index=True)


def verdicts(rows: pd.DataFrame) -> pd.DataFrame:
    """The comparisons behind the verdict, in points: means over seeds, one row per data set and demand.

    Args:
        rows: from `text_scores`, of some data sets.

    Returns:
        The published form's score, and its lead over a GraphSAGE; the mixture minus the strongest rival, which
        validation chooses, and which that is; and, where they were run, the gain of pretraining with frozen tokens over
        the published form, and that of the orthogonality term over free tokens.
    """
    demands = demands_of(published(rows))
    means = demands.pivot_table(index=["task", "demand"], columns="method", values="score", sort=False)
    val = demands.pivot_table(index=["task", "demand"], columns="method", values="val", sort=False)
    rivals = [name for name in (*RIVALS, "published") if name in means]
    strongest = val[rivals].idxmax(axis=1)
    theirs = pd.Series([means.at[key, name] for key, name in strongest.items()], strongest.index)
    found = {
        "published": means.published,
        "published - sage": means.published - means.sage,
        "mixture - strongest": means[SMALLER] - theirs,
        "strongest": strongest,
    }
    if ORTHOGONAL in means:
        found["pretrained - published"] = means.pretrained - means.published
        found["orthogonality"] = means[ORTHOGONAL] - means[FREE]
    return pd.DataFrame(found)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m study.texts", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("names", nargs="+", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    add("--preset", choices=KEPT, default="laptop", help="the budget; paper is 768 wide (default: %(default)s)")
    add("--seeds", type=int, default=3, help="runs of each (default: %(default)s)")
    add("--methods", nargs="+", choices=[*PUBLISHED, SMALLER, "filters", *RIVALS], metavar="METHOD", help="some alone")
    add("--pool", nargs="*", choices=NAMES, default=NAMES, metavar="NAME", help="to pretrain on; none: do not pretrain")
    add("--steps", type=int, help=f"of pretraining (default: {STEPS}, of paper the preset's)")
    add_device(parser)
    options = parser.parse_args(arguments)
    preset = PRESETS[options.preset]
    methods = named(preset, *(options.methods or [*PUBLISHED, SMALLER, "filters", *RIVALS]))
    if options.pool:
        steps = options.steps or (STEPS if preset.limited else None)
        methods += fine_tuned(preset, checkpoint(preset, map(text_task, options.pool), steps))
    kept = "17_texts" if preset.limited else f"17_texts_{preset.hidden}"
    for name in options.names:
        rows = text_scores(text_task(name), preset, methods, range(options.seeds))
        print(f"{name}: {save_results(rows, f'{kept}-{name}')}", flush=True)
        if options.methods is None:
            print(verdicts(rows).round(1).to_string(), flush=True)


if __name__ == "__main__":
    sys.exit(interruptible(main))
