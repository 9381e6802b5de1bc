"""The loss of every instance on every path: the table that part 2 of docs/theory.md is made of.

A path `p = (k_1, ..., k_L)` names one expert per routed layer. It is forced in one of two scopes (Statement 2.5).

`node`: an instance's own state follows the path, and the messages it receives are those of the network as
routed. For one or two routed layers (dense layers before them allowed) that is what forcing the gates of the
instance's node, or of a link's two ends, does to the whole network, unless a self-loop (or, for a link, an
edge between its ends) carries a forced state back to it after one layer. In deeper stacks a forced state
would return through its neighbours; there, too, the messages stay as routed.

`graph`: the gates of all nodes are forced.

Cost. `node` takes one routed pass, the neighbourhood means once more, each routed layer's mean half once,
its own half once per prefix `(k_1, ..., k_{l-1})`, and tokens and head, folded into tables, once per path:
for two layers less than `K + 3` evaluations, and never a pass per instance or per path.
`graph` takes layer `l` `K^{l-1}` times, tokens and head `K^L` times: prefixes are shared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from stemlib.data.batches import Batch, batches
from stemlib.data.graph import Graph
from stemlib.data.tasks import Task, read_out
from stemlib.devices import device_of
from stemlib.model.encoder import Encoder, Encoding
from stemlib.model.experts import RoutedSAGE, side_by_side
from stemlib.model.folded import Classify, folded_classifier
from stemlib.model.losses import LOSSES, Loss, instance_loss
from stemlib.model.network import require_fit
from stemlib.model.stem import StemGNN
from stemlib.theory.routing import GRAPHS_PER_BATCH, evaluating, first_routed_layer, labelled, per_instance

Scope = Literal["node", "graph"]
NUMBERS_PER_CHUNK = 2**19  # of the widest tensor over instances and experts: it should stay in a cache


@dataclass(frozen=True)
class PathLosses:
    """The losses of `M` instances on all `P = K^L` paths, in float64.

    Attributes:
        index: the instances `[M]`.
        scope: how paths were forced.
        paths: `[P, L]`, the last layer's expert changing fastest.
        forced: by loss, `[M, P]`.
        routed: by loss, `[M]`: the network as deployed.
        gates: the deployed gates of the instances `[M, L, K]`.
        entropy: of the gates, in nats `[M, L]`; for links and graphs the mean over their nodes.
    """

    index: Tensor
    scope: Scope
    paths: Tensor
    forced: dict[Loss, Tensor]
    routed: dict[Loss, Tensor]
    gates: Tensor
    entropy: Tensor

    def rows(self, rows: Tensor) -> PathLosses:
        """The same for some of the instances, named by their rows."""
        return replace(
            self,
            index=self.index[rows],
            forced={name: table[rows] for name, table in self.forced.items()},
            routed={name: values[rows] for name, values in self.routed.items()},
            gates=self.gates[rows],
            entropy=self.entropy[rows],
        )


def all_paths(experts: int, layers: int) -> Tensor:
    """Every path, `[K^L, L]`, the last layer's expert changing fastest."""
    return torch.cartesian_prod(*[torch.arange(experts)] * layers).view(-1, layers)


def path_losses(model: StemGNN, task: Task, index: Tensor, scope: Scope | None = None) -> PathLosses:
    """The losses of instances on all paths; see the module's docstring for the scopes and their cost.

    Args:
        model: any `StemGNN` with routed layers; taken in evaluation mode.
        task: on the graph of the condition.
        index: instances `[M]`, all with a label.
        scope: None for `graph` in graph tasks, else `node`.

    Raises:
        ValueError: no routed layers, a scope that the task does not have, or a regression.
    """
    first = first_routed_layer(model)
    scope = scope or ("graph" if task.kind == "graph" else "node")
    if scope not in ("node", "graph"):
        raise ValueError(f"scope must be node or graph, got {scope!r}")
    if task.kind == "graph" and scope == "node":
        raise ValueError("a graph has no gates of its own: graph tasks force paths in scope 'graph'")
    require_fit(model, task)
    index = labelled(task, index)
    parts = []
    with evaluating(model):
        for batch in batches(task, index, GRAPHS_PER_BATCH if task.kind == "graph" else 0):
            batch = batch.to(device_of(model))
            output = model(batch.graph, batch.instances)
            gates = output.encoding.gates
            entropy = [torch.special.entr(gate).sum(-1, keepdim=True) for gate in gates]
            force = _forced_in_node_scope if scope == "node" else _forced_in_graph_scope
            parts.append(
                {
                    "gates": per_instance(gates, batch.graph, batch.instances, task.kind),
                    "entropy": per_instance(entropy, batch.graph, batch.instances, task.kind).squeeze(-1),
                    "routed": torch.stack([instance_loss(output.logits, batch.labels, loss) for loss in LOSSES]),
                    "forced": force(model, batch, output.encoding, first),
                }
            )
    forced = torch.cat([part["forced"] for part in parts], dim=1).cpu()
    routed = torch.cat([part["routed"] for part in parts], dim=1).cpu()
    return PathLosses(
        index=index,
        scope=scope,
        paths=all_paths(model.config.experts, model.encoder.routed_layers),
        forced=dict(zip(LOSSES, forced, strict=True)),
        routed=dict(zip(LOSSES, routed, strict=True)),
        gates=torch.cat([part["gates"] for part in parts]).double().cpu(),
        entropy=torch.cat([part["entropy"] for part in parts]).double().cpu(),
    )


def _forced_in_graph_scope(model: StemGNN, batch: Batch, encoding: Encoding, first: int) -> Tensor:
    """`[losses, M, P]` with every node's gates forced."""
    encoder = model.encoder

    def expert_outputs(index: int, x: Tensor) -> Tensor:
        return encoder.layers[index].expert_outputs(encoder.layer_mean(index, x, batch.graph), x)

    classify = folded_classifier(model)
    ends = _path_ends(encoder, expert_outputs, encoding.inputs[first], first)
    tables = [_path_end_losses(model, classify, z, batch.graph, batch.instances, batch.labels) for z in ends]
    return torch.cat(tables, dim=-1)


def _forced_in_node_scope(model: StemGNN, batch: Batch, encoding: Encoding, first: int) -> Tensor:
    """`[losses, M, P]` with the instances' own states forced and their messages as routed."""
    encoder = model.encoder
    routed = range(first, len(encoder.layers))
    means = {index: encoder.layer_mean(index, encoding.inputs[index], batch.graph) for index in routed}
    classify = folded_classifier(model)
    size = _instances_per_chunk(model)
    tables = []
    for instances, labels in zip(batch.instances.split(size), batch.labels.split(size), strict=True):
        nodes, local = instances.unique(return_inverse=True)
        outputs = _experts_fed_by({index: mean[nodes] for index, mean in means.items()}, encoder)
        ends = _path_ends(encoder, outputs, encoding.inputs[first][nodes], first)
        tables.append(
            torch.cat([_path_end_losses(model, classify, z, batch.graph, local, labels) for z in ends], dim=-1)
        )
    return torch.cat(tables, dim=1)


def _experts_fed_by(means: dict[int, Tensor], encoder: Encoder) -> Callable[[int, Tensor], Tensor]:
    """`expert_outputs(layer, own states)` for fixed neighbourhood means, whose half is computed once."""
    own_weight, mean_half = {}, {}
    for index, mean in means.items():
        layer: RoutedSAGE = encoder.layers[index]
        of_mean, own_weight[index] = side_by_side(layer.weight).chunk(2)  # each [d_in, K d_out]
        mean_half[index] = mean @ of_mean

    def expert_outputs(index: int, x: Tensor) -> Tensor:
        layer: RoutedSAGE = encoder.layers[index]
        outputs = torch.addmm(mean_half[index], x, own_weight[index]).unflatten(-1, (layer.experts, -1))
        return outputs + x.unsqueeze(1) if layer.residual else outputs

    return expert_outputs


def _path_ends(
    encoder: Encoder, expert_outputs: Callable[[int, Tensor], Tensor], x: Tensor, index: int
) -> Iterator[Tensor]:
    """Embeddings `[n, K, d]` at the ends of the `K` paths of each prefix, in the order of `all_paths`.

    Depth first, so that no more than one `[n, K, d]` per layer is alive.
    """
    children = encoder.finish_layer(index, expert_outputs(index, x))
    if index == len(encoder.layers) - 1:
        yield children
        return
    for child in children.unbind(1):
        yield from _path_ends(encoder, expert_outputs, child, index + 1)


def _path_end_losses(
    model: StemGNN, classify: Classify, z: Tensor, graph: Graph, instances: Tensor | None, labels: Tensor
) -> Tensor:
    """`[losses, M, K]` from the nodes' embeddings on `K` paths `[N, K, d]`."""
    experts = z.size(1)
    embedding = read_out(z.flatten(1), graph, instances, model.kind, model.config.pool)
    tables = []
    size = _instances_per_chunk(model)
    for rows, known in zip(embedding.split(size), labels.split(size), strict=True):
        logits = classify(rows.view(len(rows) * experts, -1)).view(len(rows), experts, -1)
        tables.append(torch.stack([instance_loss(logits, known, loss) for loss in LOSSES]))
    return torch.cat(tables, dim=1)


def _instances_per_chunk(model: StemGNN) -> int:
    tokens = model.config.heads * model.config.codes if model.tokens is not None else 0
    return max(64, NUMBERS_PER_CHUNK // (model.config.experts * max(model.config.hidden, tokens)))
