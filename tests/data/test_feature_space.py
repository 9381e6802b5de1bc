"""A space is fitted on its source alone, makes the same of every row wherever it stands, and refuses other columns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from samples import graph_task, node_task, ring
from torch.nn import functional as F
from torch_geometric.data import Data

from stemlib.data.feature_space import FeatureSpace
from stemlib.data.features import encode_texts, reduced, unit_features
from stemlib.data.own_data import from_data
from stemlib.data.tasks import Task

TEXTS = ["a red apple", "a green apple", "steam engine", "engine of a red ship", "charge 1", "charge 2"]


def frame(rows: int = 8) -> pd.DataFrame:
    number = np.arange(rows)
    return pd.DataFrame({"age": number * 1.5, "paid": number % 2 == 0, "about": [f"word{one} here" for one in number]})


RAW: dict[str, Callable[[], Any]] = {
    "table": lambda: torch.rand(20, 9),
    "array": lambda: np.random.default_rng(0).random((20, 9)),
    "sparse": lambda: scipy.sparse.random(20, 9, 0.4, "csr", random_state=0),
    "sparse tensor": lambda: torch.rand(20, 9).relu().to_sparse(),
    "texts": lambda: TEXTS,
    "frame": frame,
    "frame of numbers": lambda: frame()[["age", "paid"]],
}


def some(raw: Any, rows: list[int]) -> Any:
    if isinstance(raw, torch.Tensor):
        return raw.to_dense()[rows]
    return (
        raw.iloc[rows] if isinstance(raw, pd.DataFrame) else [raw[row] for row in rows] if raw is TEXTS else raw[rows]
    )


@pytest.mark.parametrize("settings", [{}, {"width": 4}, {"width": 12, "unit": True}, {"width": 4, "standardise": True}])
@pytest.mark.parametrize("form", RAW)
def test_a_row_is_encoded_by_itself_and_comes_back_from_disk(form: str, settings: dict, tmp_path: Path) -> None:
    raw = RAW[form]()
    space = FeatureSpace.fit(raw, **settings)
    whole = space.encode(raw)
    assert whole.size(1) == space.width == settings.get("width", space.width)
    torch.testing.assert_close(space.encode(some(raw, [5, 1])), whole[[5, 1]], rtol=0, atol=1e-6)
    space.save(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["features.json", "features.safetensors"]
    assert torch.equal(FeatureSpace.load(tmp_path).encode(raw), whole)


def test_it_is_what_is_fitted_per_call_on_its_own_source() -> None:
    x = torch.rand(30, 12)
    for width in (None, 5, 12, 15):
        assert torch.equal(FeatureSpace.fit(x, width).encode(x), reduced(x, width, "test").x)
    for width in (None, 3, 30):
        found = [FeatureSpace.fit(TEXTS, width).encode(TEXTS), encode_texts(TEXTS, width).x]
        # The largest entry of a direction decides its sign; where two of opposite signs tie, rounding does.
        signs = (found[0] * found[1]).sum(0).sign()
        torch.testing.assert_close(found[0] * torch.where(signs == 0, 1, signs), found[1], rtol=0, atol=1e-5)


def test_numbers_are_standardised_by_the_source() -> None:
    source = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    space = FeatureSpace.fit(source, standardise=True)
    assert space.encode(torch.tensor([[1.0, 5.0], [5.0, 6.0]])).tolist() == [[-1.0, 0.0], [3.0, 1.0]]


def test_unknown_words_count_for_nothing() -> None:
    space = FeatureSpace.fit(TEXTS, 6)
    known, more, none = space.encode(["steam engine", "steam engine zeppelin", "zeppelin"])
    torch.testing.assert_close(known, more)
    assert not none.any()


@pytest.mark.parametrize("form", ["table", "texts", "frame"])
def test_a_poisoned_target_changes_nothing_that_was_fitted(form: str, tmp_path: Path) -> None:
    """Whatever was encoded before, or beside it: the files and the source's coordinates keep their bits."""
    raw = RAW[form]()
    space = FeatureSpace.fit(raw, 4)
    space.save(tmp_path / "before")
    before = space.encode(raw)
    poison = {"table": lambda: 1e6 * torch.rand(50, 9), "texts": lambda: ["apple apple poison"] * 50}
    target = poison[form]() if form in poison else pd.concat([frame(50)] * 2).assign(age=1e6)
    space.encode(target)
    space.save(tmp_path / "after")
    for name in ("features.json", "features.safetensors"):
        assert (tmp_path / "before" / name).read_bytes() == (tmp_path / "after" / name).read_bytes()
    assert torch.equal(space.encode(raw), before)


REFUSED = {
    "width": (lambda: torch.rand(9, 4), lambda: torch.rand(5, 3), "3 columns, but the source has 4"),
    "missing": (frame, lambda: frame().drop(columns="paid"), "missing: 'paid'"),
    "added": (frame, lambda: frame().assign(extra=1), "added: 'extra'"),
    "both": (frame, lambda: frame().rename(columns={"age": "years"}), "missing: 'age'; added: 'years'"),
    "order": (frame, lambda: frame()[["paid", "age", "about"]], "another order: 'paid' is where .* has 'age'"),
    "no names": (lambda: frame()[["age"]], lambda: np.ones((4, 1)), "the source's are 'age'; give a DataFrame"),
    "names": (lambda: np.ones((4, 1)), lambda: frame()[["age"]], "the source's columns have no names"),
    "texts": (lambda: TEXTS, lambda: torch.ones(4, 2), "missing: texts"),
    "nan": (lambda: torch.rand(9, 4), lambda: torch.tensor([[0, 0, 0, 0], [0, 0, torch.nan, 0]]), "node 1, column 2"),
    "inf": (frame, lambda: frame().assign(age=[0, 1, 2, np.inf, 4, 5, 6, 7]), r"node 3, column 0 \('age'\)"),
    "blank": (lambda: TEXTS, lambda: ["apple", " "], "1 nodes have no text, first node 1"),
    "length": (lambda: F.normalize(torch.rand(9, 4)), lambda: torch.ones(2, 4), "2 rows have a length other than 1"),
    "dates": (frame, lambda: frame().assign(age=pd.Timestamp(0)), "neither numbers nor texts: 'age'"),
    "shape": (lambda: torch.rand(9, 4), lambda: torch.rand(4), r"must be a table of numbers \[n, F\]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_by_name(name: str) -> None:
    source, target, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        FeatureSpace.fit(source()).encode(target())


def test_zero_rows_are_no_rows_of_another_length() -> None:
    space = FeatureSpace.fit(F.normalize(torch.rand(9, 4)))
    assert not space.encode(torch.zeros(2, 4)).any()


@pytest.mark.parametrize("width", [2, 9])
@pytest.mark.parametrize("make", [node_task, graph_task])
def test_the_space_of_a_task_makes_its_features_again(make: Callable[[], Task], width: int) -> None:
    """Of nodes and of edges, after `unit_features`, from the raw ones."""
    task = make()
    after = unit_features(task, width)
    space = FeatureSpace.of(after)
    torch.testing.assert_close(space.encode(task.graph.x), after.graph.x, rtol=0, atol=1e-5)
    if task.graph.edge_attr is not None:
        torch.testing.assert_close(space.encode_edges(task.graph.edge_attr), after.graph.edge_attr, rtol=0, atol=1e-5)


def test_a_task_of_raw_features_is_made_with_a_space() -> None:
    graph, other = ring(), ring(9)
    space = FeatureSpace.fit(graph, 2)
    task = from_data(graph, space=space)
    assert torch.equal(task.graph.x, space.encode(graph.x))
    assert torch.equal(task.graph.source.encode(task.graph.source.raw), task.graph.x)
    assert task.labels.tolist() == graph.y.tolist()
    assert torch.equal(from_data(other, space=space, splits={}).graph.x, space.encode(other.x))
    other.x[2, 1] = torch.nan
    with pytest.raises(ValueError, match="`x`: 1 values are NaN or infinite, first at node 2, column 1"):
        from_data(other, space=space)


def named(labels: list[Any], rows: int = 6) -> Data:
    index = torch.arange(rows)
    return Data(x=torch.rand(rows, 2), edge_index=torch.stack([index, (index + 1) % rows]), y=labels)


def test_classes_get_the_numbers_that_the_source_has_for_their_names() -> None:
    source = named(["b", "a", "c"] * 3, 9)
    space = FeatureSpace.fit(source)
    assert space.class_names == ("a", "b", "c")
    task = from_data(named(["c", "a", None, "c", "a", "c"]), space=space, splits={})
    assert task.labels.tolist() == [2, 0, -1, 2, 0, 2]
    assert task.class_names == ("a", "b", "c")
    numbers = FeatureSpace.fit(named(torch.tensor([10, 20, 10, 20, 30, 30])))
    found = from_data(named(torch.tensor([30.0, torch.nan, -1, 10, 30, 30])), space=numbers, splits={})
    assert found.labels.tolist() == [2, -1, -1, 0, 2, 2]


def test_classes_that_the_source_does_not_have_are_named() -> None:
    space = FeatureSpace.fit(named(["b", "a", "c"] * 3, 9))
    with pytest.raises(ValueError, match=r"classes that the source lacks: 'd' \(2 instances, first 1\); mark them -1"):
        from_data(named(["a", "d", "a", "d", "b", "c"]), space=space, splits={})


@pytest.mark.parametrize("labels", [None, [-1] * 6, torch.full((6,), torch.nan)])
def test_a_graph_without_labels_is_a_task_without_splits(labels: Any) -> None:
    space = FeatureSpace.fit(named(["b", "a", "c"] * 3, 9))
    graph = named([])
    graph.y = labels
    task = from_data(graph, space=space)
    assert task.labels.tolist() == [-1] * 6
    assert not task.splits


def test_unknown_numbers_are_nan() -> None:
    graph = named([])
    graph.y = None
    task = from_data(graph, space=FeatureSpace.fit(torch.rand(9, 2)), regression=True)
    assert task.labels.isnan().all()
    assert task.metric == "r2"


def test_features_made_otherwise_are_refused_though_they_have_the_same_width() -> None:
    first, second = (unit_features(node_task(seed=seed), 2) for seed in (0, 1))
    space = FeatureSpace.of(first)
    space.require(first)
    for other in (second, node_task(noise_features=0)):
        with pytest.raises(ValueError, match="were not made in the source's space"):
            space.require(other)


def test_a_width_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="width must be at least 1"):
        FeatureSpace.fit(torch.rand(3, 2), 0)


@pytest.mark.parametrize("name", ["features.json", "features.safetensors"])
def test_files_that_are_missing_or_altered_are_refused(tmp_path: Path, name: str) -> None:
    FeatureSpace.fit(torch.rand(9, 4), 2).save(tmp_path)
    file = tmp_path / name
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(ValueError, match=r"damaged or another|not valid JSON"):
        FeatureSpace.load(tmp_path)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=f"no features in .*: {name} is missing"):
        FeatureSpace.load(tmp_path)
