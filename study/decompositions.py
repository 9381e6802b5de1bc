"""The two decompositions of the frozen networks of a stress test, as rows of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stemlib.model.losses import Loss, instance_loss
from stemlib.model.stem import StemGNN
from stemlib.stress.conditions import Condition
from stemlib.theory.coverage import coverages
from stemlib.theory.routing import labelled
from stemlib.theory.sensitivity import sensitivity
from stemlib.training.evaluation import predict


def coverage_parts(models: Mapping[str, nn.Module], conditions: Sequence[Condition]) -> Iterator[dict[str, Any]]:
    """Risk, coverage, selection and mixing of the routed networks: `method`, `bucket`, `R`, `C`, `S`, `X`.

    Args:
        models: by method; those without routed layers are passed over.
        conditions: whom they meet.
    """
    for name, model in _routed(models):
        for found in coverages(model, conditions, losses=["ce"]):
            yield {"method": name, "bucket": found.condition} | {part: getattr(found, part) for part in "RCSX"}


def sensitivity_parts(
    models: Mapping[str, nn.Module], clean: Condition, damaged: Condition
) -> Iterator[dict[str, Any]]:
    """Base and amplification of the routed networks, and what their tokens do: `method`, and `Sensitivity.summary`.

    Args:
        models: see `coverage_parts`.
        clean: whom they meet.
        damaged: the same instances, damaged.
    """
    for name, model in _routed(models):
        yield {"method": name} | sensitivity(model, clean, damaged).summary()


def _routed(models: Mapping[str, nn.Module]) -> Iterator[tuple[str, StemGNN]]:
    for name, model in models.items():
        if isinstance(model, StemGNN) and model.encoder.routed_layers:
            yield name, model


def static_losses(models: Sequence[nn.Module], condition: Condition, loss: Loss = "ce") -> Tensor:
    """Losses of static networks on a condition's labelled instances, `[M, len(models)]`: the null of Statement 2.4."""
    index = labelled(condition.task, condition.index)
    labels = condition.task.labels[index]
    return torch.stack(
        [instance_loss(predict(model, condition.task, index), labels, loss) for model in models], dim=1
    )
