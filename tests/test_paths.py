"""The folders, and the data folder that the environment names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from study import paths


def test_folders_lie_in_the_repository() -> None:
    assert (paths.ROOT / "pyproject.toml").is_file()
    assert paths.NOTEBOOKS == paths.ROOT / "notebooks"


def test_root_can_be_named(tmp_path: Path) -> None:
    command = "from study import paths; print(paths.ROOT, paths.RUNS, sep='\\n')"
    environment = {**os.environ, "STEMLIB_ROOT": str(tmp_path)}
    out = subprocess.check_output([sys.executable, "-c", command], env=environment, cwd=paths.ROOT, text=True)
    assert out.split() == [str(tmp_path), str(tmp_path / "runs")]


def test_data_folder_is_the_named_one_or_the_repositorys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STEMLIB_DATA", raising=False)
    assert paths.data_folder() == paths.DATA
    monkeypatch.setenv("STEMLIB_DATA", str(tmp_path))
    assert paths.data_folder() == tmp_path
    monkeypatch.setenv("STEMLIB_DATA", "tests")  # counts from the root, not from where the kernel started
    monkeypatch.chdir(tmp_path)
    assert paths.data_folder() == paths.ROOT / "tests"


def test_a_missing_data_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMLIB_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"STEMLIB_DATA=.*nowhere.*unset it"):
        paths.data_folder()
