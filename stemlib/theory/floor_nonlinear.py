"""The floor of static inference in model 1b of docs/theory.md: every capped predictor, linear or not.

It stands for the paper's theorem on static inference, as model 1a does: static inference that is stable has a floor.

Inputs `u, v ~ N(0, 1)`, independent: the low- and high-frequency part of a signal. The target is
`y = u + noise` in condition 0 and `y = v + noise` in condition 1, noise variance `sigma^2`. Perturbations of
size `rho` hit `v`; stability `|df/dv| rho <= eps` caps the slope, `|df/dv| <= B = eps/rho`. In `Samples`, `u`
is `s` and `v` is `t`.

Closed forms take numbers or tensors of any (broadcastable) shape and return float64 tensors of that shape.

Example:
    >>> model = FrequencyModel(sigma=0.5)
    >>> print(f"{model.floor(0.25):.3f} {model.critical_misrouting(0.25)[1]:.4f}")
    0.875 0.0435
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stemlib.theory.floor import Samples, checked, positive


@dataclass(frozen=True)
class RouterContext:
    """What the router sees: `c | condition ~ N(+-m, t^2)`, decided by its sign; Statement 1.9 of docs/theory.md.

    A `shift` moves the context by that much towards the decision boundary, in whichever condition is considered. One
    common translation of all contexts is `shift` in one condition and `-shift` in the other.

    Args:
        m: distance of a condition's mean context from the boundary, above 0.
        t: standard deviation of the context, above 0.

    Raises:
        ValueError: a parameter outside its range.
    """

    m: float
    t: float

    def __post_init__(self) -> None:
        positive("m", self.m)
        positive("t", self.t)

    def misrouting(self, shift: Tensor | float = 0.0) -> Tensor:
        """`p = Phi((shift - m) / t)`, the probability that the shifted context has the wrong sign."""
        return torch.special.ndtr((checked("shift", shift) - self.m) / self.t)

    def shift_at(self, p: Tensor | float) -> Tensor:
        """`m + t Phi^-1(p)`, the shift at which misrouting reaches `p`; infinite at `p` = 0 and 1."""
        return self.m + self.t * torch.special.ndtri(checked("misrouting p", p, 0, 1))

    def draw_misrouted(self, count: int, generator: torch.Generator, shift: float = 0.0) -> Tensor:
        """Draw contexts and route by their sign; bool `[count]`, True where the route is wrong."""
        noise = torch.randn(count, dtype=torch.float64, generator=generator)
        return self.m - checked("shift", shift) + self.t * noise < 0


@dataclass(frozen=True)
class FrequencyModel:
    """The solvable model 1b; `cap` is `B = eps/rho`, the largest `|df/dv|` that stability allows.

    Args:
        sigma: standard deviation of the target's noise, above 0.

    Raises:
        ValueError: `sigma` is not above 0.
    """

    sigma: float

    def __post_init__(self) -> None:
        positive("sigma", self.sigma)

    def floor(self, cap: Tensor | float) -> Tensor:
        """Statement 1.7 of docs/theory.md: for every static `f(u, v)` that is Lipschitz in `v` with constant `B`,

            max(R_0, R_1) >= sigma^2 + (1 - B)^2 + B^2    (B <= 1/2; sigma^2 + 1/2 beyond)

        Stein gives `b = E[v f] = E[df/dv] <= B`; with `a = E[u f]`, `E f^2 >= a^2 + b^2`, hence
        `R_0 >= sigma^2 + (1 - a)^2 + b^2` and `R_1 >= sigma^2 + a^2 + (1 - b)^2`, whose maximum is least at
        `a = b = min(B, 1/2)`: the predictor `min(B, 1/2) (u + v)` is at the floor in both conditions.
        """
        slope = checked("cap", cap, low=0).clamp(max=0.5)
        return self.sigma**2 + (1 - slope) ** 2 + slope**2

    def routed_risks(self, cap: Tensor | float, p: Tensor | float) -> tuple[Tensor, Tensor]:
        """Statement 1.8: risks `(R_0, R_1)` of experts `u` and `B v`, each capped, misrouted with probability `p`:

            R_0 = sigma^2 + p (1 + B^2)
            R_1 = sigma^2 + (1 - p) (1 - B)^2 + 2 p

        with `B` replaced by 1 beyond 1, where the cap no longer binds. Where the conditions are misrouted at
        different rates, take `R_0` at one and `R_1` at the other.
        """
        slope = checked("cap", cap, low=0).clamp(max=1)
        p = checked("misrouting p", p, 0, 1)
        return self.sigma**2 + p * (1 + slope**2), self.sigma**2 + (1 - p) * (1 - slope) ** 2 + 2 * p

    def critical_misrouting(self, cap: Tensor | float) -> tuple[Tensor, Tensor]:
        """`(p_0, p_1)`, Statement 1.8: `R_0` of the routed form is below the floor iff `p < p_0`, `R_1` iff `p < p_1`.

            B <= 1/2:         p_0 = ((1 - B)^2 + B^2) / (1 + B^2),    p_1 = B^2 / (2 - (1 - B)^2)
            1/2 <= B <= 1:    p_0 = 1 / (2 (1 + B^2)),    p_1 = (1/2 - (1 - B)^2) / (2 - (1 - B)^2)

        and both stay at 1/4 beyond. The routed form breaks the floor iff `p < min(p_0, p_1)`, that is, iff the router's
        context shifts by less than `RouterContext.shift_at` of it.
        """
        excess = self.floor(cap) - self.sigma**2
        slope = checked("cap", cap, low=0).clamp(max=1)
        right = (1 - slope) ** 2
        return excess / (1 + slope**2), (excess - right) / (2 - right)

    def sample(self, count: int, generator: torch.Generator, condition: int) -> Samples:
        """Draw `count` instances (float64, `[count]` each) of condition 0 or 1; `s` is `u` and `t` is `v`.

        Raises:
            ValueError: `count` is below 1, or the condition is neither 0 nor 1.
        """
        if count < 1 or condition not in (0, 1):
            raise ValueError(f"sampling needs count >= 1 and condition 0 or 1, got {count=}, {condition=}")
        u, v, noise = torch.randn(3, count, dtype=torch.float64, generator=generator)
        return Samples(u, v, (v if condition else u) + self.sigma * noise)

    def routed(self, u: Tensor, v: Tensor, misrouted: Tensor, *, cap: float, condition: int) -> Tensor:
        """Predictions of the expert that each instance is routed to: `u`, or `min(B, 1) v`.

        Args:
            u, v: inputs, `[N]`.
            misrouted: bool `[N]`, the instances that get the other condition's expert.
            cap: the slope cap `B`, at least 0.
            condition: 0 or 1, from which the instances come.
        """
        slope = checked("cap", cap, low=0).clamp(max=1)
        return torch.where(misrouted.bool() ^ bool(condition), slope * v, u)
