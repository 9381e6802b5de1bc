"""Networks tuned and trained separately, put together by what validation says of them.

There are two ways. On the `simplex`, logits are mixed with one weight each, as in `stemlib.model.mixture`. A `selected`
stack is that of Caruana et al. (2004). Each network's answers are calibrated by a temperature. Each round chooses,
perhaps again, the network whose probabilities bring the mean of all chosen ones nearest to validation's labels; the
best round counts. Weights are shares of the rounds. Networks never chosen are left out of the deployed network.

A kept network may be trained anew from other seeds, its *repeats*, which share its weight: a deep ensemble
(Lakshminarayanan et al., 2017) of each chosen network.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch_geometric.data import Data

from stemlib.data.graph import Graph
from stemlib.data.tasks import Kind, Split, Task, in_unit
from stemlib.devices import device_of
from stemlib.model.losses import task_loss
from stemlib.model.mixture import validated_gate
from stemlib.model.network import Network, Output, require_fit
from stemlib.presets import StackedConfig, change
from stemlib.training.evaluation import predict
from stemlib.training.families import FAMILIES, SHAPE, Family, family_of

LARGEST = 6.0  # log of a temperature, either way
TINY = 1e-7  # probabilities come no nearer to 0 or 1


class Stacked(Network):
    """`K` trained networks whose answers are mixed with weights `gate`.

    Each network's logits are divided by its temperature. A selected stack's logits are the logs of the mean
    probabilities for classes, their log-odds for binary labels; otherwise they are `sum_k g_k z_k`.

    Args:
        config: with its `members`.
        in_width, classes, kind, edge_width: see `Network`.
        metric: of the task, which says what labels are; see `stemlib.data.tasks.Task.metric`.
    """

    def __init__(
        self,
        config: StackedConfig,
        in_width: int,
        classes: int,
        kind: Kind = "node",
        edge_width: int | None = None,
        metric: str = "accuracy",
    ) -> None:
        super().__init__(config, in_width, classes, kind, edge_width)
        self.metric, members = metric, json.loads(config.members)
        families = [FAMILIES[one["family"]] for one in members]
        self.networks = nn.ModuleList(
            family.network(family.config(**one["config"]), **one["shape"])
            for family, one in zip(families, members, strict=True)
        )
        self.register_buffer("gate", torch.full((len(members),), 1 / len(members)))
        self.register_buffer("temperature", torch.ones(len(members)))

    @property
    def last_maps(self) -> list[nn.Module]:
        """Those of all networks."""
        return [last for network in self.networks for last in network.last_maps]

    def forward(self, graph: Graph | Data, instances: Tensor | None) -> Output:
        """Logits of nodes `[M]`, pairs of nodes `[M, 2]`, or all graphs (None): the networks' own, and mixed."""
        graph = Graph.of(graph).on(device_of(self))
        parts = torch.stack([network(graph, instances).logits for network in self.networks], dim=1)
        parts = parts / self.temperature.view(-1, 1)
        mixed = self.mixed(parts)
        return Output(mixed, mixed, parts=parts)

    def mixed(self, parts: Tensor) -> Tensor:
        """The stack's logits `[M, classes]` from its networks' `[M, K, classes]`."""
        return mixed(parts, self.gate, "r2" if self.config.gate == "simplex" else self.metric)


def mixed(parts: Tensor, gate: Tensor, metric: str) -> Tensor:
    """Mean answers of networks as logits `[M, classes]`.

    Args:
        parts: the networks' logits `[M, K, classes]`.
        gate: weights of the networks `[K]`.
        metric: `accuracy`: a mean of class probabilities; `roc_auc`: of those of binary labels; `r2`: of the numbers.
    """
    gate = gate.to(parts).view(-1, 1)
    if metric == "accuracy":
        return (parts.log_softmax(-1) + gate.log()).logsumexp(1)
    if metric == "roc_auc":
        return (parts.sigmoid() * gate).sum(1).clamp(TINY, 1 - TINY).logit()
    return (parts * gate).sum(1)


def temperature(logits: Tensor, labels: Tensor) -> float:
    """The divisor of logits `[M, classes]` that makes cross-entropy smallest (Guo et al., 2017).

    Raises:
        ValueError: no instance.
    """
    if not len(labels):
        raise ValueError("a temperature needs labelled validation instances, got none")
    logits = logits.double()
    found = minimize_scalar(
        lambda log: task_loss(logits / torch.tensor(log).exp(), labels).item(),
        bounds=(-LARGEST, LARGEST),
        method="bounded",
    )
    return float(torch.tensor(found.x).exp())


def selection(parts: Tensor, labels: Tensor, metric: str, rounds: int = 12) -> Tensor:
    """How often each network is chosen, as shares `[K]`; ties go to the first.

    Args:
        parts: the networks' calibrated logits on validation `[M, K, classes]`.
        labels: of these.
        metric: see `mixed`.
        rounds: at most.
    """
    parts, counts = parts.double(), torch.zeros(parts.size(1), dtype=torch.double)
    found, least = counts, float("inf")
    each = torch.eye(len(counts), dtype=torch.double)
    for turn in range(1, rounds + 1):
        losses = [task_loss(mixed(parts, (counts + one) / turn, metric), labels, metric == "r2").item() for one in each]
        chosen = min(range(len(losses)), key=losses.__getitem__)
        counts = counts + each[chosen]
        if losses[chosen] < least:
            found, least = counts / turn, losses[chosen]
    return found


def stacked(
    networks: Sequence[Network],
    task: Task,
    split: Split,
    config: StackedConfig | None = None,
    again: Callable[[int], Sequence[Network]] = lambda place: (),
) -> Stacked:
    """Put together networks that were trained on a task's split; they stay as they are.

    Args:
        networks: of any of the `FAMILIES`.
        task, split: what they were trained on.
        config: which way.
        again: repeats of a kept network by its place in `networks`: trained from other seeds, they share its weight.

    Raises:
        ValueError: a task that does not fit a network, or no labelled validation instance.
    """
    for network in networks:
        require_fit(network, task)
    config, task = config or StackedConfig(), in_unit(task, networks[0].unit.cpu())
    index = task.labelled(split.val)
    if not index.numel():
        raise ValueError(f"{task.name}: a stack needs labelled validation instances, got none")
    labels, calibrated = task.labels[index], config.gate != "simplex" and not task.regression

    def scales(some: Sequence[Network]) -> tuple[Tensor, Tensor]:
        """Temperatures `[K]`, and the answers on validation divided by them, `[M, K, classes]`."""
        answers = [predict(network, task, index) for network in some]
        found = [temperature(one, labels) if calibrated else 1.0 for one in answers]
        return torch.tensor(found), torch.stack(answers, dim=1) / torch.tensor(found).view(-1, 1)

    scale, answers = scales(networks)
    if config.gate == "simplex":
        gate = validated_gate(answers, labels, task.regression, config.gate_counts)
    else:
        gate = selection(answers, labels, task.metric, config.rounds)
    kept = gate.nonzero().flatten().tolist()
    groups = [[networks[place], *again(place)] for place in kept]
    networks = [network for group in groups for network in group]
    shape = {name: getattr(networks[0], name) for name in SHAPE}
    members = json.dumps([_described(network) for network in networks])
    model = Stacked(change(config, members=members), **shape, metric=task.metric)
    for own, other in zip(model.networks, networks, strict=True):
        own.load_state_dict(other.state_dict())
    each = torch.tensor([len(group) for group in groups])
    model.gate = (gate[kept] / each).repeat_interleave(each).float()
    model.temperature = scales(networks)[0] if len(networks) > len(kept) else scale[kept]
    model.unit.copy_(networks[0].unit)
    return model.to(device_of(networks[0])).eval()


def _described(network: Network) -> dict[str, object]:
    """What a stack stores of a network: its family, settings and shape."""
    family = family_of(network.config)
    shape = {name: getattr(network, name) for name in FAMILIES[family].takes}
    return {"family": family, "config": dataclasses.asdict(network.config), "shape": shape}


FAMILIES["stacked"] = Family(StackedConfig, Stacked, (*SHAPE, "metric"))
