"""Chapter 06's comparisons, on runs made by hand and on the kept ones."""

from __future__ import annotations

import pandas as pd
import pytest

from study.clean import against_each, every_data_set, in_words, reliable, without_twice


def runs(**scores: list[float]) -> pd.DataFrame:
    rows = [
        {"method": name, "split": "public", "seed": seed, "test": score, "val": score}
        for name, each in scores.items()
        for seed, score in enumerate(each)
    ]
    return pd.DataFrame(rows)


def test_one_method_against_every_other() -> None:
    found = against_each(runs(stem=[80, 81, 82], mlp=[50.0, 51.1, 52.0], gcn=[81, 79, 83], sage=[90, 91.1, 92]), "stem")
    assert found.difference.round(1).to_dict() == {"mlp": 30.0, "gcn": 0.0, "sage": -10.0}
    assert reliable(found) == {"ahead": ["mlp"], "behind": ["sage"], "undecided": ["gcn"]}
    told = "`stem` is reliably ahead of `mlp` and reliably behind `sage`. Not distinguishable from it: `gcn`."
    assert in_words(found, "stem") == told


def test_words_of_several_and_of_none() -> None:
    found = against_each(runs(stem=[80, 81, 82], a=[50.0, 51.1, 52.0], b=[40, 41.1, 42], c=[30, 31.1, 32]), "stem")
    told = "`stem` is reliably ahead of `a`, `b` and `c` and reliably behind none. Not distinguishable from it: none."
    assert in_words(found, "stem") == told


def test_a_method_alone_is_compared_with_nothing() -> None:
    assert against_each(runs(stem=[80, 81]), "stem").empty


def test_kept_records_are_counted_once() -> None:
    found = every_data_set()
    assert not found.index.str.contains("-all").any()
    assert found.runs.min() >= 2
    counted = without_twice(found)
    assert "cornell-as-published fixed" in found.index.difference(counted.index)
    assert sum(map(len, reliable(counted).values())) == len(counted)
    assert reliable(counted)["ahead"] == list(counted.index[(counted.p < 0.05) & (counted.difference > 0)])


@pytest.mark.parametrize("group", ["ahead", "behind"])
def test_reliable_means_significant(group: str) -> None:
    found = every_data_set()
    assert (found.loc[reliable(found)[group]].p < 0.05).all()
