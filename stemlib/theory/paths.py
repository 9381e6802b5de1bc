"""The loss of every instance on every path: the table on which part 2 of docs/theory.md rests.

A path `p = (k_1, ..., k_L)` names one expert per routed layer; `stemlib.theory.forcing` says whose gates it forces
(Statement 2.5): both ends of a link, or all nodes of a graph, take the *same* experts. The table also has the form
deployed as `top1`, in which every node takes its *own* top expert (Statement 2.9).

Cost. Scope `node` takes one routed pass, the neighbourhood means once more, each routed layer's half for means once,
its half for own states once per prefix `(k_1, ..., k_{l-1})`, and tokens and head, folded into tables, once per path:
for two layers less than `K + 3` evaluations, and never a pass per instance or per path. Scope `graph` takes layer `l`
`K^{l-1}` times, tokens and head `K^L` times: prefixes are shared. Every node's own top costs one path more (none for
nodes in scope `node`: it is among their paths).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import get_args

import torch
from torch import Tensor

from stemlib.data.batches import batches
from stemlib.data.tasks import Task
from stemlib.devices import device_of
from stemlib.model.folded import folded_classifier
from stemlib.model.losses import LOSSES, Loss, instance_loss
from stemlib.model.network import require_fit
from stemlib.model.stem import StemGNN
from stemlib.theory.forcing import Scope, end_losses, forceable, own_top_end, path_ends
from stemlib.theory.routing import GRAPHS_PER_BATCH, evaluating, first_routed_layer, labelled, per_instance


@dataclass(frozen=True)
class PathLosses:
    """The losses of `M` instances on all `P = K^L` paths, in float64.

    Attributes:
        index: the instances `[M]`.
        scope: how paths were forced.
        paths: `[P, L]`, the last layer's expert changing fastest.
        forced: by loss, `[M, P]`.
        routed: by loss, `[M]`: the network as deployed.
        own_top: by loss, `[M]`: every node whose gates a path forces on its own top expert; see `own_top_end`.
        gates: the deployed gates of the instances `[M, L, K]`; for links and graphs the mean over their nodes.
        entropy: of the gates, in nats `[M, L]`; for links and graphs the mean over their nodes.
    """

    index: Tensor
    scope: Scope
    paths: Tensor
    forced: dict[Loss, Tensor]
    routed: dict[Loss, Tensor]
    own_top: dict[Loss, Tensor]
    gates: Tensor
    entropy: Tensor

    def rows(self, rows: Tensor) -> PathLosses:
        """The same for some of the instances, named by their rows."""
        return replace(
            self,
            index=self.index[rows],
            forced={name: table[rows] for name, table in self.forced.items()},
            routed={name: values[rows] for name, values in self.routed.items()},
            own_top={name: values[rows] for name, values in self.own_top.items()},
            gates=self.gates[rows],
            entropy=self.entropy[rows],
        )


def all_paths(experts: int, layers: int) -> Tensor:
    """Every path, `[K^L, L]`, the last layer's expert changing fastest."""
    return torch.cartesian_prod(*[torch.arange(experts)] * layers).view(-1, layers)


def top_paths(gates: Tensor) -> Tensor:
    """The path of largest gates of every instance, as a row of `all_paths`, `[M]`, from gates `[M, L, K]`."""
    layers, experts = gates.shape[1:]
    return (gates.argmax(-1) * experts ** torch.arange(layers - 1, -1, -1)).sum(-1)


def path_losses(model: StemGNN, task: Task, index: Tensor, scope: Scope | None = None) -> PathLosses:
    """The losses of instances on all paths; see the module's docstring for what a path is, and the cost.

    Args:
        model: any `StemGNN` with routed layers; taken in evaluation mode.
        task: on the graph of the condition.
        index: instances `[M]`, all with a label.
        scope: None for `graph` in graph tasks, otherwise `node`.

    Raises:
        ValueError: no routed layers, a scope that the task does not have, or a regression.
    """
    first_routed_layer(model)  # raises where there is none
    scope = scope or ("graph" if task.kind == "graph" else "node")
    if scope not in get_args(Scope):
        raise ValueError(f"scope must be node or graph, got {scope!r}")
    if task.kind == "graph" and scope == "node":
        raise ValueError("a graph has no gates of its own: graph tasks force paths in scope 'graph'")
    require_fit(model, task)
    index = labelled(task, index)
    in_table = scope == "node" and task.kind == "node"  # the own top of the one node that is forced
    parts, tables = [], []
    with evaluating(model):
        classify = folded_classifier(model)
        for batch in batches(task, index, GRAPHS_PER_BATCH if task.kind == "graph" else 0):
            batch = batch.to(device_of(model))
            output = model(batch.graph, batch.instances)
            gates = output.encoding.gates
            entropy = [torch.special.entr(gate).sum(-1, keepdim=True) for gate in gates]
            parts.append(
                {
                    "gates": per_instance(gates, batch.graph, batch.instances, task.kind),
                    "entropy": per_instance(entropy, batch.graph, batch.instances, task.kind).squeeze(-1),
                    "routed": torch.stack([instance_loss(output.logits, batch.labels, loss) for loss in LOSSES]),
                }
            )
            for part in forceable(model, batch, output.encoding, scope):
                ends = path_ends(model.encoder, part)
                own = [] if in_table else [own_top_end(model.encoder, part).unsqueeze(1)]
                tables.append(torch.cat([end_losses(model, classify, z, part) for z in chain(ends, own)], dim=-1))
    paths = all_paths(model.config.experts, model.encoder.routed_layers)
    gates = torch.cat([part["gates"] for part in parts]).double().cpu()
    routed = torch.cat([part["routed"] for part in parts], dim=1).cpu()
    table = torch.cat(tables, dim=1).cpu()
    forced = table[..., : len(paths)].contiguous()
    own_top = forced[:, torch.arange(len(index)), top_paths(gates)] if in_table else table[..., -1]
    return PathLosses(
        index=index,
        scope=scope,
        paths=paths,
        forced=dict(zip(LOSSES, forced, strict=True)),
        routed=dict(zip(LOSSES, routed, strict=True)),
        own_top=dict(zip(LOSSES, own_top, strict=True)),
        gates=gates,
        entropy=torch.cat([part["entropy"] for part in parts]).double().cpu(),
    )
