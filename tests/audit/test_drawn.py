"""Who trains and who is met: what is too rare to be scored, and how much is done at first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from samples import graph_task, node_task
from torch_geometric.data import Data

from stemlib.audit import trainings
from stemlib.audit.drawn import rare, shifted_by
from stemlib.audit.run import UNSEEN, audit
from stemlib.audit.trainings import ONCE, QUICK, Effort, Trainings, quick
from stemlib.data.own_data import from_data

TINY = Effort(hidden=8, epochs=2, patience=2, steps=2, seeds=1, candidates=1, draws=1)


def test_an_answer_is_rare_where_few_have_it_and_classes_are_never() -> None:
    task = graph_task(200)
    labels = torch.zeros(200, 1, dtype=task.labels.dtype)
    labels[:4] = 1
    few = replace(task, labels=labels)
    assert rare(few, torch.arange(200))
    assert not rare(replace(few, labels=labels.index_fill(0, torch.tensor([9]), 1)), torch.arange(200))
    assert not rare(node_task(), torch.arange(3))


def test_tails_in_which_an_answer_is_rare_are_not_tried(tmp_path: Path) -> None:
    task = graph_task(200)
    labels = torch.zeros(200, 1, dtype=task.labels.dtype)
    labels[::50] = 1  # two of them may be met outside of the tails
    few = replace(task, labels=labels)
    made = Trainings(few, tmp_path, TINY, shifted_by(few))
    assert list(made.drawn) == ["whole"]
    assert any("rarer answer" in note for note in made.notes)


def test_notes_name_covariates_as_a_reader_would(tmp_path: Path) -> None:
    task = node_task()
    notes = Trainings(task, tmp_path, TINY, {"homophily": torch.zeros(task.instances)}).notes
    for end in ("lowest", "highest"):
        assert f"no shift to the {end} likeness to the neighbours: most nodes have the same value" in notes


def test_a_first_look_at_much_trains_each_network_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert quick(node_task(80)) is QUICK
    monkeypatch.setattr(trainings, "MANY", 79)
    assert quick(node_task(80)) is ONCE


def test_a_model_that_is_brought_is_told_that_it_may_have_seen_the_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = node_task(200)
    edges = task.graph.edge_index.as_tensor()
    data = Data(x=task.graph.x, edge_index=edges, y=task.labels)

    class Own(torch.nn.Module):
        def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
            return x[:, :3] @ torch.eye(3)

    assert UNSEEN in audit(from_data(data), tmp_path, TINY, model=Own()).notes
    assert UNSEEN in capsys.readouterr().out
    for part in ("train", "val", "test"):
        mask = torch.zeros(200, dtype=torch.bool)
        mask[getattr(task.splits[next(iter(task.splits))], part)] = True
        data[f"{part}_mask"] = mask
    assert UNSEEN not in audit(from_data(data), tmp_path, TINY, model=Own()).notes
