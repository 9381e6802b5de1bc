"""Costs: what is counted by hand, and what a run of a stress test took."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_samples import method, shifted
from samples import node_task, small_baseline

from stemlib.data.tasks import Task
from study.costs import size
from study.families import build
from study.stress import StressTest


def test_an_mlp_s_size_and_products_are_those_by_hand() -> None:
    task = node_task()
    model = build(small_baseline("mlp"), task)
    shapes = [value.shape for value in model.parameters() if value.dim() == 2]  # a matrix for each layer
    products = sum(2 * task.instances * out * into for out, into in shapes) / 1e6
    biases = sum(out for out, _ in shapes)
    values = sum(out * into for out, into in shapes) + biases
    assert size(model, task) == {"parameters": values, "MFLOP": pytest.approx(products)}


def test_every_run_of_a_stress_test_has_its_cost(task: Task, runs: Path) -> None:
    methods = [method("one"), method("two", routed="none")]
    test = StressTest(**shifted(task), methods=methods, seeds=[3, 4])
    test.scores(())
    files = {file: file.stat().st_mtime_ns for file in runs.rglob("*")}
    found = test.costs()
    assert {file: file.stat().st_mtime_ns for file in runs.rglob("*")} == files  # read back, not trained again
    assert found[["method", "seed"]].values.tolist() == [[name, seed] for seed in (3, 4) for name in ("one", "two")]
    assert (found.seconds > 0).all()
    assert (found.optimism >= 0).all()
    of_method = found.groupby("method")
    assert (of_method["parameters"].nunique() == 1).all()
    assert of_method.MFLOP.first()["one"] > of_method.MFLOP.first()["two"] > 0
