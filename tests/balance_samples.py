"""Scores of the better balance's methods that tests make up."""

from __future__ import annotations

import numpy as np
import pandas as pd

from study.better_balance import OURS, RIVALS, SMALLER

TASKS = ("cora", "citeseer", "chameleon", "actor", "pubmed", "dblp", "wisconsin")


def scores(lead: float, noise: float = 0.1, tasks: tuple[str, ...] = TASKS) -> pd.DataFrame:
    """Rows of a stress test in which our method is ahead of the strongest rival, `mlp`, by `lead` points."""
    generator, rows = np.random.default_rng(0), []
    for task in tasks:
        for seed in range(4):
            for method in (OURS, SMALLER, *RIVALS):
                level = 70 + (method == "mlp") + (1 + lead) * (method == OURS)
                for kind, rate in (("clean", 0.0), ("shift", 0.0), ("masked", 0.4), ("deleted", 0.4), ("masked", 0.8)):
                    score = level + noise * generator.normal() - 50 * (rate == 0.8)
                    about = {"task": task, "covariate": "degree", "method": method, "seed": seed, "kind": kind}
                    rows.append(about | {"rate": rate, "score": score, "val": level})
    return pd.DataFrame(rows)
