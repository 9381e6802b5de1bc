"""Coverage over conditions: the table, static inference's own floor inside the model, and the nulls.

Statements 2.3, 2.4, 2.6 and 2.8 of docs/theory.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from stemlib.theory.coverage import Coverage
from stemlib.theory.mixtures import BestMixture

HALVINGS = 20  # of the instances, over which a held-out choice is averaged


class NullCoverage(NamedTuple):
    """What the minimum over paths would be if routing had no merit: Statement 2.4 of docs/theory.md.

    Attributes:
        independent: `C` of as many independently seeded networks as there are paths; NaN if none are given.
        independent_env: the risk of the best single one.
        shuffled: `C` after every path's losses were permuted among the instances, mean over draws: that of paths with
            these risks but independent errors. Far below `C` if paths fail on the same instances.
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
        ValueError: not as many networks as paths, or as many instances: the minima would not be comparable.
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


class HeldOut(NamedTuple):
    """Risks of single paths that were chosen on other instances: Statement 2.8 of docs/theory.md.

    Attributes:
        env: for every condition the risk of the path chosen in it, `[E]`: `C_env` without the optimism of its minimum.
        worst: that of the one path chosen over all conditions, in its worst condition: likewise for `C_all`.
    """

    env: Tensor
    worst: float


def held_out(found: Sequence[Coverage], seed: int = 0) -> HeldOut:
    """Choose single paths on one random half of the instances and measure them on the other, both ways.

    An instance is in the same half in every condition that has it. Results are means over `HALVINGS`.

    Args:
        found: one coverage per condition, of one model in one loss.
        seed: of the halves.
    """
    everyone = torch.cat([item.index for item in found]).unique()
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(HALVINGS, len(everyone), generator=generator).argsort(1)
    first = (order < len(everyone) / 2).double()  # [halvings, instances]
    halves = []  # by condition the losses' sums [2, halvings, P] and the numbers of instances [2, halvings, 1]
    for item in found:
        here = first[:, torch.searchsorted(everyone, item.index)]
        here = torch.stack([here, 1 - here])
        halves.append((here @ item.forced, here.sum(-1, keepdim=True)))
    # A half without an instance of a condition knows nothing of it: no path looks worse than another there.
    risks = torch.stack([sums / numbers.clamp(min=1) for sums, numbers in halves])  # [E, 2, halvings, P]

    def crossed(chosen: Tensor) -> Tensor:
        """Risk in every condition if each half takes the path that the other has chosen, `[E, halvings]`."""
        sums = torch.stack([sums for sums, _ in halves])
        taken = sums.gather(-1, chosen.flip(1).unsqueeze(-1)).squeeze(-1).sum(1)
        return taken / torch.tensor([len(item.index) for item in found]).view(-1, 1)

    of_all = risks.amax(0).argmin(-1).expand(len(found), -1, -1)
    return HeldOut(crossed(risks.argmin(-1)).mean(1), crossed(of_all).amax(0).mean().item())


def report(
    found: Sequence[Coverage],
    nulls: Sequence[NullCoverage] | None = None,
    mixtures: Sequence[BestMixture] | None = None,
) -> pd.DataFrame:
    """One row per loss and condition; changes are from the first condition of each loss.

    Args:
        found: by `coverages`, of one model.
        nulls: one for each, in the same order.
        mixtures: likewise, by `stemlib.theory.mixtures.best_mixture`.

    Returns:
        `loss`, `condition`, `instances`, `unlabelled`; `R`, `C`, `S`, `X` and the identity's `residual`; layer
        regrets `S_1, ...`; `C_own`, `S_own`, `X_own` with every node on its own top expert; `C_env` with its
        `best_path`; `C_all = min_p max_e` of the risks of path `p` in `e` (static inference's own floor inside the
        model) and `routing_gain = C_all - max_e R_e`, one number per loss; `C_env_held_out`, `C_all_held_out` and
        `routing_gain_held_out`, in which paths are chosen on other instances, as a network is; the changes
        `dR = dC + dS + dX`; `oracle_share`, `regret_if_misselected`; `entropy_1, ...` in nats, loads
        `load_1_0, ...`; with nulls `C_independent`, `C_independent_env`, `C_shuffled`; with mixtures `C_mix`.
    """
    rows = [{}] * len(found)
    for loss in {item.loss: None for item in found}:
        places = [place for place, item in enumerate(found) if item.loss == loss]
        of_loss = [found[place] for place in places]
        worst = max(item.R for item in of_loss)
        floor = torch.stack([item.path_risks for item in of_loss]).amax(0).amin().item()
        chosen = held_out(of_loss)
        gains = {"C_all": floor, "routing_gain": floor - worst}
        gains |= {"C_all_held_out": chosen.worst, "routing_gain_held_out": chosen.worst - worst}
        for place, env in zip(places, chosen.env.tolist(), strict=True):
            rows[place] = _row(found[place], of_loss[0]) | gains | {"C_env_held_out": env}
    table = pd.DataFrame(rows)
    if mixtures is not None:
        table["C_mix"] = [each.losses.mean().item() for each in mixtures]
    if nulls is None:
        return table
    return table.join(pd.DataFrame(nulls).add_prefix("C_"), validate="1:1")


def _row(item: Coverage, first: Coverage) -> dict[str, float | str]:
    row = {"loss": item.loss, "condition": item.condition, "instances": len(item.index)}
    row["unlabelled"] = item.unlabelled
    row |= {name: getattr(item, name) for name in "RCSX"}
    row["residual"] = abs(item.R - item.C - item.S - item.X)
    row |= {f"S_{layer}": regret for layer, regret in enumerate(item.layer_regrets.mean(0).tolist(), 1)}
    row |= {name: getattr(item, name) for name in ("C_own", "S_own", "X_own")}
    row |= {"C_env": item.C_env, "best_path": tuple(item.paths[item.path_risks.argmin()].tolist())}
    row |= {f"d{name}": getattr(item, name) - getattr(first, name) for name in "RCSX"}
    row |= {"oracle_share": item.oracle_share, "regret_if_misselected": item.regret_if_misselected}
    row |= {f"entropy_{layer}": value for layer, value in enumerate(item.entropy.mean(0).tolist(), 1)}
    for layer, load in enumerate(item.load.tolist(), 1):
        row |= {f"load_{layer}_{expert}": value for expert, value in enumerate(load)}
    return row
