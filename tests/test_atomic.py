"""Files that are whole or not there."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path
from typing import IO

import pytest

from stemlib import files
from stemlib.files import held, write_atomically


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    file = tmp_path / "new" / "folder" / "a.json"
    with write_atomically(file) as temporary:
        temporary.write_text("whole")
        assert not file.exists()
        assert temporary.parent == file.parent  # on one file system, or the rename would be a copy
    assert file.read_text() == "whole"
    assert os.listdir(file.parent) == ["a.json"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("old")

    def interrupted() -> None:
        with write_atomically(str(file)) as temporary:
            temporary.write_text("ha")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_two_processes_do_not_share_a_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.json"
    with write_atomically(file) as mine:
        mine.write_text("mine")
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with write_atomically(file) as theirs:
            theirs.write_text("theirs")
        assert file.read_text() == "theirs"
    assert file.read_text() == "mine"


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), write_atomically(tmp_path / "a.json"):
        pass


def test_a_folder_that_another_one_has_is_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, order, waits = tmp_path / "new" / "run", [], threading.Event()
    lock = fcntl.flock

    def flock(file: IO, how: int) -> None:
        if how == fcntl.LOCK_EX:  # the one that blocks
            waits.set()
        lock(file, how)

    monkeypatch.setattr(files.fcntl, "flock", flock)

    def second() -> None:
        with held(folder):
            order.append("second")

    waiting = threading.Thread(target=second)
    with held(folder):
        waiting.start()
        waits.wait()
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]
    assert capsys.readouterr().err == f"another process holds {folder}: waiting until it ends\n"
    with pytest.raises(KeyboardInterrupt), held(folder):
        raise KeyboardInterrupt
    second()
    assert order == ["first", "second", "second"]
