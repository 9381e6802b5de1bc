"""How well a task is done: accuracy, ROC-AUC or R2."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import r2_score
from torch import Tensor

from stemlib.data.tasks import UNLABELLED


def score(logits: Tensor, labels: Tensor, regression: bool = False) -> float:
    """Accuracy for class labels; ROC-AUC averaged over binary labels that have both classes; R2 for a regression.

    R2 is one minus the squared error over that of the mean, both summed over the labels that are scored; below 0, the
    mean of the instances would have been the better answer. Labels with only one value, and NaN, are skipped.

    Args:
        logits: `[M, classes]` or `[M, T]`.
        labels: `[M]` or `[M, T]`.
        regression: whether `[M, T]` labels are numbers to predict, not binary.

    Raises:
        ValueError: no instance, one without a class, no label with both classes or with two values, or logits that
            are not finite: a score would mean nothing.
    """
    if len(labels) == 0:
        raise ValueError("no instances to score: the split or bucket is empty")
    if not logits.isfinite().all():
        bad = int((~logits.isfinite()).sum())
        raise ValueError(f"{bad} of {logits.numel()} logits to be scored are not finite; lower the learning rate")
    if labels.dim() == 1:
        if missing := int((labels == UNLABELLED).sum()):
            raise ValueError(f"{missing} of {len(labels)} instances to be scored have no label; leave them out")
        return (logits.argmax(-1) == labels).double().mean().item()
    found, weights = (_r2 if regression else _roc_auc)(logits.double().numpy(), labels.double().numpy())
    if not weights.any():
        raise ValueError(
            "no label has two values among these instances; R2 is undefined"
            if regression
            else "no label has both classes among these instances; ROC-AUC is undefined"
        )
    return float(np.average(found[weights > 0], weights=weights[weights > 0]))


def _roc_auc(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ROC-AUC of every label `[T]`, and 1 for those that have both classes, from `[M, T]`; NaN labels are skipped.

    From ranks, as the share of pairs in the right order: scikit-learn's, label by label, takes thirty times as long
    for ToxCast's 617.
    """
    known, positive = np.isfinite(labels), labels == 1
    ranks = rankdata(np.where(known, logits, np.nan), axis=0, nan_policy="omit")
    ones = positive.sum(0)
    pairs = ones * (known.sum(0) - ones)
    above = np.where(positive, ranks, 0).sum(0) - ones * (ones + 1) / 2
    return above / np.maximum(pairs, 1), (pairs > 0).astype(float)


def _r2(predictions: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """R2 of every label `[T]` and its squared errors from the mean, from `[M, T]`; NaN labels are skipped."""
    found, errors = np.zeros((2, labels.shape[1]))
    for place, (prediction, label) in enumerate(zip(predictions.T, labels.T, strict=True)):
        known = np.isfinite(label)
        if np.unique(label[known]).size > 1:
            found[place] = r2_score(label[known], prediction[known])
            errors[place] = label[known].var() * known.sum()
    return found, errors
