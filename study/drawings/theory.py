"""Drawings of the two decompositions: paths with coverage and selection, and the four passes of sensitivity."""

from __future__ import annotations

from itertools import product

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from study.drawings.pieces import (
    AMPLIFICATION,
    BASE,
    EXPERT,
    GREY,
    INK,
    LARGE,
    MIXING,
    ROUTER,
    arrow,
    box,
    dark,
    line,
    say,
    sheet,
    tint,
)  # fmt: skip

# Of one instance: the gates of two layers, its loss on every path, its loss as routed.
GATES = ((0.2, 0.7, 0.1), (0.15, 0.6, 0.25))
LOSSES = dict(zip(product(range(3), repeat=2), (1.9, 1.3, 2.2, 1.6, 1.1, 1.75, 1.45, 2.05, 0.5), strict=True))
ROUTED = 0.8


def paths() -> Figure:
    """All paths through two layers of three experts, the top one and the best, and the loss that they split."""
    figure, axis = sheet(5.1)
    top, oracle = tuple(max(range(3), key=layer.__getitem__) for layer in GATES), min(LOSSES, key=LOSSES.__getitem__)
    place = {(layer, k): (1.95 + 1.7 * layer, 4.3 - 0.64 * k) for layer, k in product(range(2), range(3))}
    looks = {path: {"color": "0.8", "lw": 1, "zorder": 1} for path in LOSSES}
    looks |= {path: {"color": colour, "lw": 3.5, "zorder": 2} for path, colour in ((oracle, EXPERT), (top, ROUTER))}
    for (first, second), look in looks.items():
        line(axis, [(0.75, 3.66), place[0, first], place[1, second], (4.85, 3.66)], **look)
    for (layer, k), (x, y) in place.items():
        fill = tint(EXPERT, 0.08 + 0.6 * GATES[layer][k])
        box(axis, x, y, 1.02, 0.42, f"expert {k + 1}\ngate {GATES[layer][k]:.2f}", EXPERT, fc=fill, zorder=3)
    for layer in (0, 1):
        say(axis, place[layer, 0][0], 4.82, f"layer {layer + 1}", LARGE, fontweight="bold")
    say(axis, 0.45, 3.66, "input")
    say(axis, 5.15, 3.66, "loss")
    say(axis, 0.72, 4.3, "top path", color=dark(ROUTER), fontweight="bold")
    say(axis, 0.72, 3.02, "oracle path", color=dark(EXPERT), fontweight="bold")

    def at(loss: float) -> float:
        return 0.3 + 2.05 * loss

    line(axis, [(at(0), 1.85), (at(2.4), 1.85)], color=INK, lw=1)
    for path, loss in LOSSES.items():
        look = looks[path] | {"color": "0.6" if path not in (top, oracle) else looks[path]["color"]}
        line(axis, [(at(loss), 1.85), (at(loss), 2.08)], **look)
    for loss in (0, 0.5, 1, 1.5, 2):
        say(axis, at(loss), 1.7, f"{loss:g}")
    say(axis, at(2.4), 2.25, "loss on each of nine paths", ha="right")
    C, top_loss = LOSSES[oracle], LOSSES[top]
    parts = (
        (1.3, 0, C, EXPERT, f"coverage  $C$ = {C:.2f}"),
        (1.3, C, top_loss, ROUTER, f",  selection  $S$ = {top_loss - C:.2f}"),
        (0.85, ROUTED, top_loss, MIXING, f"mixing  $X$ = {ROUTED - top_loss:.2f}".replace("-", "−")),
        (0.4, 0, ROUTED, "0.4", f"risk  $R = C + S + X$ = {ROUTED:.2f}"),
    )
    for y, low, high, colour, _ in parts:
        axis.add_patch(Rectangle((at(low), y - 0.14), at(high) - at(low), 0.28, fc=colour, ec="white"))
    for y in (1.3, 0.85, 0.4):
        say(axis, 2.72, y, "".join(words for other, *_, words in parts if other == y), ha="left")
    return figure


def sensitivity() -> Figure:
    """Four passes as a square: the input moves along one side, the gates along the other."""
    figure, axis = sheet(4.35)
    left, right, high, low = 1.25, 4.35, 3.35, 1.3
    look = {"lw": 2.4, "arrowstyle": "-|>,head_length=6,head_width=3"}
    for place, text, words in (
        ((left, high), r"$f(x;\pi)$", "clean pass"),
        ((right, high), r"$f(x';\pi)$", "old gates"),
        ((left, low), r"$f(x;\pi')$", "new gates"),
        ((right, low), r"$f(x';\pi')$", "damaged pass"),
    ):
        box(axis, *place, 1.3, 0.62, fc="white", ec=INK, zorder=3)
        say(axis, place[0], place[1] + 0.12, text, LARGE, zorder=4)
        say(axis, place[0], place[1] - 0.15, words, zorder=4)
    for start, end, colour, dashed in (
        ((left + 0.65, high), (right - 0.66, high), BASE, False),
        ((right, high - 0.31), (right, low + 0.32), AMPLIFICATION, False),
        ((left, high - 0.31), (left, low + 0.32), AMPLIFICATION, True),
        ((left + 0.65, low), (right - 0.66, low), BASE, True),
    ):
        arrow(axis, start, end, color=colour, ls=(0, (2, 1.5)) if dashed else "-", **look)
    arrow(axis, (left + 0.5, high - 0.33), (right - 0.5, low + 0.33), color=GREY, **look)
    white = {"bbox": {"fc": "white", "ec": "none", "pad": 2}}
    for x, y, text, colour in (
        (2.8, high + 0.17, "base", BASE),
        (2.8, low - 0.18, "base", BASE),
        (right, 2.33, "amplification", AMPLIFICATION),
        (left, 2.33, "amplification", AMPLIFICATION),
        (2.8, 2.33, "whole change $D$", GREY),
    ):
        say(axis, x, y, text, color=dark(colour), **white)
    say(axis, 2.8, 4.1, r"input moves:  $x \rightarrow x'$", LARGE, fontweight="bold")
    say(axis, 0.2, 2.33, r"gates move:  $\pi \rightarrow \pi'$", LARGE, fontweight="bold", rotation=90)
    for y, dashes, text in (
        (0.55, "-", "sequential: the input first, then the gates"),
        (0.25, (0, (2, 1.5)), "the other order; symmetric is the mean of both"),
    ):
        line(axis, [(0.75, y), (1.25, y)], lw=2.4, ls=dashes, color=INK, solid_capstyle="butt")
        say(axis, 1.4, y, text, ha="left")
    return figure
