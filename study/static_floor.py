"""What chapter 01 measures: the closed forms of part 1 of docs/theory.md beside samples, drawn graphs and networks.

Tables have a row per measurement and name the `way` in which it was made: `Monte Carlo` (independent samples of the
model), `message passing` (on drawn graphs), `trained network`.

Example:
    >>> floor = StaticFloor(nodes=100, runs=1, test_nodes=200, samples=500)
    >>> floor.agreement.shape
    (2, 3)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import Data

from stemlib.theory.floor import HomophilyModel, Samples
from stemlib.theory.floor_nonlinear import FrequencyModel, RouterContext
from study.floor_measured import empirical_risk, risks_in_both
from study.floor_networks import (
    CappedNetwork,
    NodeRegressor,
    condition_graph,
    matched_pairs,
    misroute,
    one_hop,
    train_worst_case,
)

CONDITIONS = ["homophilous", "mirrored"]
MODEL = HomophilyModel(mu=1.0, sigma=2.0, d=8, h=0.9)
CONTEXT = RouterContext(m=2.0, t=1.0)
FREQUENCY = FrequencyModel(sigma=0.5)
RELIANCES = (0.05, 0.2, 0.35, 0.5)
SHARES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35)  # of misrouted nodes
DRIFTS = (0.0, 0.5, 1.0, 1.5, 2.0)
CAPS = (0.1, 0.25, 0.4, 0.6)
MISROUTED = 0.05  # in model 1b

Rule = Callable[[Tensor, Tensor], Tensor]


def linear(a: float, b: float) -> Rule:
    """The rule `a s + b t`."""
    return lambda s, t: a * s + b * t


def risks(rule: Rule, conditions: Sequence[Samples]) -> list[float]:
    """Risk of a static rule in both conditions."""
    return [estimate.mean for estimate in risks_in_both(rule, *conditions)]


@torch.no_grad()
def graph_risk(prediction: Tensor, graph: Data) -> float:
    """Mean squared error of predictions `[N]` on a graph's labels."""
    return (graph.y - prediction).square().mean().item()


@dataclass(frozen=True)
class StaticFloor:
    """All measurements of the chapter, each made when it is first asked for, with random numbers of its own.

    Args:
        nodes: of a training graph.
        runs: networks of each kind.
        test_nodes, samples: on which risks are measured; no training has seen them.
        seed: of graphs, samples and initial weights.
    """

    nodes: int
    runs: int
    test_nodes: int
    samples: int
    seed: int = 0

    def draw(self, count: int, first: int) -> list[Data]:
        """One graph of each condition, from the seeds `first` and `first + 1`."""
        return [condition_graph(MODEL, CONTEXT, count, first + k, mirrored=k == 1) for k in (0, 1)]

    def lessons(self, number: int) -> list[Data]:
        """A pair of training graphs."""
        return self.draw(self.nodes, 1000 * self.seed + 100 * number)

    def chance(self, number: int) -> torch.Generator:
        """Random numbers of one measurement."""
        return torch.Generator().manual_seed(1000 * self.seed + number)

    @cached_property
    def test_graphs(self) -> list[Data]:
        """The pair on which everything is tested."""
        return self.draw(self.test_nodes, 1000 * self.seed)

    @cached_property
    def ways(self) -> dict[str, list[Samples]]:
        """`(s, t, y)` in both conditions, drawn independently and by one round of message passing."""
        chance = self.chance(0)
        drawn = [MODEL.sample(self.samples, chance, h) for h in (MODEL.h, 1 - MODEL.h)]
        return {"Monte Carlo": drawn, "message passing": [one_hop(graph) for graph in self.test_graphs]}

    @cached_property
    def agreement(self) -> pd.DataFrame:
        """Risk of the rule that fits training best, in both conditions: by formula and measured in two ways."""
        found = {way: risks(linear(*MODEL.best_rule), conditions) for way, conditions in self.ways.items()}
        return pd.DataFrame({"closed form": [MODEL.best_risk, MODEL.wrong_risk]} | found, CONDITIONS)

    @cached_property
    def trade_off(self) -> pd.DataFrame:
        """`reliance`, and the least risk with it: `training`, and `worst` of both conditions."""
        rows = []
        for way, conditions in self.ways.items():
            for B in RELIANCES:
                training = risks(linear(*MODEL.in_distribution_rule(B)), conditions)[0]
                rows.append((way, B, training, max(risks(linear(*MODEL.worst_case_rule(B)), conditions))))
        lessons, tests = [one_hop(graph) for graph in self.lessons(1)], self.ways["message passing"]
        for B in RELIANCES:
            capped = train_worst_case(CappedNetwork(cap=B, width=0), lessons[:1])
            # The reliance is held at B: what it explains is subtracted from the label, and the rest is trained.
            held = [[Samples(s, 0 * t, y - B * t) for s, t, y in part] for part in (lessons, tests)]
            rest = train_worst_case(CappedNetwork(width=0), held[0])
            rows.append(("trained network", B, risks(capped, tests)[0], max(risks(rest, held[1]))))
        return pd.DataFrame(rows, columns=["way", "reliance", "training", "worst"])

    @cached_property
    def trained(self) -> list[dict[str, NodeRegressor | CappedNetwork]]:
        """For every run, three static networks and a routed one."""
        return [self._train(run) for run in range(self.runs)]

    def _train(self, run: int) -> dict[str, NodeRegressor | CappedNetwork]:
        graphs = self.draw(self.nodes, 1000 * self.seed + 200 + 2 * run)
        both = [(graph, graph.y) for graph in graphs]
        torch.manual_seed(1000 * self.seed + run)
        return {
            "static, one condition": train_worst_case(NodeRegressor(experts=1), both[:1]),
            "static, linear": train_worst_case(NodeRegressor(experts=1), both),
            "static, nonlinear": train_worst_case(CappedNetwork(), [one_hop(graph) for graph in graphs]),
            "routed": train_worst_case(NodeRegressor(experts=2), both),
        }

    def test(self, network: NodeRegressor | CappedNetwork) -> list[float]:
        """Risk of a network in both conditions."""
        if isinstance(network, CappedNetwork):
            return risks(network, self.ways["message passing"])
        with torch.no_grad():
            return [graph_risk(network(graph), graph) for graph in self.test_graphs]

    @cached_property
    def networks(self) -> pd.DataFrame:
        """A row per `network` and `run`: risk in both conditions and the `worse` of them."""
        rows = [(name, run, *self.test(net)) for run in range(self.runs) for name, net in self.trained[run].items()]
        table = pd.DataFrame(rows, columns=["network", "run", *CONDITIONS])
        return table.assign(worse=table[CONDITIONS].max(axis=1))

    @cached_property
    def deep(self) -> list[float]:
        """Risks of a static network of two layers."""
        torch.manual_seed(self.seed)
        both = [(graph, graph.y) for graph in self.lessons(3)]
        return self.test(train_worst_case(NodeRegressor(experts=1, layers=2), both))

    @cached_property
    def misrouting(self) -> pd.DataFrame:
        """Worst-case `risk` with a `share` of the nodes sent to the other expert, the experts unchanged."""
        chance, rows = self.chance(4), []
        for way, conditions in self.ways.items():
            for share in SHARES:
                wrong = [torch.rand(len(y), generator=chance) < share for _, _, y in conditions]
                rules = [lambda s, t, k=k, wrong=wrong: MODEL.routed(s, t, wrong[k], mirrored=k == 1) for k in (0, 1)]
                both = zip(rules, conditions, strict=True)
                rows.append((way, share, max(empirical_risk(rule, part).mean for rule, part in both)))
        for share in SHARES:
            forced = [
                [graph_risk(misroute(nets["routed"], graph, share, chance), graph) for graph in self.test_graphs]
                for nets in self.trained
            ]  # [runs, conditions]
            rows.append(("trained network", share, np.max(forced, axis=1).mean()))
        return pd.DataFrame(rows, columns=["way", "share", "risk"])

    @cached_property
    def crossings(self) -> pd.Series:
        """The misrouted share at which the risk crosses the floor, by way."""
        return pd.Series(
            {
                way: np.interp(MODEL.floor, part.risk, part.share)
                for way, part in self.misrouting.groupby("way", sort=False)
            }
        )

    @cached_property
    def drift(self) -> pd.DataFrame:
        """`risk` of the condition whose contexts drift towards the border, by the top expert, or by `soft gates`."""
        chance, context = self.chance(5), self.test_graphs[1].x[:, 1]
        rows = []
        for drift in DRIFTS:
            wrong = {
                "Monte Carlo": CONTEXT.draw_misrouted(self.samples, chance, drift),
                "message passing": context + drift > 0,
            }
            for way, routes in wrong.items():
                s, t, y = self.ways[way][1]
                rows.append((way, drift, (y - MODEL.routed(s, t, routes, mirrored=True)).square().mean().item()))
            for way, soft in (("trained network", False), ("soft gates", True)):
                each = [self._drifted(nets["routed"], drift, soft) for nets in self.trained]
                rows.append((way, drift, np.mean(each)))
        return pd.DataFrame(rows, columns=["way", "drift", "risk"])

    @torch.no_grad()
    def _drifted(self, network: NodeRegressor, drift: float, soft: bool) -> float:
        graph = self.test_graphs[1].clone()
        graph.x = graph.x + torch.tensor([0.0, drift])
        gates = network.model.encode(graph).gates[0]
        top = torch.nn.functional.one_hot(gates.argmax(1), 2).float()
        return graph_risk(network(graph, [gates if soft else top]), graph)

    @cached_property
    def caps(self) -> pd.DataFrame:
        """Model 1b: worst-case risk under a `cap`, of a `static` rule and `routed`, a few of whose routes are wrong."""
        chance = self.chance(6)
        of_samples, lessons = (
            [FREQUENCY.sample(count, chance, condition) for condition in (0, 1)]
            for count in (self.samples, 5 * self.nodes)
        )
        pairs = [matched_pairs(FREQUENCY, self.samples, chance, condition) for condition in (0, 1)]

        def routed(experts: Sequence[Rule], conditions: Sequence[Samples]) -> float:
            other = [torch.rand(len(y), generator=chance) < MISROUTED for _, _, y in conditions]
            rules = [lambda u, v, k=k: torch.where(other[k], experts[1 - k](u, v), experts[k](u, v)) for k in (0, 1)]
            return max(empirical_risk(rule, part).mean for rule, part in zip(rules, conditions, strict=True))

        rows = []
        for way, conditions in {"Monte Carlo": of_samples, "message passing": pairs}.items():
            for B in CAPS:
                static = max(risks(linear(min(B, 0.5), min(B, 0.5)), conditions))
                rows.append((way, B, static, routed([linear(1, 0), linear(0, B)], conditions)))
        torch.manual_seed(self.seed)
        first = train_worst_case(CappedNetwork(cap=min(CAPS), width=4), lessons[:1])  # needs no slope in v
        for B in CAPS:
            static, second = (train_worst_case(CappedNetwork(cap=B, width=4), part) for part in (lessons, lessons[1:]))
            rows.append(("trained network", B, max(risks(static, pairs)), routed([first, second], pairs)))
        return pd.DataFrame(rows, columns=["way", "cap", "static", "routed"])
