"""Whose gates are forced, and which states follow from them: the two scopes of Statement 2.5.

`node`: an instance's own state follows the forced gates, and the messages it receives are those of the network as
routed. For one or two routed layers (dense layers before them allowed) that is what forcing the gates of the
instance's node, or of a link's two ends, does to the whole network, unless a self-loop (or, for a link, an
edge between its ends) carries a forced state back to it after one layer. In deeper stacks a forced state
would return through its neighbours; there, too, the messages stay as routed.

`graph`: the gates of all nodes are forced, and every message follows: the whole network at any depth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stemlib.data.batches import Batch
from stemlib.data.graph import Graph, node_features
from stemlib.data.tasks import read_out
from stemlib.model.encoder import Encoder, Encoding
from stemlib.model.experts import RoutedSAGE, side_by_side
from stemlib.model.folded import Classify
from stemlib.model.losses import LOSSES, instance_loss
from stemlib.model.routers import Seen
from stemlib.model.stem import StemGNN

Scope = Literal["node", "graph"]
NUMBERS_PER_CHUNK = 2**19  # of the widest tensor over instances and experts: it should stay in a cache


@dataclass(frozen=True)
class Forceable:
    """Some nodes whose gates can be forced, and the instances that are read from them.

    Attributes:
        layers: indices of the routed layers in the encoder.
        first: outputs of the first routed layer's experts `[n, K, d]`, which no gate can change.
        outputs: takes a later layer's index and the nodes' states `[n, d]` to its experts' outputs `[n, K, d]`.
        router: takes a routed layer's place among them and the nodes' states (None for the first) to its gates
            `[n, K]`: in scope `node` those of the routed pass, as the messages are; in scope `graph` those that the
            router gives on these states.
        graph: as read-outs need it.
        instances: in terms of the `n` nodes.
        labels: of the instances.
    """

    layers: range
    first: Tensor
    outputs: Callable[[int, Tensor], Tensor]
    router: Callable[[int, Tensor | None], Tensor]
    graph: Graph
    instances: Tensor | None
    labels: Tensor


def forceable(
    model: StemGNN, batch: Batch, encoding: Encoding, scope: Scope, apart: bool = False
) -> Iterator[Forceable]:
    """A batch's instances, in order, as many at a time as a cache holds; in scope `graph` all at once.

    Args:
        model: with routed layers, in evaluation mode.
        batch: of its task.
        encoding: the routed pass over the batch's graph.
        scope: see the module's docstring.
        apart: in scope `node`, whether each instance has its own copy of its nodes, so that two links that share a node
            can be forced to different gates.
    """
    encoder = model.encoder
    layers = range(encoder.is_routed.index(True), len(encoder.layers))
    inputs = [x.to_dense() for x in encoding.inputs]
    x = inputs[layers[0]]
    if scope == "graph":

        def outputs(index: int, x: Tensor) -> Tensor:
            return encoder.expert_outputs(index, x, batch.graph)

        def router(level: int, x: Tensor | None) -> Tensor:
            if level == 0:
                return encoding.gates[0]
            # What earlier routers left is from the routed pass: with two routed layers, the same for every path.
            seen = Seen(x, batch.graph, node_features(batch.graph), dict(encoding.memory))
            return encoder.route(encoder.routers[level](x, seen))

        yield Forceable(layers, outputs(layers[0], x), outputs, router, batch.graph, batch.instances, batch.labels)
        return
    gathered = {index: encoder.gathered(index, inputs[index], batch.graph) for index in layers}
    size = instances_per_chunk(model)
    for instances, labels in zip(batch.instances.split(size), batch.labels.split(size), strict=True):
        if apart:
            nodes, local = instances.flatten(), torch.arange(instances.numel()).view(instances.shape).to(instances)
        else:
            nodes, local = instances.unique(return_inverse=True)
        outputs = _experts_fed_by({index: rows[nodes] for index, rows in gathered.items()}, encoder)
        gates = [gate[nodes] for gate in encoding.gates]
        first = outputs(layers[0], x[nodes])
        yield Forceable(layers, first, outputs, lambda level, _, gates=gates: gates[level], batch.graph, local, labels)


def _experts_fed_by(gathered: dict[int, Tensor], encoder: Encoder) -> Callable[[int, Tensor], Tensor]:
    """`expert_outputs(layer, own states)` for what was read from others, whose half of the product is computed once."""
    if not all(encoder.layers[index].side_by_side for index in gathered):
        return lambda index, x: encoder.layers[index].expert_outputs(gathered[index], x)
    own_weight, mean_half = {}, {}
    for index, mean in gathered.items():
        layer: RoutedSAGE = encoder.layers[index]
        of_mean, own_weight[index] = side_by_side(layer.weight).chunk(2)  # each [d_in, K d_out]
        mean_half[index] = mean @ of_mean

    def expert_outputs(index: int, x: Tensor) -> Tensor:
        layer: RoutedSAGE = encoder.layers[index]
        outputs = torch.addmm(mean_half[index], x, own_weight[index]).unflatten(-1, (layer.experts, -1))
        return outputs + x.unsqueeze(1) if layer.residual else outputs

    return expert_outputs


def path_ends(encoder: Encoder, part: Forceable, mixtures: Tensor | None = None) -> Iterator[Tensor]:
    """Embeddings of all nodes at the ends of all paths, `[n, K, d]` for each prefix, in the order of `all_paths`.

    Depth first, so that at most one `[n, K, d]` per layer is alive.

    Args:
        encoder: the model's.
        part: whose gates are forced.
        mixtures: gates `[P, K]` that every layer takes in place of the `K` one-hot ones; they come `K` at a time.
    """

    def follow(index: int, outputs: Tensor) -> Iterator[Tensor]:
        chunks = [None] if mixtures is None else mixtures.split(mixtures.size(1))
        for some in chunks:
            mixed = outputs if some is None else torch.einsum("pk,nkd->npd", some, outputs)
            states = encoder.finish_layer(index, mixed)
            if index == part.layers[-1]:
                yield states
                continue
            for state in states.unbind(1):
                yield from follow(index + 1, part.outputs(index + 1, state))

    return follow(part.layers[0], part.first)


def own_top_end(encoder: Encoder, part: Forceable) -> Tensor:
    """Embeddings `[n, d]` where every node takes, layer by layer, its own expert of largest gate: Statement 2.9.

    In scope `graph` it is the network that `stemlib.model.deployed.deploy(model, "top1")` deploys, except with three or
    more routed layers and a router that keeps a memory, which is that of the soft pass.
    """
    place, outputs, x = torch.arange(len(part.first), device=part.first.device), part.first, None
    for level, index in enumerate(part.layers):
        if level > 0:
            outputs = part.outputs(index, x)
        x = encoder.finish_layer(index, outputs[place, part.router(level, x).argmax(-1)])
    return x


def end_losses(model: StemGNN, classify: Classify, z: Tensor, part: Forceable) -> Tensor:
    """`[losses, M, P]` of the instances, from embeddings of their nodes at `P` ends, `[n, P, d]`."""
    ends = z.size(1)
    embedding = read_out(z.flatten(1), part.graph, part.instances, model.kind, model.config.pool)
    tables = []
    size = instances_per_chunk(model)
    for rows, known in zip(embedding.split(size), part.labels.split(size), strict=True):
        logits = classify(rows.view(len(rows) * ends, -1)).view(len(rows), ends, -1)
        tables.append(torch.stack([instance_loss(logits, known, loss) for loss in LOSSES]))
    return torch.cat(tables, dim=1)


def instances_per_chunk(model: StemGNN) -> int:
    """How many instances to take through all experts at once."""
    tokens = model.config.heads * model.config.codes if model.tokens is not None else 0
    return max(64, NUMBERS_PER_CHUNK // (model.config.experts * max(model.config.hidden, tokens)))
