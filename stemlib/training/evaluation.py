"""Evaluation: what a model answers, with no more computed than its instances need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from stemlib.data.batches import Batch
from stemlib.data.scores import score
from stemlib.data.tasks import PARTS, Split, Task, in_unit
from stemlib.devices import device_of
from stemlib.memory import keep_freed
from stemlib.model.folded import folded_classifier
from stemlib.model.network import require_fit
from stemlib.model.stem import StemGNN
from stemlib.stress.conditions import Condition, of_one_task
from stemlib.training.epochs import Epochs, every_epoch

EVALUATION_BATCH = 4096  # graphs per evaluation batch


def predict(model: nn.Module, task: Task, index: Tensor | None = None, precision: str = "float32") -> Tensor:
    """Logits `[M, classes]` of the instances `index` (default: all), in evaluation mode; for a regression, numbers.

    Numbers come in the unit of the task's labels: the data's own, unless `standardised` has changed it.

    Args:
        model: a `StemGNN` or a `Baseline`.
        task: what it is asked about.
        index: instances `[M]`.
        precision: as `TrainConfig.precision`.

    Raises:
        FloatingPointError: the model gives NaN or infinite logits.
    """
    index = torch.arange(task.instances) if index is None else index
    logits = answer(model, evaluation_batches(model, task, index)(None), task.name, precision)
    if not task.regression or (task.scale is not None and torch.equal(task.scale, model.unit.cpu())):
        return logits
    numbers = model.in_own_unit(logits.to(model.unit.device)).cpu()
    return numbers if task.scale is None else ((numbers - task.scale[0]) / task.scale[1]).to(logits)


def decisions(model: nn.Module, task: Task, index: Tensor | None = None) -> np.ndarray:
    """What the model says of the instances `index` (default: all), in the data's own terms.

    Returns:
        Classes `[M]`, by the data's names for them; binary labels `[M, T]` as True and False; the numbers
        `[M, T]` of a regression, in its own unit.
    """
    logits = predict(model, replace(task, scale=None), index)
    if task.labels.dim() == 2:
        return logits.numpy() if task.regression else (logits > 0).numpy()
    found = logits.argmax(-1).numpy()
    return np.asarray(task.class_names)[found] if task.class_names else found


def evaluation_batches(model: nn.Module, task: Task, index: Tensor) -> Epochs:
    """The instances `index` with what `model` reads to answer for them: made once, for any number of evaluations."""
    require_fit(model, task)
    size = EVALUATION_BATCH if task.kind == "graph" else 0
    return every_epoch(task, index, size, fanouts=(None,) * hops(model, task), device=device_of(model))


def products_in(precision: str, batch: Batch) -> torch.autocast:
    """The context in which an encoder's products on a batch have a precision of `TrainConfig.precision`."""
    return torch.autocast(batch.graph.x.device.type, torch.bfloat16, enabled=precision == "bf16")


def answer(
    model: nn.Module, shown: Iterable[Batch], name: str, precision: str = "float32", each: bool = False
) -> Tensor:
    """Logits `[M, classes]` of all instances of some batches, in evaluation mode, on the CPU; see `predict`.

    With `each`, those of every mixed network, `[M, K, classes]`.
    """
    keep_freed()
    return finite(answers_there(model, shown, precision, each).cpu(), name)


@torch.no_grad()  # PyG's `EdgeIndex` cannot be indexed under `inference_mode`
def answers_there(model: nn.Module, shown: Iterable[Batch], precision: str = "float32", each: bool = False) -> Tensor:
    """The same as `answer`, on the model's device and unchecked: NaN where they are not finite."""
    training = model.training
    model.eval()
    if isinstance(model, StemGNN):
        classify, parts = folded_classifier(model), []
        for batch in shown:
            with products_in(precision, batch):
                embedding = model.embed(batch.graph, batch.instances)
            lost = ~embedding.sum(1, keepdim=True).isfinite()  # a codebook would turn NaN into an ordinary code
            parts.append(classify(embedding).masked_fill_(lost, torch.nan))
    else:
        outputs = (model(batch.graph, batch.instances) for batch in shown)
        parts = [one.parts if each and one.parts is not None else one.logits for one in outputs]
    model.train(training)
    return torch.cat(parts)


def finite(values: Tensor, name: str) -> Tensor:
    """The values (embeddings, logits, a loss) as they are.

    Raises:
        FloatingPointError: NaN or infinity is among them.
    """
    if values.numel() and not torch.stack(values.aminmax()).isfinite().all():  # ten times faster than one by one
        raise FloatingPointError(
            f"{name}: what the model computes is not finite; look for NaN in the features, or lower the learning rate"
        )
    return values


def hops(model: nn.Module, task: Task) -> int:
    """How many hops around its instances the model reads; 0: it is given whole graphs."""
    return model.reach if isinstance(model, StemGNN) and task.kind != "graph" else 0


def evaluate(
    model: nn.Module, task: Task, split: Split, parts: Iterable[str] = PARTS, precision: str = "float32"
) -> dict[str, float]:
    """The task's score on parts of a split; one pass serves them all."""
    require_fit(model, task)
    parts, task = list(parts), in_unit(task, model.unit.cpu())
    index = torch.cat([getattr(split, part) for part in parts])
    logits = predict(model, task, index, precision).split([getattr(split, part).numel() for part in parts])
    return {
        part: score(out, task.labels[getattr(split, part)], task.regression)
        for part, out in zip(parts, logits, strict=True)
    }


def scores(model: nn.Module, conditions: Iterable[Condition]) -> dict[str, float]:
    """The task's score under every condition, by its name; conditions of one task on one graph share one pass.

    Raises:
        ValueError: two conditions have the same name.
        FloatingPointError: as `predict`.
    """
    conditions, result = list(conditions), {}
    if repeated := [name for name, count in Counter(each.name for each in conditions).items() if count > 1]:
        raise ValueError(f"conditions of the same name would share a score: {', '.join(repeated)}; rename them")
    for on_it in of_one_task(conditions):
        require_fit(model, on_it[0].task)
        task, index = in_unit(on_it[0].task, model.unit), torch.cat([condition.index for condition in on_it])
        logits = predict(model, task, index).split([condition.index.numel() for condition in on_it])
        for condition, out in zip(on_it, logits, strict=True):
            result[condition.name] = score(out, task.labels[condition.index], task.regression)
    return {condition.name: result[condition.name] for condition in conditions}
