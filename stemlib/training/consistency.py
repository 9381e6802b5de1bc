"""Consistency: on instances without labels, a network learns its own recent answers, sharpened.

After every epoch the target of such an instance is `q = 0.7 q + 0.3 softmax(z / 0.5)` of its logits `z` in evaluation
mode. A step adds the cross-entropy to it, with a weight that rises from a certain epoch on; in a mixture, every network
is taught the mixture's answers. Any network can be trained this way. Labels of these instances are never read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from stemlib.data.batches import Batch, batches
from stemlib.data.tasks import Split, Task, require_classes
from stemlib.model.network import Output
from stemlib.presets import TrainConfig
from stemlib.training.epochs import Epochs, every_epoch
from stemlib.training.loop import State

KEPT, SHARPNESS = 0.7, 0.5  # of the running target, and the temperature of what is added to it


class Consistency(State):
    """What a training with consistency keeps and adds.

    Args:
        task: classes or binary labels.
        split: its training part has labels; `consistency_on="held_out"` leaves out all instances met at test.
        train: the settings.

    Attributes:
        unlabelled: the instances taught, `[U]`.
        target: their running probabilities `[U, classes]`; None before the first epoch's end.
        epoch: how many epochs have ended.

    Raises:
        ValueError: a regression, or no instance is left to be taught.
    """

    def __init__(self, task: Task, split: Split, train: TrainConfig) -> None:
        require_classes(task, f"consistency={train.consistency:g}")
        self.settings, self.binary, self.labelled = train, task.labels.dim() == 2, split.train
        taught = torch.ones(task.instances, dtype=torch.bool).index_fill_(0, split.train, False)
        if train.consistency_on == "held_out":
            taught[split.test if split.met is None else split.met] = False
        self.unlabelled = taught.nonzero().flatten()
        if not self.unlabelled.numel():
            raise ValueError(
                f"consistency={train.consistency:g}: with consistency_on={train.consistency_on!r}, split "
                f"{split.name!r} leaves no instance of {task.name!r} without a label; set consistency=0"
            )
        evaluated = torch.cat([split.val, split.test])
        self.others = self.unlabelled[~torch.isin(self.unlabelled, evaluated)]
        place = torch.full((task.instances,), -1)
        place[torch.cat([evaluated, self.others])] = torch.arange(evaluated.numel() + self.others.numel())
        self._places = place[self.unlabelled]
        self.target: Tensor | None = None
        self.epoch = 0
        self._there: tuple[Tensor, Tensor] | None = None  # target and weight as steps read them, on their device

    def state_dict(self) -> dict[str, Any]:
        """What changes from epoch to epoch."""
        return {"target": self.target, "epoch": self.epoch}

    @property
    def weight(self) -> float:
        """Of this epoch's steps: 0 until `consistency_after` of the epochs, in full after three times that."""
        begins = self.settings.consistency_after * self.settings.epochs
        if self.target is None or self.epoch < begins:
            return 0.0
        return self.settings.consistency * (min((self.epoch - begins) / (2 * begins), 1.0) if begins else 1.0)

    def note(self, logits: Tensor) -> None:
        """Move the target after an epoch.

        Args:
            logits: in evaluation mode, of the validation part, the test part and `others`, in this order.
        """
        answers = logits[self._places] / SHARPNESS
        found = answers.sigmoid() if self.binary else answers.softmax(1)
        self.target = found if self.target is None else KEPT * self.target + (1 - KEPT) * found
        self.epoch += 1
        if self._there:  # in place: a step that was recorded reads them where they were
            self._there[0].copy_(self.target)
            self._there[1].fill_(self.weight)

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """What is added to a step's loss; a scalar. The instances without labels come after those with labels."""
        answers = output.logits.unsqueeze(1) if output.parts is None else output.parts
        answers = answers[len(batch.labels) :]
        if self._there is None:
            self._there = self.target.to(answers, copy=True), answers.new_full((), self.weight)
        everyone, weight = self._there
        target = everyone[batch.unlabelled].unsqueeze(1).expand_as(answers)
        if self.binary:
            return weight * F.binary_cross_entropy_with_logits(answers, target)
        return weight * F.cross_entropy(answers.flatten(0, 1), target.flatten(0, 1))

    def shown(self, task: Task, reach: int, device: torch.device) -> Epochs:
        """The training instances as `stemlib.training.finetune.training_batches` shows them, followed by the others.

        Without batches every step has all the others; with batches, as many as it has training instances.
        """
        size, fanouts = self.settings.batch_size, (self.settings.fanout or None,) * reach
        if not (size or self.settings.fanout):
            everyone = torch.cat([self.labelled, self.unlabelled])
            (whole,) = every_epoch(task, everyone, fanouts=fanouts, hide=True, device=device)(None)
            whole = _parted(whole, len(self.labelled), torch.arange(len(self.unlabelled), device=device))
            return lambda generator: [whole]

        def epoch(generator: torch.Generator) -> Iterable[Batch]:
            order, turn = (torch.randperm(len(one), generator=generator) for one in (self.labelled, self.unlabelled))
            first = 0
            for chunk in self.labelled[order].split(size or len(order)):
                count = min(len(chunk), len(turn))
                drawn = turn[torch.arange(first, first + count) % len(turn)]
                first += count
                index = torch.cat([chunk, self.unlabelled[drawn]])
                (batch,) = batches(task, index, generator=generator, fanouts=fanouts, hide=True)
                yield _parted(batch, len(chunk), drawn).to(device)

        return epoch


def _parted(batch: Batch, labelled: int, unlabelled: Tensor) -> Batch:
    return batch._replace(labels=batch.labels[:labelled], unlabelled=unlabelled)
