"""Jobs: which there are, what is refused, which are done, what they have measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from grid_samples import finish, write_grid, write_notebook
from hypothesis import given, settings
from hypothesis import strategies as st

from study import figures, paths, records
from study.batch import jobs
from study.batch.jobs import BatchError, collect, read_grid, read_job, study_jobs


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one notebook, in the place of the real one."""
    write_notebook(tmp_path / "notebooks" / "06_tiny.ipynb")
    for name, folder in (("NOTEBOOKS", "notebooks"), ("RUNS", "runs")):
        monkeypatch.setattr(paths, name, tmp_path / folder)
    monkeypatch.setattr(jobs, "library_fingerprint", lambda: "present")
    return tmp_path


def entry(notebook: str = "06_tiny", **parameters: object) -> dict[str, object]:
    return {"notebook": notebook, "parameters": parameters}


def test_lists_are_multiplied_out_into_jobs_with_readable_folders(root: Path) -> None:
    found = read_grid(write_grid(root, entry(n=[1, 2], names=["gcn", "gcn stem"], lr=1), 7))
    assert [job.name for job in found] == [
        "06_tiny/preset=smoke@lr=1.0@n=1@names=gcn",
        "06_tiny/preset=smoke@lr=1.0@n=1@names=gcn+stem",
        "06_tiny/preset=smoke@lr=1.0@n=2@names=gcn",
        "06_tiny/preset=smoke@lr=1.0@n=2@names=gcn+stem",
        "06_tiny/preset=smoke@n=7",
    ]
    assert found[1].parameters == {"preset": "smoke", "n": 1, "names": "gcn stem", "lr": 1.0}
    assert found[1].folder == root / "runs" / "06_tiny" / "preset=smoke@lr=1.0@n=1@names=gcn+stem"
    assert found[1].notebook == root / "notebooks" / "06_tiny.ipynb"


@pytest.mark.parametrize(
    ("entries", "top", "messages"),
    [
        ([1], {"workers": 2}, ["must be a mapping with the keys preset (str), jobs (list); got {'jobs'"]),
        ([1], {"jobs": {}}, ["the keys preset (str), jobs (list)"]),
        ([], {}, ["there are no jobs"]),
        ([1], {"preset": "huge"}, ["no preset 'huge'; there are smoke, laptop, paper"]),
        ([{**entry(n=1), "seeds": 3}], {}, ["entry 1: it must be a mapping with the keys notebook (str), parameters"]),
        ([entry("07_nowhere")], {}, ["entry 1: no notebook 07_nowhere; there are 06_tiny"]),
        ([1, entry(m=1)], {}, ["entry 2: 06_tiny has no parameter m; its parameters: preset, n, lr, names, deep"]),
        ([entry(n=[1, 2.0])], {}, ["n must be of type int, or a list of these; got [1, 2.0]"]),
        ([entry(n=True)], {}, ["n must be of type int, or a list of these; got True"]),
        ([entry(lr="fast")], {}, ["lr must be of type float, or a list of these; got 'fast'"]),
        ([entry(names=[False])], {}, ["names must be of type str, or a list of these; got [False]"]),
        ([entry(deep="perhaps")], {}, ["deep must be of type bool, or a list of these; got 'perhaps'"]),
        ([entry(n=[[1, 2]])], {}, ["n must be of type int"]),
        ([entry(n=[])], {}, ["n must be of type int, or a list of these; got []"]),
        ([entry(preset="laptop")], {}, ["preset is given once, for all jobs, not here"]),
        ([1, entry(n=[2, 1])], {}, ["06_tiny/preset=smoke@n=1 occurs 2 times"]),
        ([entry(m=1, n="x"), entry("07_no"), 1, 1], {}, ["parameter m", "got 'x'", "07_no", "n=1 occurs 2 times"]),
    ],
)
def test_everything_that_is_wrong_is_named(
    root: Path, entries: list[object], top: dict[str, object], messages: list[str]
) -> None:
    with pytest.raises(BatchError) as refusal:
        read_grid(write_grid(root, *entries, **top))
    for message in messages:
        assert message in str(refusal.value)


@pytest.mark.parametrize("text", [None, "jobs: [", "- 1"])
def test_what_is_no_grid_file_is_refused_by_its_path(root: Path, text: str | None) -> None:
    file = root / "grid.yaml"
    if text:
        file.write_text(text)
    with pytest.raises(BatchError, match=r"grid\.yaml"):
        read_grid(file)


@given(st.lists(st.text(max_size=200), min_size=2, max_size=2, unique=True))
@settings(deadline=None)
def test_different_texts_have_different_folders_that_file_systems_and_slurm_take(texts: list[str]) -> None:
    one, other = (jobs._folder("06_tiny", {"preset": "smoke", "names": text}, False).name for text in texts)
    assert one != other
    for name in (one, other):
        assert len(os.fsencode(name)) < 255
        assert not set(name) & set("/\0\n :\\,%&'\"$*")


@pytest.mark.parametrize("of_study", [True, False])
def test_a_folder_does_not_depend_on_the_order_of_the_parameters(of_study: bool) -> None:
    parameters = {"preset": "smoke", "n": 1, "names": "a"}
    turned = dict(reversed(parameters.items()))
    assert jobs._folder("06", parameters, of_study) == jobs._folder("06", turned, of_study)


def test_the_study_is_every_chapter_in_reading_order_with_texts_read_as_the_parameters_types(root: Path) -> None:
    write_notebook(root / "notebooks" / "05_first.ipynb")
    assert [job.name for job in study_jobs("laptop", [], {})] == ["study/laptop/05_first", "study/laptop/06_tiny"]
    texts = {"n": "5", "lr": "1e-3", "names": "1", "deep": "true"}
    (job,) = study_jobs("smoke", ["notebooks/06_tiny.ipynb"], texts)
    assert job.parameters == {"preset": "smoke", "n": 5, "lr": 0.001, "names": "1", "deep": True}
    assert job.name == "study/smoke/06_tiny@deep=True@lr=0.001@n=5@names=1"
    assert job.notebook == root / "notebooks" / "06_tiny.ipynb"


def test_a_fingerprint_sees_code_and_parameters_but_no_prose_and_no_outputs(root: Path) -> None:
    (job,) = study_jobs("smoke", [], {})
    before = job.fingerprint
    assert study_jobs("laptop", [], {})[0].fingerprint != before
    content = nbformat.read(job.notebook, as_version=4)
    content.cells[0].outputs = [nbformat.v4.new_output("stream", text="2")]
    content.cells.append(nbformat.v4.new_markdown_cell("prose"))
    nbformat.write(content, job.notebook)
    assert job.fingerprint == before
    content.cells[0].source += "\nx = 1"
    nbformat.write(content, job.notebook)
    assert job.fingerprint != before


def test_a_new_library_makes_the_study_old_but_no_grid(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (of_study,), (of_grid,) = study_jobs("smoke", [], {}), read_grid(write_grid(root, 3))
    for job in (of_study, of_grid):
        assert job.done() is None
        finish(job, "present")
        assert job.done()["library"] == "present"
        assert read_job(job.folder).done() == job.done()
    monkeypatch.setattr(jobs, "library_fingerprint", lambda: "another")
    assert of_study.done() is None
    assert of_grid.done()["library"] == "present"


def test_the_library_s_fingerprint_sees_library_and_study(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    packages = []
    for name in ("stemlib", "study"):
        module = tmp_path / name / "room" / "module.py"
        module.parent.mkdir(parents=True)
        module.write_text("x = 1")
        monkeypatch.setattr(getattr(jobs, name), "__file__", str(tmp_path / name / "__init__.py"))
        packages.append(module)
    fingerprint = jobs.library_fingerprint.__wrapped__
    seen = {fingerprint()}
    for module in packages:
        module.write_text("x = 2")
        seen.add(fingerprint())
    assert len(seen) == 3


def test_rows_come_back_with_their_parameters_and_those_of_other_code_do_not(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no finished jobs of 06_tiny"):
        collect("06_tiny")
    one, two = read_grid(write_grid(root, 1, entry(n=2, names="all")))
    finish(one, "present")
    finish(two, "older")
    (two.folder / "metrics.json").write_text(json.dumps([{"names": "gcn", "square": 4}, {"names": "stem"}]))
    table = collect("06_tiny")
    assert table.run.tolist() == ["preset=smoke@n=1", *["preset=smoke@n=2@names=all"] * 2]
    assert table.n.tolist() == [1, 2, 2]
    assert table.square.fillna(-1).tolist() == [1, 4, -1]
    assert table.names.tolist()[1:] == ["gcn", "stem"], "a row's own column goes before a parameter of its name"
    write_notebook(one.notebook, "x = 1")
    with pytest.warns(UserWarning, match="2 jobs of 06_tiny"), pytest.raises(FileNotFoundError):
        collect("06_tiny")


def test_nothing_is_kept_outside_of_a_grid_and_no_table_without_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STEMLIB_RUN", raising=False)
    records.save_run(pd.DataFrame({"score": [1.0]}))
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="no metrics"):
        records.save_run(pd.DataFrame({"score": []}))


def test_figures_and_findings_of_a_job_stay_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMLIB_RUN", str(tmp_path))
    monkeypatch.setattr(records, "ROOT", tmp_path)
    figure, _ = figures.panels()
    path = figures.save(figure, "06_tiny")
    records.save_finding("06_tiny", "less is more", [path])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["06_tiny.png", "finding.json"]


@pytest.mark.parametrize("file", sorted((paths.ROOT / "study" / "grids").glob("*.yaml")), ids=lambda file: file.name)
def test_the_study_s_own_grid_files_are_right(file: Path) -> None:
    found = read_grid(file)
    expected = {"large": "laptop", "five": "laptop"}.get(file.stem, file.stem)
    assert {job.parameters["preset"] for job in found} == {expected}
    assert all("save_run" in job.notebook.read_text() for job in found)


def test_the_process_of_a_job_imports_neither_pytorch_nor_what_a_notebook_computes_with() -> None:
    asked = "import sys, study.batch.jobs; print(sorted({'torch', 'torch_geometric', 'seaborn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout == "[]\n"
