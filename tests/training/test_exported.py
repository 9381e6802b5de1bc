"""A model as a program of PyTorch's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from samples import TASKS, node_task, small_baseline, small_model

from stemlib.data.graph import plain
from stemlib.data.tasks import Task
from stemlib.presets import MixtureConfig
from stemlib.settings import Settings
from stemlib.training.evaluation import predict
from stemlib.training.exported import export
from stemlib.training.families import build
from stemlib.training.saved import freeze


@pytest.mark.parametrize("config", [small_model(), small_baseline("gcn"), MixtureConfig(hidden=8)], ids=str)
def test_an_exported_program_is_the_model_on_another_graph(task: Task, config: Settings, tmp_path: Path) -> None:
    frozen = freeze(build(config, task), task)
    export(frozen, task, tmp_path / "model.pt2")
    other = TASKS[task.kind](seed=3)
    graph, asked = other.graph, {}
    if graph.edge_attr is not None:
        asked["edge_attr"] = graph.edge_attr if graph.edge_type is None else graph.edge_attr[graph.edge_type]
    if task.kind == "graph":
        asked |= {"batch": graph.batch, "ptr": graph.ptr}
    else:
        asked["instances"] = other.select(torch.arange(other.instances - 3))
    program = torch.export.load(tmp_path / "model.pt2").module()
    found = program(x=graph.x, edge_index=plain(graph.edge_index), **asked)
    expected = predict(frozen.model, other)
    torch.testing.assert_close(found, expected[: len(found)], rtol=1e-4, atol=1e-5)


def test_what_pytorch_cannot_export_is_said(tmp_path: Path) -> None:
    task = node_task()
    with pytest.raises(ValueError, match="PyTorch cannot export this Baseline"):
        export(freeze(build(small_baseline("softmedian"), task), task), task, tmp_path / "model.pt2")
