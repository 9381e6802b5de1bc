"""Where a frozen network is likely to fail: a table of instances, and how well each of its columns finds failures."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from scipy.stats import norm, rankdata
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from stemlib.audit.drawn import Drawn
from stemlib.audit.measure import BETWEEN_DRAWS, SHARE, routes
from stemlib.data.tasks import PARTS, UNLABELLED, Task, in_unit
from stemlib.model.mixture import Mixture
from stemlib.stress.conditions import CORRUPTIONS, Condition, corrupt
from stemlib.theory.certificates import DecisionCertificate
from stemlib.theory.routing import evaluating
from stemlib.theory.token_stability import read
from stemlib.training.evaluation import answer, evaluation_batches, predict
from stemlib.training.stacking import Stacked

LARGE = 0.75  # quantile of a regression's errors, and of its changes, above which they count as failures
SIGNS = {"radius": -1, "margin": -1, "confidence": -1, "disagreement": 1}  # 1: high values point to failures, -1: low
LEAST = 5  # failures, and others, that an AUROC needs


def risk_table(
    models: Mapping[str, nn.Module], chosen: str, drawn: Drawn, draws: int, covariates: Mapping[str, Tensor]
) -> pd.DataFrame:
    """Every instance with what the chosen network says about it, and how sure that is.

    Args:
        models: of one seed, by name.
        chosen: which of them is to be frozen.
        drawn: what it was trained on.
        draws: of each damage of the whole graph, masked and deleted by `SHARE`.
        covariates: of all instances, see `shifted_by`.

    Returns:
        By instance `part` (train, val, test or none), `answer` (a class's number, or numbers in the labels' unit),
        `wrong` (True, False, or NaN without a label; of a regression the absolute error), `flips` (share of the draws
        that change the decision; of a regression the mean change), `confidence`, `margin` (between the two largest
        logits, or of a binary label from 0), `radius` of the routed network's head, `disagreement` between the
        networks that the chosen one mixes, or else the mixture's, and the `_tenth` of each covariate, 1 to 10. Columns
        that do not apply are left out.
    """
    model, task = models[chosen], drawn.task
    every = torch.arange(task.instances)
    logits = predict(model, task, every)
    table = pd.DataFrame({"part": "none"}, index=pd.Index(range(task.instances), name=task.kind))
    for part in PARTS:
        table.loc[getattr(drawn.split, part).numpy(), "part"] = part
    table["answer"] = logits.argmax(1).numpy() if task.labels.dim() == 1 else list(_own_unit(task, logits).tolist())
    table["wrong"] = _wrong(task, logits)
    table["flips"] = _changes(model, task, logits, draws)
    if not task.regression:
        table["confidence"], table["margin"] = _sureness(logits, task.labels.dim() == 2)
        routed = models.get("routed")
        if routes(routed):
            table["radius"] = _radius(routed, task)
    mixing = [one for one in (model, *models.values()) if isinstance(one, Mixture | Stacked) and len(one.gate) > 1]
    if mixing:
        table["disagreement"] = _disagreement(mixing[0], task, every)
    for name, values in covariates.items():
        ranks = rankdata(values.numpy(), method="average") / task.instances
        table[f"{name}_tenth"] = np.ceil(10 * ranks).astype(int)
    return table


def _own_unit(task: Task, logits: Tensor) -> Tensor:
    if task.regression:
        return logits.double() * task.scale[1] + task.scale[0]
    return (logits > 0).long()


def _wrong(task: Task, logits: Tensor) -> np.ndarray:
    labels = task.labels
    if labels.dim() == 1:
        return np.where(labels == UNLABELLED, np.nan, (logits.argmax(1) != labels).numpy())
    known = labels.isfinite()
    missed = (logits - labels).abs() * task.scale[1] if task.regression else ((logits > 0) != (labels > 0)).double()
    found = missed.masked_fill(~known, 0).amax(1)
    return np.where(known.any(1), found.double().numpy(), np.nan)


def _changes(model: nn.Module, task: Task, logits: Tensor, draws: int) -> np.ndarray:
    found, every = [], Condition("every", task, torch.arange(task.instances))
    for damage in CORRUPTIONS:
        for draw in range(draws):
            met = corrupt(every, damage, SHARE, draw * BETWEEN_DRAWS)[0]
            other = predict(model, met.task, met.index)
            if task.labels.dim() == 1:
                found.append((other.argmax(1) != logits.argmax(1)).double())
            elif task.regression:
                found.append(((other - logits).abs() * task.scale[1]).double().mean(1))
            else:
                found.append(((other > 0) != (logits > 0)).any(1).double())
    return torch.stack(found).mean(0).numpy()


def _sureness(logits: Tensor, binary: bool) -> tuple[np.ndarray, np.ndarray]:
    """Confidence and margin of every decision; with several binary labels, those of the least sure one."""
    if binary:
        margin = logits.abs().amin(1)
        return margin.sigmoid().numpy(), margin.numpy()
    two = logits.topk(min(2, logits.size(1)), dim=1).values
    return logits.softmax(1).amax(1).numpy(), (two[:, 0] - two[:, -1]).numpy()


def _radius(model: nn.Module, task: Task) -> np.ndarray:
    """How far the input of the routed network's head may move before the decision changes."""
    found = []
    with evaluating(model):
        certificate = DecisionCertificate(model.head, binary=task.labels.dim() == 2)
        for batch in evaluation_batches(model, task, torch.arange(task.instances))(None):
            reading = read(model, model.embed(batch.graph, batch.instances))
            found.append(certificate.radii(reading.codes, reading.logits).cpu())
    return torch.cat(found).numpy()


def _disagreement(model: Mixture | Stacked, task: Task, index: Tensor) -> np.ndarray:
    """Between the networks of a mixture: Jensen-Shannon divergence in nats, or the numbers' standard deviation."""
    task = in_unit(task, model.unit.cpu())
    parts = answer(model, evaluation_batches(model, task, index)(None), task.name, each=True).double()
    if task.regression:
        return parts.std(1, correction=0).mean(1).numpy()
    if task.labels.dim() == 2:
        return _entropy_gap(torch.stack([parts.sigmoid(), (-parts).sigmoid()], dim=-1)).mean(1).numpy()
    return _entropy_gap(parts.softmax(-1)).numpy()


def _entropy_gap(p: Tensor) -> Tensor:
    """Entropy of the mean over dimension 1 of distributions along the last, less their mean entropy."""
    return torch.special.entr(p.mean(1)).sum(-1) - torch.special.entr(p).sum(-1).mean(1)


def signal_table(table: pd.DataFrame, regression: bool = False) -> pd.DataFrame:
    """How well each signal ranks the instances that fail before the others, on validation and on test.

    Args:
        table: of `risk_table`.
        regression: whether failures are the largest errors and changes, above their quantile `LARGE`.

    Returns:
        One row per `part`, failure (`error`, `flip`) and `signal`: `auroc` and its 95 % interval (Hanley and McNeil,
        1982), and how many `failures` there were. Fewer than `LEAST`, or as few others, give no row.
    """
    signals = [name for name in SIGNS if name in table] + [name for name in table if name.endswith("_tenth")]
    rows = []
    for part in ("val", "test"):
        known = table[(table.part == part) & table.wrong.notna()]
        for failure, column in (("error", "wrong"), ("flip", "flips")):
            values = known[column].astype(float)
            failed = values > (values.quantile(LARGE) if regression else 0)
            if min(failed.sum(), (~failed).sum()) < LEAST:
                continue
            for signal in signals:
                sign = SIGNS.get(signal, -1)
                area = roc_auc_score(failed, sign * known[signal].replace(np.inf, np.finfo(np.float32).max))
                reach = norm.ppf(0.975) * _area_error(area, int(failed.sum()), int((~failed).sum()))
                row = {"part": part, "failure": failure, "signal": signal, "auroc": area}
                rows.append(
                    row | {"low": max(0.0, area - reach), "high": min(1.0, area + reach), "failures": int(failed.sum())}
                )
    return pd.DataFrame(rows, columns=["part", "failure", "signal", "auroc", "low", "high", "failures"])


def _area_error(area: float, positive: int, negative: int) -> float:
    """Standard error of an area under the curve."""
    one, two = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (positive - 1) * (one - area**2) + (negative - 1) * (two - area**2)
    return float(np.sqrt(max(variance, 0) / (positive * negative)))


def ranked(table: pd.DataFrame, found: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The table with `risk`, from 0 to 1, the riskiest first; and the signal used, validation's best for errors.

    Without errors to learn from, it is the confidence, the first available signal, or else `flips`.
    """
    usual = next((name for name in ("confidence", *SIGNS) if name in table), "flips")
    rows = found[(found.part == "val") & (found.failure == "error") & found.signal.isin(SIGNS)]
    signal = usual if rows.empty else rows.loc[rows.auroc.idxmax(), "signal"]
    risk = rankdata(SIGNS.get(signal, 1) * table[signal], method="average") / len(table)
    return table.assign(risk=risk.round(4)).sort_values("risk", ascending=False, kind="stable"), signal
