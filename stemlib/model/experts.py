"""GraphSAGE-mean experts that gates mix, computed side by side, a block of nodes at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from stemlib.data.graph import Graph
from stemlib.model.messages import neighbour_mean

# Rows that go through the experts together on a CPU: 3 experts of 128 units then take 3 MB, so that their outputs are
# mixed, and their gradients used, while still in the processor's cache (1.6 to 2 times faster on large graphs).
ROWS = 2048


class RoutedSAGE(nn.Module):
    """`K` GraphSAGE-mean experts that share one neighbourhood mean.

    Args:
        in_width: width of the input `d_in`.
        out_width: width of the output `d_out`.
        experts: number of experts `K`.
        init: `per_expert` draws every expert with its own Xavier fans; `reference` draws the whole `[K, 2 d_in, d_out]`
            tensor at once, as the authors do, with wrong fans: experts start about 20 times too small at width 768, 9
            times at 128.
    """

    whole, side_by_side = False, True

    def __init__(self, in_width: int, out_width: int, experts: int, init: str = "per_expert") -> None:
        super().__init__()
        self.weight = drawn(experts, in_width, out_width, init)
        self.residual = in_width == out_width

    @property
    def experts(self) -> int:
        """Number of experts `K`."""
        return self.weight.size(0)

    def gather(self, mean: Tensor, x: Tensor, graph: Graph) -> Tensor:
        """What is read from other nodes: the mean `[N, d_in]`."""
        return mean

    def expert_outputs(self, mean: Tensor, x: Tensor) -> Tensor:
        """Every expert's output `[N, K, d_out]` from neighbourhood means and own states `[N, d_in]`."""
        outputs = products_of(self.weight, mean, x)
        return outputs.add_(x.unsqueeze(1)) if self.residual else outputs

    def forward(self, mean: Tensor, x: Tensor, gates: Tensor) -> Tensor:
        """`sum_k g_ik ([mean_i ; x_i] W_k)`, and `x_i` if widths match: the experts' mixed outputs, `[N, d_out]`.

        The paper's experts; `expert_outputs` gives them one by one.

        Args:
            mean: over each node's in-neighbours, `[N, d_in]`.
            x: own states `[N, d_in]`.
            gates: `[N, K]`, rows on the simplex.

        Example:
            >>> layer = RoutedSAGE(in_width=8, out_width=16, experts=3)
            >>> mean, x, gates = torch.randn(5, 8), torch.randn(5, 8), torch.randn(5, 3).softmax(dim=-1)
            >>> layer(mean, x, gates).shape, layer.expert_outputs(mean, x).shape
            (torch.Size([5, 16]), torch.Size([5, 3, 16]))
        """
        return self._with_residual(_routed(gates, self.weight, None, mean, x), x)

    def projected(self, x: Tensor, graph: Graph) -> Tensor:
        """`expert_outputs` without the residual, with neighbours' states mapped before they are averaged.

        With sparse states that is a sparse product, and no wide mean has to be made.

        Args:
            x: sparse states of the sources `[S, d_in]`.
            graph: edges from the sources to the targets, which are the first of the sources.

        Returns:
            `[T, K, d_out]`.
        """
        of_mean, of_own = side_by_side(self.weight).chunk(2)  # [d_in, K d_out] each
        mapped = x @ torch.cat([of_mean, of_own], dim=1)
        neighbours, own = mapped.chunk(2, dim=1)
        mean = neighbour_mean(neighbours, graph.edge_index)
        return (mean + own[: mean.size(0)]).unflatten(1, (self.experts, -1))

    def mix(self, products: Tensor, x: Tensor, gates: Tensor) -> Tensor:
        """`forward` from known products `[mean ; x] W_k` `[N, K, d_out]`, with their gradient."""
        return self._with_residual(mixture(gates, products), x)

    def mix_known(self, inputs: Tensor, products: Tensor, x: Tensor, gates: Tensor) -> Tensor:
        """`forward` from known products, and inputs `[mean ; x]` `[N, 2 d_in]` that need no gradient."""
        return self._with_residual(_routed(gates, self.weight, products, inputs), x)

    def _with_residual(self, mixed: Tensor, x: Tensor) -> Tensor:
        # Every expert adds x, and gates sum to one: the mixture adds it once.
        return mixed.add_(x) if self.residual else mixed


def drawn(experts: int, in_width: int, out_width: int, init: str = "per_expert") -> nn.Parameter:
    """Experts' initial weights, `[K, 2 d_in, d_out]`; `init` as in `RoutedSAGE`."""
    weight = nn.Parameter(torch.empty(experts, 2 * in_width, out_width))
    for block in weight if init == "per_expert" else [weight]:
        nn.init.xavier_uniform_(block)
    return weight


def products_of(weight: Tensor, mean: Tensor, x: Tensor) -> Tensor:
    """`[mean ; x] W_k` for all experts, `[N, K, d_out]`, as one product, from weights `[K, 2 d_in, d_out]`."""
    return (torch.cat([mean, x], dim=-1) @ side_by_side(weight)).unflatten(-1, (len(weight), -1))


def side_by_side(weight: Tensor) -> Tensor:
    """The experts' weights `[K, a, b]` as those of one layer, `[a, K b]`."""
    return weight.transpose(0, 1).flatten(1)


def _routed(gates: Tensor, weight: Tensor, products: Tensor | None, *inputs: Tensor) -> Tensor:
    """`sum_k g_ik (input_i W_k)`, `[N, d]`; the inputs are joined side by side, products `[N, K d]` may be known."""
    if torch.compiler.is_exporting():  # for any number of nodes: no blocks
        return mixture(gates, products_of(weight, *inputs))
    keep = torch.is_grad_enabled() and products is None and not any(one.requires_grad for one in inputs)
    return _Routed.apply(gates, weight, products, keep, *inputs)


class _Routed(torch.autograd.Function):
    """Forward and backward block by block: no `[N, K, d]` is written as a whole.

    If the inputs need a gradient, `W_k grad_i` gives it, and the gates' as well: `<input_i, W_k grad_i>`. Otherwise the
    products are kept for the gates' gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, weight: Tensor, products: Tensor | None, keep: bool, *inputs: Tensor
    ) -> Tensor:
        experts, _, width = weight.shape
        ctx.dtype = _product_dtype(weight)
        side, mixed = side_by_side(weight).to(ctx.dtype), weight.new_empty(len(gates), width)
        kept = side.new_empty(len(gates), experts * width) if keep else products
        for rows in blocks(mixed):
            found = kept[rows] if kept is not None else side.new_empty(mixed[rows].size(0), experts * width)
            if products is None:
                torch.mm(_joined(inputs, rows).to(ctx.dtype), side, out=found)
            _mix(gates[rows], found.unflatten(1, (experts, width)), mixed[rows])
        ctx.save_for_backward(gates, weight, kept, *inputs)
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gates, weight, products, *inputs = ctx.saved_tensors
        wants_gates, wants_weight, *_ = ctx.needs_input_grad
        experts, inner, width = weight.shape
        of_gates, of_side = torch.empty_like(gates), None
        of_inputs = weight.new_empty(len(gates), inner) if products is None else None
        across = weight.permute(2, 0, 1).flatten(1).to(ctx.dtype)  # [d, K inner]
        for rows in blocks(grad):
            here, gate, read = grad[rows].to(ctx.dtype), gates[rows], _joined(inputs, rows).to(ctx.dtype)
            if wants_weight:
                part = read.T @ (gate.to(ctx.dtype).unsqueeze(2) * here.unsqueeze(1)).flatten(1)
                of_side = part.to(weight.dtype) if of_side is None else of_side.add_(part)
            if of_inputs is None:
                back, other = products[rows].unflatten(1, (experts, width)), here
            else:
                back, other = (here @ across).unflatten(1, (experts, inner)), read
                _mix(gate, back, of_inputs[rows])
            if wants_gates:
                of_gates[rows] = torch.bmm(back, other.unsqueeze(2)).squeeze(2)
        of_weight = None if of_side is None else of_side.unflatten(1, (experts, width)).transpose(0, 1)
        of_parts = [None] if of_inputs is None else of_inputs.split([one.size(1) for one in inputs], dim=1)
        return of_gates, of_weight, None, None, *of_parts, *[None] * (len(inputs) - len(of_parts))


def _product_dtype(weight: Tensor) -> torch.dtype:
    """The precision of products: bf16 under autocast, otherwise the weights' own."""
    kind = weight.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype


def blocks(rows: Tensor) -> list[slice]:
    """Slices of some rows `[N, d]`: all at once on a GPU."""
    size = ROWS if rows.device.type == "cpu" else max(len(rows), 1)
    return [slice(first, first + size) for first in range(0, len(rows), size)]


def _joined(parts: Sequence[Tensor], rows: slice) -> Tensor:
    """The given rows of several tensors `[N, d_p]`, side by side."""
    return torch.cat([part[rows] for part in parts], dim=1) if len(parts) > 1 else parts[0][rows]


def mixture(gates: Tensor, outputs: Tensor) -> Tensor:
    """`sum_k g_ik u_ik`, `[N, d]`, from gates `[N, K]` (or any weights) and expert outputs `[N, K, d]`."""
    if torch.compiler.is_exporting():
        return torch.einsum("nk,nko->no", gates, outputs)
    return _Mixture.apply(gates, outputs)


def _mix(gates: Tensor, outputs: Tensor, mixed: Tensor) -> None:
    torch.mul(gates[:, :1], outputs[:, 0], out=mixed)
    for k in range(1, outputs.size(1)):
        mixed.addcmul_(gates[:, k : k + 1], outputs[:, k])


class _Mixture(torch.autograd.Function):
    """`einsum("nk,nko->no", gates, outputs)`, which itself runs one tiny product per node, up to five times slower."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, outputs: Tensor) -> Tensor:
        ctx.save_for_backward(gates, outputs)
        mixed = torch.empty_like(outputs[:, 0], dtype=torch.promote_types(gates.dtype, outputs.dtype))
        _mix(gates, outputs, mixed)
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        gates, outputs = ctx.saved_tensors
        of_gates = None
        if ctx.needs_input_grad[0]:  # under autocast the outputs are in bf16, the mixture is not
            of_gates = torch.bmm(outputs, grad.to(outputs.dtype).unsqueeze(2)).squeeze(2)
        return of_gates, gates.unsqueeze(2) * grad.unsqueeze(1)
