"""How far gates move, and how far that can move a layer: Statements 3.4 and 3.5 of docs/theory.md.

||sum_k dpi_k u_k|| <= TV(pi, pi') max_kl ||u_k - u_l||,        TV <= tanh(osc(d logits) / 4)

With two experts the first is an equality, and so is the second if the logits' difference is negated: tightness says
more with more experts.

Example:
    >>> before, after = torch.tensor([0.7, -0.7]), torch.tensor([-0.7, 0.7])
    >>> print(f"{total_variation(before.softmax(0), after.softmax(0)):.3f} {variation_bound(after - before):.3f}")
    0.604 0.604
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from stemlib.model.experts import mixture


@dataclass(frozen=True)
class GateFluctuation:
    """The change of the gates of `M` instances between the clean and the perturbed pass, `[M, L]` each.

    For links and graphs every entry is a mean over their nodes.

    Attributes:
        variation: total variation `TV(pi, pi')`.
        variation_bound: `tanh(osc/4)` of the change of the router's logits.
        flipped: whether (for what share of the nodes) the largest gate is another expert's.
        layer_change: `||sum_k dpi_k u_k||`: how far the layer's output moves when its gates are released, on
            the perturbed input and before the norm.
        layer_bound: `TV max_kl ||u_k - u_l||`.
    """

    variation: Tensor
    variation_bound: Tensor
    flipped: Tensor
    layer_change: Tensor
    layer_bound: Tensor

    @property
    def l1(self) -> Tensor:
        """`sum_k |pi'_k - pi_k|`, `[M, L]`: twice the total variation."""
        return 2 * self.variation

    @classmethod
    def fields(cls, columns: Tensor) -> dict[str, Tensor]:
        """The fields by name from the columns of `compare_gates`, read for instances `[M, L, 5]`."""
        return dict(zip(cls.__dataclass_fields__, columns.unbind(-1), strict=True))

    @property
    def variation_tightness(self) -> list[float]:
        """Observed over bound in every layer; NaN where the bound is 0."""
        return list(map(tightness, self.variation.unbind(1), self.variation_bound.unbind(1)))

    @property
    def layer_tightness(self) -> list[float]:
        """Observed over bound in every layer; NaN where the bound is 0, and 1 with two experts."""
        return list(map(tightness, self.layer_change.unbind(1), self.layer_bound.unbind(1)))

    def summary(self) -> dict[str, float]:
        """Means over instances and tightness, layer by layer, as one row."""
        columns = {
            "l1": self.l1.mean(0).tolist(),
            "variation": self.variation.mean(0).tolist(),
            "variation_tightness": self.variation_tightness,
            "route_flips": self.flipped.mean(0).tolist(),
            "layer_tightness": self.layer_tightness,
        }
        return {f"{name}_{i}": value for name, values in columns.items() for i, value in enumerate(values, 1)}


def tightness(observed: Tensor, bound: Tensor) -> float:
    """Sum of what was observed over the sum of its bounds; NaN where the bounds are 0."""
    total = bound.double().sum().item()
    return observed.double().sum().item() / total if total else float("nan")


def compare_gates(clean: Tensor, perturbed: Tensor, logits_change: Tensor, outputs: Tensor) -> Tensor:
    """The five fields of `GateFluctuation` for the nodes of one layer, `[N, 5]`.

    Args:
        clean: gates `[N, K]`.
        perturbed: gates `[N, K]`.
        logits_change: change of the router's logits `[N, K]`.
        outputs: the experts' outputs on the perturbed input `[N, K, d]`.
    """
    change = perturbed - clean
    variation = total_variation(clean, perturbed)
    columns = [
        variation,
        variation_bound(logits_change),
        (clean.argmax(-1) != perturbed.argmax(-1)).to(variation.dtype),
        torch.linalg.vector_norm(mixture(change, outputs), dim=-1),
        variation * expert_spread(outputs),
    ]
    return torch.stack(columns, dim=1)


def total_variation(gates: Tensor, other: Tensor) -> Tensor:
    """`1/2 sum_k |pi_k - pi'_k|`, `[..., K] -> [...]`."""
    return (gates - other).abs().sum(-1) / 2


def variation_bound(logits_change: Tensor) -> Tensor:
    """`tanh(osc/4)` with `osc = max - min` over experts, `[..., K] -> [...]`: bounds the softmaxes' variation."""
    return torch.tanh((logits_change.amax(-1) - logits_change.amin(-1)) / 4)


def expert_spread(outputs: Tensor) -> Tensor:
    """`max_kl ||u_k - u_l||`, `[N, K, d] -> [N]`."""
    experts = outputs.unbind(1)
    widest = outputs.new_zeros(len(outputs))
    for one, other in combinations(experts, 2):
        widest = torch.maximum(widest, torch.linalg.vector_norm(one - other, dim=-1))
    return widest
