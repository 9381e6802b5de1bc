"""What the pages of docs/ name exists, and what docstrings cite of them is there."""

from __future__ import annotations

import json
import pkgutil
import re
from pathlib import Path

import pytest

from study.ablations import ABLATIONS
from study.methods import METHODS
from study.variants import VARIANTS

ROOT = Path(__file__).resolve().parents[1]
THEORY = (ROOT / "docs" / "theory.md").read_text()
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()
NUMBER = r"\d\.\d+"


def rows(page: str, head: str) -> list[list[str]]:
    """The cells of all rows of the tables whose first heading is `head`."""
    found, inside = [], False
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        inside = line.startswith("|") and (inside or cells[0] == head)
        if inside and cells[0] != head and not cells[0].startswith("---"):
            found.append(cells)
    return found


def names(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def resolved(name: str) -> object:
    """What a module or class has of that dotted name, a dataclass's field too; None where there is nothing."""
    owner, _, last = name.rpartition(".")
    try:
        holder = pkgutil.resolve_name(owner)
    except (AttributeError, ImportError):
        return None
    return getattr(holder, "__dataclass_fields__", {}).get(last) or getattr(holder, last, None)


STATEMENTS = rows(THEORY, "statement")
TERMS = rows(GLOSSARY, "term")


def number_of(row: list[str]) -> str:
    return re.match(NUMBER, row[0]).group()


def test_the_table_has_every_statement_once_and_in_order() -> None:
    assert [number_of(row) for row in STATEMENTS] == re.findall(rf"^### ({NUMBER}) ", THEORY, re.MULTILINE)


@pytest.mark.parametrize("row", STATEMENTS, ids=number_of)
def test_a_statement_has_its_function_test_section_and_figure(row: list[str]) -> None:
    _, functions, tests, section, figure = row
    assert names(functions)
    for name in names(functions):
        assert callable(found := resolved(name)) or isinstance(found, property), name
    assert names(tests)
    for name in names(tests):
        file, _, test = name.partition("::")
        assert f"\ndef {test}(" in (ROOT / file).read_text(), name
    notebook, heading = re.search(r"\]\(\.\./(.+)\), \*(.+)\*", section).groups()
    cells = json.loads((ROOT / notebook).read_text())["cells"]
    prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert f"## {heading}" in prose.splitlines(), heading
    assert figure == "none" or names(figure)
    for name in names(figure):
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("row", STATEMENTS, ids=number_of)
def test_a_statement_names_its_functions_and_they_cite_it(row: list[str]) -> None:
    section = THEORY.split(f"### {number_of(row)} ")[1].split("\n##")[0]
    for name in names(row[1]):
        assert re.search(rf"\b{name.rpartition('.')[2]}\b", section), name
        file = ROOT / name.replace(".", "/")
        while not file.with_suffix(".py").is_file():
            file = file.parent
        file = file.with_suffix(".py")
        assert number_of(row) in cited(file), f"{file} does not cite Statement {number_of(row)}"


def cited(file: Path) -> set[str]:
    """The numbers of the statements that a file cites; of `1.1 to 1.6` all six."""
    found: set[str] = set()
    text = re.sub(r"\s+", " ", file.read_text())
    for several in re.findall(rf"[Ss]tatements? ({NUMBER}(?:(?:, | and | to |, and ){NUMBER})*)", text):
        numbers = re.findall(NUMBER, several)
        found |= set(numbers)
        for first, last in re.findall(rf"({NUMBER}) to ({NUMBER})", several):
            part, low, high = first.split(".")[0], int(first.split(".")[1]), int(last.split(".")[1])
            found |= {f"{part}.{number}" for number in range(low, high + 1)}
    return found


def test_what_code_cites_is_stated() -> None:
    files = [file for folder in ("stemlib", "study", "tests") for file in (ROOT / folder).rglob("*.py")]
    known = {number_of(row) for row in STATEMENTS}
    wrong = {str(file.relative_to(ROOT)): sorted(unknown) for file in files if (unknown := cited(file) - known)}
    assert not wrong
    assert sum(len(cited(file)) for file in files) > len(known)  # the pattern finds what there is


def test_terms_are_in_alphabetical_order_and_each_is_there_once() -> None:
    every = [name for row in TERMS for name in names(row[0]) or row[0].split(", ")]
    assert len(set(every)) == len(every)
    for group in re.split(r"^## ", GLOSSARY, flags=re.MULTILINE)[1:]:
        first = [(names(row[0]) or [row[0]])[0].lower() for row in rows(group, "term")]
        assert first == sorted(first), group.splitlines()[0]


def test_a_term_s_name_in_the_code_exists() -> None:
    given = [name for row in TERMS for name in names(row[2])]
    assert len(given) > 100
    assert [name for name in given if not ((ROOT / name).is_file() if "/" in name else resolved(name))] == []


def test_every_method_is_in_the_glossary_under_its_one_name() -> None:
    methods = GLOSSARY.split("## Methods")[1]
    assert {name for row in rows(methods, "term") for name in names(row[0])} == {*METHODS, "pretrained"}


def test_every_variant_is_in_the_glossary() -> None:
    groups = {group: names(listed) for group, listed in rows(GLOSSARY, "group")}
    assert groups == {group: list(variants) for group, variants in (ABLATIONS | {"pretraining": VARIANTS}).items()}
