"""The paper's tables from records alone: five demands on every method and data set, and what they say about the claims.

Rows are those of the table `stress` in `data/results/`, which `study.grid_results` keeps.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pandas as pd

from stemlib.data.public import DATA_SETS
from study.meta_analysis import OverDataSets, counted, of_comparisons, of_runs, over_data_sets
from study.methods import METHODS
from study.power import detectable, equivalence
from study.protocols import split_overlap
from study.statistics import SIGNIFICANT, PairedTest, against_strongest, corrected_together, holm, in_points, summary

BY_RUN = ["task", "covariate", "method", "seed"]

# What a network is asked to cope with, as tables name it, and the demands that test it.
CLAIMS = {
    "clean": ("clean",),
    "degree shift": ("degree shift",),
    "homophily shift": ("homophily shift",),
    "size and scaffold shift": ("size shift", "scaffold shift"),
    "masked features": ("masked",),
    "deleted edges": ("deleted",),
    "shifted and damaged": ("shifted and damaged",),
}

# The rivals in the grid, each alone: `routed` has experts and no tokens, `tokens` the reverse.
CORE_RIVALS = {name: [name] for name in ("gcn", "sage", "routed", "tokens")}

# `tokens` and `routed` are published forms (GFT, CaNet) and parts of the whole model: with them as rivals, the whole
# model is compared with itself. Outsiders have none of its parts.
OF_THE_WHOLE = (
    "dense",
    "routed",
    "tokens",
    "filters",
    "stem",
    "reference",
    "selected",
    "selected_five",
    "strongest_five",
)
OUTSIDERS = {"the strongest without its parts": [name for name in METHODS if name not in OF_THE_WHOLE]}


def of_classes(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose `task` learns classes: R2 has no lower end, so that one bad regression would dominate the mean."""
    return rows[~rows.task.isin([name for name, entry in DATA_SETS.items() if entry.regression])]


def demand_scores(stress: pd.DataFrame) -> pd.DataFrame:
    """One score for each demand on each run.

    Args:
        stress: rows of `study.stress.StressTest.scores`.

    Returns:
        Rows `task`, `covariate`, `method`, `seed`, `demand`, `score`, and `val` where there is one: `clean`;
        `<covariate> shift`, the worst bucket; `masked` and `deleted`, means over rates and draws; `shifted and
        damaged`, mean over both corruptions of the shifted buckets. A run that was not tested on a demand has no row
        for it.
    """
    kinds = stress.kind.where(~stress.kind.str.startswith("shift, "), "shifted and damaged")
    by, parts = [*BY_RUN, *{"val"}.intersection(stress)], []
    for kind in ("clean", "shift", "masked", "deleted", "shifted and damaged"):
        runs = stress[kinds == kind].groupby(by, sort=False, dropna=False).score
        parts.append((runs.min() if kind == "shift" else runs.mean()).reset_index().assign(demand=kind))
    found = pd.concat(parts, ignore_index=True)
    named = found.demand.where(found.demand != "shift", found.covariate + " shift")
    return found.assign(demand=named).dropna(subset="score")


def comparisons(demands: pd.DataFrame, ours: str = "stem", labels: int = 0) -> pd.DataFrame:
    """Our method against the strongest other one, for every task, covariate and demand; see `against_strongest`.

    A grid may be half done: a group counts if ours and another were run, on the seeds that all of its methods have, of
    which there must be two. The p-values are corrected over all rows.

    Args:
        demands: from `demand_scores`.
        ours: the method.
        labels: per class, 0 for all, see `split_overlap`.

    Returns:
        The columns of `against_strongest`; no rows if no group counts.
    """
    by = ["task", "covariate", "demand"]
    methods = demands.groupby(by).method.transform("nunique")
    paired = demands[demands.groupby([*by, "seed"]).method.transform("nunique") == methods]
    groups = paired.assign(ours=paired.method == ours).groupby(by)
    counts = groups.ours.transform("any") & (groups[["method", "seed"]].transform("nunique") > 1).all(axis=1)
    paired = paired[counts]
    if paired.empty:
        numbers = ["ours", "theirs", *PairedTest._fields, "on_test", "held_out", "uncorrected", "detectable"]
        none = pd.DataFrame(columns=[*by, "strongest", "chosen_on", "strongest_on_test", *numbers])
        return none.astype(dict.fromkeys(numbers, float))
    overlap = [split_overlap(task, labels, demand) for task, demand in zip(paired.task, paired.demand, strict=True)]
    return against_strongest(paired.assign(overlap=overlap), "score", ours, by, overlap="overlap")


def over_tasks(values: pd.Series, labels: int = 0) -> OverDataSets:
    """Means over data sets of differences run by run, see `over_data_sets` and `of_runs`."""
    found = of_runs(values, labels)
    return over_data_sets(found.difference, found.error)


def claim_table(compared: pd.DataFrame) -> pd.DataFrame:
    """What the comparisons say about each claim.

    Args:
        compared: from `comparisons`; see `counted`.

    Returns:
        One row per claim: `comparisons`, how many of them ours `wins` and `loses` significantly (corrected p below
        0.05), and the smallest difference that half of them could have found (`detectable`, the median); the means over
        data sets, see `OverDataSets`, with `p` corrected over the claims, what their test could have found
        (`mean_detectable`), and whether ours is `level`, see `equivalence`; the flat mean of `held_out`, and in how
        many comparisons the rival was chosen on validation. No row for fewer than two tasks.
    """
    rows, compared = {}, counted(compared)
    for claim, demands in CLAIMS.items():
        part = compared[compared.demand.isin(demands)]
        if part.task.nunique() < 2:
            continue
        sure, found = part.p < SIGNIFICANT, of_comparisons(part)
        mean = over_data_sets(found.difference, found.error)
        counts = {"comparisons": len(part), "wins": (sure & (part.difference > 0)).sum()}
        counts |= {"loses": (sure & (part.difference < 0)).sum(), "detectable": part.detectable.median()}
        seen = {"mean_detectable": detectable(mean.error, mean.df), "verdict": equivalence(mean).verdict}
        chosen = {"held_out": part.groupby("task").held_out.mean().mean(), "on_val": (part.chosen_on == "val").sum()}
        rows[claim] = counts | mean._asdict() | seen | chosen
    columns = ["comparisons", "wins", "loses", "detectable", *OverDataSets._fields]
    columns += ["mean_detectable", "verdict", "held_out", "on_val"]
    return over_demands(pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("claim"))


def over_demands(means: pd.DataFrame) -> pd.DataFrame:
    """Means over data sets, one row per demand, with `p` corrected over the rows that have one."""
    known = means.p.notna()
    return means.assign(p=means.p.where(~known, pd.Series(holm(means.p[known].to_list()), means.index[known])))


def mean_text(mean: OverDataSets) -> str:
    """As text: the random-effects mean with its interval, then the flat one, `+0.3 [-0.2, +0.9], flat +0.8`."""
    return f"{in_points(mean.difference, mean.low, mean.high)}, flat {mean.flat:+.1f}"


def lead_changes(
    demands: pd.DataFrame, rivals: Collection[str] = tuple(CORE_RIVALS), ours: str = "stem", labels: int = 0
) -> pd.DataFrame:
    """By how much a lead over one rival differs from the same lead when clean: what shift or damage itself changes.

    Args:
        demands: from `demand_scores`.
        rivals: methods, each alone.
        ours, labels: see `comparisons`.

    Returns:
        Text, one row per rival and one column per claim except the clean one: mean over data sets, run by run, of
        `(ours - rival)` under the demand minus the same when clean, see `mean_text`. Empty for fewer than two tasks.
    """
    scores = demands.pivot(index=["task", "covariate", "seed", "demand"], columns="method", values="score")
    table = pd.DataFrame("", index=list(rivals), columns=[name for name in CLAIMS if "clean" not in CLAIMS[name]])
    for rival in table.index.intersection(scores.columns):
        leads = (scores[ours] - scores[rival]).unstack("demand")
        for claim in table:
            changes = counted(leads.reindex(columns=CLAIMS[claim]).sub(leads["clean"], axis=0).stack().dropna())
            if changes.index.get_level_values("task").nunique() > 1:
                table.loc[rival, claim] = mean_text(over_tasks(changes, labels))
    return table.loc[:, (table != "").any()]


def claims_by_rival(
    demands: pd.DataFrame,
    rivals: Mapping[str, Collection[str]] = CORE_RIVALS | OUTSIDERS,
    ours: str = "stem",
    labels: int = 0,
) -> pd.DataFrame:
    """What each claim amounts to against certain rivals only.

    Args:
        demands: from `demand_scores`.
        rivals: by the name of a row, the methods of which only the strongest counts.
        ours, labels: see `comparisons`.

    Returns:
        Text, one row per name and one column per claim: the means of differences over data sets, see `mean_text`, how
        many comparisons are significantly won and lost, corrected over the whole table, and, where none is won, the
        difference that half of them could have found. Empty for fewer than two tasks.
    """
    parts = {name: demands[demands.method.isin([ours, *methods])] for name, methods in rivals.items()}
    every = pd.concat({name: comparisons(part, ours, labels) for name, part in parts.items()})
    rows = {}
    for name, found in corrected_together(every).groupby(level=0):
        rows[name] = {
            claim: f"{mean_text(row)}, {row.wins} won{'' if row.wins else f' (from {row.detectable:.1f})'}, "
            f"{row.loses} lost"
            for claim, row in claim_table(found).iterrows()
        }
    table = pd.DataFrame.from_dict(rows, orient="index").reindex(rivals).fillna("")
    return table[[claim for claim in CLAIMS if claim in table]]


def lead_by_task(compared: pd.DataFrame) -> pd.DataFrame:
    """`comparisons` as text: one row per task and covariate, `-3.1 [-4.1, -2.1] * sage` by demand.

    See `lead_text`. Empty if nothing was run.
    """
    by_task = ["task", "covariate"]
    wide = compared.assign(text=lead_text(compared)).pivot(index=by_task, columns="demand", values="text").fillna("")
    return wide[compared.demand.unique()]


def lead_text(compared: pd.DataFrame) -> list[str]:
    """Rows of `against_strongest` as text: a star marks a corrected p-value below 0.05, the rival's name follows."""
    numbers = compared[["difference", "low", "high", "p", "strongest"]].itertuples(index=False)
    return [f"{in_points(*found)}{' *' * bool(p < SIGNIFICANT)} {rival}" for *found, p, rival in numbers]


def score_table(demands: pd.DataFrame, compared: pd.DataFrame, demand: str, ours: str = "stem") -> pd.DataFrame:
    """Mean ± standard deviation by task and method for one demand.

    A star marks ours where it beats, and a dagger where it falls behind, the strongest other method significantly.
    """
    part = demands[demands.demand == demand]
    text = summary(part, ["task", "covariate", "method"], "score").text.unstack("method", sort=False).fillna("")
    of_demand = compared[compared.demand == demand].set_index(["task", "covariate"])
    for row, found in of_demand.iterrows():
        if found.p < SIGNIFICANT:
            text.loc[row, ours] += " *" if found.difference > 0 else " †"
    return text
