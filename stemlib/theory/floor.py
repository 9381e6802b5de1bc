"""The floor of static inference in model 1a of docs/theory.md: one stable and one shift-sensitive feature.

It stands for the paper's theorem on static inference: what such inference pays for stability. A node has a label
`y = +-1` and two features, independent of each other given the label:

    own feature (stable)                s = mu y + N(0, sigma^2)
    mean of d neighbours (sensitive)    t = nu_h y + noise,    nu_h = (2h - 1) mu,
                                        var(t | y) = tau_h^2 = (sigma^2 + 4 h (1 - h) mu^2) / d

with homophily `h`: each neighbour shares the node's label with probability `h` (contextual stochastic block model, mean
aggregation). The mirrored condition `1 - h` flips the sign of `nu` and keeps `tau`. A static rule is one function of
`(s, t)` for both conditions; a routed one has an expert for each. The model ends at one hop: means over two hops carry
`(2h - 1)^2 mu`, the same in both conditions, so deeper static message passing on a graph is not bound by these floors.

Closed forms take numbers or tensors of any (broadcastable) shape and return float64 tensors of that shape; a
model's properties are plain floats. Model 1b is in `floor_nonlinear`.

Example:
    >>> model = HomophilyModel(mu=1.0, sigma=2.0, d=8, h=0.9)
    >>> print(f"{model.floor:.3f} {model.best_risk:.3f} {model.rho_crit:.3f}")
    0.800 0.412 0.223
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Samples(NamedTuple):
    """Instances of one condition: stable feature `s [N]`, shift-sensitive feature `t [N]`, target `y [N]`."""

    s: Tensor
    t: Tensor
    y: Tensor


def checked(name: str, value: Tensor | float, low: float = -math.inf, high: float = math.inf) -> Tensor:
    """`value` as a float64 tensor; ValueError unless every entry is finite and in `[low, high]`."""
    tensor = torch.as_tensor(value, dtype=torch.float64)
    outside = ~(torch.isfinite(tensor) & (tensor >= low) & (tensor <= high))
    if outside.any():
        first = tensor[outside][0].item()
        raise ValueError(f"{name} must be finite and in [{low:g}, {high:g}], got {first:g}")
    return tensor


def positive(name: str, value: float) -> None:
    """ValueError unless `value` is a finite number above zero."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a finite number above 0, got {value}")


@dataclass(frozen=True)
class HomophilyModel:
    """The solvable model 1a, trained at homophily `h` and deployed at `h` and `1 - h`: Statements 1.1 to 1.6.

    Args:
        mu: strength of the label in a feature, above 0.
        sigma: standard deviation of a feature given the label, above 0.
        d: degree, at least 1. Where degrees vary, the closed forms hold at their harmonic mean.
        h: homophily in training, in [0, 1].

    Raises:
        ValueError: a parameter outside its range.
    """

    mu: float
    sigma: float
    d: float
    h: float

    def __post_init__(self) -> None:
        positive("mu", self.mu)
        positive("sigma", self.sigma)
        checked("degree d", self.d, low=1)
        checked("homophily h", self.h, 0, 1)

    def moments(self, homophily: Tensor | float | None = None) -> tuple[Tensor, Tensor]:
        """`(nu_h, tau_h^2)`: mean of `t` given `y = 1`, and variance, at the model's `h` by default."""
        h = checked("homophily", self.h if homophily is None else homophily, 0, 1)
        return (2 * h - 1) * self.mu, (self.sigma**2 + 4 * h * (1 - h) * self.mu**2) / self.d

    @property
    def nu(self) -> float:
        """Label mean of `t` in training, `(2h - 1) mu`."""
        return self.moments()[0].item()

    @property
    def tau2(self) -> float:
        """Variance of `t` given the label, the same at `h` and `1 - h`."""
        return self.moments()[1].item()

    @property
    def floor(self) -> float:
        """`F = 1 / (1 + mu^2/sigma^2) <= max(R_h, R_{1-h})` for every linear rule; equality needs `b = 0`.

        Statement 1.1 of docs/theory.md.
        """
        return 1 / (1 + self.mu**2 / self.sigma**2)

    @property
    def floor_any(self) -> float:
        """The floor of every static predictor `f(s, t)`, linear or not: `binary_mmse(mu^2/sigma^2) < F`.

        Statement 1.6 of docs/theory.md. Over the two conditions in equal parts `t` is independent of `(s, y)`, so
        nothing beats `f = E[y | s] = tanh(mu s / sigma^2)`, which attains it in both. Measure networks against this
        floor.
        """
        return binary_mmse(self.mu**2 / self.sigma**2).item()

    @property
    def best_risk(self) -> float:
        """`R* = 1 / (1 + mu^2/sigma^2 + nu^2/tau^2)`, the least risk of a linear rule at `h` alone: Statement 1.2."""
        return 1 / (1 + self.mu**2 / self.sigma**2 + self.nu**2 / self.tau2)

    @property
    def best_rule(self) -> tuple[float, float]:
        """`(a*, b*) = R* (mu/sigma^2, nu/tau^2)`, which attains `R*`; `(a*, -b*)` does so at `1 - h`."""
        return self.best_risk * self.mu / self.sigma**2, self.best_risk * self.nu / self.tau2

    @property
    def wrong_risk(self) -> float:
        """`R_wrong = R_{1-h}(a*, b*)`, the risk of the expert that fits the other condition."""
        return self.risk(*self.best_rule, homophily=1 - self.h).item()

    @property
    def rho_crit(self) -> float:
        """Statement 1.4: routing beats the floor `F` iff `rho` is below `rho_crit`, which always lies in `(F/4, 1/4]`:

            rho_crit = (F - R*) / (R_wrong - R*) = (1 + F q) / (4 (1 + q)),    q = nu^2/tau^2

        The second form is exact also at `h = 1/2`, where the first is 0/0: there the two experts are one, the
        routed risk is `F` at every `rho`, and the limit 1/4 separates nothing.
        """
        q = self.nu**2 / self.tau2
        return (1 + self.floor * q) / (4 * (1 + q))

    def risk(self, a: Tensor | float, b: Tensor | float, homophily: Tensor | float | None = None) -> Tensor:
        """`R_h(a, b) = (1 - a mu - b nu_h)^2 + a^2 sigma^2 + b^2 tau_h^2`, the risk of `g = a s + b t`."""
        nu, tau2 = self.moments(homophily)
        a, b = checked("a", a), checked("b", b)
        return (1 - a * self.mu - b * nu) ** 2 + a**2 * self.sigma**2 + b**2 * tau2

    def in_distribution_rule(self, reliance: Tensor | float) -> tuple[Tensor, Tensor]:
        """Best `(a, b)` at `h` with `|b| = B`: `b = B sign(nu)`, `a = mu (1 - B |nu|) / (mu^2 + sigma^2)`."""
        reliance = checked("reliance", reliance, low=0)
        a = self.mu * (1 - reliance * abs(self.nu)) / (self.mu**2 + self.sigma**2)
        return a, math.copysign(1, self.nu) * reliance

    def worst_case_rule(self, reliance: Tensor | float) -> tuple[Tensor, Tensor]:
        """`(a, b)` with `|b| = B` of least `max(R_h, R_{1-h})`:

            u = max(0, (k - B |nu|) / (1 + k)),    k = sigma^2/mu^2,    b = B sign(nu)

        where `u = 1 - a mu` is what the own feature misses of the label.
        """
        reliance = checked("reliance", reliance, low=0)
        k = self.sigma**2 / self.mu**2
        u = ((k - reliance * abs(self.nu)) / (1 + k)).clamp(min=0)
        return (1 - u) / self.mu, math.copysign(1, self.nu) * reliance

    def in_distribution_risk(self, reliance: Tensor | float) -> Tensor:
        """`R_id(B) = min_a R_h(a, B sign(nu))`, Statement 1.3: what reliance on the feature `t` buys in training."""
        return self.risk(*self.in_distribution_rule(reliance))

    def worst_case_risk(self, reliance: Tensor | float) -> Tensor:
        """`W(B) = min_a max(R_h, R_{1-h})` at `|b| = B`, Statement 1.3: what the same reliance costs at deployment:

            W(B) = u^2 + 2 B |nu| u + B^2 nu^2 + ((1 - u)/mu)^2 sigma^2 + B^2 tau^2

        with `u` of `worst_case_rule`.
        """
        # u >= 0, so the mirrored condition is the worse one.
        return self.risk(*self.worst_case_rule(reliance), homophily=1 - self.h)

    def routed_risk(self, rho: Tensor | float) -> Tensor:
        """`R* + rho (R_wrong - R*)`: experts `(a*, +-b*)`, a router that errs with probability `rho`.

        Statement 1.4 of docs/theory.md. The same in either condition. The experts stay as they are: refitted to an
        erring router, they would rely less on `t` and never lose to the floor.
        """
        return self.best_risk + checked("misrouting rho", rho, 0, 1) * (self.wrong_risk - self.best_risk)

    def amplification(self, phi: Tensor | float, second_moment: Tensor | float) -> Tensor:
        """`phi 4 b*^2 E[t'^2]`: mean square of the amplification when a share `phi` of routes flips.

        Statement 1.5 of docs/theory.md. A perturbation moves `t` to `t'`; amplification is `f(x'; pi') - f(x'; pi)`,
        that is `+-2 b* t'` on a flipped route and 0 elsewhere. Flips are independent of `t` and `t'`.
        """
        moment = checked("second moment E[t'^2]", second_moment, low=0)
        return checked("flip probability phi", phi, 0, 1) * 4 * self.best_rule[1] ** 2 * moment

    def added_change(self, phi: Tensor | float, cross_moment: Tensor | float) -> Tensor:
        """`phi 4 b*^2 E[t t']`: what the flips add to the mean squared change `E|f(x'; pi') - f(x; pi)|^2`.

        That is the amplification plus twice its product with the base change: with `s` unperturbed, a flipped
        route moves the output by `b* (t + t')` in size, a kept one by `b* (t' - t)`; the squares differ by
        `4 b*^2 t t'`.
        """
        moment = checked("cross moment E[t t']", cross_moment)
        return checked("flip probability phi", phi, 0, 1) * 4 * self.best_rule[1] ** 2 * moment

    def sample(self, count: int, generator: torch.Generator, homophily: float | None = None) -> Samples:
        """Draw `count` independent instances (float64, `[count]` each), neighbours' labels included.

        Raises:
            ValueError: `d` is not a whole number, `count` is below 1, or the homophily is outside [0, 1].
        """
        if count < 1 or self.d != int(self.d):
            raise ValueError(f"sampling needs count >= 1 and a whole degree d, got count={count}, d={self.d}")
        h = checked("homophily", self.h if homophily is None else homophily, 0, 1).expand(count)
        y = 2 * torch.randint(2, (count,), generator=generator).double() - 1
        s = self.mu * y + self.sigma * torch.randn(count, dtype=torch.float64, generator=generator)
        same = torch.binomial(torch.full_like(y, self.d), h, generator=generator)  # neighbours labelled y
        noise = self.sigma / math.sqrt(self.d) * torch.randn(count, dtype=torch.float64, generator=generator)
        return Samples(s, self.mu * y * (2 * same / self.d - 1) + noise, y)

    def routed(self, s: Tensor, t: Tensor, misrouted: Tensor, *, mirrored: bool) -> Tensor:
        """Predictions `a* s +- b* t` of the expert that each instance is routed to.

        Args:
            s, t: features, `[N]`.
            misrouted: bool `[N]`, the instances that get the other condition's expert.
            mirrored: the instances come from `1 - h`, where the right expert is `(a*, -b*)`.
        """
        a, b = self.best_rule
        return a * s + torch.where(misrouted.bool() ^ mirrored, -b, b) * t


def binary_mmse(snr: Tensor | float) -> Tensor:
    """Statement 1.6: least squared error of a fair `y = +-1` estimated from `y + N(0, 1/snr)`, shape kept:

        1 - E tanh(snr + sqrt(snr) Z),    Z ~ N(0, 1)

    Below the linear rule's `1 / (1 + snr)` at every `snr > 0`.
    """
    snr = checked("snr", snr, low=0).unsqueeze(-1)
    # The trapezoid rule on an analytic, Gaussian-damped integrand is exact to float64 at this step.
    z = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return torch.trapezoid(density * 2 * torch.sigmoid(-2 * (snr + snr.sqrt() * z)), z)
