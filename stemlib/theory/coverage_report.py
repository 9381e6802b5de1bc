"""Coverage over conditions: the table, static inference's own floor inside the model, and the nulls.

Statements 2.3, 2.4 and 2.6 of docs/theory.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from stemlib.theory.coverage import Coverage


class NullCoverage(NamedTuple):
    """What the minimum over paths would be without any merit of routing: Statement 2.4 of docs/theory.md.

    Attributes:
        independent: `C` of as many independently seeded networks as there are paths; NaN if none are given.
        independent_env: the best single one of them.
        shuffled: `C` after every path's losses were permuted among the instances, mean over draws: paths with
            these risks whose errors are independent. Far below `C` where paths fail on the same instances.
    """

    independent: float
    independent_env: float
    shuffled: float


def null_coverage(found: Coverage, independent: Tensor | None = None, draws: int = 20, seed: int = 0) -> NullCoverage:
    """The null to report beside `C`.

    Args:
        found: the coverage whose null is wanted.
        independent: losses `[M, P]` of `P` independently seeded networks.
        draws: number of shuffles.
        seed: of the shuffles.

    Raises:
        ValueError: not as many networks as paths, or other instances: the minima would not compare.
    """
    if independent is not None and independent.shape != found.forced.shape:
        raise ValueError(
            f"the null needs the losses of as many independent networks as there are paths, "
            f"{tuple(found.forced.shape)}, got {tuple(independent.shape)}"
        )
    generator = torch.Generator().manual_seed(seed)
    minima = []
    for _ in range(draws):
        order = torch.rand(found.forced.shape, generator=generator).argsort(0)
        minima.append(found.forced.gather(0, order).amin(1).mean())
    shuffled = torch.stack(minima).mean().item()
    if independent is None:
        return NullCoverage(float("nan"), float("nan"), shuffled)
    return NullCoverage(independent.amin(1).mean().item(), independent.mean(0).amin().item(), shuffled)


def report(found: Sequence[Coverage], nulls: Sequence[NullCoverage] | None = None) -> pd.DataFrame:
    """One row per loss and condition; the first condition of a loss is what the others are a shift from.

    Args:
        found: by `coverages`, of one model.
        nulls: one for each, in the same order.

    Returns:
        `loss`, `condition`, `instances`, `unlabelled`; `R`, `C`, `S`, `X` and the identity's `residual`; layer
        regrets `S_1, ...`; `C_env` with its `best_path`; `C_all = min_p max_e` of the risks of path `p` in `e`
        (static inference's own floor inside the model) and `routing_gain = C_all - max_e R_e`, one number per
        loss; the changes `dR = dC + dS + dX`; `oracle_share`, `regret_if_misselected`; `entropy_1, ...` in
        nats, loads `load_1_0, ...`; and with nulls `C_independent`, `C_independent_env`, `C_shuffled`.
    """
    rows = []
    for item in found:
        of_loss = [other for other in found if other.loss == item.loss]
        floor = torch.stack([other.path_risks for other in of_loss]).amax(0).amin().item()
        gain = floor - max(other.R for other in of_loss)
        rows.append(_row(item, of_loss[0]) | {"C_all": floor, "routing_gain": gain})
    table = pd.DataFrame(rows)
    if nulls is None:
        return table
    return table.join(pd.DataFrame(nulls).add_prefix("C_"), validate="1:1")


def _row(item: Coverage, first: Coverage) -> dict[str, float | str]:
    row = {"loss": item.loss, "condition": item.condition, "instances": len(item.index)}
    row["unlabelled"] = item.unlabelled
    row |= {name: getattr(item, name) for name in "RCSX"}
    row["residual"] = abs(item.R - item.C - item.S - item.X)
    row |= {f"S_{layer}": regret for layer, regret in enumerate(item.layer_regrets.mean(0).tolist(), 1)}
    row |= {"C_env": item.C_env, "best_path": tuple(item.paths[item.path_risks.argmin()].tolist())}
    row |= {f"d{name}": getattr(item, name) - getattr(first, name) for name in "RCSX"}
    row |= {"oracle_share": item.oracle_share, "regret_if_misselected": item.regret_if_misselected}
    row |= {f"entropy_{layer}": value for layer, value in enumerate(item.entropy.mean(0).tolist(), 1)}
    for layer, load in enumerate(item.load.tolist(), 1):
        row |= {f"load_{layer}_{expert}": value for expert, value in enumerate(load)}
    return row
