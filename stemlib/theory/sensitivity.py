"""What a change under perturbation owes to base sensitivity, and what to amplification by routing.

Part 3 of docs/theory.md: `D = b + a` holds exactly for any read-out, at any depth, in either order (Statement 3.1,
`stemlib.theory.replay`); so

    E||D||^2 = E||b||^2 + E||a||^2 + 2 E<b, a>,         amplification factor = ||D|| / ||b||    (Statement 3.2).

Cost. Both orders over `L` routed layers take, besides the clean and the perturbed pass, `L (L - 1)` layers (those
before a released one are shared), the read-out of `2 L` states, and the ends' tokens and certificates;
`benchmarks/theory.py` measures it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stemlib.data.tasks import require_classes
from stemlib.model.folded import folded_tokens
from stemlib.model.stem import StemGNN
from stemlib.stress.conditions import Condition
from stemlib.theory.certificates import DecisionCertificate, TokenCertificate
from stemlib.theory.gate_bounds import GateFluctuation
from stemlib.theory.replay import Change, Readout, change_between, read_change, replays, tokens_of_states
from stemlib.theory.routing import evaluating
from stemlib.theory.token_stability import HeadStability, TokenStability, compare_head, compare_tokens, read

Fields = dict[str, Tensor]
NUMBERS_PER_CHUNK = 2**20  # of the widest tensor over instances: 4 MB, which stay in a cache
LEAST = 1e-6  # errors in a smaller change are measured against this, not against the change


@dataclass(frozen=True)
class Energies:
    """Squared lengths of a change's pieces for `M` instances: `total = base + amplification + 2 cross`.

    Attributes:
        total: `||D||^2` `[M]`.
        base: `||b||^2` `[M]`.
        amplification: `||a||^2` `[M]`.
        cross: `<b, a>` `[M]`.
        layers: `||a_l||^2` `[M, L]`.
        residual: violation of `D = b + a`, `a = sum_l a_l` and the identity above `[M]`, relative to the pieces' size,
            or to `LEAST` where they are smaller.
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
        """Amplification factor `||D|| / ||b||` in the mean square: infinite if only the gates react."""
        return (self.total.mean() / self.base.mean()).sqrt().item()

    def summary(self) -> dict[str, float]:
        """Means over instances, their shares, the factor and the largest residual, as one row.

        `base, %`, `amplification, %` and `cross, %` (of twice the cross term) are shares of the total: together 100.
        """
        means = {name: getattr(self, name).mean() for name in ("total", "base", "amplification", "cross")}
        row = {name: mean.item() for name, mean in means.items()}
        for name, times in (("base", 1), ("amplification", 1), ("cross", 2)):
            row[f"{name}, %"] = (100 * times * means[name] / means["total"]).item()
        row |= {f"layer_{layer}": value for layer, value in enumerate(self.layers.mean(0).tolist(), 1)}
        return row | {"factor": self.factor, "residual": self.residual.amax().item()}


@dataclass(frozen=True)
class Sensitivity:
    """Part 3 of docs/theory.md for one model, a clean and a perturbed condition, and one read-out.

    Attributes:
        condition: the perturbed one's name.
        readout: embedding, tokens, logits or loss (cross-entropy).
        sequential: routing frozen at its clean value, then released: the default.
        symmetric: averaged over both orders.
        order_gap: `||a_sequential - a_symmetric||^2` `[M]`: how much the order matters.
        gates: routing fluctuation and its bounds.
        tokens: what the tokens make of the embedding, whatever the read-out; None for a model without a codebook.
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
        """Every number of the report as one flat row; `symmetric_` marks those averaged over both orders."""
        row: dict[str, float | str] = {"condition": self.condition, "readout": self.readout}
        row |= {"instances": len(self.order_gap), "order_gap": self.order_gap.mean().item()}
        row |= self.sequential.summary()
        row |= {f"symmetric_{name}": value for name, value in self.symmetric.summary().items()}
        row |= self.gates.summary() | (self.tokens.summary() if self.tokens else {})
        return row | self.head.summary()


def sensitivity(model: StemGNN, clean: Condition, perturbed: Condition, readout: Readout = "embedding") -> Sensitivity:
    """Decompose the change of a read-out under perturbation: Statement 3.1 of docs/theory.md.

    Args:
        model: with routed layers; taken in evaluation mode.
        clean: the instances on their own graph.
        perturbed: the same instances on a damaged graph of the same nodes, as from `stemlib.stress.conditions.corrupt`.
        readout: the embedding before the tokens, the codes, the logits, or the cross-entropy (of those
            instances that have a label).

    Raises:
        ValueError: no routed layers; conditions of other instances or nodes; an unknown read-out, or tokens from a
            model without any; a regression.

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
        of_tokens = TokenCertificate(model.tokens.codebook) if model.coded else None
        tokens_of = folded_tokens(model.tokens) if model.coded else None
        of_head = DecisionCertificate(model.head, binary=clean.task.labels.dim() == 2)
        for batch in replays(model, clean, perturbed, readout):
            for states in batch.split(size):
                ends = read(model, states.clean[:, 0]), read(model, states.perturbed[:, -1])
                if readout == "tokens" and of_tokens is not None:
                    energies = _token_energies(of_tokens, tokens_of_states(states, ends, tokens_of))
                else:
                    energies = _energies(read_change(model, states, readout, ends, tokens_of), torch.linalg.vecdot)
                for parts, part in zip((sequential, symmetric, order_gap), energies, strict=True):
                    parts.append(part)
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


def _energies(change: Change, product: Callable[[Tensor, Tensor], Tensor]) -> tuple[Fields, Fields, Fields]:
    """The fields of `Energies` in both orders, with sums in place of means, and the order gap, for some instances.

    Args:
        change: vectors `[M, r]`, or one of coordinates `[1, r]` for all instances.
        product: of two vectors of every instance, `[M]`; of their layers `[M, L]`.
    """

    def square(vector: Tensor) -> Tensor:
        return product(vector, vector).clamp(min=0)  # a form in distances rounds to either side of 0

    total, orders, amplifications = square(change.total), [], []
    for pieces in (change.sequential, change.symmetric):
        (base, layers), amplification = pieces, pieces.amplification
        fields = {"total": total, "base": square(base), "amplification": square(amplification)}
        scale = sum(fields.values()).clamp(min=LEAST**2)
        cross = product(base, amplification)
        squares = fields["base"] + fields["amplification"] + 2 * cross - total
        missing = torch.linalg.vector_norm(change.total - base - amplification, dim=-1)
        fields |= {
            "cross": cross,
            "layers": square(layers),
            "residual": torch.maximum(squares.abs() / scale, missing / scale.sqrt()),
            "mean": torch.cat([base.sum(0, keepdim=True), layers.sum(0)]).unsqueeze(0),
        }
        orders.append(fields)
        amplifications.append(amplification)
    return *orders, {"order_gap": square(amplifications[0] - amplifications[1])}


def _token_energies(certificate: TokenCertificate, indices: Tensor) -> tuple[Fields, Fields, Fields]:
    """The same for the codes that `indices` `[M, S, H]` name in `S` states, from the codebook's distances alone.

    Every piece is a sum of states with weights that add to 0, so that `<v, w> = -1/2 sum_st v_s w_t ||x_s - x_t||^2`.
    Pieces then add up by construction; the residual can only show that their squares do. `change_under` has vectors.
    """
    states, (heads, codes, _) = indices.size(1), certificate.codebook.shape
    squares = certificate.distances(indices.unsqueeze(1), indices.unsqueeze(2)).square().sum(-1)  # [M, S, S]
    weights = torch.eye(states, dtype=squares.dtype, device=squares.device)
    change = change_between(*weights.unflatten(0, (1, 2, -1)).unbind(1))
    energies = _energies(change, lambda v, w: torch.linalg.vecdot(v, torch.einsum("o...s,mts->m...t", w, squares)) / -2)
    cells = indices + codes * torch.arange(states * heads, device=indices.device).view(states, heads)
    counts = cells.flatten().bincount(minlength=states * heads * codes).view(states, -1).to(squares)
    for fields in energies[:2]:
        by_code = (fields["mean"] @ counts).unflatten(-1, (heads, codes))  # [1, 1 + L, H, C]
        fields["mean"] = torch.einsum("olhc,hcd->olhd", by_code, certificate.codebook.double()).flatten(2)
    return energies


def _joined(parts: list[Fields]) -> Fields:
    return {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}


def _joined_energies(parts: list[Fields]) -> Energies:
    fields = _joined(parts)
    return Energies(**fields | {"mean": fields["mean"].sum(0) / len(fields["total"])})


def _instances_per_chunk(model: StemGNN) -> int:
    widest = max(model.head.linear.in_features, model.config.heads * model.config.codes)
    return max(512, NUMBERS_PER_CHUNK // widest)
