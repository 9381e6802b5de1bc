"""The batch's command: what it refuses, tells and passes on; killed, interrupted and shared; once with real kernels."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import papermill
import psutil
import pytest
import yaml
from grid_samples import RECORD, STAND_IN, finish, write_grid, write_notebook
from killed_batch import is_alive, wait_for

from study import paths
from study.batch import __main__ as batch
from study.batch import jobs
from study.batch.jobs import Job, collect, read_grid, study_jobs


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one notebook, in the place of the real one; nothing runs in it but what a test starts."""
    write_notebook(tmp_path / "notebooks" / "06_tiny.ipynb")
    for name, folder in (("ROOT", ""), ("NOTEBOOKS", "notebooks"), ("RUNS", "runs")):
        monkeypatch.setattr(paths, name, tmp_path / folder)
    for module in (jobs, batch):
        monkeypatch.setattr(module, "library_fingerprint", lambda: "present")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["grid.yaml", "-p", "n", "2"], "are for the chapters"),
        (["nowhere.yaml"], "nowhere.yaml"),
        (["-p", "sedes", "3"], "06_tiny has no parameter sedes; its parameters: preset, n"),
        (["-p", "n", "many"], "n must be of type int, or a list of these; got 'many'"),
        (["-p", "preset", "laptop"], "preset is given once"),
        (["--preset", "huge"], "smoke"),
        (["--notebooks", "07_nowhere"], "no notebook 07_nowhere; there are 06_tiny"),
        (["--workers", "0"], "must be positive"),
        (["--memory-gb", "0"], "must be positive"),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_runs(
    root: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    write_grid(root, 1)
    with pytest.raises(SystemExit) as refusal:
        batch.main(arguments)
    assert refusal.value.code == 2
    assert message in capsys.readouterr().err
    assert not (root / "runs").exists()


def test_no_notebook_at_all_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "notebooks" / "06_tiny.ipynb").unlink()
    with pytest.raises(SystemExit):
        batch.main([])
    assert str(root / "notebooks") in capsys.readouterr().err


def test_a_dry_run_lists_and_estimates_and_runs_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_notebook(root / "notebooks" / "07_new.ipynb")
    file = write_grid(root, 1, 2, 3, {"notebook": "07_new", "parameters": {}})
    one, two, *_ = read_grid(file)
    finish(one, "older", seconds=100)
    finish(two, "present", seconds=60)
    (two.folder / "DONE").write_text((two.folder / "DONE").read_text().replace(two.fingerprint, "other code"))
    assert batch.main([file, "--dry-run", "--workers", "2"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "done:   06_tiny/preset=smoke@n=1",
        "to run: 06_tiny/preset=smoke@n=2",
        "to run: 06_tiny/preset=smoke@n=3",
        "to run: 07_new/preset=smoke",
        "Jobs: 1 done (1 by another library version; --force reruns them), 0 failed, 3 to run, about 0:02:00",
    ]
    assert batch.main([file, "--dry-run", "--force"]) == 0
    assert "Jobs: 0 done, 0 failed, 4 to run" in capsys.readouterr().out


def test_a_study_that_is_up_to_date_tells_its_findings(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (job,) = study_jobs("smoke", [], {})
    finding = {"headline": "less is more", "figures": ["figures/a.png"], "records": ["runs/b"]}
    finish(job, "present", finding=finding)
    assert batch.main([]) == 0
    assert "- 06_tiny: less is more\n    figures/a.png\n    runs/b\n" in capsys.readouterr().out


@pytest.mark.parametrize(("given", "workers", "threads"), [(None, 2, 3), (None, 1, 4), (None, 9, 1), ("5", 2, 5)])
def test_cores_and_memory_are_shared_unless_the_user_says_how(
    root: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, workers: int, threads: int
) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(batch.Batch, "run", lambda _, *options: asked.update(zip("otms", options, strict=True)))
    monkeypatch.setattr(batch.joblib, "cpu_count", lambda: 7)
    monkeypatch.setattr(batch.signal, "signal", lambda *_: None)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert batch.main([write_grid(root, 1), "--workers", str(workers)]) == 1, "nothing was run"
    assert f"--cores={workers * threads}" in asked["o"]
    assert asked["t"] == threads
    assert asked["m"] * workers == pytest.approx(0.8e-6 * psutil.virtual_memory().total, rel=1e-3)
    batch.main([write_grid(root, 1), "--profile", "study/cluster/slurm", "--memory-gb", "2"])
    assert (asked["o"], asked["m"]) == (["--profile=study/cluster/slurm"], 2000)


def run_in_process(job: Job, monkeypatch: pytest.MonkeyPatch, executed: Any) -> None:
    """A job whose notebook is a function, without a kernel."""
    for name in ("STEMLIB_RUN", "STEMLIB_PROGRESS", "JUPYTER_PREFER_ENV_PATH"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(jobs, "_watch", lambda *_: None)
    monkeypatch.setattr(papermill, "execute_notebook", executed)
    job.folder.mkdir(parents=True, exist_ok=True)
    jobs.run(job, psutil.Process(), float("inf"))


def test_a_chapter_s_finding_is_kept_if_it_is_this_job_s(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = root / "runs" / "findings" / "06_tiny.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"headline": "of before"}')
    os.utime(file, (1, 1))
    (job,) = study_jobs("smoke", [], {})
    run_in_process(job, monkeypatch, lambda *_, **__: None)
    assert job.done()["finding"] is None
    run_in_process(job, monkeypatch, lambda *_, **__: file.write_text('{"headline": "of now"}'))
    assert job.done()["finding"] == {"headline": "of now"}
    assert os.environ["STEMLIB_RUN"] == ""


def test_a_chapter_with_other_parameters_keeps_its_files_for_itself(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = study_jobs("laptop", [], {})
    found = job.folder / "finding.json"
    run_in_process(job, monkeypatch, lambda *_, **__: found.write_text('{"headline": "its own"}'))
    assert os.environ["STEMLIB_RUN"] == str(job.folder)
    assert job.done()["finding"] == {"headline": "its own"}


def test_a_grid_s_job_without_metrics_has_failed_and_is_not_done(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = read_grid(write_grid(root, 1))
    finish(job, "present")
    with pytest.raises(SystemExit, match=r"wrote no metrics\.json: it must call study\.records\.save_run"):
        run_in_process(job, monkeypatch, lambda *_, **__: None)
    assert job.done() is None
    assert os.environ["STEMLIB_RUN"] == str(job.folder)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `killed_batch.py` saw, with a stand-in for papermill."""
    folder = tmp_path_factory.mktemp("batches")
    (folder / "papermill.py").write_text(STAND_IN)
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (folder, tests.parent, tests)))}
    command = [sys.executable, str(tests / "killed_batch.py"), str(folder)]
    return json.loads(subprocess.check_output(command, env=environment, text=True))


@pytest.mark.slow
def test_kills_lose_and_repeat_nothing_and_leave_nothing_behind(report: dict[str, Any]) -> None:
    """That what a killed runner had started ends, the script itself has waited for."""
    killed = report["killed"]
    assert [kill["status"] for kill in killed["kills"]] == [-signal.SIGKILL] * 4
    assert [kill["done"] for kill in killed["kills"]] == [[], [], [0], [0]]
    assert killed["status"] == 0
    assert killed["table"] == [[0, 0], [1, 1], [2, 4]]
    assert killed["executions"][:3] == [0, 0, 0], "the first job is run again until it is done, and no longer"
    assert 0 not in killed["executions"][3:]
    assert killed["executions"][-2:] == [1, 2], "in the grid's order"


@pytest.mark.slow
def test_an_interrupted_runner_ends_its_jobs_and_says_how_to_go_on(report: dict[str, Any]) -> None:
    interrupted = report["interrupted"]
    assert (interrupted["status"], interrupted["done"]) == (130, [0])
    assert "The same command continues." in interrupted["stderr"]


@pytest.mark.slow
def test_two_runners_share_a_grid_without_running_anything_twice(report: dict[str, Any]) -> None:
    assert report["both"] == {"status": [0, 0], "done": [0, 1], "executions": [0, 1]}


FIRST_IS_SLOW = """
import os, time
from pathlib import Path
if not Path("kernel").exists():
    Path("kernel").write_text(str(os.getpid()))
    time.sleep(600)
"""
FAILS = """
if n == 2: raise ValueError("the graph has no edge")
if n == 3:
    kept = b"x" * 1_500_000_000
    time.sleep(600)
"""


@pytest.mark.slow
def test_real_notebooks_go_on_after_a_kill_and_failures_stop_nothing(root: Path) -> None:
    write_notebook(root / "notebooks" / "06_tiny.ipynb", FIRST_IS_SLOW, FAILS, RECORD)
    file = write_grid(root, {"notebook": "06_tiny", "parameters": {"n": [2, 3, 4], "lr": 0.25}})
    command = [sys.executable, "-m", "study.batch", file, "--memory-gb", "1.3"]
    repository = Path(batch.__file__).parents[2]
    environment = {**os.environ, "STEMLIB_ROOT": str(root), "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "3"}
    scratch = root / "scratch"
    scratch.mkdir()
    for how in (signal.SIGINT, signal.SIGKILL):
        (root / "kernel").unlink(missing_ok=True)
        stopped = subprocess.Popen(
            command,
            env=environment | {"TMPDIR": str(scratch)},
            stdout=subprocess.DEVNULL,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a run in the background ignores it
        )
        wait_for(lambda: (root / "kernel").exists() and (root / "kernel").read_text() != "")
        stopped.send_signal(how)
        assert stopped.wait() == (130 if how == signal.SIGINT else -how)
        wait_for(lambda: not is_alive(int((root / "kernel").read_text())))
        if how == signal.SIGINT:
            assert not list(scratch.glob("*/socket*"))

    ended = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    assert ended.returncode == 1
    told = re.findall(r"(\[\d/\d\]) 06_tiny/preset=smoke@lr=0.25@n=(\d): (failed|\d+ s) ", ended.stdout)
    assert [(*where, took == "failed") for *where, took in told] == [
        ("[1/3]", "2", True),
        ("[2/3]", "3", True),
        ("[3/3]", "4", False),
    ]
    assert re.search(r"Jobs: 1 done.*, 2 failed, 0 to run", ended.stdout)
    first, second = ended.stderr.split("n=3 failed:")
    assert "n=2 failed:" in first
    assert "ValueError: the graph has no edge" in first
    assert re.search(r"ended because it used \d\.\d+ GB of memory; the limit is 1\.30 GB", second)
    assert "The same command tries again." in second

    assert collect("06_tiny").drop(columns="finished").to_dict("list") == {
        "run": ["preset=smoke@lr=0.25@n=4"] * 2,
        "lr": [0.25] * 2,
        "n": [4] * 2,
        "preset": ["smoke"] * 2,
        "power": [1, 4],
        "share": pytest.approx([0.25, float("nan")], nan_ok=True),
        "threads": ["3"] * 2,
    }
    (done,) = (root / "runs").glob("*/*/DONE")
    assert "n = 4" in nbformat.read(done.with_name("executed.ipynb"), as_version=4).cells[1].source


def test_the_cluster_s_profile_sets_what_the_snakefile_s_rule_has() -> None:
    profile = yaml.safe_load((paths.ROOT / "study/cluster/slurm/config.yaml").read_text())
    rules = set(re.findall(r"^rule (\w+):", Path(batch.__file__).with_name("Snakefile").read_text(), re.MULTILINE))
    assert profile["set-resources"].keys() | profile["set-threads"].keys() <= rules
