"""Does a frozen model know when it does not know? Calibration, and what finds its wrong predictions under shift."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.distributions import Categorical

from stemlib.data.tasks import Task
from stemlib.model.losses import instance_loss
from stemlib.stress.conditions import Condition
from stemlib.theory.routing import labelled
from stemlib.training.evaluation import answer, evaluation_batches
from stemlib.training.stacking import temperature
from study.meetings import meetings
from study.stress import StressTest

BINS = 15  # of confidence, as is common


def class_logits(answers: Tensor) -> Tensor:
    """Logits of two classes for each binary label `[..., T]`: `[..., T, 2]`."""
    return torch.stack([torch.zeros_like(answers), answers], dim=-1)


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error: the mean distance of confidence and accuracy over `BINS` equal bins, `[M]` each."""
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    off = np.bincount(place, right, BINS) - np.bincount(place, confidence, BINS)
    return float(np.abs(off).sum() / len(right))


def other_votes(parts: Tensor, answers: Tensor) -> Tensor:
    """The share of networks `[M, K, C]` that would have answered differently from `[M]`, the mixed answers."""
    return (parts.argmax(-1) != answers.unsqueeze(1)).double().mean(1)


def information(parts: Tensor) -> Tensor:
    """Entropy of the mean answer of networks `[M, K, C]` minus the mean of their entropies, `[M]`.

    It is the answer's information about which network gave it: large where networks are sure of different answers.
    """
    each = Categorical(logits=parts)
    return Categorical(probs=each.probs.mean(1)).entropy() - each.entropy().mean(1)


def coverage_of(parts: Tensor, mixed: Tensor, gate: Tensor, labels: Tensor) -> dict[str, float]:
    """Risk, coverage, selection and mixing of networks whose answers one gate mixes (docs/theory.md, 2.1).

    The paths are the networks, in cross-entropy: `C` is the mean loss of each instance's best network, `C + S` the mean
    under the gate, `R = C + S + X` the loss of the mixed answer, where `X <= 0`: the loss is convex in logits, and in
    probabilities.

    Args:
        parts: logits of the networks, `[M, K, C]`.
        mixed: logits of the mixture, `[M, C]`.
        gate: the networks' weights, `[K]`.
        labels: `[M]`.
    """
    losses = torch.stack([instance_loss(part, labels, "ce") for part in parts.unbind(1)], dim=1)  # [M, K]
    risk = instance_loss(mixed, labels, "ce").mean().item()
    best, under_gate = losses.amin(1).mean().item(), (losses @ gate.to(losses)).mean().item()
    return {"R": risk, "C": best, "S": under_gate - best, "X": risk - under_gate}


def found_by(signal: np.ndarray, wrong: np.ndarray) -> float:
    """AUROC with which a signal finds the wrong answers; NaN where all or none are wrong."""
    return float(roc_auc_score(wrong, signal)) if 0 < wrong.sum() < len(wrong) else float("nan")


def uncertainties(test: StressTest, rate: float = 0.4) -> pd.DataFrame:
    """How well each network of a stress test knows what it does not know, clean, shifted and damaged.

    Args:
        test: of classes; its networks are trained if they are not yet.
        rate: of corruption.

    Returns:
        Rows `method`, `seed`, `condition`, `kind`; `temperature`, from validation; `ece_plain` and `ece`, per cent,
        without and with it; AUROC with which wrong predictions are found `by_confidence`, `by_votes` and
        `by_information`, the latter two NaN for a method of one network; the decomposition's `R`, `C`, `S` and `X`.

    Raises:
        ValueError: a regression.
    """
    if test.task.regression:
        raise ValueError(f"{test.task.name} is a regression: calibration here is of classes")
    rows = []
    for seed, models, conditions in test.networks():
        _, split, _ = test.drawn(seed)
        validation = Condition("val", conditions[0].task, split.val)
        asked = [met for meeting in meetings(conditions, (rate,), 1, (), seed) for met in meeting]
        for name, model in models.items():
            _, logits, labels = _answers(model, validation)
            heat = temperature(logits, labels)
            for condition, about in asked:
                parts, logits, labels = _answers(model, condition)
                found = {}
                for scale, key in ((1.0, "ece_plain"), (heat, "ece")):
                    confidence, answers = (logits / scale).softmax(-1).max(-1)
                    wrong = (answers != labels).numpy()
                    found[key] = 100 * calibration_error(confidence.double().numpy(), ~wrong)
                found["by_confidence"] = found_by(-confidence.numpy(), wrong)
                if parts.size(1) > 1:
                    found |= coverage_of(parts, logits, model.gate, labels)
                signals = {"by_votes": other_votes(parts, answers), "by_information": information(parts)}
                for key, signal in signals.items():
                    found[key] = found_by(signal.numpy(), wrong) if parts.size(1) > 1 else float("nan")
                about = {"method": name, "seed": seed, "condition": condition.name, "kind": about["kind"]}
                rows.append(about | {"temperature": heat} | found)
    return pd.DataFrame(rows).assign(task=test.task.name, covariate=test.covariate)


def _answers(model: nn.Module, condition: Condition) -> tuple[Tensor, Tensor, Tensor]:
    """What a model's networks say about each label, what it says itself, and the label: `[M, K, C]`, `[M, C]`, `[M]`.

    `K` is 1 for a model of one network.
    """
    task: Task = condition.task
    index = labelled(task, condition.index)
    answers = answer(model, evaluation_batches(model, task, index)(None), task.name, each=True)
    parts = answers if answers.dim() == 3 else answers.unsqueeze(1)
    mixed = model.mixed(answers) if answers.dim() == 3 else answers
    labels = task.labels[index]
    if labels.dim() == 1:
        return parts, mixed, labels
    known = labels.isfinite()
    by_label = class_logits(parts).transpose(1, 2)  # [M, T, K, 2]
    return by_label[known], class_logits(mixed)[known], labels[known].long()
