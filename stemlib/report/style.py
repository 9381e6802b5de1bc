"""One look for every figure: font sizes, and one colour for one thing."""

from __future__ import annotations

import matplotlib as mpl
import seaborn as sns

# One colour for one thing, in every chapter (the colour-blind palette).
PALETTE = dict(
    zip(
        ("blue", "orange", "green", "red", "purple", "brown", "pink", "grey", "yellow", "cyan"),
        sns.color_palette("colorblind"),
        strict=True,
    )
)
DARK = dict(zip(PALETTE, sns.color_palette("dark"), strict=True))
COLOURS = {
    "stem": PALETTE["blue"],
    "dense": PALETTE["orange"],
    "tokens": PALETTE["brown"],
    "routed": PALETTE["pink"],
    "reference": DARK["blue"],
    "mlp": PALETTE["grey"],
    "gcn": PALETTE["green"],
    "sage": PALETTE["red"],
    "gat": PALETTE["purple"],
    "gin": PALETTE["yellow"],
    "dropedge": DARK["green"],
    "softmedian": DARK["red"],
    "mowst": PALETTE["cyan"],
    "stacked": (0.5, 0.0, 0.2),
    "selected": (0.2, 0.2, 0.2),
    "selected_five": (0.0, 0.3, 0.55),
    "strongest_five": (0.55, 0.35, 0.1),
    "mixture": (0.85, 0.0, 0.35),
    "ensemble": (0.55, 0.6, 0.75),
    "averaged": (0.95, 0.6, 0.7),
    "appnp": (0.0, 0.45, 0.45),
    "gcnii": (0.6, 0.8, 0.2),
    "acm": (0.7, 0.3, 0.9),
    "filters": (0.35, 0.35, 0.75),
    "ncn": DARK["yellow"],
    "ncnc": DARK["grey"],
    "nbfnet": (0.45, 0.5, 0.1),
    "dgi": DARK["purple"],
    "bgrl": DARK["pink"],
    "graphmae": DARK["brown"],
    "pretrained": DARK["orange"],
    "pretrained, no tokens": DARK["cyan"],
    "theory": (0.0, 0.0, 0.0),
    "coverage": PALETTE["blue"],
    "selection": PALETTE["orange"],
    "mixing": PALETTE["green"],
    "base": PALETTE["purple"],
    "amplification": PALETTE["red"],
}


def use_style() -> None:
    """Set the style for all figures that follow."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind", font_scale=0.85)
    mpl.rcParams.update(
        {
            "figure.dpi": 100,
            "savefig.dpi": 160,
            "svg.hashsalt": "study",  # otherwise an SVG's names are random
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": "medium",
            "grid.alpha": 0.4,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
        }
    )
