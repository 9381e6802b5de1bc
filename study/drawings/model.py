"""Drawings of the networks: STEM-GNN, one routed layer, its tokens, and the mixture of filters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle, Wedge

from stemlib.model.filter_networks import NETWORK_FILTERS
from stemlib.theory.certificates import TokenCertificate
from study.drawings.pieces import (
    EXPERT,
    GREY,
    HEAD,
    LARGE,
    OWN,
    ROUTER,
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

GATES = (0.25, 0.6, 0.15)  # of the drawn node
CODES = (5, 75, 150, 215, 295)  # degrees of a head's five codes on the circle
QUERY, NEAR, FAR = 24, 34, 55  # of a query, and where two perturbations move it


def _layer(axis: Axes, x: float, y: float, title: str) -> None:
    """A small routed layer, its middle expert at a point: a router above experts, the darker the larger their gates."""
    box(axis, x, y + 0.39, 1.48, 1.9, fc="white", ec="0.7")
    say(axis, x, y + 1.15, title, LARGE, fontweight="bold")
    box(axis, x, y + 0.79, 0.86, 0.28, "router", ROUTER)
    for k, gate in enumerate(GATES):
        up = y + 0.33 * (1 - k)
        line(axis, [(x - 0.43, y + 0.79), (x - 0.6, y + 0.79), (x - 0.6, up)], color=ROUTER, lw=1)
        arrow(axis, (x - 0.6, up), (x - 0.42, up), color=ROUTER, lw=0.8 + 3 * gate)
        line(axis, [(x + 0.43, up), (x + 0.59, up), (x + 0.59, y), (x + 0.74, y)], color=EXPERT, lw=0.8 + 3 * gate)
        box(axis, x, up, 0.86, 0.27, f"expert {k + 1}", EXPERT, fc=tint(EXPERT, 0.08 + 0.6 * gate))


def stem() -> Figure:
    """STEM-GNN from a node's features to its logits, with the names that the code uses."""
    figure, axis = sheet(4.9)
    top, low = 3.44, 1.12
    small_graph(axis, 0.55, top, 0.42)
    name(axis, 0.55, top + 0.58, "graph.x")
    arrow(axis, (0.98, top), (1.24, top))
    _layer(axis, 2.0, top, "layer 1")
    arrow(axis, (2.74, top), (3.08, top))
    _layer(axis, 3.84, top, "layer 2")
    arrow(axis, (4.58, top), (4.92, top))
    bar(axis, 5.06, top, (0.2, 0.8, 0.4, 0.9, 0.1, 0.5), "0.5")
    name(axis, 2.92, top - 0.75, "encoder: gates [N, K] of every layer")
    name(axis, 5.06, top + 0.58, "z [N, d]")
    line(axis, [(5.06, top - 0.43), (5.06, 2.45), (0.55, 2.45)])
    arrow(axis, (0.55, 2.45), (0.55, low + 0.75))

    name(axis, 0.55, low + 0.6, "read_out")
    bar(axis, 0.55, low, (0.3, 0.7, 0.5, 0.8, 0.2, 0.6), OWN)
    name(axis, 0.55, low - 0.6, "embedding\n[M, d]", va="top")
    arrow(axis, (0.68, low), (1.24, low))
    box(axis, 2.0, low + 0.15, 1.48, 1.6, fc="white", ec="0.7")
    say(axis, 2.0, low + 0.73, "tokens", LARGE, fontweight="bold")
    for head, code in enumerate((7, 2, 11)):
        up = low + 0.38 * (1 - head)
        box(axis, 1.58, up, 0.4, 0.28, f"$u_{head + 1}$", TOKEN, fc="white")
        arrow(axis, (1.79, up), (2.02, up), color=TOKEN)
        box(axis, 2.33, up, 0.62, 0.28, f"code {code}", TOKEN)
    name(axis, 2.0, low - 0.8, "indices [M, H]")
    arrow(axis, (2.74, low), (3.08, low))
    box(axis, 3.84, low + 0.15, 1.48, 1.6, fc="white", ec="0.7")
    say(axis, 3.84, low + 0.73, "head", LARGE, fontweight="bold")
    box(axis, 3.84, low, 1.28, 1.02, "one linear map\nof all codes,\nits size penalised", HEAD)
    arrow(axis, (4.58, low), (4.84, low))
    _logits(axis, 4.9, low, (0.3, 0.6, 0.16), HEAD)
    name(axis, 5.12, low - 0.36, "logits\n[M, classes]", va="top")
    return figure


def routed_layer() -> Figure:
    """One routed layer at one node: what is read, what mixes it, what comes out."""
    figure, axis = sheet(3.75)
    middle, x_in, x_gate, x_sum, up, above = 1.72, 1.7, 3.66, 4.3, 2.95, 3.5
    small_graph(axis, 0.6, middle, 0.5)
    say(axis, 0.6, middle + 0.68, "node $x_i$", color=dark(OWN))
    say(axis, 0.6, middle - 0.68, "neighbours $x_j$")
    arrow(axis, (0.71, middle + 0.06), (x_in - 0.1, middle + 0.28), color=OWN)
    arrow(axis, (1.08, middle - 0.29), (x_in - 0.1, middle - 0.29))
    bar(axis, x_in, middle + 0.29, (0.9, 0.3, 0.6, 0.1), OWN)
    bar(axis, x_in, middle - 0.29, (0.5, 0.2, 0.7, 0.4), "0.5")
    name(axis, x_in, middle - 0.72, "mean")
    line(axis, [(x_in, middle + 0.55), (x_in, above), (x_sum, above)], color=OWN)
    arrow(axis, (x_sum, above), (x_sum, middle + 0.16), color=OWN)
    say(axis, 3.0, above - 0.15, "residual, where widths match", color=dark(OWN))
    arrow(axis, (x_in, up), (2.34, up), color=OWN)
    box(axis, 2.76, up, 0.84, 0.34, "router", ROUTER)
    line(axis, [(3.18, up), (x_gate, up), (x_gate, middle - 0.56)], color=ROUTER)
    say(axis, x_gate - 0.1, up - 0.16, "gates", color=dark(ROUTER), ha="right")
    for k, gate in enumerate(GATES):
        at, width = middle + 0.56 * (1 - k), 0.8 + 5 * gate
        arrow(axis, (x_in + 0.1, middle), (2.34, at))
        line(axis, [(3.1, at), (x_gate, at), (x_sum, middle)], color=EXPERT, lw=width, zorder=1)
        box(axis, 2.76, at, 0.84, 0.36, f"expert {k + 1}", EXPERT, fc=tint(EXPERT, 0.08 + 0.6 * gate))
        box(axis, x_gate, at, 0.44, 0.26, f"{gate:.2f}", ROUTER, zorder=3)
    axis.add_patch(Circle((x_sum, middle), 0.15, fc="white", ec=EXPERT, lw=1.4, zorder=3))
    say(axis, x_sum, middle, "+", LARGE, zorder=4)
    arrow(axis, (x_sum + 0.15, middle), (4.66, middle))
    box(axis, 4.94, middle, 0.56, 0.62, "norm,\nReLU", zorder=3)
    arrow(axis, (5.22, middle), (5.4, middle))
    bar(axis, 5.48, middle, (0.2, 0.8, 0.4, 0.6), EXPERT)
    say(axis, 2.8, 0.38, r"$\mathrm{out}_i = \sum_k g_{ik}\,[\mathrm{mean}_j\, x_j \,;\, x_i]\,W_k + x_i$", LARGE)
    return figure


def tokens() -> Figure:
    """A head's codes on the circle: a query inside its certified radius, and one that crosses the border."""
    figure, axis = sheet(3.65)
    codes, (query, near, far) = _on_circle(CODES), _on_circle((QUERY, NEAR, FAR))
    kept = int((codes @ query).argmax())
    book, asked = torch.from_numpy(codes), torch.from_numpy(query)
    margin = TokenCertificate(book[None]).margins(asked[None, None], torch.tensor([[kept]])).item()
    borders = [(a + b) / 2 for a, b in zip(CODES, (*CODES[1:], CODES[0] + 360), strict=True)]
    for x, there, title in ((1.35, near, "Inside the radius"), (4.15, far, "Across the border")):
        middle, now = np.array([x, 1.95]), int((codes @ there).argmax())
        say(axis, x, 3.45, title, LARGE, fontweight="bold")
        for number, (start, end) in enumerate(zip((borders[-1] - 360, *borders), borders, strict=False)):
            fill = tint(TOKEN, 0.32 if number == now else 0.07)
            axis.add_patch(Wedge(middle, 1, start, end, fc=fill, ec="none"))
            line(axis, [middle, middle + _on_circle((end,))[0]], ls=(0, (3, 2)), lw=1)
            say(axis, *(middle + 1.19 * codes[number]), f"$c_{number + 1}$", color=dark(TOKEN))
        say(axis, x - 0.55, 2.06, "border")
        axis.add_patch(Circle(middle, 1, fc="none", ec="0.6", lw=1))
        axis.add_patch(Circle(middle + query, margin, fc=tint(EXPERT, 0.3), ec=EXPERT, lw=1.2, alpha=0.7))
        axis.plot(*(middle + codes).T, "s", color=TOKEN, ms=7, mec="white", mew=0.8, zorder=4)
        for point, fill, text, reach in ((query, EXPERT, "$u$", 1.15), (there, "white", "$u'$", 1.18)):
            axis.plot(*(middle + point), "o", color=fill, mec=EXPERT, ms=6, mew=1.5, zorder=5)
            say(axis, *(middle + reach * point), text, color=dark(EXPERT), zorder=6)
        move, jump = np.linalg.norm(there - query), np.linalg.norm(codes[now] - codes[kept])
        text = f"moves by {move:.2f}, within $m$ = {margin:.2f}:\nthe code stays, the logits too"
        if now != kept:
            arrow(axis, middle + codes[kept], middle + codes[now], shrinkA=5, shrinkB=5, color=dark(TOKEN), zorder=4)
            text = f"moves by {move:.2f}, its code by {jump:.2f}:\nthe tokens' gain is {(jump / move) ** 2:.1f}"
        say(axis, x, 0.36, text)
    return figure


def _on_circle(degrees: Sequence[float]) -> np.ndarray:
    """Unit vectors at some angles, `[n, 2]`."""
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def mixture() -> Figure:
    """Networks of different graph filters, whose logits are mixed by one validated weight each."""
    figure, axis = sheet(3.85)
    about = {
        "self": ("no neighbour", "grey"),
        "low": ("GCN's sums", "green"),
        "mean": ("GraphSAGE's means", "red"),
        "ppr": ("PageRank", "purple"),
        "rich": ("all of two hops", "blue"),
    }
    gate, middle, x_sum = (0.06, 0.3, 0.14, 0.1, 0.4), 2.2, 4.6
    parts = np.array([(0.2, 0.3, 0.25), (0.14, 0.42, 0.1), (0.3, 0.25, 0.1), (0.1, 0.38, 0.2), (0.12, 0.44, 0.08)])
    small_graph(axis, 0.5, middle, 0.42)
    for k, network in enumerate(NETWORK_FILTERS):
        at, (words, hue) = middle + 0.62 * (2 - k), about[network]
        arrow(axis, (0.92, middle), (1.27, at))
        box(axis, 2.0, at, 1.42, 0.5, colour=PALETTE[hue])
        name(axis, 2.0, at + 0.11, network, fontweight="bold")
        say(axis, 2.0, at - 0.11, words)
        arrow(axis, (2.73, at), (2.93, at))
        _logits(axis, 2.98, at, parts[k], PALETTE[hue])
        line(axis, [(3.5, at), (3.8, at), (x_sum, middle)], color="0.6", lw=0.8 + 6 * gate[k], zorder=1)
        box(axis, 3.8, at, 0.46, 0.28, f"{gate[k]:.2f}", ROUTER, zorder=3)
    axis.add_patch(Circle((x_sum, middle), 0.15, fc="white", ec=GREY, lw=1.4, zorder=3))
    say(axis, x_sum, middle, "+", LARGE, zorder=4)
    arrow(axis, (x_sum + 0.15, middle), (4.95, middle))
    _logits(axis, 5.0, middle, gate @ parts, HEAD)
    name(axis, 5.2, middle + 0.38, "logits")
    box(axis, 3.8, 0.3, 1.86, 0.32, "gate: from validation", ROUTER)
    arrow(axis, (3.8, 0.46), (3.8, middle - 1.38), color=ROUTER)
    say(axis, 1.45, 0.3, "each trained by its own loss")
    return figure


def _logits(axis: Axes, x: float, y: float, values: Sequence[float], colour: tuple[float, ...]) -> None:
    """Bars to the right of a point, the longest one in full colour."""
    for place, value in enumerate(values):
        fill = colour if value == max(values) else tint(colour, 0.45)
        axis.add_patch(Rectangle((x, y + 0.15 * (1 - place) - 0.06), value, 0.12, fc=fill, ec=colour, lw=0.8))
