"""The figures of chapter 04: shares of a change, energies, routes, bounds beside what was observed, and tokens."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from study import figures
from study.figures import COLOURS, PALETTE, draw_means
from study.sensitivity_tables import KINDS


def draw_shares(sweep: pd.DataFrame, place: str) -> Figure:
    """Amplification and cross term as shares of the whole, the tokens' gain, and how many keep all tokens.

    Args:
        sweep: rows of `study.sensitivity_tables.Penalised.table`, of one strength of the penalty.
        place: how the title names the data.
    """
    figure, axes = figures.panels(3, height=3.1)
    rows, styles = sweep[sweep.readout == "embedding"], {"masked": "-", "deleted": "--"}
    red, (brown, grey, green, blue) = COLOURS["amplification"], map(PALETTE.get, ("brown", "grey", "green", "blue"))
    for kind, style in styles.items():
        of_kind, look = rows[rows.kind == kind], {"linestyle": style, "ms": 6}
        damaged = of_kind[of_kind.rate > 0]
        draw_means(axes[0], damaged, "share", color=red, label=f"amplification, {kind}", **look)
        draw_means(axes[0], damaged, "cross_share", color=blue, label=f"2 cross, {kind}", **look)
        draw_means(axes[1], damaged, "token_gain", color=brown, label=kind, **look)
        draw_means(axes[2], of_kind, "tokens_kept", color=grey, label=f"kept, {kind}", **look)
        draw_means(axes[2], of_kind, "tokens_explained", color=green, label=f"explained, {kind}", **look)
    axes[1].axhline(1, color="black", linewidth=1)
    low, high = axes[0].get_ylim()
    axes[0].set(title="% of the squared change", ylim=(low, high + 0.5 * (high - low)))  # room for the legend
    axes[0].axhline(0, color="black", linewidth=1)
    axes[1].set(title="gain of the tokens (1: neutral)", ylim=(0, None))
    axes[2].set(title="share with all tokens kept", ylim=(0, 1.02))
    for axis in axes:
        axis.legend(loc="best", fontsize="x-small")
    figure.supxlabel("share of features masked or edges deleted", fontsize="medium")
    means = rows[rows.rate > 0].groupby(["kind", "rate"])[["share", "token_gain"]].mean()
    tokens = "tokens amplify" if means.token_gain.min() > 1 else "tokens absorb in places"
    figure.suptitle(f"Amplification alone is at most {means.share.max():.2g} %, and {tokens}: {place}")
    return figure


def draw_energies(embedding: pd.DataFrame) -> Figure:
    """Squared base and amplification, and what each layer's gates add, by rate and kind of damage."""
    figure, axes = figures.panels(2, sharey=True)
    for axis, (kind, label) in zip(axes, KINDS.items(), strict=True):
        of_kind = embedding[embedding.kind == kind]
        draw_means(axis, of_kind, "base", color=COLOURS["base"], label="base")
        draw_means(axis, of_kind, "amplification", color=COLOURS["amplification"], label="amplification")
        for layer, style in ((1, ":"), (2, "--")):
            if of_kind[f"layer_{layer}"].min() > 0:
                look = {"color": COLOURS["amplification"], "linestyle": style, "alpha": 0.7, "marker": ""}
                draw_means(axis, of_kind, f"layer_{layer}", label=f"amplification, layer {layer}", **look)
        axis.set(xlabel=f"share of {label}", yscale="log")
    axes[0].set_ylabel("mean squared change")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize="small")
    return figure


def draw_routes(embedding: pd.DataFrame) -> Figure:
    """How far the gates of each layer move, and how many nodes change their top expert."""
    figure, axes = figures.panels(2)
    for (kind, style), layer in product({"masked": "-", "deleted": "--"}.items(), (1, 2)):
        of_kind, colour = embedding[embedding.kind == kind], list(PALETTE.values())[layer - 1]
        look = {"linestyle": style, "color": colour, "label": f"layer {layer}, {KINDS[kind]}"}
        draw_means(axes[0], of_kind, f"variation_{layer}", **look)
        draw_means(axes[1], of_kind, f"route_flips_{layer}", **look)
    axes[0].set(title="total variation of the gates", xlabel="share masked or deleted")
    axes[1].set(title="nodes whose top expert changes", xlabel="share masked or deleted")
    figures.legend_below(figure, axes[0], columns=2)
    return figure


def draw_bounds(pairs: Mapping[str, tuple[Tensor, Tensor]]) -> Figure:
    """Observed against bound, a dot per instance and layer; nothing may lie above the line.

    Args:
        pairs: bound and observed of each panel, `[M]` or `[M, layers]`.
    """
    figure, axes = figures.panels(len(pairs), height=2.9)
    for axis, (name, (bound, observed)) in zip(axes, pairs.items(), strict=True):
        columns = bound.size(1) if bound.dim() == 2 else 1
        for layer, colour in zip(range(columns), PALETTE.values(), strict=False):
            points = (value.reshape(len(value), -1)[:, layer] for value in (bound, observed))
            axis.plot(*points, ".", color=colour, markersize=4, alpha=0.6, label=f"layer {layer + 1}")
        axis.axline((0, 0), slope=1, color="black", linewidth=1)
        axis.set(title=name, xlabel="bound")
    axes[0].set_ylabel("observed")
    axes[0].legend(markerscale=2, handletextpad=0.1)
    return figure


def draw_tokens(margin: Tensor, distance: Tensor, sizes: Tensor, gains: list[float]) -> Figure:
    """Certified radii beside how far queries move, and the tokens' gain under noise of any size.

    Args:
        margin, distance: of every head, `[M, H]`.
        sizes, gains: of noise over the embedding's length, and what the tokens make of it.
    """
    figure, (left, right) = figures.panels(2)
    values = [margin.flatten().numpy(), distance.flatten().numpy()]
    left.hist(values, bins=30, range=(0, 1), color=[PALETTE["green"], PALETTE["brown"]])
    left.legend(["certified radius", "query's move, 40 % masked"])
    left.set(xlabel="distance of unit queries", ylabel="heads")
    right.loglog(sizes, gains, "o-", color=PALETTE["brown"], label="measured")
    right.loglog(sizes[:8], 1 / sizes[:8], "k:", label="1 / size")
    right.axhline(1, color="black", linewidth=1)
    right.set(xlabel="noise on the embedding / its length", ylabel="gain of the tokens")
    right.legend()
    return figure


def shown(figure: Figure, name: str) -> Image.Image:
    """Save a figure; the copy that the notebook shows has fewer colours, so that the notebook stays small."""
    saved = figures.save(figure, name)
    plt.close(figure)
    small = Image.open(saved).convert("RGB").quantize(64)
    small.info = {}  # RDKit, once imported, displays images and accepts only text there
    return small
