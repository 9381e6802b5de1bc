"""One method's leads over another: by kind of graph, and how far the demands repeat one result."""

from __future__ import annotations

import pandas as pd

from study.meta_analysis import by_domain, counted, of_runs
from study.paper_tables import CLAIMS, mean_text
from study.statistics import SIGNIFICANT, in_points


def leads(demands: pd.DataFrame, rival: str, ours: str = "stem") -> pd.DataFrame:
    """`ours - rival`, run by run, one column per claim; NaN where one was not tested.

    Args:
        demands: from `study.paper_tables.demand_scores`.
        rival, ours: methods.
    """
    scores = demands.pivot(index=["task", "covariate", "seed", "demand"], columns="method", values="score")
    wide = (scores[ours] - scores[rival]).unstack("demand")
    found = {claim: wide.reindex(columns=names).mean(axis=1) for claim, names in CLAIMS.items()}
    return counted(pd.DataFrame(found).dropna(axis=1, how="all"))


def lead_correlations(demands: pd.DataFrame, rival: str, ours: str = "stem") -> pd.DataFrame:
    """How alike the leads of two claims are, over data sets: near 1 they are one result reported twice.

    Args:
        demands, rival, ours: see `leads`.

    Returns:
        Pearson's correlation of the leads by data set, claim by claim, over the data sets that both have.
    """
    return leads(demands, rival, ours).groupby("task").mean().corr()


def leads_by_domain(demands: pd.DataFrame, rival: str, ours: str = "stem", labels: int = 0) -> pd.DataFrame:
    """Leads over one method for each kind of graph: a user with a citation graph need not read a mean over molecules.

    Args:
        demands, rival, ours: see `leads`.
        labels: per class, 0 for all.

    Returns:
        Text, one row per kind and a last one for all, one column per claim, see `mean_text` (without an interval where
        there are fewer than five data sets), and `data sets`, the largest number for any claim.
    """
    found = {
        claim: by_domain(of_runs(runs.dropna(), labels, " ".join(CLAIMS[claim])))
        for claim, runs in leads(demands, rival, ours).items()
    }
    text = pd.DataFrame({claim: table.apply(mean_text, axis=1) for claim, table in found.items()}).fillna("")
    sets = pd.DataFrame({claim: table.sets for claim, table in found.items()}).max(axis=1).astype(int)
    return text.assign(**{"data sets": sets}).sort_values("data sets", kind="stable")


def to_read(claims: pd.DataFrame) -> pd.DataFrame:
    """The rows of `study.paper_tables.claim_table` with what a reader needs first, in words and points."""

    def text(mean: str, low: str, high: str) -> list[str]:
        return [in_points(*row) for row in claims[[mean, low, high]].itertuples(index=False)]

    return pd.DataFrame(
        {
            "mean": text("difference", "low", "high"),
            "flat mean": text("flat", "flat_low", "flat_high"),
            "median": text("median", "median_low", "median_high"),
            "p": claims.p.round(3),
            "verdict": claims.verdict,
            "found from": claims.mean_detectable.round(1),
            "data sets": claims.sets,
            "families": claims.families,
            "won": claims.wins,
            "lost": claims.loses,
            "each found from": claims.detectable.round(1),
        },
        index=claims.index,
    )


def in_words(claims: pd.DataFrame, rival: str = "the strongest rival") -> str:
    """The rows of `study.paper_tables.claim_table` as sentences, a line of Markdown each.

    Args:
        claims: indexed by demand. An interval without zero whose `p`, corrected over the demands, is not significant is
            reported as such.
        rival: its name in the text.
    """
    verdicts = {"level": "level with", "undecided": "not distinguishable from"}
    lines = []
    for row in claims.itertuples():
        sure = "reliably" if row.p < SIGNIFICANT else "by its own interval, but not after correction,"
        verdict = verdicts.get(row.verdict) or f"{sure} {'ahead of' if row.difference > 0 else 'behind'}"
        numbers = in_points(row.difference, row.low, row.high)
        lines.append(f"- {row.Index.capitalize()}: {verdict} {rival} ({numbers} points; median {row.median:+.1f}).")
    return "\n".join(lines)
