"""What the figures of leads draw: a mark in each one's row, filled where it is reliable, and means with intervals."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from figure_samples import WOBBLE, balance, lines_of
from matplotlib.axes import Axes
from matplotlib.colors import same_color

from study.figures import COLOURS
from study.lead_figures import EDGE, draw_balance, draw_by_task, draw_claims, draw_effects, draw_pareto
from study.statistics import interval


@pytest.fixture
def axis() -> Iterator[Axes]:
    yield plt.subplots()[1]
    plt.close("all")


def test_effects_are_filled_where_they_are_sure() -> None:
    rows = [("one", "fit", 2.0, 1.0, 3.0, 0.01), ("two", "fit", -1.0, -3.0, 1.0, 0.9), ("two", "shift", 4.0, 3, 5, 0.0)]
    lead = pd.DataFrame(rows, columns=["variant", "demand", "difference", "low", "high", "p"])
    figure = draw_effects(lead, pd.Series({"fit": 80.0, "shift": 70.0, "corruption": 60.0}))
    fit, shift, corruption = figure.axes
    assert [text.get_text() for text in fit.get_yticklabels()] == ["one", "two"]
    assert fit.get_title() == "fit\nwhole model: 80.0 %"
    bars, circles = fit.collections
    assert [path.vertices[:, 0].tolist() for path in bars.get_paths()] == [[1, 3], [-3, 1]]
    assert circles.get_offsets().tolist() == [[2, 0], [-1, 1]]
    assert [same_color(colour, "black") for colour in circles.get_facecolors()] == [True, False]
    assert shift.collections[1].get_offsets().tolist() == [[4, 1]]  # in its variant's row, though the first is missing
    assert not len(corruption.collections[1].get_offsets())
    plt.close(figure)


def test_the_pareto_front_is_ringed_and_the_best_stands_at_zero() -> None:
    _, axes = plt.subplots(1, 3, sharey=True)
    draw_pareto(axes, balance())
    for axis, behind in zip(axes, (1, 2, 5), strict=True):
        assert lines_of(axis, "gcn")[0].tolist() == [[0, 0]]
        assert lines_of(axis, "mlp")[0].tolist() == [[pytest.approx(-behind), 1]]
        rings = [line for line in axis.lines if line.get_markersize() == 13]
        assert [ring.get_xydata().tolist() for ring in rings] == [[[0, 0]]]
    names = [text.get_text() for text in axes[0].get_yticklabels()]
    assert names == [f"gcn ({80 + WOBBLE.mean():.1f})", f"mlp ({79 + WOBBLE.mean():.1f})"]
    plt.close("all")


def comparisons_of_five() -> pd.DataFrame:
    tasks = [f"t{k}" for k in range(5)]
    compared = pd.DataFrame({"task": tasks, "demand": "clean", "difference": [1.0, 2, 3, 4, 10], "held_out": 0.0})
    compared = compared.assign(low=0.0, high=0.0, p=[0.9, 0.01, 0.9, 0.9, 0.01], error=0.0, detectable=1.0)
    return compared.assign(chosen_on="val")


def test_claims_have_a_circle_for_each_comparison_and_a_diamond_at_the_mean(axis: Axes) -> None:
    compared = comparisons_of_five()
    figure = draw_claims(compared, axis)
    assert figure is axis.figure
    circles = axis.collections[0]
    assert circles.get_offsets()[:, 0].tolist() == [1, 2, 3, 4, 10]
    assert [same_color(colour, "black") for colour in circles.get_facecolors()] == [False, True, False, False, True]
    (diamond, *_) = lines_of(axis, "stem")
    assert diamond.tolist() == [[4, 0]]
    ends = axis.collections[1].get_paths()[0].vertices[:, 0]
    assert ends == pytest.approx(interval([1.0, 2, 3, 4, 10]))
    assert [text.get_text() for text in axis.get_yticklabels()] == ["clean"]
    assert [line.get_xdata() for line in axis.lines if same_color(line.get_color(), "black")] == [[0, 0]]
    assert len(draw_claims(compared).axes) == 1


def test_every_data_set_has_a_row_with_its_name_and_the_mean_is_below() -> None:
    figure = draw_by_task(comparisons_of_five().iloc[::-1])
    (axis,) = figure.axes
    assert [text.get_text() for text in axis.get_yticklabels()] == ["t4", "t3", "t2", "t1", "t0", "mean"]
    circles = axis.collections[0]
    assert circles.get_offsets().tolist() == [[10, 0], [4, 1], [3, 2], [2, 3], [1, 4]]
    assert [same_color(colour, "black") for colour in circles.get_facecolors()] == [True, False, False, True, False]
    assert lines_of(axis, "stem")[0].tolist() == [[4, 5]]
    assert len(draw_by_task(comparisons_of_five().iloc[:1]).axes) == 1  # of one data set there is no mean
    plt.close("all")


def test_leads_are_filled_where_the_interval_excludes_zero_and_cut_at_the_edge() -> None:
    rows = {
        "task": ["a", "b", "c"],
        "difference": [1.0, 2.0, -25.0],
        "low": [-1.0, 1.0, -30.0],
        "high": [3.0, 3.0, -20.0],
    }
    compared = pd.DataFrame(rows).assign(p=[0.9, 0.2, 0.01], error=1.0, df=4.0, on_test=0.0, demand="clean")
    figure = draw_balance({"mixture": compared}, {"mixture": "five filters"})
    clean, *others = figure.axes
    assert [axis.get_title() for axis in figure.axes] == ["clean", "shift", "features masked", "edges deleted"]
    assert [text.get_text() for text in clean.get_yticklabels()] == ["mean over\ndata sets", "c", "a", "b"]
    marks = {
        tuple(line.get_xydata()[0]): line for line in clean.lines if line.get_marker() == "o" and len(line.get_xydata())
    }
    filled = {place: same_color(line.get_markerfacecolor(), COLOURS["mixture"]) for place, line in marks.items()}
    assert filled == {(1, 1): False, (2, 2): True}
    assert "-25.0*" in [text.get_text() for text in clean.texts]  # beyond the edge, significant
    (arrow,) = [line for line in clean.lines if line.get_marker() == "<"]
    assert arrow.get_xydata().tolist() == [[-EDGE, 0]]
    diamonds = [line.get_xydata()[0, 0] for line in clean.lines if line.get_marker() == "D"]
    assert diamonds == [pytest.approx(-22 / 3)]
    assert not [line for axis in others for line in axis.lines if line.get_marker() in "oD"]
    plt.close(figure)
