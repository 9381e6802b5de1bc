"""The grid's runner and its table, on light runs; papermill itself runs once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pandas as pd
import pytest
from grid_samples import RECORD, executions, light, write_grid, write_notebook

from study import figures, paths, records
from study.batch import grid, notebook_run, study
from study.batch.notebook_run import locked
from study.batch.process_tree import interrupted_after

FAILS_ON_TWO = "if n == 2: raise ValueError('the graph has no edge')"
TAKES_MEMORY = """
if n == 2:
    import subprocess
    subprocess.run([sys.executable, "-S", "-c", "kept = b'x' * 200_000_000; import time; time.sleep(60)"])
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one notebook, in the place of the real one; its runs are light."""
    write_notebook(tmp_path / "notebooks" / "06_tiny.ipynb")
    for name, folder in (("ROOT", ""), ("NOTEBOOKS", "notebooks"), ("RUNS", "runs")):
        monkeypatch.setattr(paths, name, tmp_path / folder)
    monkeypatch.setattr(notebook_run, "SECONDS_BETWEEN_LOOKS", 0.02)
    monkeypatch.setattr(notebook_run, "COMMAND", light())
    return tmp_path


def folder(root: Path, n: int) -> Path:
    return root / "runs" / "06_tiny" / f"preset=smoke@n={n}"


def test_what_failed_is_told_at_the_end_stops_nothing_and_is_tried_again(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(notebook_run, "COMMAND", light(FAILS_ON_TWO))
    file = write_grid(root, [1, 2, 3])
    assert grid.main([file]) == 1
    out, err = capsys.readouterr()
    assert executions(root) == [1, 2, 3]
    assert "3 runs: 2 done, 1 failed, 0 to run" in out
    assert "[2/3] 06_tiny/preset=smoke@n=2: failed   (1 done, 1 failed, 1 to go, about 0:00:0" in out
    assert "06_tiny/preset=smoke@n=2 failed:" in err
    assert "ValueError: the graph has no edge" in err
    assert not (folder(root, 2) / "DONE").exists()

    monkeypatch.setattr(notebook_run, "COMMAND", light())
    assert grid.main([file]) == 0
    assert executions(root) == [1, 2, 3, 2]
    assert grid.collect("06_tiny")[["n", "square"]].to_numpy().tolist() == [[1, 1], [2, 4], [3, 9]]


def test_force_and_new_code_repeat_a_run_and_a_new_library_does_not_but_is_told(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_grid(root, [1, 2])
    assert grid.main([file, "--workers", "2"]) == 0
    assert grid.main([file]) == 0
    assert len(executions(root)) == 2
    with monkeypatch.context() as patch:
        patch.setattr(grid, "library_fingerprint", lambda: "another")
        assert grid.main([file]) == 0
    assert len(executions(root)) == 2
    assert "2 done (2 by another version of the library; --force repeats)" in capsys.readouterr().out

    assert grid.main([file, "--force"]) == 0
    assert len(executions(root)) == 4
    write_notebook(root / "notebooks" / "06_tiny.ipynb", "x = 1")
    with pytest.warns(UserWarning, match="2 runs of 06_tiny"), pytest.raises(FileNotFoundError):
        grid.collect("06_tiny")
    assert grid.main([file]) == 0
    assert len(executions(root)) == 6


def test_a_dry_run_lists_and_runs_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_grid(root, [1, 2])
    assert grid.main([file, "--run", "06_tiny/preset=smoke@n=2"]) == 0
    capsys.readouterr()
    assert grid.main([file, "--dry-run"]) == 0
    assert executions(root) == [2]
    assert capsys.readouterr().out.splitlines()[:2] == [
        "to run: 06_tiny/preset=smoke@n=1",
        "done: 06_tiny/preset=smoke@n=2",
    ]


def test_shards_run_every_run_once(root: Path) -> None:
    file = write_grid(root, list(range(5)))
    for part in ("1/2", "2/2"):
        assert grid.main([file, "--workers", "3", "--shard", part]) == 0
    assert sorted(executions(root)) == list(range(5))


def test_a_run_that_takes_too_much_memory_ends_with_all_that_it_started(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(notebook_run, "COMMAND", light(TAKES_MEMORY))
    assert grid.main([write_grid(root, [1, 2, 3]), "--memory-gb", "0.15"]) == 1
    out, err = capsys.readouterr()
    assert "2 done, 1 failed" in out
    assert "GB of memory; the bound is 0.15 GB" in err
    locked(folder(root, 2)).close()  # which no process has any longer


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises, also where the tests are a shell's background job and it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("runner", ["grid", "study"])
@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_while_a_run_is_being_started_ends_it(
    root: Path, monkeypatch: pytest.MonkeyPatch, runner: str
) -> None:
    started = []

    def start_and_interrupt(*arguments: Any, **options: Any) -> subprocess.Popen:
        started.append(subprocess.Popen(*arguments, **options))
        os.kill(os.getpid(), signal.SIGINT)
        return started[-1]

    # A wait of its own: a run that nobody ended would still be going on at the assertion.
    monkeypatch.setattr(notebook_run, "COMMAND", light("time.sleep(20)"))
    fake = SimpleNamespace(Popen=start_and_interrupt, PIPE=subprocess.PIPE)
    monkeypatch.setattr(notebook_run, "subprocess", fake)
    (job,) = grid.read_grid(write_grid(root, 1))
    with pytest.raises(KeyboardInterrupt):
        grid.Grid([job], 1, 1.0).run() if runner == "grid" else study.run(job)
    assert [process.poll() for process in started] == [-signal.SIGKILL]
    locked(job.folder).close()


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_that_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interrupted_after():
        os.kill(os.getpid(), signal.SIGINT)


def test_a_run_without_metrics_or_ended_from_outside_has_failed(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(notebook_run, "COMMAND", light("os._exit(0) if n == 1 else os.kill(os.getpid(), 9)"))
    assert grid.main([write_grid(root, [1, 2])]) == 1
    err = capsys.readouterr().err
    assert "wrote no metrics.json: it must call study.records.save_run" in err
    assert "papermill ended with exit code -9" in err


def test_the_cores_are_shared_unless_the_user_says_how(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = "open(os.path.join(folder, 'threads'), 'w').write(os.environ['OMP_NUM_THREADS'])"
    monkeypatch.setattr(notebook_run, "COMMAND", light(threads))
    monkeypatch.setattr(grid, "cores", lambda: 7)
    for n, (given, workers, expected) in enumerate([(None, "2", "3"), (None, "9", "1"), ("5", "2", "5")]):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if given:
            monkeypatch.setenv("OMP_NUM_THREADS", given)
        assert grid.main([write_grid(root, n), "--workers", workers]) == 0
        assert (folder(root, n) / "threads").read_text() == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shard", "3/2"], "no shard 3 of 2"),
        (["--shard", "half"], "a shard is given as I/N, such as 2/4; got 'half'"),
        (["--run", "06_tiny/n=1"], "the grid has no run 06_tiny/n=1"),
        (["--workers", "0"], "must be positive"),
        (["--memory-gb", "0"], "must be positive"),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_runs(
    root: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as refusal:
        grid.main([write_grid(root, [1, 2]), *arguments])
    assert refusal.value.code == 2
    assert message in capsys.readouterr().err
    assert not (root / "runs").exists()


def test_a_row_s_own_column_goes_before_a_parameter_of_its_name(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_grid(root, {"notebook": "06_tiny", "parameters": {"n": 4, "names": "all"}})
    assert grid.main([file]) == 0
    (metrics,) = root.glob("runs/06_tiny/*/metrics.json")
    metrics.write_text(json.dumps([{"names": "gcn", "score": 1.0}, {"names": "stem", "score": None}]))
    table = grid.collect("06_tiny")
    assert table.names.tolist() == ["gcn", "stem"]
    assert table.n.tolist() == [4, 4]
    assert table.score.isna().tolist() == [False, True]


def test_nothing_is_kept_outside_of_a_grid_and_no_table_without_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STEMLIB_RUN", raising=False)
    records.save_run(pd.DataFrame({"score": [1.0]}))
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="no metrics"):
        records.save_run(pd.DataFrame({"score": []}))


def test_figures_and_findings_of_a_run_stay_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMLIB_RUN", str(tmp_path))
    monkeypatch.setattr(records, "ROOT", tmp_path)
    figure, _ = figures.panels()
    path = figures.save(figure, "06_tiny")
    records.save_finding("06_tiny", "less is more", [path])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["06_tiny.png", "finding.json"]


def test_papermill_runs_the_notebook_and_its_metrics_come_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for name, part in (("ROOT", ""), ("NOTEBOOKS", "notebooks"), ("RUNS", "runs")):
        monkeypatch.setattr(paths, name, root / part)
    write_notebook(root / "notebooks" / "06_tiny.ipynb", RECORD)
    entry = {"notebook": "06_tiny", "parameters": {"n": 3, "lr": 0.25}}
    assert grid.main([write_grid(root, entry)]) == 0

    assert grid.collect("06_tiny").drop(columns="finished").to_dict("list") == {
        "run": ["preset=smoke@lr=0.25@n=3"] * 2,
        "lr": [0.25, 0.25],
        "n": [3, 3],
        "preset": ["smoke", "smoke"],
        "seed": [0, 1],
        "power": [1, 3],
        "share": pytest.approx([0.25, float("nan")], nan_ok=True),
    }
    run = root / "runs" / "06_tiny" / "preset=smoke@lr=0.25@n=3"
    assert pd.read_csv(run / "history.csv").loss.tolist() == [1.0]
    assert "n = 3" in nbformat.read(run / "executed.ipynb", as_version=4).cells[1].source
    assert json.loads((run / "DONE").read_text())["library"] == notebook_run.library_fingerprint()
