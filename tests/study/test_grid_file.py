"""Grid files: what they make, what they refuse, how they are parted."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from grid_samples import write_grid, write_notebook
from hypothesis import given
from hypothesis import strategies as st

from study import paths
from study.batch.grid_file import GridError, read_grid, run_folder, run_name, shard, write_code
from study.batch.notebook_run import Job

TINY = Path("06_tiny.ipynb")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one notebook, in the place of the real one."""
    write_notebook(tmp_path / "notebooks" / "06_tiny.ipynb")
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    return tmp_path


def entry(notebook: str = "06_tiny", **parameters: object) -> dict[str, object]:
    return {"notebook": notebook, "parameters": parameters}


def test_lists_are_multiplied_out_into_runs_with_readable_folders(root: Path) -> None:
    jobs = read_grid(write_grid(root, entry(n=[1, 2], names=["gcn", "gcn stem"], lr=1), 7))
    assert [run_name(job) for job in jobs] == [
        "06_tiny/preset=smoke@lr=1.0@n=1@names=gcn",
        "06_tiny/preset=smoke@lr=1.0@n=1@names=gcn+stem",
        "06_tiny/preset=smoke@lr=1.0@n=2@names=gcn",
        "06_tiny/preset=smoke@lr=1.0@n=2@names=gcn+stem",
        "06_tiny/preset=smoke@n=7",
    ]
    assert jobs[1].parameters == {"preset": "smoke", "n": 1, "names": "gcn stem", "lr": 1.0}
    assert jobs[1].folder == root / "runs" / "06_tiny" / "preset=smoke@lr=1.0@n=1@names=gcn+stem"


@pytest.mark.parametrize(
    ("entries", "top", "messages"),
    [
        ([1], {"workers": 2}, ["the grid has no key workers; its keys: preset, runs"]),
        ([1], {"runs": {}}, ["runs must be a list"]),
        ([], {}, ["runs is empty"]),
        ([1], {"preset": "huge"}, ["no preset 'huge'; there are smoke, laptop, paper"]),
        ([{**entry(n=1), "seeds": 3}], {}, ["entry 1 has no key seeds; its keys: notebook, parameters"]),
        ([entry("07_nowhere")], {}, ["entry 1: no notebook 07_nowhere; there are 06_tiny"]),
        ([1, entry(m=1)], {}, ["entry 2: 06_tiny has no parameter m; its parameters: preset, n, lr, names"]),
        ([entry(n=[1, 2.5])], {}, ["n is of type int, got 2.5 (float)"]),
        ([entry(n=True)], {}, ["n is of type int, got True (bool)"]),
        ([entry(lr="1e-3")], {}, ["lr is of type float, got '1e-3' (str); YAML wants 1.0e-3 for 1e-3"]),
        ([entry(names=[False])], {}, ["names is of type str, got False (bool); quote text"]),
        ([entry(n=[[1, 2]])], {}, ["n is of type int, got [1, 2] (list)"]),
        ([entry(n=[])], {}, ["n is an empty list"]),
        ([entry(preset="laptop")], {}, ["preset is not given here but at the top"]),
        ([1, entry(n=[2, 1])], {}, ["06_tiny/preset=smoke@n=1 occurs 2 times"]),
        ([entry(m=1, n="x"), entry("07_no"), 1, 1], {}, ["parameter m", "got 'x'", "07_no", "n=1 occurs 2 times"]),
    ],
)
def test_everything_that_is_wrong_is_named(
    root: Path, entries: list[object], top: dict[str, object], messages: list[str]
) -> None:
    with pytest.raises(GridError) as refusal:
        read_grid(write_grid(root, *entries, **top))
    for message in messages:
        assert message in str(refusal.value)


@pytest.mark.parametrize("text", [None, "runs: [", "- 1"])
def test_what_is_no_grid_file_is_refused_by_its_path(root: Path, text: str | None) -> None:
    file = root / "grid.yaml"
    if text:
        file.write_text(text)
    with pytest.raises(GridError, match=r"grid\.yaml"):
        read_grid(file)


@given(st.lists(st.text(max_size=200), min_size=2, max_size=2, unique=True))
def test_different_texts_have_different_folders_that_file_systems_take(texts: list[str]) -> None:
    one, other = (run_folder(TINY, {"preset": "smoke", "names": text}).name for text in texts)
    assert one != other
    for name in (one, other):
        assert len(os.fsencode(name)) < 255
        assert not set(name) & set("/\0\n :\\")


def test_a_folder_does_not_depend_on_the_order_of_the_parameters() -> None:
    parameters = {"preset": "smoke", "n": 1, "names": "a"}
    assert run_folder(TINY, parameters) == run_folder(TINY, dict(reversed(parameters.items())))


def numbered(count: int) -> list[Job]:
    return [Job(TINY, {"n": n}, run_folder(TINY, {"n": n})) for n in range(count)]


@given(runs=st.integers(0, 30), parts=st.integers(1, 12))
def test_shards_are_disjoint_complete_balanced_and_the_same_for_any_order(runs: int, parts: int) -> None:
    jobs = numbered(runs)
    shards = [shard(jobs, number, parts) for number in range(1, parts + 1)]
    dealt = [job.parameters["n"] for part in shards for job in part]
    assert sorted(dealt) == list(range(runs))
    sizes = [len(part) for part in shards]
    assert max(sizes) - min(sizes) <= 1
    turned = shard(jobs[::-1], 1, parts)
    assert turned[::-1] == shards[0]


@pytest.mark.parametrize(("number", "count"), [(0, 2), (3, 2), (1, 0)])
def test_a_shard_that_does_not_exist_is_refused(number: int, count: int) -> None:
    with pytest.raises(GridError, match=f"no shard {number} of {count}"):
        shard(numbered(3), number, count)


@pytest.fixture
def notebook(root: Path) -> Path:
    return root / "notebooks" / "06_tiny.ipynb"


def test_the_copy_of_the_code_changes_with_code_alone(notebook: Path) -> None:
    copy = write_code(notebook)
    os.utime(copy, (1, 1))
    content = nbformat.read(notebook, as_version=4)
    content.cells[0].outputs = [nbformat.v4.new_output("stream", text="2")]
    content.cells.append(nbformat.v4.new_markdown_cell("prose"))
    nbformat.write(content, notebook)
    assert write_code(notebook).stat().st_mtime == 1

    content.cells[0].source += "\nx = 1"
    nbformat.write(content, notebook)
    assert write_code(notebook).stat().st_mtime > 1
    assert "x = 1" in copy.read_text()


GRIDS = sorted((paths.ROOT / "grids").glob("*.yaml"))


@pytest.mark.parametrize("file", GRIDS, ids=lambda file: file.name)
def test_the_study_s_own_grid_files_are_right(file: Path) -> None:
    jobs = read_grid(file)
    assert {job.parameters["preset"] for job in jobs} == {file.stem}
    assert all("save_run" in job.notebook.read_text() for job in jobs)
