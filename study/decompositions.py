"""Networks that a decomposition is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stemlib.model.losses import LOSSES, Loss, instance_loss
from stemlib.stress.conditions import Condition
from stemlib.theory.routing import labelled
from stemlib.training.evaluation import predict


def independent_losses(
    models: Sequence[nn.Module], conditions: Sequence[Condition], losses: Sequence[Loss] = LOSSES
) -> list[Tensor]:
    """Losses of independently seeded networks, for `null_coverage` (Statement 2.4), in the order of `coverages`.

    Args:
        models: as many as there are paths.
        conditions: what they are evaluated on.
        losses: which ones, in each condition.

    Returns:
        For every loss and condition, the losses of its labelled instances, `[M, len(models)]`.
    """
    met = []
    for condition in conditions:
        index = labelled(condition.task, condition.index)
        logits = torch.stack([predict(model, condition.task, index) for model in models], dim=1)
        met.append((logits, condition.task.labels[index]))
    return [instance_loss(logits, labels, loss) for loss in losses for logits, labels in met]
