"""What the comparison of routers, experts and terms says: changes beside a base, and what became of the predictions.

Every change is a choice minus the base on the same seed. Scores are in points. Coverage `C` and selection `S` are in
nats of cross-entropy (Statement 2.1 of docs/theory.md), clean and as the mean over the shifted buckets (`shift`); base
sensitivity `B` and fluctuation amplification `F` are the two parts of the change of the same loss under damage
(Statement 3.1).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from stemlib.model.routers import ROUTERS
from study.figures import PALETTE
from study.meta_analysis import OverDataSets, over_data_sets
from study.paths import ROOT
from study.power import MARGIN, equivalence
from study.protocols import split_overlap
from study.records import read_all_results
from study.statistics import in_points, paired_difference

Term = tuple[str, str]  # which, and where
TERMS = {"C": "coverage", "S": "selection", "B": "base sensitivity", "F": "amplification"}  # as tables show them
TABLES = ("scores", "coverage", "sensitivity", "costs")
SHARE = 0.1  # of the base's own value: a term that reliably differs by less is level
NAMED = 7  # choices that are named in a figure
ON_FILTERS = "filters, "  # how the names of routers on different filters begin
NULLS = ("uniform", "hash", "frozen", "one expert", "as many seeds")
BASES = {"three means": "routed", "different filters": "filters"}  # what a choice is compared with


def kept() -> dict[str, pd.DataFrame]:
    """The kept tables of `study.router_comparison`, by name, all data sets one below the other."""
    return {table: read_all_results(f"16_{table}") for table in TABLES}


def values(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Every quantity of every run.

    Returns:
        Columns `task`, `method`, `seed`, `term` (`score`, `C`, `S`, `B` or `F`), `where` (`clean`, `shift`, `masked`,
        `deleted`; for a shifted score, the worst bucket) and `value`.
    """
    by, parts = ["task", "method", "seed"], []
    for where, rows in tables["scores"].groupby("kind"):
        if where in ("clean", "shift", "masked", "deleted"):
            runs = rows.groupby(by).score
            parts.append((runs.min() if where == "shift" else runs.mean()).rename("value").to_frame())
            parts[-1][["term", "where"]] = "score", where
    coverage = tables["coverage"]
    for where, rows in coverage.groupby(coverage.bucket.where(coverage.bucket == "clean", "shift")):
        for term in "CS":
            parts.append(rows.groupby(by)[term].mean().rename("value").to_frame())
            parts[-1][["term", "where"]] = term, where
    for where, rows in tables["sensitivity"].groupby("damage"):
        for term, column in (("B", "base"), ("F", "amplification")):
            parts.append(rows.groupby(by)[column].mean().rename("value").to_frame())
            parts[-1][["term", "where"]] = term, where
    return pd.concat(parts).reset_index().dropna(subset="value")


def changes(found: pd.DataFrame, base: str = "routed") -> pd.DataFrame:
    """What each choice changes relative to a base, as means over data sets.

    Data sets weigh alike: the errors of two to five seeds are too rough to weigh by. One of a single seed is left out.

    Args:
        found: from `values`.
        base: the method that the others are compared with.

    Returns:
        Indexed by `method`, `term`, `where`: the fields of `OverDataSets`; `at_base`, the base's mean on the same data
        sets; `largest`, the largest in size of the method's own values; `margin`, within which a difference counts as
        level: a point of score, or a tenth of the term; `verdict`, see `study.power.equivalence`.
    """
    by, asked = ["task", "seed", "term", "where"], ["method", "term", "where"]
    found = found[found.groupby(["task", "method"]).seed.transform("nunique") > 1]
    of_base = found[found.method == base].set_index(by).value
    others = found[found.method != base].set_index([*by, "method"]).value
    base_by_task = of_base.groupby(["term", "where", "task"]).mean()
    largest = others.abs().groupby(asked).max()
    by_task = (others - of_base).dropna().groupby([*asked, "task"]).mean()
    rows = {}
    for key, difference in by_task.groupby(asked):
        _, term, where = key
        difference = difference.droplevel(asked)
        at_base = base_by_task[term, where][difference.index].mean()
        margin = MARGIN if term == "score" else SHARE * abs(at_base)
        mean = over_data_sets(difference, 0 * difference)
        about = {"at_base": at_base, "largest": largest[key], "margin": margin}
        rows[key] = mean._asdict() | about | {"verdict": equivalence(mean, margin).verdict}
    columns = [*OverDataSets._fields, "at_base", "largest", "margin", "verdict"]
    index = pd.MultiIndex.from_tuples(rows, names=asked)
    return pd.DataFrame(list(rows.values()), index, columns)


def predictions() -> pd.DataFrame:
    """The predictions, as `choice`, `term`, `where`, `expected` (down, up, =, 0): `docs/predictions.md` as a table."""
    return pd.read_csv(ROOT / "docs" / "predictions.csv", dtype=str)


def outcomes(predicted: pd.DataFrame, changed: pd.DataFrame) -> pd.DataFrame:
    """What became of the predictions.

    Args:
        predicted: see `predictions`.
        changed: see `changes`.

    Returns:
        `predicted` with `change`, `low`, `high`, `at_base`, and `outcome`: `as predicted`, `not so`, or `open` where
        the interval allows both. Rows of choices that were not run are left out.
    """
    rows = []
    for row in predicted.itertuples(index=False):
        key = (row.choice, row.term, row.where)
        if key in changed.index:
            rows.append(row._asdict() | _outcome(row.expected, changed.loc[key]))
    return pd.DataFrame(rows, columns=[*predicted.columns, "change", "low", "high", "at_base", "outcome"])


def _outcome(expected: str, change: pd.Series) -> dict[str, object]:
    down, up = change.high < 0, change.low > 0
    holds, fails = {
        "down": (down, up or change.verdict == "level"),
        "up": (up, down or change.verdict == "level"),
        "=": (change.verdict == "level", change.verdict == "differs"),
        "0": (change.largest == 0, change.largest > 0),
    }[expected]
    outcome = "as predicted" if holds else "not so" if fails else "open"
    return {"change": change.difference, **change[["low", "high", "at_base"]].to_dict(), "outcome": outcome}


def draw_plane(axis: Axes, changed: pd.DataFrame, terms: tuple[Term, Term]) -> None:
    """Every choice as a point: the change of one term against that of another, the base at the origin.

    Nulls are crosses. The choices farthest from the base are named; where selection is drawn, nulls are named too, and
    a star is the oracle, which has no selection loss.

    Args:
        axis: to draw on.
        changed: see `changes`.
        terms: for `x` and `y`.
    """
    x, y = (changed.xs(each, level=["term", "where"]) for each in terms)
    both = pd.DataFrame({"x": x.difference, "y": y.difference}).dropna()
    for line in (axis.axhline, axis.axvline):
        line(0, color="0.7", linewidth=0.8, zorder=0)
    scaled = both / both.std()
    far = scaled.pow(2).sum(1).nlargest(NAMED).index
    selection, named = terms[1][0] == "S", []
    for name, place in both.sort_values("y", ascending=False).iterrows():
        null = name in NULLS
        axis.scatter(*place, s=26, marker="X" if null else "o", color=PALETTE["red" if null else "blue"])
        if (null and selection) or name in far:
            close = any((scaled.loc[name] - scaled.loc[other]).abs().lt((0.5, 0.3)).all() for other in named)
            axis.annotate(name, place, xytext=(4, -9 if close else 3), textcoords="offset points", fontsize=6.3)
            named.append(name)
    axis.margins(x=0.2)  # for the names on the right
    axis.scatter(0, 0, s=50, marker="D", color="black", zorder=3)
    if selection:
        oracle = -y.at_base.iloc[0]
        axis.scatter(0, oracle, s=90, marker="*", color="black", zorder=3)
        axis.annotate("oracle", (0, oracle), xytext=(6, -2), textcoords="offset points", fontsize=7)


def routers_in(changed: pd.DataFrame, experts: str) -> pd.DataFrame:
    """The changes of the routers on some experts, a key of `BASES`, by the router's own name, and of the nulls."""
    names = changed.index.get_level_values("method")
    if experts == "different filters":
        return changed[names.str.startswith(ON_FILTERS)].rename(
            lambda name: name.removeprefix(ON_FILTERS), level="method"
        )
    return changed[names.isin({*ROUTERS, *NULLS})]


def score_table(changed: pd.DataFrame) -> pd.DataFrame:
    """The changes of the scores in words: points with their 95 % interval, and the verdict, one column per demand."""
    scores = changed.xs("score", level="term")
    text = [f"{in_points(row.difference, row.low, row.high)} {row.verdict}" for row in scores.itertuples()]
    columns = ["clean", "shift", "masked", "deleted"]
    return pd.Series(text, scores.index).unstack("where").reindex(columns=columns)


def oracle_gains(headroom: pd.DataFrame) -> pd.DataFrame:
    """Scores of the oracle minus the router's as trained: points with their 95 % interval over data sets, by experts.

    Args:
        headroom: rows of `study.headroom.measured`, of at least two seeds.
    """
    asked, table = headroom[headroom.gate.isin(["oracle", "as trained"])], {}
    where = asked.condition.where(asked.condition == "clean", "shift").rename("where")
    for experts, method in BASES.items():
        scores = asked[asked.method == method].groupby(["task", "seed", where, "gate"]).score.min()
        found = scores.rename("value").rename_axis(index={"gate": "method"}).reset_index().assign(term="score")
        gains = changes(found, "as trained").loc["oracle", "score"]
        table[experts] = {row.Index: in_points(row.difference, row.low, row.high) for row in gains.itertuples()}
    return pd.DataFrame(table).T


def nulls_on(found: pd.DataFrame, task: str, base: str = "routed") -> pd.DataFrame:
    """Scores of the nulls on one data set minus the base's: points, with their 95 % interval over seeds, by demand."""
    scores = found[(found.task == task) & (found.term == "score")]
    table = pd.DataFrame(index=[name for name in NULLS if name in set(scores.method)])
    for where, part in scores.groupby("where", sort=False):
        overlap = split_overlap(task, demand=where)
        tests = [paired_difference(part, "value", name, base, overlap=overlap) for name in table.index]
        table[where] = [in_points(one.difference, one.low, one.high) for one in tests]
    return table


def cost_table(costs: pd.DataFrame, base: str = "routed") -> pd.DataFrame:
    """Parameters, operations and seconds of training as multiples of the base's: geometric means over data sets."""
    by_task = costs.groupby(["task", "method"])[["parameters", "MFLOP", "seconds"]].mean()
    ratios = by_task / by_task.xs(base, level="method")
    return np.exp(np.log(ratios).groupby("method").mean())
