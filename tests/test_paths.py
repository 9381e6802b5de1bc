"""The folders, and the data folder that the environment names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stemlib.paths import cache_folder, data_folder
from study import paths


def test_folders_lie_in_the_repository() -> None:
    assert (paths.ROOT / "pyproject.toml").is_file()
    assert paths.NOTEBOOKS == paths.ROOT / "notebooks"


def test_root_can_be_named(tmp_path: Path) -> None:
    command = "from study import paths; print(paths.ROOT, paths.RUNS, sep='\\n')"
    environment = {**os.environ, "STEMLIB_ROOT": str(tmp_path)}
    out = subprocess.check_output([sys.executable, "-c", command], env=environment, cwd=paths.ROOT, text=True)
    assert out.split() == [str(tmp_path), str(tmp_path / "runs")]


def test_data_folder_is_the_named_one_or_in_the_user_s_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STEMLIB_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # where Linux has it
    assert cache_folder().name == "stemlib"
    assert data_folder() == cache_folder() / "raw"
    assert sys.platform != "linux" or data_folder() == tmp_path / "stemlib/raw"
    monkeypatch.setenv("STEMLIB_DATA", str(tmp_path))
    assert data_folder() == tmp_path
    (tmp_path / "own").mkdir()
    monkeypatch.setenv("STEMLIB_DATA", "own")  # counts from the current folder
    monkeypatch.chdir(tmp_path)
    assert data_folder() == tmp_path / "own"


def test_a_missing_data_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMLIB_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"STEMLIB_DATA=.*nowhere.*unset it"):
        data_folder()
