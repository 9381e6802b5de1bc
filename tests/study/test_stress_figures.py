"""What the figures of stress tests draw: a mark for each mean, intervals' ends, one colour per method, legends."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from figure_samples import METHODS, WOBBLE, balance, lines_of
from matplotlib.axes import Axes
from matplotlib.colors import same_color

from stemlib.stress.shifts import tail_buckets
from study.statistics import interval
from study.stress_figures import (
    draw_along,
    draw_balance,
    draw_buckets,
    draw_covariate,
    draw_damage,
    draw_runs,
    draw_severity,
    draw_shift,
)


def stress(methods: tuple[str, ...] = METHODS) -> pd.DataFrame:
    """Five seeds meet clean, both tails and two rates of masking; the second method is 20 points lower."""
    met = [
        ("clean", "clean", 0.0, 80.0), ("OOD-low", "shift", 0.0, 70.0), ("OOD-high", "shift", 0.0, 90.0),
        ("masked 0.2", "masked", 0.2, 75.0), ("masked 0.4", "masked", 0.4, 60.0), ("deleted 0.2", "deleted", 0.2, 10.0),
    ]  # fmt: skip
    frame = pd.DataFrame(met, columns=["condition", "kind", "rate", "score"]).assign(task="t", covariate="degree")
    return pd.concat(
        frame.assign(method=name, seed=seed, score=frame.score - 20 * place + wobble)
        for place, name in enumerate(methods)
        for seed, wobble in enumerate(WOBBLE)
    )


def along() -> pd.DataFrame:
    """Two seeds, three groups; the covariate's means are 1, 3, 6."""
    frames = [
        pd.DataFrame({"covariate": [1.0, 3, 6 + seed], "score": [50.0, 60, 70 + 10 * seed], "method": name})
        for seed in (-1, 1)
        for name in METHODS
    ]
    return pd.concat(frames)


@pytest.fixture
def axis() -> Iterator[Axes]:
    yield plt.subplots()[1]
    plt.close("all")


def labels(axis: Axes) -> list[str]:
    return axis.get_legend_handles_labels()[1]


def test_severity_is_a_line_of_means_from_clean_on_with_its_band(axis: Axes) -> None:
    draw_severity(axis, stress(), "masked")
    mean = WOBBLE.mean()
    (line,) = lines_of(axis, "gcn")
    assert line == pytest.approx(np.array([[0, 80 + mean], [0.2, 75 + mean], [0.4, 60 + mean]]))
    assert lines_of(axis, "mlp")[0][:, 1] == pytest.approx([60 + mean, 55 + mean, 40 + mean])
    band = axis.collections[0].get_paths()[0].vertices
    for rate, score in ((0.0, 80), (0.4, 60)):
        ends = band[np.isclose(band[:, 0], rate), 1]
        assert (ends.min(), ends.max()) == pytest.approx(interval((score + WOBBLE).tolist()))
    assert labels(axis) == list(METHODS)
    assert axis.get_xlabel() == "share of features masked, at test only"


def test_draws_of_one_seed_are_no_more_runs(axis: Axes) -> None:
    """The interval is over seeds: the same draw twice changes nothing."""
    draw_severity(axis, pd.concat([stress(("gcn",))] * 3), "masked")
    ends = axis.collections[0].get_paths()[0].vertices[:, 1]
    assert ends.max() == pytest.approx(interval((80 + WOBBLE).tolist())[1])


def test_damage_stands_beside_its_worst_case_and_above_what_is_ahead_of_a_gcn() -> None:
    met = pd.concat([stress(), stress(("stem",)).assign(score=lambda rows: rows.score + rows.rate * 10)])
    figure = draw_damage(met, met.assign(score=lambda rows: rows.score - 30), "masked")
    left, right, low, _ = figure.axes
    assert lines_of(left, "gcn")[0][:, 1] - lines_of(right, "gcn")[0][:, 1] == pytest.approx([30] * 3)
    assert (left.get_title(), right.get_title()) == ("at random", "worst case found")
    assert figure.axes[-1].get_xlabel() == "budget: share of the entries that are not 0"
    assert lines_of(low, "stem")[0][:, 1] == pytest.approx([0, 2, 4])
    assert not lines_of(low, "mlp")
    assert low.get_ylabel() == "ahead of gcn, points"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [*METHODS, "stem"]
    assert len(draw_damage(stress(), stress(), "masked").axes) == 2  # of one method besides an MLP nothing is ahead
    plt.close("all")


def test_buckets_are_points_with_intervals_side_by_side(axis: Axes) -> None:
    draw_buckets(axis, stress())
    assert [text.get_text() for text in axis.get_xticklabels()] == ["lowest 15 %", "ordinary", "highest 15 %"]
    for method, shift, drop in (("gcn", -0.25, 0), ("mlp", 0.25, 20)):
        means, *bars = lines_of(axis, method)
        expected = [[x + shift, score - drop + WOBBLE.mean()] for x, score in enumerate((70, 80, 90))]
        assert means == pytest.approx(np.array(expected))
        assert len(bars) == 3
        assert bars[0][:, 1] == pytest.approx(interval((70 - drop + WOBBLE).tolist()))


def test_groups_are_drawn_where_their_covariate_lies_on_average(axis: Axes) -> None:
    draw_along(axis, along())
    assert lines_of(axis, "gcn")[0].tolist() == [[1, 50], [3, 60], [6, 70]]
    assert labels(axis) == list(METHODS)


def test_shift_is_seen_by_bucket_and_along_the_covariate() -> None:
    figure = draw_shift(stress(), along())
    left, right = figure.axes
    assert left.get_title() == "t, 5 seeds"
    assert right.get_xlabel() == "degree of an instance"
    assert len(lines_of(left, "gcn")) == 4
    assert len(lines_of(right, "gcn")) == 1
    assert len(figure.legends) == 1
    homophily = draw_shift(stress().assign(covariate="homophily"), along())
    assert homophily.axes[1].get_xlabel() == "feature homophily of an instance"
    plt.close("all")


def test_a_covariate_s_tails_begin_at_dashed_lines(axis: Axes) -> None:
    buckets = tail_buckets(torch.arange(200.0))
    draw_covariate(axis, buckets)
    assert sum(bar.get_height() for bar in axis.patches) == 200
    assert [line.get_xdata()[0] for line in axis.lines] == [float(border) for border in buckets.borders]
    assert {line.get_linestyle() for line in axis.lines} == {"--"}


def test_every_run_its_mean_and_what_the_test_would_have_chosen_are_drawn(axis: Axes) -> None:
    values = 50 + WOBBLE
    found = pd.DataFrame({"model": "gcn", "test": values, "test_best": values + 5})
    found = pd.concat([found, found.assign(model="mlp", test=values - 20)])
    draw_runs(axis, found)
    mean, bar = lines_of(axis, "mlp")
    assert mean.tolist() == [[1, pytest.approx(values.mean() - 20)]]
    assert bar[:, 1] == pytest.approx(interval((values - 20).tolist()))
    dots = next(line for line in axis.lines if same_color(line.get_color(), "black"))
    assert dots.get_xydata()[:5].tolist() == [[-0.25, value] for value in values]
    hollow = axis.collections[-1]
    assert hollow.get_offsets()[:, 1].tolist() == pytest.approx([values.mean() + 5] * 2)
    assert not hollow.get_facecolors().size
    assert [text.get_text() for text in axis.get_xticklabels()] == ["gcn", "mlp"]


def test_a_balance_has_a_bar_at_each_mean_and_a_point_per_seed() -> None:
    figure = draw_balance(balance())
    assert [axis.get_title() for axis in figure.axes] == ["fit", "worst shifted bucket", "mean over corruption"]
    fit = figure.axes[0]
    assert lines_of(fit, "mlp")[0].tolist() == [[1, pytest.approx(79 + WOBBLE.mean())]]
    dots = [points.get_offsets() for points in fit.collections]
    assert [len(points) for points in dots] == [5, 5]
    assert sorted(dots[0][:, 1]) == pytest.approx(sorted(80 + WOBBLE))
    assert [text.get_text() for text in fit.get_xticklabels()] == list(METHODS)
    assert all(axis.get_legend() is None for axis in figure.axes)
    plt.close(figure)


def test_an_mlp_that_is_far_below_is_written_at_the_edge() -> None:
    rows = balance().astype({"shift": float})
    rows.loc[rows.method == "mlp", "shift"] = 30.0
    rows.loc[rows.method == "gcn", "shift"] += WOBBLE
    shift = draw_balance(rows).axes[1]
    assert [text.get_text() for text in shift.texts] == ["30 ↓"]
    assert shift.get_ylim()[0] > 60
    plt.close("all")
