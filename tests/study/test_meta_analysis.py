"""Means over data sets against closed forms, whole matrices, and what must not matter."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import few
from scipy.linalg import fractional_matrix_power
from scipy.optimize import brentq
from scipy.stats import t as student
from scipy.stats import ttest_1samp

from stemlib.data.public import DATA_SETS
from study.meta_analysis import (
    OverDataSets,
    by_domain,
    domain,
    family,
    of_comparisons,
    of_runs,
    over_data_sets,
    robust_mean,
)
from study.protocols import split_overlap
from study.statistics import interval, paired_test

ALONE = [f"t{place}" for place in range(12)]
points = st.floats(-20, 20).map(lambda value: round(value, 2))
errors_of = st.floats(0.05, 5).map(lambda value: round(value, 2))


def means(differences: list[float], errors: list[float], tasks: list[str] = ALONE) -> OverDataSets:
    tasks = tasks[: len(differences)]
    return over_data_sets(pd.Series(differences, tasks), pd.Series(errors, tasks))


def test_with_equal_errors_the_random_effects_mean_is_the_flat_one_with_student_s_t() -> None:
    """tau^2 is the variance that errors do not explain, I^2 its share, where data sets stand alone."""
    values = [0.5, 2.0, -1.0, 3.0, 1.5, 6.0]
    found = means(values, [0.5] * 6)
    variance = np.var(values, ddof=1)
    assert (found.low, found.high) == pytest.approx(interval(values))
    assert (found.flat_low, found.flat_high) == pytest.approx(interval(values))
    assert found.p == pytest.approx(ttest_1samp(values, 0).pvalue)
    assert (found.difference, found.flat, found.median) == pytest.approx((2.0, 2.0, 1.75))
    assert (found.df, found.sets, found.families) == pytest.approx((5, 6, 6))
    assert found.tau == pytest.approx((variance - 0.25) ** 0.5, abs=1e-4)
    assert found.i2 == pytest.approx(1 - 0.25 / variance)
    reach = student.ppf(0.975, 4) * (found.tau**2 + variance / 6) ** 0.5
    assert (found.predicted_low, found.predicted_high) == pytest.approx((2 - reach, 2 + reach))


def test_where_errors_explain_all_data_sets_weigh_by_them_alone() -> None:
    errors = np.array([0.5, 1.0, 2.0, 1.0, 4.0])
    values = np.array([1.0, 1.1, 0.9, 1.0, 2.0])
    found = means(values.tolist(), errors.tolist())
    assert (found.tau, found.i2) == (0.0, 0.0)
    assert found.difference == pytest.approx((values / errors**2).sum() / (1 / errors**2).sum())
    assert found.difference != pytest.approx(found.flat, abs=0.1)


@few
@given(st.lists(st.tuples(points, errors_of), min_size=5, max_size=12))
def test_tau_makes_the_weighted_squares_as_large_as_expected(pairs: list[tuple[float, float]]) -> None:
    """Paule and Mandel's equation, solved by bisection."""
    values, errors = (np.array(column) for column in zip(*pairs, strict=True))

    def excess(tau2: float) -> float:
        weights = 1 / (errors**2 + tau2)
        return (weights * (values - (weights * values).sum() / weights.sum()) ** 2).sum() - (len(values) - 1)

    found = means(values.tolist(), errors.tolist())
    expected = brentq(excess, 0, 1e4, xtol=1e-10) ** 0.5 if excess(0) > 0 else 0.0
    assert found.tau == pytest.approx(expected, abs=2e-3)
    assert min(values) - 1e-9 <= found.difference <= max(values) + 1e-9


@few
@given(st.lists(st.tuples(points, errors_of, st.sampled_from("abcd")), min_size=4, max_size=9))
def test_the_error_and_its_degrees_of_freedom_are_those_of_whole_matrices(rows: list[tuple[float, float, str]]) -> None:
    """CR2 with the working covariance `W^-1`, and Satterthwaite's `2 E^2 / Var` of the variance as a quadratic form."""
    values, spread, names = (np.array(column) for column in zip(*rows, strict=True))
    weights = 1 / spread**2
    mean, error, df = robust_mean(values, weights, names)
    assert mean == pytest.approx(np.average(values, weights=weights))
    if len(set(names)) == 1:
        assert np.isnan(error)
        assert np.isnan(df)
        return
    ones, total = np.ones(len(rows)), weights.sum()
    residual = np.eye(len(rows)) - np.outer(ones, weights) / total
    working = np.diag(1 / weights)
    form = np.zeros((len(rows), len(rows)))
    for name in set(names):
        part = residual[names == name]
        root = np.diag(weights[names == name] ** -0.5)
        inner = np.linalg.inv(root) @ (part @ working @ part.T) @ np.linalg.inv(root)
        adjusted = root @ fractional_matrix_power(inner, -0.5).real @ np.linalg.inv(root)
        row = weights[names == name] @ adjusted @ part / total
        form += np.outer(row, row)
    assert error**2 == pytest.approx(values @ form @ values, rel=1e-4, abs=1e-9)
    expected = np.trace(form @ working) ** 2 / np.trace(form @ working @ form @ working)
    assert df == pytest.approx(expected, rel=1e-4)


def test_related_data_sets_count_for_less() -> None:
    """Eight molecule sets that agree say less than eight that have nothing to do with each other."""
    tasks = [
        "hiv",
        "bace",
        "bbbp",
        "tox21",
        "toxcast",
        "sider",
        "clintox",
        "muv",
        "cora",
        "chameleon",
        "actor",
        "texas",
    ]
    values = [3.0, 3.1, 2.9, 3.2, 2.8, 3.0, 3.1, 2.9, 0.0, 0.5, -0.5, 0.2]
    related, alone = means(values, [0.5] * 12, tasks), means(values, [0.5] * 12)
    assert (related.difference, related.sets, related.families) == (pytest.approx(alone.difference), 12, 5)
    assert related.df < 3 < alone.df
    assert related.high - related.low > 2 * (alone.high - alone.low)
    assert related.median_high - related.median_low >= alone.median_high - alone.median_low


@few
@given(st.lists(st.tuples(points, errors_of), min_size=5, max_size=12), st.randoms(use_true_random=False))
def test_neither_order_nor_sign_matters(pairs: list[tuple[float, float]], random: np.random.Generator) -> None:
    tasks = [*DATA_SETS][: len(pairs)]
    found = means(*map(list, zip(*pairs, strict=True)), tasks=tasks)
    shuffled = random.sample(range(len(pairs)), len(pairs))
    again = means(*map(list, zip(*(pairs[k] for k in shuffled), strict=True)), tasks=[tasks[k] for k in shuffled])
    assert tuple(again) == pytest.approx(tuple(found), rel=1e-6, abs=1e-6, nan_ok=True)
    opposite = means([-value for value, _ in pairs], [error for _, error in pairs], tasks=tasks)
    assert opposite.difference == pytest.approx(-found.difference, abs=1e-9)
    assert (opposite.low, opposite.flat_low) == pytest.approx((-found.high, -found.flat_high), abs=1e-6, nan_ok=True)


def test_an_error_of_zero_is_taken_for_the_smallest_other_one() -> None:
    values = [1.0, 2.0, 0.0, 3.0, 1.0, 4.0]
    assert means(values, [0.0, 0.5, 1.0, 0.5, 2.0, 0.0]) == means(values, [0.5, 0.5, 1.0, 0.5, 2.0, 0.5])
    exact = means(values, [0.0] * 6)
    assert (exact.low, exact.high) == pytest.approx(interval(values))
    assert exact.tau == pytest.approx(np.std(values, ddof=1))


def test_what_is_not_known_is_left_out_and_few_data_sets_have_no_interval() -> None:
    unknown = float("nan")
    found = means([1.0, 2.0, 3.0, unknown, 9.0], [1.0, 1.0, 1.0, 1.0, unknown])
    assert (found.difference, found.flat, found.median, found.sets) == (2.0, 2.0, 2.0, 3)
    assert all(np.isnan([found.low, found.high, found.p, found.flat_low, found.median_low, found.predicted_low]))
    nothing = means([unknown], [1.0])
    assert nothing.sets == 0
    assert np.isnan(nothing.difference)
    one = means([1.5], [0.5])
    assert (one.difference, one.flat, one.median, one.sets) == (1.5, 1.5, 1.5, 1)
    assert np.isnan(one.tau)


def test_no_mean_counts_a_graph_that_is_not_what_its_name_says() -> None:
    tasks = ["cora", "cornell-as-published", "wn18rr", "wn18rr-filtered", "hiv"]
    found = means([1.0, 100.0, 100.0, 2.0, 3.0], [1.0] * 5, tasks)
    assert (found.flat, found.sets) == (2.0, 3)


def test_related_data_sets_are_of_one_kind_of_graph() -> None:
    for name, entry in DATA_SETS.items():
        assert {domain(other) for other in DATA_SETS if family(other) == family(name)} == {entry.domain}
    assert family("cora") == family("cora-ml") == family("ogbn-arxiv-predictions") != family("dblp-filtered-out")
    assert family("wn18rr-filtered") == family("fb15k237")
    assert family("minesweeper") != family("tolokers")
    assert family("actor") != family("squirrel") == family("chameleon")
    assert len({family(name) for name in DATA_SETS if DATA_SETS[name].kind == "graph"}) == 1
    assert (family("built-in"), domain("built-in")) == ("built-in", "drawn")


def test_kinds_of_graph_have_means_of_their_own() -> None:
    tasks = ["cora", "citeseer", "pubmed", "dblp", "cora-ml", "cornell-as-published", "texas", "hiv", "built-in"]
    found = pd.DataFrame({"difference": [1.0, 2, 3, 4, 5, 99, 7, 8, 9], "error": 1.0}, tasks)
    table = by_domain(found)
    assert table.index.tolist() == ["citation", "drawn", "molecules", "web", "all"]
    assert table.sets.tolist() == [5, 1, 1, 1, 8]
    assert (table.low["citation"], table.high["citation"]) == pytest.approx(interval([1.0, 2, 3, 4, 5]))
    assert table.loc["web", "flat"] == 7.0
    assert tuple(table.loc["all"]) == pytest.approx(tuple(over_data_sets(found.difference, found.error)))


def test_runs_of_a_data_set_are_averaged_by_seed_and_know_their_overlap() -> None:
    rows = [(task, covariate, seed, seed + shift) for task in ("cora", "hiv") for seed in (0, 1, 5)
            for covariate, shift in (("degree", 0.0), ("homophily", 1.0))]  # fmt: skip
    runs = pd.DataFrame(rows, columns=["task", "covariate", "seed", "value"]).set_index(["task", "covariate", "seed"])
    found = of_runs(runs.value)
    for task in ("cora", "hiv"):
        one = paired_test(pd.Series([0.5, 1.5, 5.5]), split_overlap(task))
        assert found.loc[task].tolist() == pytest.approx([one.difference, one.error])
    assert of_runs(runs.value, demand="degree shift").error["cora"] == pytest.approx(found.error["hiv"])
    single = of_runs(runs.value[runs.index.get_level_values("seed") == 5])
    assert single.difference["cora"] == 5.5
    assert np.isnan(single.error["cora"])


@few
@given(st.lists(st.tuples(points, points), min_size=3, max_size=8))
def test_the_error_of_several_comparisons_is_never_too_small(pairs: list[tuple[float, float]]) -> None:
    """That of the runs' own means is at most the mean of the errors, with equality where they go together."""
    runs = pd.DataFrame(pairs)
    rows = [{"task": "t", **paired_test(runs[column])._asdict()} for column in runs]
    assert of_comparisons(pd.DataFrame(rows)).error["t"] >= paired_test(runs.mean(axis=1)).error - 1e-9
