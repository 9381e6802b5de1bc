"""Rounding replicates: what is moved and what is not, that runs are told apart, and the variance by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from run_samples import METHODS, TINY, method, shifted
from samples import node_task

from stemlib.data.tasks import Task
from study import rounding
from study.paths import ROOT
from study.records import read_results
from study.rounding import COMPARED, NOISE, moves, perturbed, replicates, rounding_variance
from study.trained import run_folder


def test_a_replicate_is_the_task_but_for_the_last_digits_of_its_features(task: Task) -> None:
    x = task.graph.x.clone()
    x[x.abs() < 0.5] = 0
    task = replace(task, graph=replace(task.graph, x=x))
    assert perturbed(task, 0) is task
    one, other = perturbed(task, 1), perturbed(task, 2)
    for noisy in (one, other):
        ratio = noisy.graph.x[x != 0] / x[x != 0]
        assert 0.2 * NOISE < (ratio - 1).double().std() < 5 * NOISE
        assert torch.equal(noisy.graph.x == 0, x == 0)
        assert noisy.graph.x.dtype == x.dtype
        assert torch.equal(noisy.graph.edge_index, task.graph.edge_index)
        assert noisy.labels is task.labels
        assert noisy.checksum == task.checksum
    assert torch.equal(perturbed(task, 1).graph.x, one.graph.x)
    assert len({task.content, one.content, other.content}) == 3
    split, what = task.split("random"), method()
    assert run_folder("t", task, split, what, 0) != run_folder("t", one, split, what, 0)


def test_nodes_of_one_type_stay_alike() -> None:
    task = node_task()
    kinds = torch.arange(len(task.graph.x)) % 4
    task = replace(task, graph=replace(task.graph, x=task.graph.x[:4], node_type=kinds))
    noisy = perturbed(task, 1).graph
    assert noisy.x.shape == task.graph.x.shape
    assert not torch.equal(noisy.x, task.graph.x)
    assert torch.equal(noisy.node_type, kinds)


def test_replicates_differ_in_nothing_but_rounding(task: Task, runs: Path) -> None:
    found = replicates(**shifted(task), methods=METHODS, seeds=[3, 4], count=2)
    keys = ["method", "seed", "replicate", "condition"]
    assert not found.duplicated(keys).any()
    assert len(found) == 2 * 2 * 2 * found.condition.nunique()
    assert "clean" in set(found.condition)
    assert set(found.task) == {task.name}
    folders = sorted(path.parent for path in runs.rglob("record.json"))
    assert len(folders) == 8
    again = replicates(**shifted(task), methods=METHODS, seeds=[3, 4], count=2)
    pd.testing.assert_frame_equal(again, found)
    assert sorted(path.parent for path in runs.rglob("record.json")) == folders


def rows(scores: dict[int, list[float]], method: str = "stem", condition: str = "clean") -> pd.DataFrame:
    return pd.DataFrame(
        {"task": "t", "method": method, "condition": condition, "seed": seed, "replicate": place, "score": score}
        for seed, found in scores.items()
        for place, score in enumerate(found)
    )


SCORES = pd.concat(
    [rows({0: [50.0, 52.0, 51.0], 1: [70.0, 70.0, 70.0]}), rows({0: [60.0, 60.0, 60.0]}, "gcn")], ignore_index=True
)


def test_the_variance_is_that_within_seeds() -> None:
    assert rounding_variance(SCORES, "t", "stem") == pytest.approx((1.0 + 0.0) / 2)
    assert rounding_variance(SCORES, "t", "gcn") == 0.0


@pytest.mark.parametrize("asked", [("other", "stem", "clean"), ("t", "mlp", "clean"), ("t", "stem", "OOD-low")])
def test_what_was_not_replicated_has_no_variance(asked: tuple[str, str, str]) -> None:
    with pytest.raises(ValueError, match=r"no rounding replicates .*python -m study\.rounding"):
        rounding_variance(SCORES, *asked)
    with pytest.raises(ValueError, match="no rounding replicates"):
        rounding_variance(SCORES[SCORES.replicate == 0], "t", "stem")


def test_moves_by_hand() -> None:
    found = moves(SCORES).set_index("method")
    assert found.loc["stem", "std"] == pytest.approx(0.5**0.5)
    assert found.loc["stem", "mean move"] == pytest.approx((2 + 1 + 0 + 0) / 4)
    assert found.loc["stem", "largest move"] == 2.0
    assert found.loc["stem", "unmoved"] == 0.5
    assert found.loc["gcn"].drop(["task", "condition"]).tolist() == [0.0, 0.0, 0.0, 1.0]


def test_the_command_keeps_all_data_sets_in_one_table(
    monkeypatch: pytest.MonkeyPatch, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Tiny:
        def __init__(self, name: str) -> None:
            self.name = name

        def task(self, preset: object) -> Task:
            return replace(node_task(), name=self.name)

        def methods(self, base: object, preset: object) -> list:
            return [METHODS[0]]

    kept = {}
    monkeypatch.setattr(rounding, "protocol_of", Tiny)
    monkeypatch.setattr(rounding, "save_results", lambda frame, name: kept.setdefault(name, frame) is None or tmp_path)
    monkeypatch.setitem(rounding.PRESETS, "laptop", TINY)
    rounding.main(["cora", "texas", "--methods", "stem", "--seeds", "1", "--replicates", "2"])
    assert set(kept) == {"rounding"}
    assert set(kept["rounding"].task) == {"cora", "texas"}
    assert set(kept["rounding"].replicate) == {0, 1}
    assert "largest move" in capsys.readouterr().out


def test_the_page_has_the_kept_numbers() -> None:
    page = (ROOT / "docs" / "reproducibility.md").read_text()
    found = moves(read_results("rounding"))
    clean = found[found.condition == "clean"].set_index(["task", "method"])
    assert set(clean.index) == {(task, name) for task in ("chameleon", "cora", "cornell") for name in COMPARED}
    for (task, name), row in clean.iterrows():
        line = f"| {task} | `{name}` | {row['std']:.2f} | {row['largest move']:.2f} |"
        assert line in page, line
