"""The rules by which the book folds code, names figures for those who do not see them, and finds their sharp files."""

from __future__ import annotations

import base64
import io
import sys

import pytest
from assemble import alternative_text, api_pages, landing_page, sharp
from data_set_pages import data_set_pages
from glossary import glossary_rows
from PIL import Image
from plumbing import is_plumbing

from stemlib.data.public import DATA_SETS
from study.paths import FIGURES, NOTEBOOKS


@pytest.mark.parametrize(
    ("source", "drawn", "folded"),
    [
        ("import torch\nfrom study import figures\n\nfigures.use_style()", False, True),
        ("def f(x):\n    return x\n\n\nLIMIT = 3", False, True),
        ("import torch\nx = torch.ones(2)\nx", False, False),
        ("LIMIT = 3", False, False),
        ("def f(x):\n    return x\n\n\nf(2)", False, False),
        ("f(2)", True, True),
        ("%timeit f(2)", True, False),
    ],
)
def test_plumbing_imports_defines_or_draws(source: str, drawn: bool, folded: bool) -> None:
    assert is_plumbing(source, drawn) is folded


def test_a_figure_is_named_by_its_section_and_the_sentence_after_it() -> None:
    before = "# Chapter\n\nText.\n\n## The *floor*\n\nBelow, the floor. More."
    assert alternative_text(before, "Lines are `closed` forms of $x$: they agree. More.") == (
        "The floor. Lines are closed forms of x"
    )
    assert alternative_text(before, "") == "The floor. Below, the floor"
    assert alternative_text(before, "## Next") == "The floor. Below, the floor"


def test_a_small_copy_finds_its_own_sharp_figure() -> None:
    paths = sorted(FIGURES.glob("04_*.png"))
    assert len(paths) > 3
    for path in paths:
        picture, copy = Image.open(path).convert("RGB"), io.BytesIO()
        picture.resize((picture.width // 2, picture.height // 2)).quantize(48).save(copy, "PNG")
        found = sharp(base64.b64encode(copy.getvalue()).decode(), "04")
        assert base64.b64decode(found) == path.read_bytes(), path.name
        other = base64.b64encode(copy.getvalue()).decode()
        assert sharp(other, "00") == other, path.name


def test_the_landing_page_leads_to_every_chapter() -> None:
    page = landing_page()
    assert all(page.count(path.stem) >= 2 for path in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    assert "\n% " not in page


def test_every_module_and_every_data_set_has_a_page() -> None:
    made = "_propagate", ".__main__"  # end the names of modules that PyG writes for a layer, and of commands
    modules = {name for name in sys.modules if name.startswith("stemlib.") and not name.endswith(made)}
    assert modules <= set(api_pages())
    pages = data_set_pages()
    assert all(f'load("{name}")' in pages[f"data_sets/{name}.md"] for name in DATA_SETS)


def test_the_glossary_s_first_cells_are_read() -> None:
    rows = glossary_rows()
    assert rows["margin"] == ["margin"]
    assert len(rows) > 100
