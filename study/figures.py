"""One look for every figure: sizes, colours, lines with bands, and where a figure is saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stemlib.report.style import COLOURS as COLOURS
from stemlib.report.style import PALETTE as PALETTE
from stemlib.report.style import use_style as use_style
from study.paths import FIGURES, run_folder
from study.statistics import interval

WIDTH = 7.0  # inches: a notebook's column
ROW_HEIGHT = 2.8


def panels(columns: int = 1, rows: int = 1, *, height: float = ROW_HEIGHT, **kwargs: object) -> tuple[Figure, Axes]:
    """A figure of the column's width with `rows x columns` axes, as `plt.subplots` gives them."""
    return plt.subplots(rows, columns, figsize=(WIDTH, height * rows), **kwargs)


def save(figure: Figure, name: str, kinds: Sequence[str] = ("png",)) -> Path:
    """Write `figures/<name>.<kind>`, or, for a run with other parameters, into its own folder; the last file's path.

    The files hold no date, no software version and no random names, so that the same figure is the same file.
    """
    folder = run_folder() or FIGURES
    folder.mkdir(parents=True, exist_ok=True)
    for kind in kinds:
        path = folder / f"{name}.{kind}"
        figure.savefig(path, metadata={"Date": None} if kind == "svg" else {"Software": None})
    return path


def spread(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of a mean, for its bar or band; for two runs, whose interval is 25 errors wide, their range."""
    values = list(values)
    return interval(values) if len(values) > 2 else (min(values), max(values))


def draw_means(axis: Axes, rows: pd.DataFrame, y: str, x: str = "rate", **look: object) -> None:
    """A line through the means at each `x`, with a band of their 95 % intervals, see `spread`.

    Args:
        axis: to draw on; its labels and legend are the caller's.
        rows: one per measurement, such as a seed.
        y, x: columns.
        look: for seaborn's `lineplot`, such as `hue` for one line per value.
    """
    usual = {"errorbar": spread, "err_kws": {"alpha": 0.15, "linewidth": 0}, "marker": "o"}
    sns.lineplot(rows, x=x, y=y, ax=axis, **usual | look)
    bare(axis)


def bare(axis: Axes) -> None:
    """Remove the labels and the legend that seaborn made from column names."""
    axis.set(xlabel="", ylabel="")
    if axis.get_legend():
        axis.get_legend().remove()


def legend_below(figure: Figure, axis: Axes, columns: int = 5) -> None:
    """One panel's legend below all of them."""
    figure.legend(*axis.get_legend_handles_labels(), ncols=columns, loc="outside lower center")


def label_panels(axes: Sequence[Axes]) -> None:
    """Letters a, b, c, ... at the panels' upper left corners."""
    for letter, axis in zip("abcdefghij", axes, strict=False):
        axis.set_title(letter, loc="left", fontweight="bold")
