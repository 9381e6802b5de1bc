"""Drawings of procedures: the loop of pretraining, and the protocol of the stress tests."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from stemlib.presets import PretrainConfig
from stemlib.stress.shifts import TAIL
from study.drawings.pieces import (
    EXPERT,
    HEAD,
    INK,
    LARGE,
    OWN,
    TOKEN,
    arrow,
    bar,
    box,
    dark,
    line,
    name,
    say,
    sheet,
    small_graph,
    tint,
)  # fmt: skip
from study.figures import PALETTE

DELETED = (1, 3, 4)  # edges
AT_TESTED = (1, 3)  # of these, the ones with an end at the node under test
EDGE = NormalDist().inv_cdf(1 - TAIL)


def pretraining() -> Figure:
    """One step of pretraining: a student reads a damaged view, and a teacher, which follows it, the whole graph."""
    figure, axis = sheet(4.85)
    high, low, usual = 3.35, 1.35, PretrainConfig()
    box(axis, 0.6, 4.4, 0.9, 0.5, "pool of\ngraphs", "0.5")
    arrow(axis, (0.6, 4.15), (0.6, 2.83))
    small_graph(axis, 0.6, 2.35, 0.42)
    say(axis, 0.6, 1.7, "a batch of\none data set")
    for y, graph in ((high, {"missing": DELETED, "masked": [90] * 5}), (low, {})):
        arrow(axis, (0.98, 2.45 if y == high else 2.25), (1.3, y - 0.2 if y == high else y + 0.2))
        small_graph(axis, 1.7, y, 0.36, **graph)
        arrow(axis, (2.04, y), (2.24, y))
    say(axis, 1.7, high + 0.56, "a view: parts\nare left out", va="bottom")
    say(axis, 1.7, low - 0.46, "as it is", va="top")

    box(axis, 3.09, high, 1.78, 1.0, fc="white", ec=INK, ls=(0, (3, 2)))
    say(axis, 3.09, high - 0.66, "student: kept", fontweight="bold")
    box(axis, 2.66, high, 0.78, 0.6, "encoder", EXPERT)
    arrow(axis, (3.05, high), (3.25, high))
    box(axis, 3.57, high, 0.62, 0.6, "tokens", TOKEN)
    box(axis, 2.66, low, 0.78, 0.6, "teacher", EXPERT, fc="white")
    arrow(axis, (2.66, high - 0.8), (2.66, low + 0.31), color=EXPERT, ls=(0, (2, 1.5)))
    say(axis, 2.78, 2.0, f"moving average,\n{usual.teacher_decay:g} of itself", ha="left", color=dark(EXPERT))

    arrow(axis, (3.98, high), (4.2, high))
    box(axis, 4.86, high, 1.3, 1.72, fc="white", ec="0.7")
    say(axis, 4.86, high + 0.66, "decoders", LARGE, fontweight="bold")
    for place, loss in enumerate(("feature", "edge", "edge_feature", "teacher")):
        at = high + 0.34 - 0.34 * place
        box(axis, 4.86, at, 1.12, 0.27, colour=HEAD)
        name(axis, 4.86, at, loss)
    bar(axis, 3.57, low, (0.2, 0.8, 0.4, 0.9), EXPERT)
    arrow(axis, (3.05, low), (3.46, low))
    line(axis, [(3.68, low), (4.86, low)])
    arrow(axis, (4.86, low), (4.86, high - 0.87))
    say(axis, 4.1, low - 0.2, "target", va="top")
    line(axis, [(4.86, high + 0.86), (4.86, 4.6), (2.66, 4.6)], color=HEAD)
    arrow(axis, (2.66, 4.6), (2.66, high + 0.51), color=HEAD)
    say(axis, 3.76, 4.44, "AdamW on the weighted loss", color=dark(HEAD))
    say(axis, 2.8, 0.3, "also in the loss: commitment, orthogonality of codes, routing")
    return figure


def protocol() -> Figure:
    """What a network is trained on, what shifts, what is damaged: the nine conditions that a frozen network meets."""
    figure, axis = sheet(6.3)
    parts = {
        "OOD-low": (-2.6, -EDGE, PALETTE["blue"]),
        "ID": (-EDGE, EDGE, "0.5"),
        "OOD-high": (EDGE, 2.6, PALETTE["orange"]),
    }
    for words, (low, high, colour) in parts.items():
        x = np.linspace(low, high, 60)
        axis.fill_between(2.8 + 0.95 * x, 4.95, 4.95 + 0.95 * np.exp(-(x**2) / 2), color=tint(colour, 0.5), lw=0)
        share = 1 - 2 * TAIL if words == "ID" else TAIL
        name(axis, 2.8 + 0.95 * (low + high) / 2, 5.3, f"{words}\n{share:.0%}", fontweight="bold", color=dark(colour))
    say(axis, 2.8, 6.12, "instances, by degree or by homophily", LARGE, fontweight="bold")
    start, width = 2.8 - 0.95 * EDGE, 1.9 * EDGE
    for first, share, words, fill in ((0, 2, "train", "0.35"), (2, 1, "val", "0.65"), (3, 1, "test", "0.85")):
        axis.add_patch(Rectangle((start + first * width / 4, 4.35), share * width / 4, 0.42, fc=fill, ec="white"))
        x, ink = start + (first + share / 2) * width / 4, INK if first else "white"
        say(axis, x, 4.56, f"{words}\n{25 * share} %", color=ink, linespacing=1.1)
    arrow(axis, (start + 0.375 * width, 4.35), (start + 0.375 * width, 3.98))
    box(axis, 2.8, 3.78, 4.9, 0.36, "train, choose settings and the epoch, then freeze the network", OWN)
    met = {
        "as it is": {},
        "features masked": {"masked": (20,)},  # of the nodes under test alone
        "edges deleted": {"missing": AT_TESTED},
    }
    say(axis, 0.55, 3.2, "blue: a node\nunder test")
    for column, (words, damage) in enumerate(met.items()):
        x = 1.75 + 1.4 * column
        arrow(axis, (x, 3.59), (x, 3.36))
        say(axis, x, 3.2, words, fontweight="bold")
        for row, (who, (*_, colour)) in enumerate((("clean", parts["ID"]), *list(parts.items())[::2])):
            y = 2.58 - 0.98 * row
            box(axis, x, y, 1.3, 0.88, colour=colour)
            small_graph(axis, x, y, 0.42, **damage)
            if column == 0:
                name(axis, 0.55, y + 0.11, who, fontweight="bold", color=dark(colour))
                say(axis, 0.55, y - 0.11, "all of it" if row else "test of ID")
    return figure
