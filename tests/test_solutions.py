"""Exercises: what the check says, that every one is asked and solved, and the solutions run as they are committed."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient

from study import exercises
from study.exercises import EXERCISES, RIGHT, Exercise, check
from study.paths import NOTEBOOKS

SOLUTIONS = sorted((NOTEBOOKS / "solutions").glob("[0-9][0-9]_solutions.ipynb"))


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {"number": 0.5, "numbers": (1.0, 2.0), "truth": True, "word": "coverage"}
    monkeypatch.setattr(
        exercises, "EXERCISES", {name: Exercise(value, "look again", 0.01) for name, value in kinds.items()}
    )


@pytest.mark.usefixtures("samples")
@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("number", [0.5, 0.509, np.float64(0.491), torch.tensor(0.5)], [0.52, float("nan"), None, "0.5", [0.5], True]),
        ("numbers", [(1, 2), [1.0, 2.005], np.array([1, 2]), torch.tensor([1, 2])], [(2, 1), (1, 2, 3), 1, [[1], 2]]),
        ("truth", [True, np.bool_(True)], [False, 1, 1.0, "True", None]),
        ("word", ["coverage", " Coverage"], ["selection", "", 1, True, None]),
    ],
)
def test_an_answer_is_right_within_its_tolerance_and_of_its_kind(kind: str, right: list, wrong: list) -> None:
    assert {check(kind, answer) for answer in right} == {RIGHT}
    assert {check(kind, answer) for answer in wrong} == {"not yet: look again"}
    assert check(kind, ...) == "left blank"


def test_an_exercise_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="there is no exercise"):
        check("99.9", 1)


def asked(notebook: Path) -> set[str]:
    """The numbers that a notebook's cells have checked."""
    cells = nbformat.read(notebook, 4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    return set(re.findall(r"exercises\.check\(\"([\d.]+)\"", code))


def test_every_exercise_is_asked_in_its_chapter_and_solved_in_its_solutions() -> None:
    for pattern, folder in (("[0-9][0-9]_*.ipynb", NOTEBOOKS), ("*_solutions.ipynb", NOTEBOOKS / "solutions")):
        found = {path.name[:2]: numbers for path in folder.glob(pattern) if (numbers := asked(path))}
        assert set().union(*found.values()) == set(EXERCISES)
        assert all(number.startswith(f"{chapter}.") for chapter, numbers in found.items() for number in numbers)


def checked_outputs(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """What the cells print that are to be checked, by their id."""
    cells = [cell for cell in notebook.cells if cell.source.startswith("# NBVAL_CHECK_OUTPUT")]
    return {cell.id: "".join(one.text for one in cell.outputs if one.output_type == "stream") for cell in cells}


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_solutions(path: Path) -> None:
    notebook = nbformat.read(path, 4)
    silent = [cell.id for cell in notebook.cells if "exercises.check" in cell.source and not cell.outputs]
    assert not silent, f"{silent} do not say their answers"
    # An own kernel, with nothing written: a failed assertion raises, and so does a check that says anything but right.
    committed = checked_outputs(notebook)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": path.parent}}).execute()
    assert checked_outputs(notebook) == committed
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    for number in asked(path):
        assert re.search(rf"assert exercises\.check\(\"{number}\", .+\) == \"right\"", code), (
            f"{number} is not asserted"
        )
