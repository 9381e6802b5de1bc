"""Gates recorded and replayed: what a perturbation does with routing frozen, and what released gates add.

With `f(x; pi)` the network on input `x` with gates `pi`, any read-out changes by exactly (Statement 3.1)

    f(x'; pi') - f(x; pi) = base + amplification
      sequential:  base = f(x'; pi) - f(x; pi),   amplification = f(x'; pi') - f(x'; pi)
      symmetric:   each averaged over both orders (input first, gates first)

and amplification is the sum of what releasing the gates of routed layer 1, then 2, ..., adds (Statement 3.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from stemlib.data.batches import Batch, batches
from stemlib.data.graph import Graph
from stemlib.data.tasks import read_out
from stemlib.devices import device_of
from stemlib.model.encoder import Encoder, Gates
from stemlib.model.experts import mixture
from stemlib.model.folded import folded_tokens
from stemlib.model.losses import instance_loss
from stemlib.model.network import require_fit
from stemlib.model.stem import StemGNN
from stemlib.stress.conditions import Condition
from stemlib.theory.gate_bounds import compare_gates
from stemlib.theory.routing import GRAPHS_PER_BATCH, evaluating, first_routed_layer, labelled, per_instance
from stemlib.theory.token_stability import Reading, read

Readout = Literal["embedding", "tokens", "logits", "loss"]
Tokenise = Callable[[Tensor], Tensor]


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
        clean: on the clean input, `[M, L + 1, d]`; `[:, 0]` is the network's ordinary clean pass.
        perturbed: on the perturbed input; `[:, L]` is its ordinary perturbed pass.
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
    """All passes that `sensitivity` needs, batch by batch (graph tasks have several); the caller sets `evaluating`.

    Raises:
        ValueError: as in `stemlib.theory.sensitivity.sensitivity`.
    """
    first_routed_layer(model)  # raises where there is none
    if readout not in get_args(Readout):
        raise ValueError(f"readout must be one of {', '.join(get_args(Readout))}, got {readout!r}")
    if readout == "tokens" and model.tokens is None:
        raise ValueError("this model has no tokens (codebook='none'): read out its embedding instead")
    require_fit(model, clean.task)
    nodes = clean.task.graph.num_nodes, perturbed.task.graph.num_nodes
    if nodes[0] != nodes[1] or not torch.equal(clean.index, perturbed.index):
        raise ValueError(
            f"{clean.name!r} and {perturbed.name!r} must have the same instances on the same nodes; they have "
            f"{clean.index.numel()} on {nodes[0]} nodes and {perturbed.index.numel()} on {nodes[1]}"
        )
    index = labelled(clean.task, clean.index) if readout == "loss" else clean.index
    size = GRAPHS_PER_BATCH if clean.task.kind == "graph" else 0
    for pair in zip(batches(clean.task, index, size), batches(perturbed.task, index, size), strict=True):
        yield _replay(model, *(batch.to(device_of(model)) for batch in pair))


def _replay(model: StemGNN, clean: Batch, perturbed: Batch) -> Replays:
    encoder = model.encoder
    before, after = (encoder(batch.graph, keep_outputs=True) for batch in (clean, perturbed))
    gates = before.gates, after.gates
    last = len(before.gates) - 1
    # Both ends are the network as deployed: the tests show that replaying gives the same.
    on_clean, on_perturbed, fluctuation = [before.z], [], []
    for level, outputs in enumerate(expert_outputs(encoder, clean.graph, before.outputs[0], after.gates)):
        if level > 0:
            on_clean.append(completed(encoder, clean.graph, level, outputs, before.gates))
        if level == last:
            on_clean.append(completed(encoder, clean.graph, level, outputs, after.gates))
    for level, outputs in enumerate(after.outputs):
        on_perturbed.append(completed(encoder, perturbed.graph, level, outputs, before.gates))
        logits_change = after.gate_logits[level] - before.gate_logits[level]
        fluctuation.append(compare_gates(*(gate[level] for gate in gates), logits_change, outputs))
    on_perturbed.append(after.z)

    def embeddings(states: list[Tensor], batch: Batch) -> Tensor:
        read = [read_out(z, batch.graph, batch.instances, model.kind, model.config.pool) for z in states]
        return torch.stack(read, dim=1)

    return Replays(
        embeddings(on_clean, clean),
        embeddings(on_perturbed, perturbed),
        per_instance(fluctuation, clean.graph, clean.instances, model.kind),
        clean.labels,
    )


def expert_outputs(encoder: Encoder, graph: Graph, outputs: Tensor, gates: Gates) -> Iterator[Tensor]:
    """Every routed layer's expert outputs `[N, K, d]`, with the layers before it on the given gates.

    Args:
        encoder: its layers before the second routed one are not run.
        graph: clean or perturbed.
        outputs: of the first routed layer, which no gate can change.
        gates: one `[N, K]` per routed layer.
    """
    routed = _routed(encoder)
    yield outputs
    for level, (before, index) in enumerate(pairwise(routed)):
        x = encoder.finish_layer(before, mixture(gates[level], outputs))
        outputs = encoder.expert_outputs(index, x, graph)
        yield outputs


def completed(encoder: Encoder, graph: Graph, level: int, outputs: Tensor, gates: Gates) -> Tensor:
    """Node embeddings `[N, d]` from the expert outputs of routed layer `level` onwards, on the given gates."""
    routed = _routed(encoder)[level:]
    z = encoder.finish_layer(routed[0], mixture(gates[level], outputs))
    for index, gate in zip(routed[1:], gates[level + 1 :], strict=True):
        # Mixed as everywhere here, so that what no gate has changed stays equal to the bit.
        outputs = encoder.expert_outputs(index, z, graph)
        z = encoder.finish_layer(index, mixture(gate, outputs))
    return z


def _routed(encoder: Encoder) -> list[int]:
    return [index for index, is_routed in enumerate(encoder.is_routed) if is_routed]


def read_change(
    model: StemGNN, states: Replays, readout: Readout, ends: tuple[Reading, Reading], tokens_of: Tokenise | None
) -> Change:
    """The change of a read-out and its pieces, in both orders.

    Args:
        model: in evaluation mode.
        states: of some instances.
        readout: what is read.
        ends: readings of `states.clean[:, 0]` and `states.perturbed[:, L]`.
        tokens_of: `folded_tokens`, for the states in between; None for a model without a codebook.
    """

    if readout == "embedding":
        return change_between(states.clean.double(), states.perturbed.double())
    if tokens_of:
        between = tokens_of_states(states, ends, tokens_of)[:, 1:-1].unbind(1)
        codes = [model.tokens.lookup(indices).flatten(1) for indices in between]
    else:
        codes = [*states.clean.unbind(1)[1:], *states.perturbed.unbind(1)[:-1]]
        codes = codes if model.tokens is None else [model.tokens(z).codes for z in codes]
    if readout == "tokens":
        values = torch.stack([ends[0].codes, *codes, ends[1].codes], dim=1).double()
    else:
        values = torch.stack([ends[0].logits, *map(model.head, codes), ends[1].logits], dim=1).double()
    if readout == "loss":
        values = instance_loss(values, states.labels, "ce").unsqueeze(2)
    return change_between(*values.unflatten(1, (2, -1)).unbind(1))


def change_between(clean: Tensor, perturbed: Tensor) -> Change:
    """The change and its pieces from what is read off all states, `[M, L + 1, r]` on either input."""
    sequential = Pieces(perturbed[:, 0] - clean[:, 0], perturbed.diff(dim=1))
    other = Pieces(perturbed[:, -1] - clean[:, -1], clean.diff(dim=1))
    symmetric = Pieces(*((one + two) / 2 for one, two in zip(sequential, other, strict=True)))
    return Change(perturbed[:, -1] - clean[:, 0], sequential, symmetric)


def tokens_of_states(states: Replays, ends: tuple[Reading, Reading], tokens_of: Tokenise) -> Tensor:
    """Token indices `[M, 2 L + 2, H]` of all states on the clean input, then of those on the perturbed one."""
    z = torch.cat([states.clean[:, 1:], states.perturbed[:, :-1]], dim=1)
    between = tokens_of(z.flatten(0, 1)).unflatten(0, z.shape[:2])
    first, last = (reading.tokens.indices.unsqueeze(1) for reading in ends)
    return torch.cat([first, between, last], dim=1)


def change_under(model: StemGNN, clean: Condition, perturbed: Condition, readout: Readout) -> Change:
    """The vectors themselves, `[M, r]`, for all instances; `sensitivity` keeps only their energies."""
    parts = []
    with evaluating(model):
        tokens_of = folded_tokens(model.tokens) if model.coded else None
        for states in replays(model, clean, perturbed, readout):
            ends = read(model, states.clean[:, 0]), read(model, states.perturbed[:, -1])
            parts.append(read_change(model, states, readout, ends, tokens_of))
    total, *orders = zip(*parts, strict=True)
    return Change(torch.cat(total), *(Pieces(*map(torch.cat, zip(*order, strict=True))) for order in orders))
