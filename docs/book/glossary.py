"""The terms of docs/glossary.md, as the book links to them."""

from __future__ import annotations

import re

from study.paths import ROOT


def slug(term: str) -> str:
    """A term as a part of an address."""
    return re.sub(r"\W+", "-", term.lower()).strip("-")


def glossary_rows() -> dict[str, list[str]]:
    """The names in the first cell of each of the glossary's rows, by that cell's text."""
    cells = re.findall(r"^\| ([^|\n]+) \|", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    return {cell.replace("`", ""): re.findall(r"`([^`]+)`", cell) or cell.split(", ") for cell in cells}
