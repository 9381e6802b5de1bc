"""The examples of docs/own_data.md run, and the doors are the library's."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import stemlib
from study.paths import ROOT

PAGE = (ROOT / "docs" / "own_data.md").read_text()
EXAMPLES = dict(re.findall(r"## ([^\n]+)\n\n```python\n(.*?)```", PAGE, re.DOTALL))


def graph_in(folder: Path) -> None:
    folder.mkdir()
    index = np.arange(12)
    nodes = pd.DataFrame({"id": index, "label": np.where(index % 2, "cat", "dog"), "age": index})
    nodes.to_csv(folder / "nodes.csv", index=False)
    pd.DataFrame({"source": index, "target": (index + 1) % 12}).to_csv(folder / "edges.csv", index=False)


@pytest.mark.parametrize("title", ["Files", "Triples", "Molecules"])
def test_an_example_runs_in_ten_lines(
    title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("my_graph", "other_graph"):
        graph_in(tmp_path / name)
    code = EXAMPLES[title]
    assert len(code.strip().splitlines()) <= 10
    exec(compile(code, title, "exec"), {})
    said = capsys.readouterr().out
    assert {"Files": "12 nodes", "Triples": "('knows', 'likes')", "Molecules": "row 16: C1("}[title] in said


@pytest.mark.parametrize("name", stemlib.DOORS)
def test_a_door_is_found(name: str) -> None:
    assert getattr(stemlib, name).__module__ == stemlib.DOORS[name]
    with pytest.raises(AttributeError, match="has no attribute 'window'"):
        _ = stemlib.window
