"""Means with their uncertainty: by hand, and against what the definitions say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import few
from scipy.stats import ttest_rel

from study.power import detectable
from study.statistics import (
    against_strongest,
    corrected_together,
    holm,
    in_points,
    interval,
    paired_difference,
    summary,
)

p_values = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def runs(**scores: list[float]) -> pd.DataFrame:
    """One row per method and seed."""
    return pd.concat(
        pd.DataFrame({"method": name, "seed": range(len(values)), "score": values}) for name, values in scores.items()
    )


def test_an_interval_holds_the_mean_and_shrinks_with_more_values() -> None:
    values = np.random.default_rng(0).normal(50, 4, size=40).tolist()
    low, high = interval(values)
    reach = 2.022691 * np.std(values, ddof=1) / np.sqrt(40)  # Student's t with 39 degrees of freedom
    assert (low, high) == pytest.approx((np.mean(values) - reach, np.mean(values) + reach))
    assert interval(values, 0.5)[0] == pytest.approx(np.mean(values) - reach * 0.680833 / 2.022691, rel=1e-6)
    wide = interval(values[:5])
    assert wide[1] - wide[0] > high - low
    assert interval(values) == (low, high)
    assert interval([3.0, 3.0, 3.0]) == (3.0, 3.0)
    with pytest.raises(ValueError, match="needs at least 2 values, got 1: run more seeds"):
        interval([1.0])


def test_a_summary_has_the_deviation_of_a_sample() -> None:
    table = summary(runs(a=[1.0, 3.0], b=[5.0, 5.0]), "method", "score")
    assert table.loc["a", ["mean", "seeds"]].tolist() == [2.0, 2]
    assert table.loc["a", "std"] == pytest.approx(np.sqrt(2))
    assert table.text.tolist() == ["2.0 ± 1.4", "5.0 ± 0.0"]


def test_differences_are_paired_by_seed_in_whatever_order_rows_come() -> None:
    frame = runs(a=[10.0, 50.0, 90.0], b=[9.0, 48.0, 87.0])
    shuffled = frame.sample(frac=1, random_state=1)
    found = paired_difference(shuffled, "score", "a", "b")
    reference = ttest_rel([10.0, 50.0, 90.0], [9.0, 48.0, 87.0])
    assert (found.difference, found.p) == pytest.approx((2.0, reference.pvalue))
    assert found[1:3] == pytest.approx(reference.confidence_interval())  # the scores themselves spread over 80 points
    wider = paired_difference(shuffled, "score", "a", "b", overlap=0.5)
    assert wider.high - wider.low == pytest.approx((found.high - found.low) * 2.5**0.5)  # (1/3 + 1/2) / (1/3)
    with pytest.raises(ValueError, match="'a' and 'c' do not have the same seed"):
        paired_difference(frame, "score", "a", "c")
    with pytest.raises(ValueError, match="at least 2 pairs to be tested, got 1: run more seeds"):
        paired_difference(frame[frame.seed == 0], "score", "a", "b")


def test_holm_by_hand() -> None:
    """Sorted .01, .02, .03, .5 times 4, 3, 2, 1; none below the one before."""
    assert holm([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    with pytest.raises(ValueError, match=r"p-values lie in 0..1"):
        holm([0.5, float("nan")])


@few
@given(p_values)
def test_holm_lies_between_no_correction_and_bonferroni_s_and_keeps_the_order(p: list[float]) -> None:
    found = holm(p)
    for one, corrected in zip(p, found, strict=True):
        assert one <= corrected <= min(1.0, one * len(p)) or corrected == pytest.approx(one)
    order = np.argsort(p)
    assert (np.diff(np.array(found)[order]) >= 0).all()


def test_the_strongest_of_the_others_is_compared_group_by_group() -> None:
    one = runs(ours=[3.0, 4.0, 6.0], weak=[9.0, 0.0, 0.0], strong=[2.0, 4.5, 5.0]).assign(task="one")
    two = runs(ours=[5.0, 5.0, 5.0], weak=[4.0, 4.0, 4.0], strong=[1.0, 2.0, 3.0]).assign(task="two")
    table = against_strongest(pd.concat([one, two]), "score", "ours", "task").set_index("task")
    assert table.strongest.to_dict() == {"one": "strong", "two": "weak"}
    assert table.difference.to_dict() == pytest.approx({"one": 0.5, "two": 1.0})
    assert table.loc["one", "p"] == pytest.approx(ttest_rel([3.0, 4.0, 6.0], [2.0, 4.5, 5.0]).pvalue)  # alone
    assert table.loc["two", ["low", "high"]].tolist() == [1.0, 1.0]
    several = pd.concat([one.assign(kind=kind) for kind in "abc"])
    p = against_strongest(several, "score", "ours", ["task", "kind"]).p
    assert p.tolist() == pytest.approx([min(1.0, 3 * table.loc["one", "p"])] * 3)
    with pytest.raises(ValueError, match="not every method has the same seed, at least 2"):
        against_strongest(one[:-1], "score", "ours", "task")
    with pytest.raises(ValueError, match="nothing to compare 'ours' with; there are ours"):
        against_strongest(runs(ours=[1.0, 2.0]).assign(task="t"), "score", "ours", "task")


def test_a_mean_is_said_in_points_with_its_interval() -> None:
    assert in_points(-0.24, -1.0, 0.06) == "-0.2 [-1.0, +0.1]"


def test_runs_that_share_training_instances_count_for_less() -> None:
    """Differences 1, 2, 3: s = 1, and the mean's error is sqrt(1/3), or sqrt(1/3 + 1/2) by Nadeau and Bengio."""
    frame = runs(ours=[2.0, 4.0, 6.0], other=[1.0, 2.0, 3.0]).assign(task="t", shared=0.5)
    alone = against_strongest(frame, "score", "ours", "task").iloc[0]
    shared = against_strongest(frame, "score", "ours", "task", overlap="shared").iloc[0]
    assert alone.p == pytest.approx(ttest_rel([2.0, 4.0, 6.0], [1.0, 2.0, 3.0]).pvalue)
    quantile = 4.302653  # of Student's t with 2 degrees of freedom
    for found, error in ((alone, (1 / 3) ** 0.5), (shared, (5 / 6) ** 0.5)):
        assert found.difference == 2.0
        assert (found.low, found.high) == pytest.approx((2 - quantile * error, 2 + quantile * error), rel=1e-6)
    assert shared.p > alone.p


def test_a_table_is_corrected_again_with_what_joins_it() -> None:
    one = pd.DataFrame({"uncorrected": [0.01, float("nan"), 0.03], "error": [1.0, 0.0, 1.0], "df": [4.0, 4.0, 4.0]})
    alone, joined = corrected_together(one), corrected_together(pd.concat([one, one], ignore_index=True))
    assert alone.p.tolist() == pytest.approx([0.02, float("nan"), 0.03], nan_ok=True)
    assert joined.p.tolist()[:3] == pytest.approx([0.04, float("nan"), 0.06], nan_ok=True)
    assert alone.detectable.tolist() == pytest.approx([detectable(1.0, 4, 0.025), 0.0, detectable(1.0, 4, 0.025)])
    assert joined.detectable[0] > alone.detectable[0]


def test_the_rival_is_chosen_on_validation_where_it_is_known() -> None:
    frame = runs(ours=[5.0, 6.0], lucky=[9.0, 8.0], steady=[4.0, 4.0]).assign(task="t", val=[7.0, 7, 1, 2, 3, 3])
    found = against_strongest(frame, "score", "ours", "task").iloc[0]
    assert (found.strongest, found.chosen_on, found.difference) == ("steady", "val", 1.5)
    assert (found.strongest_on_test, found.on_test) == ("lucky", -3.0)
    tied = frame.assign(val=[7.0, 7, 3, 3, 3, 3 + 1e-9])  # rounding does not choose: the harder rival does
    assert against_strongest(tied, "score", "ours", "task").strongest.iloc[0] == "lucky"
    older = against_strongest(frame.drop(columns="val"), "score", "ours", "task").iloc[0]
    assert (older.strongest, older.chosen_on, older.difference, older.on_test) == ("lucky", "test", -3.0, -3.0)


def test_the_rival_of_a_pair_may_be_chosen_on_the_other_pairs() -> None:
    """`lucky` has the largest mean by its first seed alone, which the choice for that seed does not see."""
    frame = runs(ours=[5.0, 5.0, 5.0], lucky=[9.0, 3.0, 3.0], steady=[4.0, 4.0, 4.0]).assign(task="t")
    found = against_strongest(frame, "score", "ours", "task").iloc[0]
    assert (found.strongest, found.difference) == ("lucky", 0.0)
    assert found.held_out == pytest.approx(((5 - 4) + (5 - 3) + (5 - 3)) / 3)
