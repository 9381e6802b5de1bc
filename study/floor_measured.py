"""Risks and rules measured on samples, for part 1 of docs/theory.md: models, drawn graphs, trained networks.

Example:
    >>> samples = Samples(torch.tensor([1.0, -1.0, 2.0]), torch.zeros(3), torch.tensor([1.0, -1.0, 1.0]))
    >>> print(f"{empirical_risk(lambda s, t: s / 2, samples).mean:.4f}")
    0.1667
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from stemlib.theory.floor import Samples


class Estimate(NamedTuple):
    """A sample mean and its standard error."""

    mean: float
    stderr: float


def fit_static(samples: Samples) -> tuple[float, float]:
    """Least-squares `(a, b)` of `y ~ a s + b t`, no intercept, from `N >= 2` instances.

    Raises:
        ValueError: fewer than two instances, or arrays that are not all `[N]`.
    """
    s, t, y = _columns(samples)
    features = torch.stack([s, t], dim=1).double()  # [N, 2]
    a, b = torch.linalg.lstsq(features, y.double().unsqueeze(1)).solution.squeeze(1).tolist()
    return a, b


@torch.no_grad()
def empirical_risk(predictor: Callable[[Tensor, Tensor], Tensor], samples: Samples) -> Estimate:
    """Mean of `(y - f(s, t))^2` over `N >= 2` instances, and its standard error.

    Args:
        predictor: `f`, from `s [N]` and `t [N]` to predictions `[N]`; called once, without gradients.
        samples: the instances, tensors or arrays.

    Raises:
        ValueError: fewer than two instances, or arrays or predictions that are not all `[N]`.
    """
    s, t, y = _columns(samples)
    prediction = predictor(s, t)
    if prediction.shape != y.shape:
        raise ValueError(f"predictions must be {tuple(y.shape)} like y, got {tuple(prediction.shape)}")
    loss = (y - prediction).double() ** 2
    return Estimate(loss.mean().item(), loss.std().item() / math.sqrt(len(loss)))


def risks_in_both(
    predictor: Callable[[Tensor, Tensor], Tensor], first: Samples, second: Samples
) -> tuple[Estimate, Estimate]:
    """Empirical risk of one static predictor `f(s, t)` in both conditions (`h` and `1 - h`, or 0 and 1).

    Compare the larger of the two with the floor: in model 1a `HomophilyModel.floor` for linear rules (Statement 1.1)
    and `floor_any` for networks (Statement 1.6), in 1b `FrequencyModel.floor` at the predictor's cap (Statement 1.7).
    """
    return empirical_risk(predictor, first), empirical_risk(predictor, second)


def _columns(samples: Samples) -> tuple[Tensor, Tensor, Tensor]:
    """`s, t, y` as tensors, all `[N]` with `N >= 2`."""
    s, t, y = (torch.as_tensor(column) for column in samples)
    if not (s.shape == t.shape == y.shape and y.dim() == 1 and len(y) >= 2):
        shapes = ", ".join(str(tuple(column.shape)) for column in (s, t, y))
        raise ValueError(f"s, t and y must all be [N] with N >= 2, got {shapes}")
    return s, t, y
