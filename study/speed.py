"""Speed, from the tables that the benchmarks keep: which goals are met, and the figures of chapter 14."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from study import figures, paths

BENCHMARKS = paths.ROOT / "benchmarks"
WIDTHS = (768, 128)


def kept_tables() -> dict[str, pd.DataFrame]:
    """The tables of `benchmarks/*.csv` by name."""
    return {file.stem: pd.read_csv(file) for file in sorted(BENCHMARKS.glob("*.csv"))}


def by_algorithm(speed: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the reference's algorithm and of ours, one per case, with the seconds of an epoch."""
    speed = speed.assign(epoch_s=speed.train_s + speed.evaluate_s)
    theirs, ours = (speed[speed.algorithm == name].set_index("case") for name in ("reference", "ours"))
    return theirs, ours


def by_size(scaling: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row per number of nodes and kind of step, with memory in GB; and the slopes of log seconds, by kind."""
    whole = scaling.nodes == "slope"
    sizes = scaling[~whole].astype({"nodes": int})
    return sizes.assign(peak_gb=sizes.peak_mb / 1000), scaling[whole].set_index("steps")


def verdicts(tables: Mapping[str, pd.DataFrame], faster: pd.DataFrame) -> pd.DataFrame:
    """Every goal of the second round of work: `what`, what was `found`, the `goal`, and whether it is `met`.

    Args:
        tables: from `kept_tables`.
        faster: the goals for ratios, from `goals` of `benchmarks/speed.py`.
    """
    _, ours = by_algorithm(tables["speed"])
    sizes, slopes = by_size(tables["scaling"])
    pretraining = tables["pretraining"].query("algorithm == 'ours'").set_index("width").times_faster
    peers = tables["peers"].query("method == 'stem'")
    wide, whole = ours[ours.width == WIDTHS[0]], sizes[sizes.steps == "whole"]
    at_least = [(f"{row.what}: times faster", row.found, row.goal) for row in faster.itertuples()]
    at_least += [(f"training step, {case}: share of peak", row.train_peak_share, 0.6) for case, row in wide.iterrows()]
    at_least += [(f"pretraining step, {width}: times faster", pretraining[width], 2.0) for width in WIDTHS]
    at_most = [
        (f"{row.report}, {row.width}: evaluations", max(row.in_forwards, row.in_predicts), row.limit)
        for row in tables["theory"].itertuples()
    ]
    both = [(steps, name) for steps in slopes.index for name in ("train", "evaluate")]
    at_most += [(f"slope of {name}, {steps}", slopes.loc[steps, f"{name}_s"], 1.1) for steps, name in both]
    at_most += [
        (f"epoch on {row.task}, in those of PyG's GraphSAGE", row.times_sage, 2.0) for row in peers.itertuples()
    ]
    at_most += [("memory, arxiv-128, GB", ours.peak_mb["arxiv-128"] / 1000, 5.3)]
    at_most += [("memory at a million nodes, GB", whole.peak_gb.max(), 20.0)]
    rows = [(what, found, f"≥ {goal:g}", found >= goal) for what, found, goal in at_least]
    rows += [(what, found, f"≤ {goal:g}", found <= goal) for what, found, goal in at_most]
    return pd.DataFrame(rows, columns=["what", "found", "goal", "met"])


def draw_epochs(theirs: pd.DataFrame, ours: pd.DataFrame) -> Figure:
    """Seconds of an epoch and of its training step by case, of the reference's algorithm and of ours.

    Args:
        theirs, ours: from `by_algorithm`.
    """
    figure, axis = figures.panels(height=3.4)
    times, places = theirs.epoch_s / ours.epoch_s, np.arange(len(ours))
    for name, table, shift, colour in (("reference", theirs, -0.15, "0.45"), ("ours", ours, 0.15, "C0")):
        look = {"color": colour, "ms": 8}
        axis.plot(places + shift, table.epoch_s, "o", label=f"{name}: epoch with evaluation", **look)
        axis.plot(places + shift, table.train_s, "o", mfc="none", label=f"{name}: training step alone", **look)
    for place, case in enumerate(ours.index):
        axis.text(place + 0.25, ours.epoch_s[case], f"{times[case]:.1f}×", va="center", fontweight="bold")
    axis.set(yscale="log", ylabel="seconds of an epoch", xticks=places, xticklabels=ours.index)
    title = f"An epoch is {times.min():.1f} to {times.max():.1f} times faster than by the reference's algorithm"
    axis.set(xlim=(-0.5, len(ours) - 0.3), title=title)
    axis.yaxis.set_major_formatter("{x:g}")
    axis.grid(axis="x", visible=False)
    figures.legend_below(figure, axis, columns=2)
    return figure


def draw_scaling(sizes: pd.DataFrame, slopes: pd.DataFrame) -> Figure:
    """Seconds of training and evaluation, and memory, by number of nodes, both axes logarithmic.

    Args:
        sizes, slopes: from `by_size`.
    """
    figure, axes = figures.panels(3, height=2.9)
    looks = {"whole": ("o", "-", figures.PALETTE["blue"]), "batches": ("s", "--", figures.PALETTE["orange"])}
    titles = {"train_s": "training on half, s", "evaluate_s": "evaluation of half, s", "peak_gb": "peak memory, GB"}
    for axis, (value, title) in zip(axes, titles.items(), strict=True):
        for steps, part in sizes.groupby("steps", sort=False):
            marker, line, colour = looks[steps]
            label = steps if value == "peak_gb" else f"{steps}: slope {slopes.loc[steps, value]:.2f}"
            axis.loglog(part.nodes, part[value], marker=marker, linestyle=line, color=colour, label=label)
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.set(title=title, xlabel="nodes")
        axis.legend(fontsize="x-small", loc="lower right")
    axes[2].set_yticks([0.5, 1, 2, 4, 8])
    return figure
