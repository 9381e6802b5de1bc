"""The paper's tables from records alone: five demands on every method and data set, and what they say of the claims.

Rows come from the grid (`stemlib.grid.collect`) or, kept, from the table `stress` in `data/results/`.
"""

from __future__ import annotations

import pandas as pd

from stemlib.statistics import SIGNIFICANT, against_strongest, interval, summary

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
