"""What chapter 06 compares: methods on clean data, tuned alike and paired by run, here and in the kept records."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from stemlib.data.pages import Pages
from stemlib.data.public import DATA_SETS
from stemlib.data.tasks import Task
from stemlib.presets import Preset
from study.first_results import OLDEST, kept_runs
from study.forecast import forecast
from study.meta_analysis import counted
from study.method import Method
from study.methods import named
from study.protocols import Protocol, tuned
from study.records import table
from study.statistics import SIGNIFICANT, against_strongest
from study.trained import run

EXPERIMENT = "clean"
PAIR = ["split", "seed"]


def tuned_runs(
    task: Task, protocol: Protocol, names: Sequence[str], budget: Preset, runs: Sequence[tuple[str, int]]
) -> tuple[list[Method], pd.DataFrame]:
    """Methods with the settings that validation chooses on the first run, and all of their runs.

    Args:
        task: what is learnt.
        protocol: has the candidates.
        names: of `study.methods.METHODS`.
        budget: the preset.
        runs: split and seed of each.

    Returns:
        The methods, and `records.table` of their runs with the column `method`.
    """
    (split, seed), compared = runs[0], named(budget, *names)
    planned = [*runs, *runs[:1] * (len(protocol.candidates) - 1)]
    first = [protocol.methods(method, budget)[0] for method in compared]
    forecast(EXPERIMENT, [(task, task.split(split), seed) for split, seed in planned], first)
    chosen = [tuned(EXPERIMENT, task, split, method, protocol, budget, seed) for method in compared]
    found = table([run(EXPERIMENT, task, split, method, seed) for method in chosen for split, seed in runs])
    return chosen, found.rename(columns={"model": "method"})


def against_each(found: pd.DataFrame, ours: str) -> pd.DataFrame:
    """One method against every other, paired by run; p-values are corrected by Holm over the table.

    Returns:
        A row per rival (`against`), with the columns of `against_strongest`; none where there is no rival.
    """
    rivals = [name for name in found.method.unique() if name != ours]
    pairs = [found[found.method.isin([ours, name])].assign(against=name) for name in rivals]
    if not pairs:
        return pd.DataFrame(columns=["ours", "theirs", "difference", "low", "high", "p"]).rename_axis("against")
    return against_strongest(pd.concat(pairs), "test", ours, "against", pair=PAIR).set_index("against")


def reliable(compared: pd.DataFrame) -> dict[str, list[str]]:
    """The rows of a comparison that are `ahead` or `behind` with a corrected p below 0.05, and the `undecided`."""
    ahead, significant = compared.difference > 0, compared.p < SIGNIFICANT
    groups = {"ahead": significant & ahead, "behind": significant & ~ahead, "undecided": ~significant}
    return {name: list(compared.index[rows]) for name, rows in groups.items()}


def in_words(compared: pd.DataFrame, ours: str) -> str:
    """What a comparison says, as a sentence."""
    groups = {name: _listed([f"`{row}`" for row in rows]) for name, rows in reliable(compared).items()}
    return (
        f"`{ours}` is reliably ahead of {groups['ahead']} and reliably behind {groups['behind']}. "
        f"Not distinguishable from it: {groups['undecided']}."
    )


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1])] * (len(words) > 1) + words[-1:]) or "none"


def every_data_set() -> pd.DataFrame:
    """`stem` from scratch against the strongest of three plain networks, from the kept records of chapter 02.

    Rows of the oldest version, whose networks were trained unequally, are left out. Splits that are drawn anew from one
    graph share training instances; `against_strongest` is told how many.

    Returns:
        A row per data set and kind of split (`form`), with the columns of `against_strongest` and `runs`.
    """
    kept = kept_runs()
    kept = kept[~kept.task.str.contains("-all") & (kept.library != OLDEST)]  # "-all": those graphs hold the answers
    kept = kept.assign(form=kept.task + " " + kept.splits, method=kept.model)
    pages = [name for name, entry in DATA_SETS.items() if isinstance(entry, Pages)]  # their draws are of 50/25/25
    kept = kept.assign(overlap=np.where((kept.splits == "fixed") | kept.task.isin(pages), 0.5, 0.0))
    found = against_strongest(kept, "test", "stem", "form", pair=PAIR, overlap="overlap").set_index("form")
    return found.assign(runs=kept[kept.method == "stem"].groupby("form", sort=False).size())


def without_twice(compared: pd.DataFrame) -> pd.DataFrame:
    """Rows of `every_data_set` that enter a count: see `study.meta_analysis.counted`."""
    tasks = pd.Series(compared.index.str.split().str[0], compared.index)
    return counted(compared.assign(task=tasks)).drop(columns="task")
