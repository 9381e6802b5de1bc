"""What came of each claim of docs/claims.md."""

from __future__ import annotations

from typing import Any

import pandas as pd
from scipy.stats import t as student

from study.balance_tables import (
    LARGE,
    SMALL,
    by_size,
    by_training,
    demands_of,
    leads,
    over_seeds,
    over_sets,
    pair_over_seeds,
    pair_over_sets,
)
from study.better_balance import FIVE, OURS, RIVALS, SMALLER, TRAINED
from study.statistics import SIGNIFICANT, holm, in_points

# The claims of one table of docs/claims.md, which are corrected together.
TABLES = (range(1, 13), range(13, 18), range(18, 23), range(23, 29))
NUMBERS = {  # of the claims of a lead: clean, shift, masked and deleted, on two thirds, on small data sets
    SMALLER: (1, 2, 3, 3, 4, 5),
    "stacked": (13, 14, 15, 15, 16, 17),
    OURS: (18, 19, 20, 20, 21, 22),
    FIVE: (23, 24, 25, 25, 26, 27),
}
PAIRS = {
    "7: validated over uniform weights": (SMALLER, "averaged"),
    "8: filters over as many GCNs": ("averaged", "ensemble"),
    "10: filters in the layer over means": ("filters", "routed"),
    f"28: {FIVE} over strongest_five": (FIVE, "strongest_five"),
}
HELD = ("consistency without who is met", "consistency alone")
STANDARD = next(iter(TRAINED))
RUN = ["task", "seed", "demand"]


def claims(
    demands: pd.DataFrame, instances: pd.Series, few: pd.DataFrame, changed: pd.DataFrame, uncertain: pd.DataFrame
) -> pd.DataFrame:
    """What the records say about each claim of docs/claims.md.

    Args:
        demands: from `demands_of`.
        instances: of each task.
        few, changed, uncertain: kept rows of `study.better_balance`.

    Returns:
        One row per claim about what has been run, in their order: `scope`, the data sets that it is about; `found`, in
        words; `holds` (`yes`: the interval lies above what is claimed, and the corrected p-value is below 0.05; `no`:
        it lies below; otherwise `open`).
    """
    rows: dict[str, tuple[str, str, str]] = {}
    p_values: dict[str, float] = {}

    def above(claim: str, scope: str, mean: Any, threshold: float = 0.0) -> None:
        holds = "yes" if mean.low > threshold else "no" if mean.high < threshold else "open"
        rows[claim] = scope, in_points(mean.difference, mean.low, mean.high), holds
        if mean.error > 0:
            p_values[claim] = 2 * student.sf(abs(mean.difference - threshold) / mean.error, mean.df)

    ran = set(demands.method)
    for ours, numbers in NUMBERS.items():
        if ours not in ran:
            continue
        rivals = RIVALS if ours == SMALLER else (*RIVALS, SMALLER)
        compared = leads(demands, ours, rivals)
        large, below = by_size(compared, instances, at_least=LARGE), by_size(compared, instances, below=SMALL)
        over, small = over_sets(large), over_sets(below)
        scope = f"{sets_of(large)} of {LARGE:,} instances and more"
        for number, kind in zip(numbers, over.index, strict=False):
            above(f"{number}: {ours} ahead, {kind}", scope, over.loc[kind])
        told = ", ".join(f"{kind} {share:.0%}" for kind, share in over.above.items())
        two_thirds = "yes" if over.above.min() >= 2 / 3 else "no"
        rows[f"{numbers[4]}: {ours} ahead on two thirds"] = scope, told, two_thirds
        told = ", ".join(f"{kind} {in_points(*row)}" for kind, row in small[["difference", "low", "high"]].iterrows())
        level = "yes" if (small.verdict == "level").all() else "no" if (small.high < -1).any() else "open"
        scope = f"{sets_of(below)} below {SMALL:,} instances"
        rows[f"{numbers[5]}: {ours} level"] = scope, told, level
    five = demands_of(few[few.labels == 5])
    mean = pair_over_sets(five, SMALLER, "plain gcn", 5).loc["clean"]
    above("6: mixture five points over a GCN", f"{sets_of(five)}, five labels of each class", mean, 5.0)
    for claim, pair in PAIRS.items():
        if ran.issuperset(pair):
            mean = pair_over_sets(demands, *pair).loc["clean"]
            above(claim, f"{mean.sets:.0f} data sets", mean)
    scope = sets_of(changed)
    above("9: what training gives a rival, less half of the lead", scope, training_share(changed))
    trained = by_training(changed)
    trained = demands_of(trained[trained.method == SMALLER].assign(method=lambda part: part.variant))
    if trained.method.isin(HELD).any():
        mean = pair_over_seeds(trained, *HELD).loc["clean"]
        above("11: consistency with evaluated nodes held out, less with them", scope, mean)
    above(
        "12: calibration error of the strongest rival, less the mixture's",
        sets_of(uncertain),
        calibration(uncertain, demands),
    )
    return _confirmed(pd.DataFrame.from_dict(rows, orient="index", columns=["scope", "found", "holds"]), p_values)


def training_share(changed: pd.DataFrame) -> Any:
    """What training gives to the strongest rival, less half of the mixture's lead over that rival trained plainly.

    Args:
        changed: kept rows of `ingredients`. The rival is the one that is strongest on validation when trained plainly.

    Returns:
        The clean row of `over_seeds`: above 0 where training accounts for half of the lead or more.
    """
    tuned = demands_of(changed[changed.variant.fillna("") == ""])
    plain = demands_of(by_training(changed).query("variant == @STANDARD and method in @RIVALS"))
    means = plain[plain.demand == "clean"].groupby(["task", "method"]).val.mean()
    rivals = pd.DataFrame(means.groupby("task").idxmax().tolist(), columns=["task", "method"])
    after, before = (rows.merge(rivals).set_index(RUN).score for rows in (tuned, plain))
    lead = tuned[tuned.method == SMALLER].set_index(RUN).score - before
    return over_seeds(after - before - lead / 2).loc["clean"]


def calibration(uncertain: pd.DataFrame, demands: pd.DataFrame) -> Any:
    """The calibration error of the strongest rival less that of the mixture, clean, in per cent, over seeds.

    Args:
        uncertain: kept rows of `uncertainties`.
        demands: from `demands_of`; says which rival is strongest.
    """
    rivals = leads(demands, SMALLER, RIVALS)[["task", "demand", "strongest"]].rename(columns={"strongest": "method"})
    errors = uncertain.assign(demand=uncertain.kind)
    theirs, ours = errors.merge(rivals), errors[errors.method == SMALLER]
    return over_seeds(theirs.set_index(RUN).ece - ours.set_index(RUN).ece).loc["clean"]


def sets_of(rows: pd.DataFrame) -> str:
    """How many data sets the rows cover; the names if they are few."""
    names = list(rows.task.unique())
    return ", ".join(names) if len(names) < 3 else f"{len(names)} data sets"


def _confirmed(table: pd.DataFrame, p_values: dict[str, float]) -> pd.DataFrame:
    """The claims in their order; one that holds by its interval alone is `open`."""
    number = pd.Series([int(name.split(":")[0]) for name in table.index], index=table.index)
    for numbers in TABLES:
        names = [name for name in p_values if number[name] in numbers]
        for name, p in zip(names, holm([p_values[name] for name in names]), strict=True):
            if p >= SIGNIFICANT and table.loc[name, "holds"] == "yes":
                table.loc[name, "holds"] = "open"
    return table.loc[number.sort_values(kind="stable").index]
