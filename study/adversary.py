"""Scores under random damage beside those under an adversary's."""

from __future__ import annotations

import numpy as np
import pandas as pd

from study.statistics import summary


def chance_and_adversary(rows: pd.DataFrame, rate: float = 0.4) -> pd.DataFrame:
    """Test score without damage, and at one rate of random and of adversarial damage: `mean ± standard deviation`.

    Args:
        rows: of both, with `task`, `method`, `seed`, `kind`, `rate`, `score`, and whether it is the `adversary`'s.
        rate: of the damage.

    Returns:
        Text, one row per task and method, columns `clean`, `chance`, `adversary`.
    """
    rows = rows[rows.rate.isin([0.0, rate])]
    by = np.select([rows.kind == "clean", rows.adversary.astype(bool)], ["clean", "adversary"], "chance")
    of_seed = rows.assign(by=by).groupby(["task", "method", "by", "seed"], sort=False).score.mean().reset_index()
    text = summary(of_seed, ["task", "method", "by"], "score").text.unstack("by").fillna("")
    return text.reindex(columns=["clean", "chance", "adversary"], fill_value="")
