from __future__ import annotations

from pathlib import Path

import pytest
import torch
from samples import TASKS, node_task

from stemlib.data.features import require_unit_features, unit_features
from stemlib.data.tasks import Task


@pytest.mark.parametrize("width", [2, 6, 9])
def test_features_have_the_width_asked_for_and_rows_of_length_one(
    task: Task, width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stemlib.cache.cache_folder", lambda: tmp_path)
    after = unit_features(task, width)
    for name in ("x", "edge_attr"):
        if getattr(task.graph, name) is None:
            assert getattr(after.graph, name) is None
            continue
        table = getattr(after.graph, name)
        assert table.shape == (len(getattr(task.graph, name)), width)
        assert torch.allclose(table.norm(dim=1), torch.ones(len(table)), atol=1e-5)
    assert torch.equal(task.graph.edge_index, after.graph.edge_index)
    assert after.checksum not in (task.checksum, unit_features(task, width + 1).checksum)
    assert task.graph.x.size(1) == TASKS[task.kind]().graph.x.size(1)  # the original is left alone


def test_no_angle_changes_and_zero_rows_stay_zero() -> None:
    task = node_task()
    task.graph.x[3] = 0
    x = unit_features(task, 9).graph.x
    assert not x[3].any()
    cosine = torch.nn.functional.cosine_similarity(task.graph.x[0], task.graph.x[1], dim=0)
    assert x[0] @ x[1] == pytest.approx(cosine.item(), abs=1e-5)


def test_what_is_not_of_this_form_is_refused(task: Task) -> None:
    require_unit_features(unit_features(task, 6), 6, "this")
    require_unit_features(unit_features(unit_features(task, 6), 6), 6, "this")
    with pytest.raises(
        ValueError, match=rf"this reads features of width 7 .* x of '{task.name}' has width 6 and 0 rows"
    ):
        require_unit_features(unit_features(task, 6), 7, "this")
    with pytest.raises(ValueError, match=r"[1-9]\d* rows of other lengths: use .*unit_features\(task, \d\)"):
        require_unit_features(task, task.graph.x.size(1), "this")
    one = unit_features(task, 6)
    if one.graph.edge_attr is not None:
        one.graph.edge_attr[1] *= 2
        with pytest.raises(ValueError, match=f"edge_attr of '{task.name}' has width 6 and 1 rows"):
            require_unit_features(one, 6, "this")
