"""How much of a risk is coverage, how much selection, how much mixing: part 2 of docs/theory.md.

In a finite condition let instance `i` have path losses `l_i(p)`, deployed loss `l_i(pi)` and a top path (the expert of
largest gate in every layer; for links and graphs of the *mean* gate over their nodes, which all take it). Then exactly
(Statement 2.1)

    R = C + S + X,   C = mean_i min_p l_i(p),   S = mean_i [l_i(top) - min_p l_i(p)],   X = mean_i [l_i(pi) - l_i(top)].

`S >= 0` is a sum of layer regrets, each `>= 0` (Statement 2.2). In `C_own`, `S_own`, `X_own` every node's *own* top
experts replace `top`, and join the candidates of the minimum (Statement 2.9). `C` is the loss of the best *hard* path,
and no lower bound on `R`: a soft mixture may lie below all paths; `stemlib.theory.mixtures` has the best one. A minimum
over `K^L` paths is optimistic: read `C` beside its null, which `stemlib.theory.coverage_report` gives with the table
over conditions.

Example:
    >>> forced = torch.tensor([[5.0, 3.0, 4.0, 1.0]])  # losses on the paths 00, 01, 10, 11
    >>> gates = torch.tensor([[[0.9, 0.1], [0.6, 0.4]]])  # the top path is 00
    >>> layer_regrets(forced, gates)  # with both layers free 1, with the second alone 3, with none 5
    tensor([[2., 2.]])
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from stemlib.model.losses import LOSSES, Loss
from stemlib.model.stem import StemGNN
from stemlib.stress.conditions import Condition, of_one_task
from stemlib.theory.forcing import Scope
from stemlib.theory.paths import PathLosses, path_losses, top_paths
from stemlib.theory.routing import labelled

TIE = 1e-6  # relative: losses closer than float32 passes can tell apart count as one


@dataclass(frozen=True)
class Coverage:
    """The decomposition of one loss in one condition; everything follows from the losses on all paths.

    Attributes:
        condition: its name.
        loss: `ce` or `zero_one`.
        scope: `node` or `graph`; see `stemlib.theory.forcing`.
        index: the instances `[M]`.
        unlabelled: how many instances of the condition had no label and were left out.
        paths: `[P, L]`.
        forced: losses on every path `[M, P]`, float64.
        routed: losses as deployed `[M]`.
        own_top: losses with every node whose gates a path forces on its own top expert `[M]`.
        gates: deployed gates of the instances `[M, L, K]`; for links and graphs the mean over their nodes.
        entropy: of the gates, in nats `[M, L]`.
    """

    condition: str
    loss: Loss
    scope: Scope
    index: Tensor
    unlabelled: int
    paths: Tensor
    forced: Tensor
    routed: Tensor
    own_top: Tensor
    gates: Tensor
    entropy: Tensor

    @cached_property
    def top(self) -> Tensor:
        """The top path of every instance, the same for all of its nodes, as a row of `paths`, `[M]`."""
        return top_paths(self.gates)

    @cached_property
    def oracle(self) -> Tensor:
        """A best path of every instance, as a row of `paths`, `[M]`."""
        return self.forced.argmin(1)

    @cached_property
    def covered(self) -> Tensor:
        """What the best path leaves, `[M]`: the terms of `C`."""
        return self.forced.amin(1)

    @cached_property
    def layer_regrets(self) -> Tensor:
        """What freeing layer `l` in hindsight would save, with later layers free, earlier ones as routed, `[M, L]`."""
        return layer_regrets(self.forced, self.gates)

    @cached_property
    def selection(self) -> Tensor:
        """Cost of the top path over the best one, `[M]`: the terms of `S`."""
        return _at(self.forced, self.top) - self.covered

    @cached_property
    def mixing(self) -> Tensor:
        """Cost of soft routing over its own top path, `[M]`: the terms of `X`."""
        return self.routed - _at(self.forced, self.top)

    @property
    def R(self) -> float:
        """Risk as deployed."""
        return self.routed.mean().item()

    @property
    def C(self) -> float:
        """Coverage: what the best hard path per instance leaves; no lower bound on `R`, see `best_mixture`."""
        return self.covered.mean().item()

    @property
    def S(self) -> float:
        """Selection: what picking another path costs."""
        return self.selection.mean().item()

    @property
    def X(self) -> float:
        """Mixing: what soft routing adds to its own top path; any sign."""
        return self.mixing.mean().item()

    @property
    def C_own(self) -> float:
        """Coverage with every node's own top among the candidates: `C_own <= C`; Statement 2.9."""
        return torch.minimum(self.covered, self.own_top).mean().item()

    @property
    def S_own(self) -> float:
        """Selection by own tops: what they cost over the best candidate, `>= 0`."""
        return (self.own_top - self.covered).clamp(min=0).mean().item()

    @property
    def X_own(self) -> float:
        """Mixing against own tops: what soft routing adds to the hard-routed network; any sign."""
        return (self.routed - self.own_top).mean().item()

    @property
    def path_risks(self) -> Tensor:
        """Risk of every single path, `[P]`."""
        return self.forced.mean(0)

    @property
    def C_env(self) -> float:
        """Risk of the condition's best single path: `C <= C_env`, Statement 2.3."""
        return self.path_risks.amin().item()

    @cached_property
    def misselected(self) -> Tensor:
        """Instances whose top path is not an oracle path, `[M]`; ties, up to `TIE`, count as right."""
        return self.selection > TIE * (1 + self.covered)

    @property
    def oracle_share(self) -> float:
        """Share of instances whose top path is an oracle path."""
        return 1 - self.misselected.double().mean().item()

    @property
    def regret_if_misselected(self) -> float:
        """Mean regret of the misselected, 0 if there are none: `S = (1 - oracle_share) * regret_if_misselected`."""
        return self.selection[self.misselected].mean().item() if self.misselected.any() else 0.0

    @property
    def load(self) -> Tensor:
        """Mean gate of every expert, `[L, K]`."""
        return self.gates.mean(0)


def layer_regrets(forced: Tensor, gates: Tensor) -> Tensor:
    """`V_{l+1} - V_l`, where `V_l` is the best loss with layers before `l` on the top path and `l..L` free.

    Statement 2.2 of docs/theory.md.

    Args:
        forced: losses `[M, K^L]` in the order of `all_paths`.
        gates: the deployed ones `[M, L, K]`.

    Returns:
        `[M, L]`, none below 0; a row sums to the top path's loss minus the best path's.
    """
    instance = torch.arange(len(forced))
    table = forced.view(len(forced), *[gates.size(2)] * gates.size(1))
    best = [forced.amin(1)]
    for chosen in gates.argmax(-1).unbind(1):
        table = table[instance, chosen]
        best.append(table.view(len(forced), -1).amin(1))
    return torch.stack(best, dim=1).diff(dim=1)


def coverage(model: StemGNN, condition: Condition, scope: Scope | None = None, loss: Loss = "ce") -> Coverage:
    """Decompose one condition's risk: Statement 2.1 of docs/theory.md.

    Args:
        model: with routed layers; taken in evaluation mode.
        condition: a shift, a corruption, or both.
        scope: which gates a path forces; None for `graph` in graph tasks, otherwise `node`. `stemlib.theory.forcing`
            gives the exact meaning, and says where scope `node` differs from what the whole network does (three layers,
            self-loops); `graph` never does. For the cost see `stemlib.theory.paths`.
        loss: `ce` or `zero_one`.

    Raises:
        ValueError: no routed layers, no labelled instance, a regression, or an unknown scope or loss.

    Example:
        >>> from stemlib.data.built_in import mixed_graph
        >>> from stemlib.presets import ModelConfig
        >>> task = mixed_graph(200)
        >>> model = StemGNN(ModelConfig(hidden=16), in_width=task.graph.x.size(1), classes=task.outputs)
        >>> found = coverage(model, Condition("clean", task, torch.arange(task.instances)))
        >>> found.forced.shape, bool(abs(found.R - found.C - found.S - found.X) < 1e-9)
        (torch.Size([200, 9]), True)
    """
    return coverages(model, [condition], scope, (loss,))[0]


def coverages(
    model: StemGNN, conditions: Iterable[Condition], scope: Scope | None = None, losses: Sequence[Loss] = LOSSES
) -> list[Coverage]:
    """Decompose every condition's risk for every loss; conditions on one graph share one set of passes."""
    conditions = list(conditions)
    if unknown := set(losses) - set(LOSSES):
        raise ValueError(f"unknown loss {sorted(unknown)}; there are {', '.join(LOSSES)}")
    by_condition: dict[int, PathLosses] = {}
    for on_it in of_one_task(conditions):
        task = on_it[0].task
        known = {id(condition): labelled(task, condition.index) for condition in on_it}
        everyone = torch.cat(list(known.values())).unique()
        table = path_losses(model, task, everyone, scope)
        for condition, index in known.items():
            by_condition[condition] = table.rows(torch.searchsorted(everyone, index))
    return [_coverage(by_condition[id(each)], each, loss) for loss in losses for each in conditions]


def _coverage(table: PathLosses, condition: Condition, loss: Loss) -> Coverage:
    return Coverage(
        condition=condition.name,
        loss=loss,
        scope=table.scope,
        index=table.index,
        unlabelled=condition.index.numel() - table.index.numel(),
        paths=table.paths,
        forced=table.forced[loss],
        routed=table.routed[loss],
        own_top=table.own_top[loss],
        gates=table.gates,
        entropy=table.entropy,
    )


def _at(table: Tensor, column: Tensor) -> Tensor:
    """`table[i, column[i]]`, `[M]`."""
    return table.gather(1, column.unsqueeze(1)).squeeze(1)
