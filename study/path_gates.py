"""Gates over frozen networks, such as the paths of a routed one: fitted to labels, and what an oracle gains by luck."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from scipy.optimize import minimize
from sklearn.model_selection import KFold
from torch import Tensor

STRENGTHS = (float("inf"), 1.0, 0.1, 0.01)  # of weight decay; an infinite one leaves one weight per path for all nodes
FOLDS = 3
SEARCH = {"maxiter": 60, "ftol": 1e-7}
Gate = Callable[[Tensor], Tensor]  # from what it reads `[m, D]` to logarithms of weights `[m, P]`


def fit(x: Tensor, truth: Tensor, hidden: int, strength: float) -> Gate:
    """A gate over paths with the least cross-entropy of the mixture plus weight decay; it starts with uniform weights.

    Args:
        x: what it reads of some nodes, `[n, D]`; each column is standardised on them.
        truth: every path's log-probability of their labels, `[n, P]`.
        hidden: units of a hidden layer; 0 for a linear map.
        strength: of the decay; an infinite one leaves only the biases.
    """
    if strength == float("inf"):
        x, hidden, strength = x[:, :0], 0, 0.0
    own, known, mean = x.numpy(), truth.numpy(), x.numpy().mean(0)
    std = np.sqrt(((own - mean) ** 2).mean(0))
    scale = np.divide(1, std, out=np.zeros_like(std), where=std > 0)  # what never changes says nothing
    widths = [x.size(1), *[hidden] * (hidden > 0), truth.size(1)]
    shapes = [(below + 1, above) for below, above in pairwise(widths)]  # the last row of a map is its bias
    ends = np.cumsum([rows * columns for rows, columns in shapes])
    start = np.random.default_rng(0).normal(size=ends[-1]) / (x.size(1) + 1) ** 0.5
    start[-shapes[-1][0] * shapes[-1][1] :] = 0

    def unpacked(values: np.ndarray) -> list[np.ndarray]:
        return [part.reshape(shape) for part, shape in zip(np.split(values, ends[:-1]), shapes, strict=True)]

    def passed(rows: np.ndarray, maps: list[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
        states = [_with_one((rows[:, : len(mean)] - mean) * scale)]
        for each in maps[:-1]:
            states.append(_with_one(np.tanh(states[-1] @ each)))
        return states, _log_softmax(states[-1] @ maps[-1])

    def risk(values: np.ndarray) -> tuple[float, np.ndarray]:
        maps = unpacked(values)
        states, logs = passed(own, maps)
        held = [np.vstack([each[:-1], np.zeros_like(each[-1:])]) for each in maps]
        responsible = _log_softmax(logs + known)
        loss = (responsible - logs - known)[:, 0].mean() + strength / 2 * sum((each**2).sum() for each in held)
        error = (np.exp(logs) - np.exp(responsible)) / len(own)  # the slope of the softmax's arguments
        slopes = [states[-1].T @ error + strength * held[-1]]
        if hidden:
            error = error @ maps[-1][:-1].T * (1 - states[-1][:, :-1] ** 2)
            slopes.insert(0, states[0].T @ error + strength * held[0])
        return loss, np.concatenate([each.ravel() for each in slopes])

    learnt = unpacked(minimize(risk, start, jac=True, method="L-BFGS-B", options=SEARCH).x)
    return lambda rows: torch.from_numpy(passed(rows.numpy(), learnt)[1])


def _with_one(rows: np.ndarray) -> np.ndarray:
    return np.hstack([rows, np.ones((len(rows), 1))])


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(1, keepdims=True)  # SciPy's own takes most of the time on a few hundred nodes
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def validated(x: Tensor, truth: Tensor, hidden: int, seed: int) -> Gate:
    """`fit` with the one of `STRENGTHS` that has the least cross-entropy on held-out folds, the strongest of equals."""
    if not x.size(1):
        return fit(x, truth, hidden, STRENGTHS[0])
    risks = dict.fromkeys(STRENGTHS, 0.0)
    for fitted, left in KFold(FOLDS, shuffle=True, random_state=seed).split(x):
        for strength in STRENGTHS:
            gate = fit(x[fitted], truth[fitted], hidden, strength)
            risks[strength] -= (gate(x[left]) + truth[left]).logsumexp(-1).sum().item()
    return fit(x, truth, hidden, min(risks, key=risks.get))


def luck(values: Tensor, labels: Tensor) -> float:
    """The mean of the best path's value, if paths had nothing in common except how good each is on each class.

    Args:
        values: the larger the better, `[n, P]`: whether a path is right, or its log-probability of the label.
        labels: classes `[n]`.

    Returns:
        The expectation of the oracle when every path's values are permuted among the nodes of a class, path by path.
    """
    total = 0.0
    for group in labels.unique():
        own = values[labels == group].double().T.contiguous().sort(-1).values  # [P, n]
        steps = own.unique()
        below = torch.searchsorted(own, steps.expand(len(own), -1).contiguous(), right=True).double() / own.size(1)
        chance = below.prod(0)  # that no path's value is above a step
        total += own.size(1) * (steps * chance.diff(prepend=chance.new_zeros(1))).sum().item()
    return total / len(labels)
