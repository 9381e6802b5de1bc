"""A model that the user already has, to be asked like the library's: any module with `forward(x, edge_index)`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from stemlib.audit.drawn import rare, whole
from stemlib.audit.trainings import TAIL, Trained
from stemlib.data.graph import Graph, node_features, plain
from stemlib.data.tasks import Task, read_out
from stemlib.devices import device_of
from stemlib.model.network import Output
from stemlib.stress.conditions import MOST_OVERLAP, Condition
from stemlib.stress.shifts import tail_buckets
from stemlib.training.evaluation import evaluate


class OwnModel(nn.Module):
    """Answers for nodes are the module's; for links and graphs, the mean over their nodes.

    Args:
        net: takes `x` `[N, d]` and `edge_index` `[2, E]`, gives `[N, outputs]`: logits, or numbers in the labels' unit.
        task: what it is asked about.

    Raises:
        ValueError: it does not answer that way; the message says what it gave.
    """

    def __init__(self, net: nn.Module, task: Task) -> None:
        super().__init__()
        self.net, self.kind = net, task.kind
        self.register_buffer("unit", torch.tensor([[0.0], [1.0]], dtype=torch.double).repeat(1, task.outputs))
        self.to(device_of(net))
        try:
            with torch.no_grad():
                found = self.eval()(task.graph, None if task.kind == "graph" else task.select(torch.arange(1))).logits
        except (RuntimeError, TypeError, AttributeError) as error:
            raise ValueError(f"the model's forward(x, edge_index) fails on this graph: {error}") from error
        if found.dim() != 2 or found.size(1) != task.outputs:
            raise ValueError(
                f"the model must give [N, {task.outputs}], one row per node; got rows {tuple(found.shape)}"
            )

    def in_own_unit(self, answers: Tensor) -> Tensor:
        """Its numbers are in the data's unit already."""
        return answers

    def forward(self, graph: Graph | Data, instances: Tensor | None) -> Output:
        """Logits of nodes `[M]`, pairs of nodes `[M, 2]`, or all graphs (None)."""
        graph = Graph.of(graph).on(device_of(self))
        z = self.net(node_features(graph), plain(graph.edge_index))
        logits = read_out(z, graph, instances, self.kind)
        return Output(logits, logits)


def given(model: nn.Module, task: Task, covariates: Mapping[str, Tensor]) -> Trained:
    """A model that is already trained, as if it were one training; tails are those of its test part.

    Args:
        model: any module with `forward(x, edge_index)`.
        task: that it was trained on.
        covariates: of all instances, see `shifted_by`.

    Raises:
        ValueError: it does not answer as `OwnModel` asks.
    """
    drawn, tails = whole(task, 0), {}
    for name, values in covariates.items():
        found = tail_buckets(values, TAIL)
        for side in ("low", "high"):
            index = found.members[f"OOD-{side}"]
            index = index[torch.isin(index, drawn.split.test)]
            if index.numel() and not rare(task, index) and found.overlap[f"OOD-{side}"] <= MOST_OVERLAP:
                tails[f"{name} {side}"] = index
    own = OwnModel(model, task)
    conditions = [*drawn.conditions, *(Condition(name, drawn.task, index) for name, index in tails.items())]
    val = 100 * evaluate(own, drawn.task, drawn.split, ["val"])["val"]
    return Trained(drawn._replace(conditions=conditions), {"model": own}, {"model": val})
