"""Inference as deployed, hard top-1 routing and bf16: seconds on a graph of Cora's size, all nodes asked for.

    python benchmarks/variants.py [--repeats 7]

`forward` is a plain pass of the model in evaluation mode, `soft` and `top1` are `stemlib.model.deployed`'s,
`difference` is that of `soft`'s logits from `forward`'s (near ties aside). `step` and `bf16` are training steps on half
the nodes in float32 and bf16. `_faster` is the median over turns of the time of `forward` or `step`, divided by the
variant's. bf16 is fast where the processor multiplies it (AMX, AVX512-BF16; see `bf16_hardware`): elsewhere it only
costs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from measuring import Row, seconds_by_turns, table
from reference_algorithm import agreement
from theory import setting

from stemlib.data.splits import stratified_split
from stemlib.data.tasks import Task
from stemlib.model.deployed import deploy
from stemlib.model.stem import StemGNN
from stemlib.presets import TrainConfig
from stemlib.training.finetune import train_epoch, training_batches


def bf16_hardware() -> bool:
    """Whether the processor says that it multiplies bf16 itself; False where it cannot be asked."""
    file = Path("/proc/cpuinfo")
    return file.is_file() and any(flag in file.read_text() for flag in ("amx_bf16", "avx512_bf16"))


def training_steps(model: StemGNN, task: Task, precisions: dict[str, str]) -> dict[str, Callable[[], object]]:
    """A training step in each precision, by name."""
    split = stratified_split(torch.arange(task.instances), task.labels, seed=0)
    shown = training_batches(model, task, split, TrainConfig())(None)
    optimiser = torch.optim.AdamW(model.parameters(), fused=True)
    return {
        name: partial(train_epoch, model, shown, TrainConfig(precision=precision), optimiser)
        for name, precision in precisions.items()
    }


def measure(width: int, repeats: int) -> Row:
    """One row of the table."""
    model, task, everyone, _ = setting(width)
    asks = {"forward": lambda *of: model(*of).logits, "soft": deploy(model), "top1": deploy(model, "top1")}
    with torch.no_grad():
        calls = {name: partial(ask, task.graph, everyone.index) for name, ask in asks.items()}
        difference = agreement(calls["forward"](), calls["soft"]())
        inference = seconds_by_turns(calls, repeats)
    # Without the hardware a step of width 768 in bf16 takes longer than all the rest together.
    precisions = {"step": "float32"} | ({"bf16": "bf16"} if width < 768 or bf16_hardware() else {})
    training = seconds_by_turns(training_steps(model, task, precisions), repeats)
    row: Row = {"width": width, "bf16_hardware": bf16_hardware(), "difference": difference}
    for first, seconds in (("forward", inference), ("step", training)):
        row |= {f"{name}_s": seconds[name].median() for name in seconds}
        row |= {f"{name}_faster": (seconds[first] / seconds[name]).median() for name in seconds if name != first}
    return row


if __name__ == "__main__":
    table(__file__, [(768,), (128,)], measure, pd.DataFrame)
