"""Ctrl-C ends every command with a word on how to go on."""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from run_samples import method
from samples import node_task

from study import paths, trained
from study.interrupt import STOPPED, interruptible

COMMANDS = [
    path
    for folder in ("study", "benchmarks")
    for path in sorted((paths.ROOT / folder).rglob("*.py"))
    if '__name__ == "__main__"' in path.read_text()
]


def stopped() -> None:
    raise KeyboardInterrupt


def test_an_interrupted_command_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert interruptible(stopped) == STOPPED
    assert "the same command continues" in capsys.readouterr().err
    assert interruptible(lambda: None) == 0
    assert interruptible(lambda: 3) == 3


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_every_command_is_interruptible(path: Path) -> None:
    """By `interruptible`, by `measuring.table`, which calls it, or by the batch's own handler of the signal."""
    called = {node.func.id for node in ast.walk(ast.parse(path.read_text())) if _is_named_call(node)}
    assert called & {"interruptible", "table"} or "SIGINT" in path.read_text()


def _is_named_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)


def test_an_interrupted_training_says_where_its_state_is(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trained, "fit", lambda *arguments: stopped())
    with pytest.raises(KeyboardInterrupt):
        trained.run("t", node_task(), "random", method(), 0)
    assert f"kept in {runs}" in capsys.readouterr().out


def test_a_real_interrupt_leaves_no_traceback() -> None:
    command = (
        "import signal, time; from study.interrupt import interruptible; "
        "signal.signal(signal.SIGINT, signal.default_int_handler); "  # a test run in the background ignores it
        "interruptible(lambda: print('on', flush=True) or time.sleep(60))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=paths.ROOT
    ) as process:
        assert process.stdout.readline() == "on\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert "Stopped." in said
    assert "Traceback" not in said
