"""Leads by kind of graph, and how alike they are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from study.lead_tables import in_words, lead_correlations, leads, leads_by_domain

TASKS = ("cora", "citeseer", "pubmed", "dblp", "cora-ml", "texas", "hiv", "cornell-as-published")


def demands() -> pd.DataFrame:
    """Ours leads by a point more on every next data set; masked by twice as much, under shift by what is left of 9."""
    rows = [
        {"task": task, "covariate": "degree", "seed": seed, "method": method, "demand": demand}
        | {"score": 50.0 + seed + (method == "stem") * lead}
        for place, task in enumerate(TASKS)
        for demand, lead in {"clean": place, "masked": 2 * place, "degree shift": 9 - place}.items()
        for method in ("stem", "gcn")
        for seed in range(3)
    ]
    return pd.DataFrame(rows)


def test_leads_are_run_by_run_on_the_data_sets_that_count() -> None:
    found = leads(demands(), "gcn")
    assert list(found) == ["clean", "degree shift", "masked features"]
    assert set(found.index.get_level_values("task")) == set(TASKS[:-1])
    assert found.loc["dblp"].to_numpy().tolist() == [[3.0, 6.0, 6.0]] * 3


def test_leads_that_rise_together_correlate() -> None:
    found = lead_correlations(demands(), "gcn")
    expected = [[1, -1, 1], [-1, 1, -1], [1, -1, 1]]
    assert found.to_numpy() == pytest.approx(np.array(expected))
    assert found.index.tolist() == list(found)


def test_a_reader_finds_the_row_of_a_kind_of_graph() -> None:
    table = leads_by_domain(demands(), "gcn")
    assert table.index.tolist() == ["molecules", "web", "citation", "all"]
    assert table["data sets"].tolist() == [1, 1, 5, 7]
    clean = table["clean"]
    assert clean["web"] == "+5.0, flat +5.0"
    assert clean["citation"] == "+2.0 [+0.0, +4.0], flat +2.0"


def test_a_verdict_is_told_with_its_side_and_its_numbers() -> None:
    verdicts = {"a": ("level", 0.3), "b": ("undecided", 2.0), "c": ("differs", 2.0), "d": ("differs", -2.0)}
    columns = ["verdict", "difference", "low", "high", "median"]
    rows = [(verdict, points, points - 1, points + 1, 0.5) for verdict, points in verdicts.values()]
    told = pd.DataFrame(rows, list(verdicts), columns)
    said = in_words(told.assign(p=0.01), "it").split("\n")
    assert said == [
        "- A: level with it (+0.3 [-0.7, +1.3] points; median +0.5).",
        "- B: not distinguishable from it (+2.0 [+1.0, +3.0] points; median +0.5).",
        "- C: reliably ahead of it (+2.0 [+1.0, +3.0] points; median +0.5).",
        "- D: reliably behind it (-2.0 [-3.0, -1.0] points; median +0.5).",
    ]
    assert in_words(told.assign(p=0.06), "it").split("\n")[2:] == [
        "- C: by its own interval, but not after correction, ahead of it (+2.0 [+1.0, +3.0] points; median +0.5).",
        "- D: by its own interval, but not after correction, behind it (-2.0 [-3.0, -1.0] points; median +0.5).",
    ]
