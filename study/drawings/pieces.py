"""What drawings are made of: a sheet measured in inches, boxes, arrows, texts in two sizes, and small graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle, Wedge
from matplotlib.text import Text

from study.figures import PALETTE

WIDE = 5.6  # inches; on a phone the smaller text is then as large as a page's footnote
LARGE, SMALL = 10.5, 9.0  # points, the only sizes
INK, GREY = "0.15", "0.45"
ROUTER, EXPERT, TOKEN, HEAD = (PALETTE[name] for name in ("orange", "blue", "brown", "green"))
BASE, AMPLIFICATION, MIXING = (PALETTE[name] for name in ("purple", "red", "green"))
EDGES = ((0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (3, 4))  # of the small graph, node 0 in its middle
OWN = PALETTE["cyan"]  # the node that is looked at
PLACES = np.array([[0, 0], [-0.75, 0.55], [0.45, 0.8], [0.8, -0.35], [-0.4, -0.8]])


def tint(colour: Any, strength: float = 0.16) -> Any:
    """A colour mixed with white."""
    return tuple(1 - strength * (1 - part) for part in to_rgb(colour))


Point = tuple[float, float]


def sheet(height: float) -> tuple[Figure, Axes]:
    """An empty drawing whose coordinates are inches from its lower left corner."""
    figure = plt.figure(figsize=(WIDE, height))
    figure.set_layout_engine("none")
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, WIDE), ylim=(0, height))
    axis.axis("off")
    return figure, axis


def dark(colour: Any) -> Any:
    """A colour dark enough for text on white or on its own tint."""
    return tuple(0.62 * part for part in to_rgb(colour))


def say(axis: Axes, x: float, y: float, text: str, size: float = SMALL, **look: Any) -> Text:
    """A text with its middle at a point, unless `ha` or `va` say otherwise."""
    usual = {"ha": "center", "va": "center", "color": INK, "linespacing": 1.3, "fontsize": size}
    return axis.text(x, y, text, **usual | look)


def name(axis: Axes, x: float, y: float, text: str, **look: Any) -> Text:
    """A name or a shape from the code."""
    return say(axis, x, y, text, **{"family": "monospace", "fontsize": SMALL} | look)


def box(
    axis: Axes, x: float, y: float, width: float, height: float, text: str = "", colour: Any = GREY, **look: Any
) -> None:
    """A rounded box with its middle at a point."""
    look = {"fc": tint(colour), "ec": colour, "lw": 1.2} | look
    corner = (x - width / 2, y - height / 2)
    axis.add_patch(FancyBboxPatch(corner, width, height, "round,pad=0,rounding_size=0.07", **look))
    if text:
        say(axis, x, y, text, zorder=look.get("zorder", 3))


def arrow(axis: Axes, start: Point, end: Point, bend: float = 0.0, **look: Any) -> None:
    """An arrow from point to point."""
    usual = {"color": GREY, "lw": 1.3, "arrowstyle": "-|>,head_length=4,head_width=2.2", "shrinkA": 0, "shrinkB": 0}
    axis.add_patch(FancyArrowPatch(start, end, connectionstyle=f"arc3,rad={bend}", **usual | look))


def line(axis: Axes, points: Sequence[Point], **look: Any) -> None:
    """A line through points."""
    axis.plot(*zip(*points, strict=True), **{"color": GREY, "lw": 1.2, "solid_capstyle": "round"} | look)


def small_graph(
    axis: Axes, x: float, y: float, size: float, missing: Sequence[int] = (), masked: Sequence[float] = ()
) -> None:
    """Five nodes around a point; `missing` edges are dashed, and nodes lack features from the angles `masked` on."""
    places = np.array([x, y]) + size * PLACES
    for place, (one, other) in enumerate(EDGES):
        gone = place in missing
        line(axis, places[[one, other]], color="0.75" if gone else GREY, ls=(0, (2, 2)) if gone else "-", zorder=2)
    for node, place in enumerate(places):
        axis.add_patch(Circle(place, 0.2 * size, fc=tint("0.4", 0.35) if node else OWN, ec="none", zorder=3))
        for start in masked[node : node + 1]:
            axis.add_patch(Wedge(place, 0.2 * size, start, start + 150, fc="white", ec=INK, lw=0.5, zorder=3))
        axis.add_patch(Circle(place, 0.2 * size, fc="none", ec=INK, lw=0.8 if node else 2, zorder=3))


def bar(axis: Axes, x: float, y: float, values: Sequence[float], colour: Any, cell: float = 0.13) -> None:
    """A vector as a column of cells, darker where it is larger, with its middle at a point."""
    for place, value in enumerate(values):
        corner = (x - cell / 2, y + cell * (len(values) / 2 - place - 1))
        axis.add_patch(Rectangle(corner, cell, cell, fc=tint(colour, 0.1 + 0.8 * value), ec=colour, lw=0.8, zorder=3))
