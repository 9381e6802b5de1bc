"""The report card's figures: narrow, so that their type can be read on a phone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stemlib.audit.found import Found
from stemlib.audit.measure import MAJORITY, SHARE, Certified
from stemlib.audit.statistics import interval
from stemlib.files import write_atomically
from stemlib.report import words
from stemlib.report.style import COLOURS, DARK, PALETTE, use_style
from stemlib.report.words import method, who
from stemlib.stress.shifts import in_words

WIDTH = 4.4  # inches
ROW = 0.26  # of a horizontal bar or point
NEAR = 10.0  # points of validation behind the chosen method, within which a method can be the choice
OF_METHODS = {"routed": DARK["purple"], "stacked": PALETTE["blue"]}  # far from the mixture's red
PARTS = {"dC": "coverage", "dS": "selection", "dX": "mixing"}


def colour(name: str) -> tuple[float, float, float]:
    """A method's colour."""
    return OF_METHODS.get(name, COLOURS.get(name, (0.2, 0.2, 0.2)))


def _panels(rows: int, height: float) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, squeeze=False)[:, 0]


def _points(axis: Axes, labels: Sequence[str], middle: Sequence[float], ends: np.ndarray, colours: Sequence) -> None:
    """Means with their intervals `[n, 2]`, the first row on top."""
    places = np.arange(len(labels))[::-1]
    for place, value, (low, high), shade in zip(places, middle, ends, colours, strict=True):
        axis.plot([low, high], [place, place], color=shade, linewidth=2)
        axis.plot(value, place, "o", color=shade, markersize=5)
    axis.set_yticks(places, labels)
    axis.set_ylim(-0.6, len(labels) - 0.4)


def _ends(values: pd.Series) -> tuple[float, float]:
    return interval(values) if len(values) > 2 else (values.min(), values.max())


def _fit(found: Found) -> Figure:
    figure, (axis,) = _panels(1, 0.8 + ROW * len(found.methods))
    scores = [found.of(name, "clean") for name in found.methods]
    ends = np.array([_ends(values) for values in scores])
    names = found.methods
    _points(axis, [method(name) for name in names], [one.mean() for one in scores], ends, [colour(n) for n in names])
    axis.axvline(found.of(MAJORITY, "clean").mean(), color="black", linestyle=":", label=method(MAJORITY))
    axis.set_xlabel("test score")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center")
    return figure


def _losses(found: Found) -> Figure | None:
    figure, axes = _panels(2, 4.6)
    for axis, (damage, what) in zip(axes, words.DAMAGE.items(), strict=True):
        rows = found.scores[found.scores.kind.isin(["clean", damage])]
        for name in [*found.methods, MAJORITY]:
            means = rows[rows.method == name].groupby("rate").score.mean()
            look = {"linestyle": ":", "color": "black"} if name == MAJORITY else {"marker": "o", "color": colour(name)}
            width = 2.4 if name == found.chosen else 1.0  # others may lie right beneath
            axis.plot(means.index, means, label=method(name), markersize=3, linewidth=width, **look)
        axis.set(xlabel=f"share of {what} missing", ylabel="score")
    figure.legend(*axes[0].get_legend_handles_labels(), ncols=2, loc="outside lower center")
    return figure


def _shifts(found: Found) -> Figure | None:
    shifts = [key for key in found.met() if key[0] in ("shift", "other graph")]
    if not shifts:
        return None
    figure, (axis,) = _panels(1, 1.4 + 1.4 * ROW * len(shifts))
    places = np.arange(len(shifts))[::-1]
    apart = np.linspace(0.3, -0.3, len(found.methods)) if len(found.methods) > 1 else [0.0]
    for name, above in zip(found.methods, apart, strict=True):
        values = [(found.of(name, *key[:2]) - found.of(name, key[2])).mean() for key in shifts]
        axis.plot(values, places + above, "o", color=colour(name), markersize=4, label=method(name))
    axis.set_yticks(places, [who(found.task, condition) for _, condition, _ in shifts])
    axis.axvline(0, color="grey", linewidth=1)
    axis.set(xlabel="points gained or lost", ylim=(-0.6, len(shifts) - 0.4))
    figure.legend(*axis.get_legend_handles_labels(), ncols=2, loc="outside lower center")
    return figure


def _parts(found: Found) -> Figure | None:
    if found.decomposition.empty:
        return None
    table = found.decomposition[found.decomposition.condition != "clean"]
    means = table.groupby("condition", sort=False)[list(PARTS)].mean()
    figure, (axis,) = _panels(1, 1.1 + ROW * len(means))
    places, above, below = np.arange(len(means))[::-1], np.zeros(len(means)), np.zeros(len(means))
    for part, name in PARTS.items():
        values = means[part].to_numpy()
        axis.barh(places, values, left=np.where(values >= 0, above, below), color=COLOURS[name], label=name, height=0.6)
        above, below = above + values.clip(min=0), below + values.clip(max=0)
    axis.set_yticks(places, [who(found.task, condition) for condition in means.index])
    axis.axvline(0, color="grey", linewidth=1)
    axis.locator_params(axis="x", nbins=5)
    axis.set_xlabel("loss added (nats)")
    figure.legend(*axis.get_legend_handles_labels(), ncols=3, loc="outside lower center")
    return figure


def _stable(found: Found) -> Figure | None:
    test = found.risk[found.risk.part == "test"]
    if found.task.regression or test.empty:
        return None
    seen = Certified(f"kept in every draw ({100 * SHARE:.0f} %)", int((test.flips == 0).sum()), len(test))
    shares = [seen] + [one._replace(budget=f"proved: one {one.budget}") for one in found.certified if not one.refused]
    figure, (axis,) = _panels(1, 0.7 + ROW * len(shares))
    ends = 100 * np.array([one.interval for one in shares])
    middle = [100 * one.held / one.asked for one in shares]
    _points(axis, [one.budget for one in shares], middle, ends, [PALETTE["blue"]] * len(shares))
    axis.set(xlabel="share of the test, %", xlim=(-3, 103))
    return figure


def _risk(found: Found) -> Figure | None:
    rows = found.signals[found.signals.part == "test"]
    if rows.empty:
        return None
    failures = [one for one in ("error", "flip") if (rows.failure == one).any()]
    figure, axes = _panels(len(failures), 0.7 + len(failures) * (0.6 + ROW * rows.signal.nunique()))
    for axis, failure in zip(axes, failures, strict=True):
        some = rows[rows.failure == failure].sort_values("auroc", ascending=False)
        labels = [in_words(name.removesuffix("_tenth")) for name in some.signal]
        _points(axis, labels, some.auroc, some[["low", "high"]].to_numpy(), [PALETTE["red"]] * len(some))
        axis.axvline(0.5, color="grey", linewidth=1)
        axis.set_title("finds errors" if failure == "error" else "finds changes under damage", loc="left")
    axes[-1].set_xlabel("AUROC on test")
    return figure


def _choice(found: Found) -> Figure | None:
    stress = found.scores[~found.scores.kind.isin(["clean", "inside", "filtered"])]
    if len(found.methods) < 2:
        return None
    figure, (axis,) = _panels(1, 3.2)
    val = {name: found.of(name, "clean", value="val").mean() for name in found.methods}
    far = [name for name in val if val[name] < val[found.chosen] - NEAR]
    for name, x in val.items():
        y = stress[stress.method == name].score.mean()
        if name in far:
            continue
        axis.plot(x, y, "o" if name != found.chosen else "*", markersize=6 if name != found.chosen else 14,
                  color=colour(name), linestyle="none", label=method(name))  # fmt: skip
    axis.set(xlabel="validation score", ylabel="score under stress (mean)")
    axis.margins(0.15)
    if far:
        axis.set_title(
            f"more than {NEAR:.0f} points behind: {words.listed([method(name) for name in far])}", loc="left"
        )
    figure.legend(*axis.get_legend_handles_labels(), ncols=2, loc="outside lower center")
    return figure


def _watch(found: Found) -> Figure | None:
    rows = found.watch.sort_values("rise", ascending=False)
    if rows.empty:
        return None
    scale = 1 if found.task.regression else 100
    figure, (axis,) = _panels(1, 0.7 + ROW * len(rows))
    sides = {"low": "below", "high": "above"}
    labels = [f"{in_words(row.covariate)} {sides[row.end]} {row.border:.3g}" for row in rows.itertuples()]
    shades = [PALETTE["red"] if sure == sure else PALETTE["grey"] for sure in rows.alarm]
    ends = scale * rows[["low", "high"]].fillna(0).to_numpy()
    _points(axis, labels, scale * rows.rise, ends, shades)
    axis.axvline(0, color="grey", linewidth=1)
    axis.set_xlabel("added error" + ("" if found.task.regression else ", points"))
    return figure


FIGURES: dict[str, Callable[[Found], Figure | None]] = {
    "fit": _fit, "losses": _losses, "losses-shift": _shifts, "parts": _parts, "stable": _stable, "risk": _risk,
    "choice": _choice, "watch": _watch,
}  # fmt: skip


def draw(found: Found, folder: Path) -> dict[str, Path]:
    """Write every figure that has something to show, as SVG and PNG; the SVGs' paths by name."""
    paths: dict[str, Path] = {}
    with mpl.rc_context():
        use_style()
        mpl.rcParams.update({"font.size": 9, "savefig.dpi": 110, "axes.labelsize": 9, "xtick.labelsize": 8.5,
                             "ytick.labelsize": 8.5, "legend.fontsize": 8.5, "axes.titlesize": 9})  # fmt: skip
        for name, make in FIGURES.items():
            figure = make(found)
            if figure is None:
                continue
            for form, about in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
                with write_atomically(folder / f"{name}.{form}") as temporary:
                    figure.savefig(temporary, format=form, metadata=about)
            paths[name] = folder / f"{name}.svg"
    return paths
