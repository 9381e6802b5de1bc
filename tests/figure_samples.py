"""What the tests of figures draw, and how they read what was drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import same_color

from study.figures import COLOURS

METHODS = ("gcn", "mlp")
WOBBLE = np.array([0.0, 1.0, -3.0, 1.5, 2.0])  # of five seeds


def lines_of(axis: Axes, method: str) -> list[np.ndarray]:
    """The points of each line in a method's colour; legends' have none."""
    found = [line.get_xydata() for line in axis.lines if same_color(line.get_color(), COLOURS[method])]
    found = [points[np.isfinite(points[:, 1])] for points in found]
    return [points for points in found if len(points)]


def balance() -> pd.DataFrame:
    """`gcn` is the best in all, `mlp` behind by 1, 2 and 5 points."""
    rows = [
        {"method": name, "seed": seed, "fit": 80 - k + wobble, "shift": 70 - 2 * k, "corruption": 60 - 5 * k + wobble}
        for k, name in enumerate(METHODS)
        for seed, wobble in enumerate(WOBBLE)
    ]
    return pd.DataFrame(rows)
