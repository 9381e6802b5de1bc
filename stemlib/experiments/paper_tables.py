"""The paper's tables from records alone: five demands on every method and data set, and what they say of the claims.

Rows come from the grid (`stemlib.grid.collect`) or, kept, from the table `stress` in `data/results/`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pandas as pd

from stemlib.statistics import SIGNIFICANT, against_strongest, in_points, interval, summary

DEMANDS = ("clean", "shift", "masked", "deleted", "shifted and damaged")
BY_RUN = ["task", "covariate", "method", "seed"]
MEETING = ["task", "covariate", "seed", "condition", "kind", "rate", "draw"]  # what two methods must share to be paired

# What the paper claims, and the demands that speak to it.
CLAIMS = {
    "competitive when clean": ("clean",),
    "better under degree shift": ("degree shift",),
    "better under homophily shift": ("homophily shift",),
    "better under size and scaffold shift": ("size shift", "scaffold shift"),
    "better under masked features": ("masked",),
    "better under deleted edges": ("deleted",),
    "better when shifted and damaged": ("shifted and damaged",),
}


def beside_the_grid(pretrained: pd.DataFrame, stress: pd.DataFrame) -> pd.DataFrame:
    """Pretrained networks and the grid's, where both were met with the same.

    A seed draws the same split and the same deleted edges for both, though features are not the same: those of a
    pretrained network are what pretraining takes, the grid's are the data set's own. Where the grid's networks were
    trained for fewer epochs than the protocol's, as pretrained ones never are, none stands beside them.

    Args:
        pretrained: rows of `stemlib.experiments.transfer.compared`, for one budget of labels, with `covariate`.
        stress: the grid's, see `demand_scores`, with `epochs` (at most; 0: the protocol's).

    Returns:
        The rows of both on the tasks, covariates, seeds and conditions that both have.
    """
    stress = stress[stress.epochs == 0]
    shared = pretrained[MEETING].drop_duplicates().merge(stress[MEETING].drop_duplicates())
    return pd.concat([rows.merge(shared) for rows in (pretrained, stress)], ignore_index=True)


def demand_scores(stress: pd.DataFrame) -> pd.DataFrame:
    """One score for each demand on each run.

    Args:
        stress: rows of `stemlib.experiments.stress.stress_scores` with `task` and `covariate`.

    Returns:
        Rows `task`, `covariate`, `method`, `seed`, `demand`, `score`: `clean`; `<covariate> shift`, the worst bucket;
        `masked` and `deleted`, means over rates and draws; `shifted and damaged`, mean over both corruptions of the
        shifted buckets. A run that was not met with a demand has no row of it.
    """
    both = stress.kind.str.startswith("shift, ")
    parts = {
        "clean": stress[stress.kind == "clean"].groupby(BY_RUN, sort=False).score.mean(),
        "shift": stress[stress.kind == "shift"].groupby(BY_RUN, sort=False).score.min(),
        "masked": stress[stress.kind == "masked"].groupby(BY_RUN, sort=False).score.mean(),
        "deleted": stress[stress.kind == "deleted"].groupby(BY_RUN, sort=False).score.mean(),
        "shifted and damaged": stress[both].groupby(BY_RUN, sort=False).score.mean(),
    }
    long = pd.concat([scores.reset_index().assign(demand=name) for name, scores in parts.items()], ignore_index=True)
    named = long.covariate + " shift"
    return long.assign(demand=long.demand.where(long.demand != "shift", named)).dropna(subset="score")


def comparisons(demands: pd.DataFrame, ours: str = "stem") -> pd.DataFrame:
    """Our method against the strongest other one, for every task, covariate and demand; see `against_strongest`.

    A grid may be half done: a group counts when ours and another were met, on the seeds that all of its methods have,
    of which there must be two. The p-values are corrected over all rows together.

    Returns:
        The columns of `against_strongest`; no rows where no group counts.
    """
    by, parts = ["task", "covariate", "demand"], []
    for _, part in demands.groupby(by, sort=False):
        methods = part.groupby("seed").method.nunique()
        paired = part[part.seed.isin(methods.index[methods == part.method.nunique()])]
        if ours in set(paired.method) and paired.method.nunique() > 1 and paired.seed.nunique() > 1:
            parts.append(paired)
    if not parts:
        return pd.DataFrame(columns=[*by, "strongest", "ours", "theirs", "difference", "low", "high", "p"])
    return against_strongest(pd.concat(parts), "score", ours, by)


def claim_table(compared: pd.DataFrame) -> pd.DataFrame:
    """What the comparisons say of each claim.

    Args:
        compared: from `comparisons`.

    Returns:
        One row per claim: `comparisons`, how many of them ours `wins` and `loses` significantly (corrected p below
        0.05), the mean `difference` in points, and its 95 % bootstrap interval `low` to `high` over data sets.
    """
    rows = []
    for claim, demands in CLAIMS.items():
        part = compared[compared.demand.isin(demands)]
        if part.task.nunique() < 2:
            continue
        of_task = part.groupby("task").difference.mean()
        low, high = interval(of_task.tolist())
        sure = part.p < SIGNIFICANT
        counts = {"comparisons": len(part), "wins": (sure & (part.difference > 0)).sum()}
        counts |= {"loses": (sure & (part.difference < 0)).sum()}
        rows.append({"claim": claim} | counts | {"difference": of_task.mean(), "low": low, "high": high})
    columns = ["claim", "comparisons", "wins", "loses", "difference", "low", "high"]
    return pd.DataFrame(rows, columns=columns).set_index("claim")


def claims_by_rival(demands: pd.DataFrame, rivals: Mapping[str, Collection[str]], ours: str = "stem") -> pd.DataFrame:
    """What each claim comes to against some methods alone.

    Args:
        demands: from `demand_scores`.
        rivals: by the name of a row, the methods of which the strongest one counts.
        ours: the method.

    Returns:
        Text, one row per name and one column per claim: the mean difference over data sets with its interval, and how
        many comparisons are significantly won and lost, corrected within the row. Empty where there are not two.
    """
    rows = {}
    for name, methods in rivals.items():
        found = claim_table(comparisons(demands[demands.method.isin([ours, *methods])], ours))
        rows[name] = {
            claim: f"{in_points(row.difference, row.low, row.high)}, {row.wins:.0f} won, {row.loses:.0f} lost"
            for claim, row in found.iterrows()
        }
    table = pd.DataFrame.from_dict(rows, orient="index").reindex(rivals).fillna("")
    return table[[claim for claim in CLAIMS if claim in table]]


def lead_by_task(compared: pd.DataFrame) -> pd.DataFrame:
    """`comparisons`, to be read: one row per task and covariate, `-3.1 [-4.1, -2.1] * sage` by demand.

    A star marks a corrected p-value below 0.05; the strongest other method follows. Empty where nothing was met.
    """
    numbers = compared[["difference", "low", "high", "p", "strongest"]].itertuples(index=False)
    text = [f"{in_points(*found)}{' *' * bool(p < SIGNIFICANT)} {rival}" for *found, p, rival in numbers]
    by_task = ["task", "covariate"]
    wide = compared.assign(text=text).pivot(index=by_task, columns="demand", values="text").fillna("")
    return wide[compared.demand.unique()]


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
