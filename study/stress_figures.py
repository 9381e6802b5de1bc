"""Figures of stress tests: severity, buckets, runs, and the balance of three demands, one colour per method."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stemlib.stress.shifts import Buckets
from study import figures
from study.figures import COLOURS

BY_METHOD = {"hue": "method", "palette": COLOURS, "ms": 5}
POINTS = {"linestyle": "none", "ms": 5.5, "mew": 0, "err_kws": {"linewidth": 1.8}}  # means with their intervals
FAR_OFF = "mlp"  # so far behind where edges matter that on its scale all others look alike
BALANCE = {"fit": "fit", "shift": "worst shifted bucket", "corruption": "mean over corruption"}
BUCKETS = {"OOD-low": "lowest 15 %", "clean": "ordinary", "OOD-high": "highest 15 %"}
DAMAGE = {"masked": "features masked", "deleted": "edges deleted"}
BUDGET = {"masked": "entries that are not 0", "deleted": "edges"}  # an adversary's


def draw_severity(axis: Axes, stress: pd.DataFrame, kind: str, less: str | None = None) -> None:
    """Score against the rate of one corruption, each method's mean over seeds with its 95 % interval.

    Args:
        axis: to draw on.
        stress: from `StressTest.scores`.
        kind: `masked` or `deleted`.
        less: a method whose score is subtracted run by run; then neither it nor an MLP, which is far off, is drawn.
    """
    rows = stress[stress.kind.isin(["clean", kind])]
    of_seed = rows.groupby(["method", "rate", "seed"], sort=False).score.mean()
    if less is not None:
        rest = [name for name in stress.method.unique() if name not in (less, FAR_OFF)]
        scores = of_seed.unstack("method")
        of_seed = scores[rest].sub(scores[less], axis=0).stack().rename("score")
        axis.axhline(0, color=COLOURS.get(less, "black"), linewidth=1.8)
    figures.draw_means(axis, of_seed.reset_index(), "score", **BY_METHOD)
    axis.set_xlabel(f"share of {DAMAGE[kind]}, at test only")


def draw_severities(parts: Sequence[tuple[str, pd.DataFrame, str]]) -> Figure:
    """`draw_severity` side by side; below, if there are several methods, the lead of each over a GCN, or the first.

    Args:
        parts: title, rows and corruption of each column.
    """
    names = [name for name in parts[0][1].method.unique() if name != FAR_OFF]
    less = "gcn" if "gcn" in names else next(iter(names), None)
    figure, axes = figures.panels(
        len(parts), 1 + (len(names) > 1), height=2.4, sharex="col", sharey="row", squeeze=False
    )
    for column, (title, rows, kind) in zip(axes.T, parts, strict=True):
        for axis, subtracted in zip(column, (None, less), strict=False):
            draw_severity(axis, rows, kind, subtracted)
        for above in column[:-1]:
            above.set_xlabel("")
        column[0].set_title(title)
    for axis, label in zip(axes[:, 0], ("test score, %", f"ahead of {less}, points"), strict=False):
        axis.set_ylabel(label)
    figures.legend_below(figure, axes[0, 0])
    return figure


def draw_damage(stress: pd.DataFrame, adversary: pd.DataFrame, kind: str) -> Figure:
    """One corruption at random, and what an adversary makes of the same budget, see `draw_severities`.

    Args:
        stress: from `StressTest.scores`.
        adversary: rows of `StressTest.worst_case`.
        kind: `masked` or `deleted`.
    """
    figure = draw_severities([("at random", stress, kind), ("worst case found", adversary, kind)])
    figure.axes[-1].set_xlabel(f"budget: share of the {BUDGET[kind]}")
    return figure


def draw_buckets(axis: Axes, stress: pd.DataFrame) -> None:
    """Score in the ordinary bucket and in the shifted ones, mean over seeds with its 95 % interval."""
    rows = stress[stress.kind.isin(["clean", "shift"])]
    sns.pointplot(
        rows, x="condition", y="score", hue="method", order=list(BUCKETS), palette=COLOURS, errorbar=figures.spread,
        dodge=0.5 * (rows.method.nunique() > 1), ax=axis, **POINTS,
    )  # fmt: skip
    figures.bare(axis)
    axis.set_xticks(range(len(BUCKETS)), BUCKETS.values())


def draw_along(axis: Axes, groups: pd.DataFrame) -> None:
    """Mean score of equally large groups of instances, in the order of a covariate, one line per method.

    Args:
        axis: to draw on.
        groups: from `StressTest.scores_along`.
    """
    means = groups.groupby(["method", groups.index], sort=False)[["covariate", "score"]].mean().reset_index()
    figures.draw_means(axis, means, "score", "covariate", errorbar=None, **BY_METHOD)


def draw_shift(stress: pd.DataFrame, groups: pd.DataFrame) -> Figure:
    """How much each method loses in the tails: scores by bucket, and along the covariate.

    Args:
        stress: from `StressTest.scores`.
        groups: see `draw_along`.
    """
    figure, (left, right) = figures.panels(2, height=3.0)
    (task,), (covariate,) = stress.task.unique(), stress.covariate.unique()
    draw_buckets(left, stress)
    left.set(ylabel="test score, %", title=f"{task}, {stress.seed.nunique()} seeds")
    draw_along(right, groups)
    right.set(xlabel=f"{'feature homophily' if covariate == 'homophily' else covariate} of an instance")
    figures.legend_below(figure, right)
    return figure


def draw_covariate(axis: Axes, buckets: Buckets) -> None:
    """How the covariate is distributed over instances and, dashed, where the tails begin."""
    sns.histplot(buckets.covariate.numpy(), bins=50, color=figures.PALETTE["grey"], alpha=1, ax=axis)
    for border in buckets.borders:
        axis.axvline(border, color="black", linestyle="--", linewidth=1)


def draw_runs(axis: Axes, found: pd.DataFrame) -> None:
    """Test score of each run, the mean with its 95 % interval, and, hollow, what selection on test would give.

    Args:
        axis: to draw on.
        found: rows of `study.records.table`: `model`, `test`, `test_best`.
    """
    sns.pointplot(found, x="model", y="test", hue="model", palette=COLOURS, errorbar=figures.spread, ax=axis, **POINTS)
    axis.plot(pd.factorize(found.model)[0] - 0.25, found.test, ".", color="black", ms=4)
    means = found.groupby("model", sort=False).test_best.mean()
    axis.scatter(np.arange(len(means)) + 0.25, means, c="none", edgecolors=[COLOURS[name] for name in means.index])
    axis.tick_params("x", rotation=45)
    axis.set(xlabel="", ylabel="test score, %")


def draw_balance(balance: pd.DataFrame) -> Figure:
    """Fit, worst shifted bucket and mean over corruptions: a bar at each method's mean, a point per seed.

    An MLP that is far below the others is shown as a number at the lower edge.

    Args:
        balance: from `three_way_balance`, of one task.
    """
    figure, axes = figures.panels(3)
    bar = {"linestyle": "none", "marker": "_", "ms": 20, "mew": 4}
    for axis, (part, title) in zip(axes, BALANCE.items(), strict=True):
        sns.pointplot(balance, x="method", y=part, hue="method", palette=COLOURS, errorbar=None, ax=axis, **bar)
        sns.stripplot(balance, x="method", y=part, color="black", size=3.5, jitter=False, zorder=3, ax=axis)
        figures.bare(axis)
        axis.tick_params("x", rotation=45 if balance.method.nunique() > 4 else 0)
        axis.set_title(title)
        others, far = (balance.loc[balance.method.eq(FAR_OFF) == is_far, part] for is_far in (False, True))
        room = 0.2 * (others.max() - others.min()) + 0.2
        if far.max() < others.min() - 3 * room:
            axis.set_ylim(others.min() - 2 * room, others.max() + room)
            place = list(balance.method.unique()).index(FAR_OFF)
            axis.text(place, others.min() - 1.7 * room, f"{far.mean():.0f} ↓", ha="center", color=COLOURS[FAR_OFF])
    axes[0].set_ylabel("test score, %")
    return figure
