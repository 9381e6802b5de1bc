"""The three demands on one frozen model: fit clean data, hold under shift, stay stable under corruption.

Scores come from `study.stress`; here they are read as one balance.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from stemlib.data.splits import stratified_split
from stemlib.data.tasks import Task
from stemlib.stress.conditions import CORRUPTIONS
from study.meta_analysis import counted
from study.method import Method
from study.records import table
from study.trained import run

DEMANDS = ["fit", "shift", "corruption"]


def clean_scores(experiment: str, task: Task, methods: Iterable[Method], seeds: Iterable[int]) -> pd.DataFrame:
    """Test accuracy without shift or corruption: on the `public` split where there is one, and on 50/25/25.

    Every seed draws its own 50/25/25 split; the public split is the same for all.

    Returns:
        One row per method, split and seed, as `study.records.table` gives them, in per cent.
    """
    methods, records = list(methods), []
    for seed in seeds:
        drawn = stratified_split(task.labelled(), task.strata, seed, name="50-25-25")
        with_draw = task.with_split(drawn)
        for name in [name for name in ("public", drawn.name) if name in with_draw.splits]:
            records += [run(experiment, with_draw, name, method, seed) for method in methods]
    return table(records)


def three_way_balance(stress: pd.DataFrame) -> pd.DataFrame:
    """Fit, worst shifted bucket and mean over corruptions, one row per method and seed, in per cent."""
    demands = stress.kind.replace({"clean": "fit", **dict.fromkeys(CORRUPTIONS, "corruption")})
    fit, shift, corruption = (stress[demands == name].groupby(["method", "seed"], sort=False).score for name in DEMANDS)
    return pd.DataFrame({"fit": fit.mean(), "shift": shift.min(), "corruption": corruption.mean()}).reset_index()


def leads(balance: pd.DataFrame, ours: str, rivals: Iterable[str]) -> pd.DataFrame:
    """How far one method is ahead of each of the others on each demand, in points, seed by seed.

    Args:
        balance: from `three_way_balance`, of one task.
        ours: the method.
        rivals: the others.

    Returns:
        One row per rival and seed, a column per demand.
    """
    scores = balance.set_index(["method", "seed"])[DEMANDS]
    found = {rival: scores.loc[ours] - scores.loc[rival] for rival in rivals}
    return pd.concat(found or {"none": scores.iloc[:0]}, names=["rival"])


def leads_in_words(leads: pd.DataFrame, ours: str) -> str:
    """A line of Markdown for every rival: on which demands all seeds agree which is ahead, and by how much on average.

    Args:
        leads: from `leads`.
        ours: the method whose leads they are.
    """
    lines = []
    for rival, rows in leads.groupby("rival", sort=False):
        ahead, behind = rows.columns[(rows > 0).all()], rows.columns[(rows < 0).all()]
        agreed = [
            f"`{ours}` is {word} in every seed on {', '.join(f'{name} ({rows[name].mean():+.1f})' for name in names)}."
            for word, names in (("ahead", ahead), ("behind", behind))
            if len(names)
        ]
        if mixed := [name for name in rows if name not in {*ahead, *behind}]:
            agreed.append(f"Seeds disagree on {', '.join(mixed)}.")
        lines.append(f"- Against `{rival}`: {' '.join(agreed)}")
    return "\n".join(lines)


def leader(balance: pd.DataFrame) -> str:
    """The method with the highest mean on all three demands; `No method` if several share them."""
    leaders = balance.groupby("method")[DEMANDS].mean().idxmax().unique()
    return leaders[0] if len(leaders) == 1 else "No method"


def shared_balance(stress: pd.DataFrame, ours: str = "stem") -> pd.DataFrame:
    """The three demands as means over seeds and shifts, of the methods that were run wherever ours was.

    Args:
        stress: rows of `study.stress.StressTest.scores`; a grid may be half done. Only the tasks that enter a mean
            count, see `counted`.
        ours: the method.

    Returns:
        One row per task and method, `task`, `method`, `fit`, `shift` and `corruption`: tasks weigh alike, however many
        seeds they have. No rows if ours was not run.
    """
    met, stress = ["task", "covariate"], counted(stress)
    wherever = stress.loc[stress.method == ours, met].drop_duplicates()
    rows = stress.merge(wherever)
    places = rows.drop_duplicates([*met, "method"]).method.value_counts()
    rows = rows[rows.method.isin(places.index[places == len(wherever)])]
    parts = [three_way_balance(part).assign(task=task) for (task, _), part in rows.groupby(met, sort=False)]
    if not parts:
        return pd.DataFrame(columns=["task", "method", *DEMANDS])
    return pd.concat(parts).groupby(["task", "method"], sort=False)[DEMANDS].mean().reset_index()


def not_dominated(frame: pd.DataFrame, columns: list[str]) -> pd.Series:
    """Which rows no other row beats: at least as good in every column and better in one, `[n]` bool.

    Args:
        frame: one row per method.
        columns: the larger, the better.
    """
    values = frame[columns].to_numpy()
    as_good = (values[:, None] >= values[None]).all(-1)  # [n, n]: is the first at least as good as the second
    beats = as_good & (values[:, None] > values[None]).any(-1)
    return pd.Series(~beats.any(0), index=frame.index)
