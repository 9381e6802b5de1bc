"""Gates recorded and replayed: what a perturbation does with routing frozen, and what released gates add.

With `f(x; pi)` the network on input `x` with gates `pi`, any read-out changes by exactly

    f(x'; pi') - f(x; pi) = base + amplification
      sequential:  base = f(x'; pi) - f(x; pi),   amplification = f(x'; pi') - f(x'; pi)
      symmetric:   each averaged over both orders (input first, gates first)

and amplification is the sum of what releasing the gates of routed layer 1, then 2, ..., adds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch_geometric.data import Data

from stemlib.batches import Batch, batches
from stemlib.conditions import Condition
from stemlib.experts import Encoder, Gates
from stemlib.gate_bounds import compare_gates
from stemlib.model import StemGNN
from stemlib.routing import evaluating, first_routed_layer, instance_loss, labelled, per_instance
from stemlib.tasks import read_out
from stemlib.token_stability import head_input

Readout = Literal["embedding", "tokens", "logits", "loss"]
GRAPHS_PER_BATCH = 512


class Pieces(NamedTuple):
    """One way of taking a change apart, float64: `base` `[M, r]`, and `layers` `[M, L, r]`, one per release."""

    base: Tensor
    layers: Tensor

    @property
    def amplification(self) -> Tensor:
        """The sum over layers, `[M, r]`."""
        return self.layers.sum(1)


class Change(NamedTuple):
    """`f(x'; pi') - f(x; pi)` of a read-out of width `r`, `[M, r]`, and its pieces."""

    total: Tensor
    sequential: Pieces
    symmetric: Pieces


class Replays(NamedTuple):
    """Embeddings of `M` instances with the gates of the first `l = 0, ..., L` routed layers released.

    Attributes:
        clean: on the clean input, `[M, L + 1, d]`; `[:, 0]` is the network as it meets clean data.
        perturbed: on the perturbed input; `[:, L]` is the network as it meets perturbed data.
        fluctuation: `compare_gates` read for instances, `[M, L, 5]`.
        labels: of the instances.
    """

    clean: Tensor
    perturbed: Tensor
    fluctuation: Tensor
    labels: Tensor

    def split(self, size: int) -> Iterator[Replays]:
        """The same, `size` instances at a time."""
        return (Replays(*part) for part in zip(*(value.split(size) for value in self), strict=True))


def replays(model: StemGNN, clean: Condition, perturbed: Condition, readout: Readout) -> Iterator[Replays]:
    """All passes that statement 3 needs, batch by batch; graph tasks have several batches.

    Raises:
        ValueError: as `stemlib.sensitivity.sensitivity`.
    """
    first = first_routed_layer(model)
    if readout not in get_args(Readout):
        raise ValueError(f"readout must be one of {', '.join(get_args(Readout))}, got {readout!r}")
    if readout == "tokens" and model.tokens is None:
        raise ValueError("this model has no tokens (codebook='none'): read out its embedding instead")
    nodes = clean.task.graph.num_nodes, perturbed.task.graph.num_nodes
    if nodes[0] != nodes[1] or not torch.equal(clean.index, perturbed.index):
        raise ValueError(
            f"{clean.name!r} and {perturbed.name!r} must have the same instances on the same nodes; they have "
            f"{clean.index.numel()} of {nodes[0]} nodes and {perturbed.index.numel()} of {nodes[1]}"
        )
    index = labelled(clean.task.labels, clean.index) if readout == "loss" else clean.index
    size = GRAPHS_PER_BATCH if clean.task.kind == "graph" else 0
    with evaluating(model):
        for pair in zip(batches(clean.task, index, size), batches(perturbed.task, index, size), strict=True):
            yield _replay(model, *pair, first)


def _replay(model: StemGNN, clean: Batch, perturbed: Batch, first: int) -> Replays:
    encoder = model.encoder
    before, after = model.encode(clean.graph), model.encode(perturbed.graph)
    read = [model.kind, model.config.pool]
    on_clean = [
        read_out(z, clean.graph, clean.instances, *read)
        for z, _ in released(encoder, clean.graph, before.inputs[first], before.gates, after.gates)
    ]
    on_perturbed, fluctuation = [], []
    steps = released(encoder, perturbed.graph, after.inputs[first], before.gates, after.gates)
    for layer, (z, outputs) in enumerate(steps):
        on_perturbed.append(read_out(z, perturbed.graph, perturbed.instances, *read))
        if outputs is not None:
            logits_change = after.gate_logits[layer] - before.gate_logits[layer]
            gates = before.gates[layer], after.gates[layer]
            fluctuation.append(compare_gates(*gates, logits_change, outputs))
    # The ends are the network as deployed, so that replaying is checked and not assumed.
    on_clean[0] = read_out(before.z, clean.graph, clean.instances, *read)
    on_perturbed[-1] = read_out(after.z, perturbed.graph, perturbed.instances, *read)
    return Replays(
        torch.stack(on_clean, dim=1),
        torch.stack(on_perturbed, dim=1),
        per_instance(fluctuation, clean.graph, clean.instances, model.kind),
        clean.labels,
    )


def released(
    encoder: Encoder, graph: Data, x: Tensor, held: Gates, free: Gates
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Node embeddings `[N, d]` with the first `l` routed layers on the gates `free` and the others on `held`.

    Yields `L + 1` of them, for `l = 0, ..., L`, in `L (L + 1) / 2` layers, each with the expert outputs
    `[N, K, d]` of layer `l + 1` where its gates are next to be released.

    Args:
        encoder: its layers before the first routed one are not run.
        graph: clean or perturbed.
        x: input of the first routed layer `[N, d]`.
        held: gates of every routed layer `[N, K]`.
        free: gates that replace them, layer by layer.
    """
    routed = [index for index, is_routed in enumerate(encoder.is_routed) if is_routed]
    for level, index in enumerate(routed):
        outputs = encoder.layers[index].expert_outputs(encoder.layer_mean(index, x, graph), x)
        z = encoder.finish_layer(index, torch.einsum("nk,nko->no", held[level], outputs))
        for gates, later in zip(held[level + 1 :], routed[level + 1 :], strict=True):
            mean = encoder.layer_mean(later, z, graph)
            z = encoder.finish_layer(later, encoder.layers[later](mean, z, gates))
        yield z, outputs
        x = encoder.finish_layer(index, torch.einsum("nk,nko->no", free[level], outputs))
    yield x, None


def read_change(model: StemGNN, states: Replays, readout: Readout) -> Change:
    """The change of a read-out and its pieces, in both orders."""
    clean, perturbed = (
        torch.stack([_read(model, z, states.labels, readout) for z in part.unbind(1)], dim=1)
        for part in (states.clean, states.perturbed)
    )
    sequential = Pieces(perturbed[:, 0] - clean[:, 0], perturbed.diff(dim=1))
    gates_first = Pieces(perturbed[:, -1] - clean[:, -1], clean.diff(dim=1))
    symmetric = Pieces(*((one + other) / 2 for one, other in zip(sequential, gates_first, strict=True)))
    return Change(perturbed[:, -1] - clean[:, 0], sequential, symmetric)


def _read(model: StemGNN, z: Tensor, labels: Tensor, readout: Readout) -> Tensor:
    """`[M, r]` in float64 from embeddings `[M, d]`."""
    if readout == "embedding":
        return z.double()
    if readout == "tokens":
        return head_input(model, z).double()
    logits, _ = model.classify(z)
    return logits.double() if readout == "logits" else instance_loss(logits, labels, "ce").unsqueeze(1)


def change_under(model: StemGNN, clean: Condition, perturbed: Condition, readout: Readout) -> Change:
    """The vectors themselves, `[M, r]`, for all instances; `sensitivity` keeps their energies alone."""
    with evaluating(model):
        parts = [read_change(model, states, readout) for states in replays(model, clean, perturbed, readout)]
    pieces = [
        Pieces(*map(torch.cat, zip(*order, strict=True))) for order in list(zip(*parts, strict=True))[1:]
    ]
    return Change(torch.cat([part.total for part in parts]), *pieces)
