"""Networks that were trained by themselves, stacked: see `stemlib.baselines.stacked`."""

from __future__ import annotations

from collections.abc import Sequence

from stemlib.baselines.networks import Baseline
from stemlib.baselines.stacked import Stacked
from stemlib.data.tasks import Split, Task, in_unit
from stemlib.devices import device_of
from stemlib.presets import StackedConfig
from stemlib.training.evaluation import answer, evaluation_batches


def stacked(networks: Sequence[Baseline], task: Task, split: Split, gate_counts: float = 5.0) -> Stacked:
    """Mix the logits of networks that were trained on a task's split, weighed by its validation part.

    Args:
        networks: of one width and depth, trained on the same split; they stay as they are.
        task, split: what they were trained on.
        gate_counts: validation instances that each network's weight of `1 / K` is worth.

    Raises:
        ValueError: networks of several widths, depths or pools.
    """
    sizes = {(each.config.hidden, each.config.layers, each.config.pool) for each in networks}
    if len(sizes) > 1:
        raise ValueError(f"stacked networks must have one width, depth and pool; got {sorted(sizes)}")
    (hidden, layers, pool), first = sizes.pop(), networks[0]
    config = StackedConfig(" ".join(each.config.kind for each in networks), hidden, layers, pool, gate_counts)
    model = Stacked(config, first.in_width, first.classes, first.kind, first.edge_width).to(device_of(first))
    model.take(networks)
    task = in_unit(task, model.unit.cpu())
    answers = answer(model, evaluation_batches(model, task, split.val)(None), task.name, each=True)
    model.settled(answers, task.labels[split.val], task.regression)
    return model.eval()
