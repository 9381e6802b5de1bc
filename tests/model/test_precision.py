"""bf16: nearly the same training, and float32 where it matters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from run_samples import TRAIN, history, method
from samples import node_task, small_baseline, small_model

from stemlib.data.tasks import Task
from stemlib.model import encoder as experts
from stemlib.model import messages
from stemlib.training.evaluation import evaluate
from stemlib.training.finetune import fit
from study.families import build
from study.trained import run, trained_model


@pytest.mark.parametrize("settings", [{}, {"routed": "last"}, {"routed": "none", "codebook": "none"}])
def test_bf16_trains_to_nearly_the_same_losses(
    task: Task, settings: dict[str, object], runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses, means = {}, []
    read = messages.neighbour_mean
    monkeypatch.setattr(experts, "neighbour_mean", lambda x, edges: means.append(x.dtype) or read(x, edges))
    for precision in ("float32", "bf16"):
        what = method(precision=precision, dropout=0.0, **settings)
        record = run("t", task, "random", what, 0)
        losses[precision] = history(task, what)[["loss", "val_loss"]].to_numpy()
        model = trained_model("t", task, "random", what, 0)
        assert all(value.dtype == torch.float for value in model.parameters())
        again = evaluate(model, task, task.split("random"), precision=precision)
        assert again == {part: record.metrics[part] for part in again}
    assert np.isfinite(losses["bf16"]).all()
    assert losses["bf16"][0] == pytest.approx(losses["float32"][0], rel=0.05)
    assert (losses["bf16"] != losses["float32"]).any()
    assert set(means) <= {torch.float}


def test_bf16_leaves_gates_states_and_tokens_in_float32() -> None:
    task = node_task()
    model = build(small_model(), task).eval()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(task.graph, torch.arange(9))
    output.logits.sum().backward()
    kept = [output.logits, output.embedding, output.tokens.queries, *output.encoding.gates, *output.encoding.inputs]
    assert {value.dtype for value in kept} == {torch.float}
    assert all(value.grad.dtype == torch.float for value in model.parameters() if value.grad is not None)
    exact = model(task.graph, torch.arange(9)).embedding
    assert 1e-5 < (output.embedding - exact).abs().max() / exact.abs().max() < 0.05


def test_a_record_says_the_precision() -> None:
    for what in ("float32", "bf16"):
        assert method(precision=what).settings["train"]["precision"] == what


def test_bf16_is_refused_where_it_would_do_nothing() -> None:
    task = node_task()
    with pytest.raises(ValueError, match="precision='bf16' is for a StemGNN's encoder; train Baseline in float32"):
        fit(build(small_baseline("gcn"), task), task, task.split("random"), replace(TRAIN, precision="bf16"), 0)
