"""What could have been seen, and what is level: against other ways to calculate them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import few
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import DescrStatsW

from study.power import detectable, equivalence
from study.statistics import PairedTest, paired_test


@pytest.mark.parametrize(("runs", "level"), [(3, 0.05), (5, 0.05), (10, 0.05 / 20), (28, 0.05 / 100)])
def test_a_difference_that_is_detectable_has_the_power_that_is_asked_for(runs: int, level: float) -> None:
    found = detectable(1.0, runs - 1, level)
    size = found / runs**0.5  # in deviations of a run; the error of the mean is 1
    assert TTestPower().power(size, runs, level) == pytest.approx(0.8, abs=1e-3)
    assert detectable(2.0, runs - 1, level) == pytest.approx(2 * found)
    assert detectable(1.0, runs - 1, level, power=0.9) > found


def test_more_degrees_of_freedom_see_more() -> None:
    table = pd.DataFrame({"error": 1.0, "df": [2.0, 4.0, 9.0, 27.0]})
    found = detectable(table.error, table.df)
    assert (np.diff(found) < 0).all()
    assert np.isnan(detectable(float("nan"), float("nan")))


@few
@given(st.lists(st.floats(-3, 3).map(lambda value: round(value, 2)), min_size=3, max_size=10, unique=True))
def test_equivalence_is_that_of_two_one_sided_tests(values: list[float]) -> None:
    found = equivalence(paired_test(pd.Series(values)))
    assert found.p == pytest.approx(DescrStatsW(values).ttost_mean(-1, 1)[0], abs=1e-9)
    assert (found.verdict == "level") == (found.p < 0.05)


def test_verdicts_by_hand() -> None:
    """Errors of 0.1 with 4 degrees of freedom: an interval reaches 0.28 to both sides, a one-sided one 0.21."""

    def verdict(difference: float, error: float) -> str:
        return equivalence(PairedTest(difference, 0.0, 0.0, 0.0, error, 4)).verdict

    assert verdict(0.2, 0.1) == "level"
    assert verdict(0.5, 0.1) == "level"  # surely not 0, and surely less than a point
    assert verdict(0.9, 0.1) == verdict(-2.0, 0.1) == "differs"
    assert verdict(0.5, 0.5) == "undecided"
    assert verdict(0.0, 0.0) == "level"
    assert verdict(1.5, 0.0) == "differs"
    assert verdict(float("nan"), float("nan")) == "undecided"
    assert equivalence(PairedTest(1.8, 0.0, 0.0, 0.0, 0.1, 4), margin=2.5).verdict == "level"
