"""What a change under perturbation owes to base sensitivity, and what to amplification by routing.

Part 3 of docs/theory.md: `D = b + a` holds exactly for any read-out, at any depth, in either order (Statement 3.1,
`stemlib.theory.replay`); so

    E||D||^2 = E||b||^2 + E||a||^2 + 2 E<b, a>,         amplification factor = ||D|| / ||b||    (Statement 3.2).

Cost. Both orders over `L` routed layers take, beside the clean and the perturbed pass, `L (L - 1)` layers (those before
a released one are shared), the read-out of `2 L` states, and the ends' tokens and certificates; `benchmarks/theory.py`
measures it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stemlib.data.tasks import require_classes
from stemlib.model.folded import folded_tokens
from stemlib.model.stem import StemGNN
from stemlib.stress.conditions import Condition
from stemlib.theory.certificates import DecisionCertificate, TokenCertificate
from stemlib.theory.gate_bounds import GateFluctuation
from stemlib.theory.replay import Pieces, Readout, read_change, replays
from stemlib.theory.routing import evaluating
from stemlib.theory.token_stability import HeadStability, TokenStability, compare_head, compare_tokens, read

NUMBERS_PER_CHUNK = 2**18  # of the widest tensor over instances: it should stay in a cache


@dataclass(frozen=True)
class Energies:
    """Squared lengths of a change's pieces for `M` instances: `total = base + amplification + 2 cross`.

    Attributes:
        total: `||D||^2` `[M]`.
        base: `||b||^2` `[M]`.
        amplification: `||a||^2` `[M]`.
        cross: `<b, a>` `[M]`.
        layers: `||a_l||^2` `[M, L]`.
        residual: relative violation of `D = b + a`, `a = sum_l a_l` and the identity above `[M]`.
        mean: means over instances of `b, a_1, ..., a_L`, `[1 + L, r]`: signed, as a loss's change is.
    """

    total: Tensor
    base: Tensor
    amplification: Tensor
    cross: Tensor
    layers: Tensor
    residual: Tensor
    mean: Tensor

    @property
    def factor(self) -> float:
        """Amplification factor `||D|| / ||b||` in the mean square: infinite where gates alone react."""
        return (self.total.mean() / self.base.mean()).sqrt().item()

    def summary(self) -> dict[str, float]:
        """Means over instances, the factor and the largest residual, as one row."""
        names = ("total", "base", "amplification", "cross")
        row = {name: getattr(self, name).mean().item() for name in names}
        row |= {f"layer_{layer}": value for layer, value in enumerate(self.layers.mean(0).tolist(), 1)}
        return row | {"factor": self.factor, "residual": self.residual.amax().item()}


@dataclass(frozen=True)
class Sensitivity:
    """Part 3 of docs/theory.md for one model, a clean and a perturbed condition, one read-out.

    Attributes:
        condition: the perturbed one's name.
        readout: embedding, tokens, logits or loss (cross-entropy).
        sequential: routing frozen at its clean value, then released: the default.
        symmetric: averaged over both orders.
        order_gap: `||a_sequential - a_symmetric||^2` `[M]`: how much the order matters.
        gates: routing fluctuation and its bounds.
        tokens: what the tokens make of the embedding, whatever the read-out; None for a model without.
        head: what the head makes of its input.
    """

    condition: str
    readout: Readout
    sequential: Energies
    symmetric: Energies
    order_gap: Tensor
    gates: GateFluctuation
    tokens: TokenStability | None
    head: HeadStability

    def summary(self) -> dict[str, float | str]:
        """Every number of the report as one flat row; `symmetric_` marks the second order's."""
        row: dict[str, float | str] = {"condition": self.condition, "readout": self.readout}
        row |= {"instances": len(self.order_gap), "order_gap": self.order_gap.mean().item()}
        row |= self.sequential.summary()
        row |= {f"symmetric_{name}": value for name, value in self.symmetric.summary().items()}
        row |= self.gates.summary() | (self.tokens.summary() if self.tokens else {})
        return row | self.head.summary()


def sensitivity(model: StemGNN, clean: Condition, perturbed: Condition, readout: Readout = "embedding") -> Sensitivity:
    """Take the change of a read-out under perturbation apart: Statement 3.1 of docs/theory.md.

    Args:
        model: with routed layers; taken in evaluation mode.
        clean: the instances on their own graph.
        perturbed: the same instances on a damaged graph of the same nodes, as by `stemlib.stress.conditions.corrupt`.
        readout: the embedding before the tokens, the codes, the logits, or the cross-entropy (of those
            instances that have a label).

    Raises:
        ValueError: no routed layers; conditions of other instances or nodes; an unknown read-out, or one of
            tokens from a model without; a regression.

    Example:
        >>> from stemlib.data.built_in import mixed_graph
        >>> from stemlib.presets import ModelConfig
        >>> from stemlib.stress.conditions import corrupt
        >>> task = mixed_graph(200)
        >>> model = StemGNN(ModelConfig(hidden=16), in_width=task.graph.x.size(1), classes=task.outputs)
        >>> clean = Condition("clean", task, torch.arange(task.instances))
        >>> damaged, _ = corrupt(clean, "masked", rate=0.4, seed=0)
        >>> found = sensitivity(model, clean, damaged).sequential
        >>> found.layers.shape, bool(found.residual.max() < 1e-9)
        (torch.Size([200, 2]), True)
    """
    require_classes(clean.task, "the certificate of decisions")
    size = _instances_per_chunk(model)
    sequential, symmetric, order_gap, gates, tokens, head = [], [], [], [], [], []
    with evaluating(model):
        of_tokens = TokenCertificate(model.tokens.codebook) if model.tokens is not None else None
        tokens_of = folded_tokens(model.tokens) if model.tokens is not None else None
        of_head = DecisionCertificate(model.head, binary=clean.task.labels.dim() == 2)
        for batch in replays(model, clean, perturbed, readout):
            for states in batch.split(size):
                ends = read(model, states.clean[:, 0]), read(model, states.perturbed[:, -1])
                change = read_change(model, states, readout, ends, tokens_of)
                by_order = change.sequential.amplification, change.symmetric.amplification
                sequential.append(_energies(change.total, change.sequential, by_order[0]))
                symmetric.append(_energies(change.total, change.symmetric, by_order[1]))
                apart = by_order[0] - by_order[1]
                order_gap.append({"order_gap": torch.linalg.vecdot(apart, apart)})
                gates.append(GateFluctuation.fields(states.fluctuation))
                head.append(compare_head(of_head, *ends))
                if of_tokens is not None:
                    tokens.append(compare_tokens(of_tokens, *ends))
        norms = model.head.norms()
    return Sensitivity(
        condition=perturbed.name,
        readout=readout,
        sequential=_joined_energies(sequential),
        symmetric=_joined_energies(symmetric),
        **_joined(order_gap),
        gates=GateFluctuation(**_joined(gates)),
        tokens=TokenStability(**_joined(tokens), codes=model.config.codes) if tokens else None,
        head=HeadStability(**_joined(head), norms=norms),
    )


def _energies(total: Tensor, pieces: Pieces, amplification: Tensor) -> dict[str, Tensor]:
    """The fields of `Energies` for some instances, with sums in place of means."""
    base, layers = pieces
    lengths = {
        name: torch.linalg.vecdot(vector, vector)
        for name, vector in (("total", total), ("base", base), ("amplification", amplification))
    }
    cross = torch.linalg.vecdot(base, amplification)
    scale = sum(lengths.values()).clamp(min=torch.finfo(torch.double).tiny)
    squares = lengths["base"] + lengths["amplification"] + 2 * cross - lengths["total"]
    vectors = torch.linalg.vector_norm(total - base - amplification, dim=-1)
    return lengths | {
        "cross": cross,
        "layers": torch.linalg.vecdot(layers, layers),
        "residual": torch.maximum(squares.abs() / scale, vectors / scale.sqrt()),
        "mean": torch.cat([base.sum(0, keepdim=True), layers.sum(0)]).unsqueeze(0),
    }


def _joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _joined_energies(parts: list[dict[str, Tensor]]) -> Energies:
    fields = _joined(parts)
    return Energies(**fields | {"mean": fields["mean"].sum(0) / len(fields["total"])})


def _instances_per_chunk(model: StemGNN) -> int:
    widest = max(model.head.linear.in_features, model.config.heads * model.config.codes)
    return max(512, NUMBERS_PER_CHUNK // widest)
