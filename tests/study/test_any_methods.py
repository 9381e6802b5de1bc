"""A chapter runs with any of the methods, and leaves the committed figures and tables alone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import papermill
import pytest

from study import paths

CASES = [("07_degree_shift", "gcn"), ("09_feature_masking", "mlp")]


def committed() -> str:
    return subprocess.check_output(["git", "status", "--short", "figures", "data"], cwd=paths.ROOT, text=True)


@pytest.mark.parametrize(("name", "methods"), CASES)
def test_a_chapter_with_one_method_changes_nothing_that_is_committed(
    name: str, methods: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEMLIB_RUNS", str(tmp_path))
    monkeypatch.delenv(paths.RUN, raising=False)
    before = committed()
    parameters = {"methods": methods, "seeds": 2} | ({"worst": False} if name.startswith("09") else {})
    executed = papermill.execute_notebook(
        paths.NOTEBOOKS / f"{name}.ipynb", tmp_path / "out.ipynb", parameters, kernel_name="python3", progress_bar=False
    )
    assert committed() == before
    assert list(tmp_path.glob(f"{name}/*/*.png"))
    said = "".join(part.get("text", "") for cell in executed.cells for part in cell.get("outputs", ()))
    assert "not checked: nothing that it is about ran" in said
    assert ": False" not in said
