"""The page of results: its tables are those of the records, and the front page's intervals stand on it."""

from __future__ import annotations

import re

import pytest

from study import results_page
from study.paths import ROOT

INTERVAL = re.compile(r"[-+]\d+\.\d \[[-+]\d+\.\d, [-+]\d+\.\d\]")


def test_the_tables_are_those_of_the_records() -> None:
    page = results_page.PAGE.read_text()
    assert page == results_page.written(page), "the records have changed: python -m study.results_page"


def test_every_interval_of_the_front_page_stands_on_the_page_of_results() -> None:
    page = results_page.PAGE.read_text()
    assert [one for one in INTERVAL.findall((ROOT / "README.md").read_text()) if one not in page] == []


def test_a_page_without_a_place_for_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for the table 'published'"):
        results_page.written("# Results")
