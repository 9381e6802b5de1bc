"""The runner of the notebooks, on tiny notebooks in a repository of the test's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import nbformat
import pytest
import yaml

from study import paths
from study.batch import study
from study.batch.notebook_run import InUse, locked

PARAMETERS = 'preset: str = "smoke"  # the budget\nseeds: int = 2  # how many'
FINDING = """
import json
from pathlib import Path
folder = Path("runs/findings")
folder.mkdir(parents=True, exist_ok=True)
finding = {"headline": f"{seeds} seeds at {preset}", "figures": ["figures/a.png"], "records": []}
(folder / "00_good.json").write_text(json.dumps(finding))
"""
SLOW_THE_FIRST_TIME = """
import os, time
from pathlib import Path
if not Path("started").exists():
    Path("started").write_text(str(os.getppid()))
    time.sleep(60)
"""


def write_notebook(path: Path, *sources: str) -> None:
    cells = [nbformat.v4.new_code_cell(source) for source in (PARAMETERS, *sources)]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.parent.mkdir(exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one good notebook, in the place of the real one."""
    write_notebook(tmp_path / "notebooks" / "00_good.ipynb", FINDING)
    for name, folder in (("ROOT", ""), ("NOTEBOOKS", "notebooks"), ("RUNS", "runs")):
        monkeypatch.setattr(paths, name, tmp_path / folder)
    return tmp_path


def done(root: Path, notebook: str = "00_good") -> Path:
    return root / "runs" / "study" / "smoke" / notebook / "DONE"


def test_runs_once_goes_on_after_a_failure_and_reruns_after_a_change(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = root / "notebooks" / "01_bad.ipynb"
    write_notebook(bad, "x = 1", 'raise ValueError("the graph has no edge")')
    good = done(root).parent

    assert study.main([]) == 1
    out, err = capsys.readouterr()
    assert "[1/2] 00_good ..." in out
    assert "[2/2] 01_bad ... failed" in out
    assert "2 seeds at smoke" in out
    assert "figures/a.png" in out
    assert "ValueError: the graph has no edge" in err
    assert str(done(root, "01_bad").parent) in err
    assert not done(root, "01_bad").exists()
    assert (done(root, "01_bad").parent / "executed.ipynb").exists()
    assert yaml.safe_load((good / "params.yaml").read_text()) == {"preset": "smoke"}
    injected = nbformat.read(good / "executed.ipynb", as_version=4).cells[1]
    assert 'preset = "smoke"' in injected.source
    before = done(root).read_text()

    write_notebook(bad, "x = 1")
    assert study.main([]) == 0
    out, _ = capsys.readouterr()
    assert "[1/2] 00_good ... up to date" in out
    assert "2 seeds at smoke" in out
    assert done(root).read_text() == before
    assert done(root, "01_bad").exists()

    write_notebook(root / "notebooks" / "00_good.ipynb", FINDING.replace("seeds at", "runs at"))
    assert study.main(["--notebooks", "notebooks/00_good.ipynb"]) == 0
    assert "2 runs at smoke" in capsys.readouterr().out
    assert json.loads(before)["fingerprint"] != json.loads(done(root).read_text())["fingerprint"]


def test_parameters_are_read_as_their_types_and_have_a_folder_of_their_own(root: Path) -> None:
    job = study.make_job(root / "notebooks" / "00_good.ipynb", "smoke", {"seeds": "5"})
    assert job.parameters == {"preset": "smoke", "seeds": 5}
    assert job.folder == root / "runs" / "study" / "smoke" / "00_good,seeds=5"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-p", "sedes", "3"], "00_good has no parameter sedes; its parameters: preset, seeds"),
        (["-p", "seeds", "many"], "parameter seeds is of type int, got 'many'"),
        (["-p", "preset", "laptop"], "--preset"),
        (["--preset", "huge"], "smoke"),
        (["--notebooks", "07_nowhere"], "no notebook 07_nowhere; there are 00_good"),
    ],
)
def test_what_does_not_exist_is_refused_by_name(
    root: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as refusal:
        study.main(arguments)
    assert refusal.value.code == 2
    assert message in capsys.readouterr().err
    assert not (root / "runs").exists()


def test_no_notebook_at_all_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "notebooks" / "00_good.ipynb").unlink()
    with pytest.raises(SystemExit):
        study.main([])
    assert str(root / "notebooks") in capsys.readouterr().err


def test_fingerprint_sees_code_and_parameters_but_no_prose_and_no_outputs(root: Path) -> None:
    notebook = root / "notebooks" / "00_good.ipynb"
    before = study.make_job(notebook, "smoke", {}).fingerprint
    assert study.make_job(notebook, "laptop", {}).fingerprint != before

    content = nbformat.read(notebook, as_version=4)
    content.cells[1].outputs = [nbformat.v4.new_output("stream", text="2")]
    content.cells.append(nbformat.v4.new_markdown_cell("prose"))
    nbformat.write(content, notebook)
    assert study.make_job(notebook, "smoke", {}).fingerprint == before

    content.cells[1].source += "\nx = 1"
    nbformat.write(content, notebook)
    assert study.make_job(notebook, "smoke", {}).fingerprint != before


def wait_for(file: Path, seconds: float = 60) -> None:
    end = time.time() + seconds
    while not file.exists():
        assert time.time() < end, f"{file} did not come"
        time.sleep(0.1)


def wait_until_free(folder: Path, seconds: float = 10) -> None:
    end = time.time() + seconds
    while time.time() < end:
        with suppress(InUse):
            return locked(folder).close()
        time.sleep(0.1)
    raise AssertionError(f"{folder} stays in use")


def test_a_killed_run_leaves_no_done_and_is_run_again(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder is the runner's while it lives; SIGKILL to the runner alone ends its notebook too."""
    write_notebook(root / "notebooks" / "00_good.ipynb", SLOW_THE_FIRST_TIME)
    environment = {**os.environ, "STEMLIB_ROOT": str(root)}
    repository = Path(study.__file__).parents[1]
    runner = subprocess.Popen([sys.executable, "-m", "study.batch.study"], env=environment, cwd=repository)
    wait_for(root / "started")
    assert study.main([]) == 1
    assert "still going on" in capsys.readouterr().err

    runner.send_signal(signal.SIGKILL)
    runner.wait()
    wait_until_free(done(root).parent)
    assert not done(root).exists()
    assert study.main([]) == 0
    assert json.loads(done(root).read_text())["finding"] is None
