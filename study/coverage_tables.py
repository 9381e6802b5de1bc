"""What chapter 03 measures: coverage, selection and mixing of routed networks, beside what chance alone would cover.

The table has a row per seed, loss and condition, with the columns of `stemlib.theory.coverage_report.report`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from stemlib.data.tasks import Split, Task
from stemlib.stress.conditions import CORRUPTIONS, Condition, corrupt, shift_protocol
from stemlib.stress.shifts import Buckets, instance_covariate, tail_buckets
from stemlib.theory.coverage import coverage, coverages
from stemlib.theory.coverage_report import null_coverage, report
from stemlib.theory.mixtures import best_mixture
from stemlib.theory.routing import labelled
from study.decompositions import independent_losses
from study.forecast import forecast
from study.method import Method
from study.statistics import interval
from study.trained import trained_model

EXPERIMENT = "03_coverage"
RATES = (0.2, 0.4, 0.6, 0.8)
LOSSES = {"ce": "cross-entropy", "zero_one": "0/1 error"}
OWN = ["C_own", "S_own", "X_own"]
KEPT = ["loss", "condition", "seed", "R", "C", "S", "X", "C_env", "C_independent", "C_shuffled"]
KEPT += ["R_independent", "blind", "C_all", "independent_floor", "routing_gain", "oracle_share", "dR", "dC", "dS", "dX"]
KEPT += ["C_mix", "C_env_held_out", "C_all_held_out", "routing_gain_held_out", "soft_below", "gap_mean", "gap_max"]
KEPT += [f"{name}_graph" for name in ("C", "S", "X", *OWN)]
VERDICT = {
    "R": "risk R",
    "C": "coverage C: left by an oracle's path",
    "S": "selection S: the router's regret",
    "X": "mixing X: what soft gates change",
    "C_independent": "null: the same of independent networks",
    "null_gap": "C minus the null (above 0: paths cover less)",
    "saved": "saved over a uniformly random path",
    "routing_gain": "gain over the static floor, same nodes",
    "routing_gain_held_out": "gain over the static floor, held out",
    "against_independent": "R minus one independent network's risk",
}


@dataclass(frozen=True)
class RoutedAndStatic:
    """One routed network per seed, and as many static ones as it has paths, trained on the same split.

    Args:
        task: of nodes with one class each.
        routed: the routed method.
        static: the same method with one expert per layer: the size of one path.
        seeds: each has its own split, damage and networks.
    """

    task: Task
    routed: Method
    static: Method
    seeds: Sequence[int]

    @property
    def paths(self) -> int:
        """How many paths the routed network has."""
        return self.routed.model.experts**self.routed.model.layers

    @cached_property
    def buckets(self) -> Buckets:
        """The outer buckets of degree and of homophily; training stays in the middle of both."""
        found = {name: tail_buckets(instance_covariate(self.task, name)) for name in ("degree", "homophily")}
        outer = {f"{end} {name}": found[name].members[f"OOD-{end}"] for name in found for end in ("low", "high")}
        middle = torch.ones(self.task.instances, dtype=torch.bool)
        middle[torch.cat(list(outer.values()))] = False
        return replace(found["homophily"], members={"ID": middle.nonzero().flatten(), **outer})

    def drawn(self, seed: int) -> tuple[Task, Split, list[Condition]]:
        """The task with the seed's split inside the middle, that split, and the thirteen conditions."""
        inside, split, conditions = shift_protocol(self.task, self.buckets, seed)
        damaged = [corrupt(conditions[0], kind, rate, seed)[0] for kind in CORRUPTIONS for rate in RATES]
        return inside, split, conditions + damaged

    def networks(self, seed: int) -> tuple[nn.Module, list[nn.Module]]:
        """The seed's routed network and its static ones, each of these with a seed of its own."""
        inside, split, _ = self.drawn(seed)
        own = range(self.paths * seed, self.paths * (seed + 1))
        static = [trained_model(EXPERIMENT, inside, split.name, self.static, each) for each in own]
        return trained_model(EXPERIMENT, inside, split.name, self.routed, seed), static

    @cached_property
    def table(self) -> pd.DataFrame:
        """The report of every seed; finished trainings are read back from their records."""
        splits = [(*self.drawn(seed)[:2], seed) for seed in self.seeds]
        forecast(EXPERIMENT, splits, [self.routed] + [self.static] * self.paths)
        rows = pd.concat([self._decomposed(seed) for seed in self.seeds], ignore_index=True)
        return rows.join(self.gaps, on="seed")

    def _decomposed(self, seed: int) -> pd.DataFrame:
        conditions = self.drawn(seed)[2]
        model, static = self.networks(seed)
        found, independent = coverages(model, conditions), independent_losses(static, conditions)
        nulls = [null_coverage(*pair) for pair in zip(found, independent, strict=True)]
        asked = zip(2 * conditions, found, strict=True)
        rows = report(found, nulls, [best_mixture(model, condition.task, item) for condition, item in asked])
        risks = pd.DataFrame([losses.mean(0).tolist() for losses in independent])  # a column for every static network
        floors = risks.groupby(rows.loss).max().min(axis=1)  # the network that is best in its worst condition
        blind = [item.path_risks.mean().item() for item in found]  # of a path drawn blindly
        rows = rows.assign(seed=seed, blind=blind, R_independent=risks.mean(axis=1))
        rows["soft_below"] = [(item.routed < item.covered - 1e-9).double().mean().item() for item in found]
        whole = report(coverages(model, conditions, "graph"))[["C", "S", "X", *OWN]]
        return rows.assign(independent_floor=rows.loss.map(floors)).join(whole.add_suffix("_graph"))

    @cached_property
    def gaps(self) -> pd.DataFrame:
        """Gaps between single losses in scope `node` and in whole passes, in a network of three layers, by seed."""
        rows = []
        for seed in self.seeds:
            inside, split, conditions = self.drawn(seed)
            deep = trained_model(
                EXPERIMENT, inside, split.name, self.routed.changed("three-layers", {"layers": 3}), seed
            )
            few = coverage(deep, replace(conditions[0], index=split.test[:10]))
            gap = (one_by_one(deep, inside, few.index, few.paths) - few.forced).abs()
            rows.append({"gap_mean": gap.mean().item(), "gap_max": gap.max().item()})
        return pd.DataFrame(rows, index=pd.Index(self.seeds, name="seed"))


@torch.no_grad()
def one_by_one(network: nn.Module, task: Task, nodes: Tensor, paths: Tensor) -> Tensor:
    """Cross-entropies of nodes on paths, `[M, P]`, each by a whole pass with only that node's gates forced."""
    nodes = labelled(task, nodes)
    gates, losses = network.encode(task.graph).gates, []
    for node, path in product(nodes, paths):
        forced = [gate.clone() for gate in gates]
        for gate, expert in zip(forced, path, strict=True):
            gate[node] = torch.nn.functional.one_hot(expert, gate.size(1)).to(gate)
        logits = network(task.graph, node.view(1), forced).logits
        losses.append(torch.nn.functional.cross_entropy(logits, task.labels[node.view(1)]))
    return torch.stack(losses).view(len(nodes), -1)


def spread(values: Sequence[float]) -> str:
    """Mean and 95 % interval over seeds, by Student's t, as text."""
    low, high = interval(values)
    return f"{np.mean(values):+.3f} [{low:+.3f}, {high:+.3f}]"


def beside_zero(values: Sequence[float]) -> str:
    """Whether the 95 % interval of the mean excludes zero, in words."""
    low, high = interval(values)
    return "reliably above zero" if low > 0 else "reliably below zero" if high < 0 else "not distinguishable from zero"


def findings(table: pd.DataFrame) -> pd.DataFrame:
    """The numbers of the verdict, means over conditions, one row per loss and seed.

    Returns:
        Columns of the table, and `null_gap`: `C` less the best of the static networks; `independent_gain`: the static
        networks' floor less the risk in the worst condition; `saved`: what the router's choice saves over a path drawn
        blindly; `against_independent`: `R` less the mean risk of one static network.
    """
    kept = table.assign(null_gap=table.C - table.C_independent, saved=table.blind - table.C - table.S)
    kept["against_independent"] = table.R - table.R_independent
    kept["independent_gain"] = table.independent_floor - table.groupby(["loss", "seed"]).R.transform("max")
    columns = ["R", "C", "C_mix", "soft_below", "S", "X", "C_independent", "null_gap", "routing_gain"]
    columns += ["routing_gain_held_out", "independent_gain", "saved", "against_independent", "gap_mean", "gap_max"]
    return kept.groupby(["loss", "seed"])[columns].mean()


def changes(tables: Mapping[str, pd.DataFrame], loss: str = "ce") -> pd.DataFrame:
    """How shifts and damage change the risk and its parts: means over seeds, by data set and kind."""
    rows = pd.concat(tables, names=["data"]).reset_index("data").query("loss == @loss and condition != 'clean'")
    kind = rows.condition.str.split().str[0]
    rows = rows.assign(kind=kind.where(kind.isin(CORRUPTIONS), rows.condition))
    return rows.groupby(["data", "kind"], sort=False)[["dR", "dC", "dS", "dX"]].mean()
