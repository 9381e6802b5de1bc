"""The style of all figures: where they are saved, and lines whose bands are the intervals of the statistics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from study import figures
from study.methods import METHODS
from study.statistics import interval

SCORES = pd.DataFrame({"rate": [0.0] * 4 + [0.4] * 4, "seed": [0, 1, 2, 3] * 2})
SCORES["score"] = [80.0, 84, 81, 79, 60, 70, 64, 62]


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with plt.rc_context():
        figures.use_style()
        yield
    plt.close("all")


def test_two_runs_have_a_range_and_three_an_interval() -> None:
    assert figures.spread([3.0, 1.0]) == (1.0, 3.0)
    assert figures.spread([3.0]) == (3.0, 3.0)
    assert figures.spread([1.0, 2.0, 4.0]) == interval([1.0, 2.0, 4.0])


def test_lines_run_through_means_and_bands_end_at_the_intervals() -> None:
    _, axis = figures.panels()
    figures.draw_means(axis, SCORES, "score", color="red", label="one")
    (line,), (band,) = axis.lines, axis.collections
    assert line.get_xydata().tolist() == [[0.0, 81.0], [0.4, 64.0]]
    assert to_rgba(line.get_color()) == to_rgba("red")
    ends = {tuple(point) for point in band.get_paths()[0].vertices.round(9)}
    for rate, rows in SCORES.groupby("rate"):
        assert {(rate, round(end, 9)) for end in interval(rows.score.tolist())} <= ends
    assert (axis.get_xlabel(), axis.get_ylabel(), axis.get_legend()) == ("", "", None)


def test_one_value_has_a_line_and_no_band() -> None:
    _, axis = figures.panels()
    figures.draw_means(axis, SCORES[SCORES.seed == 0], "score")
    assert axis.lines[0].get_ydata().tolist() == [80.0, 60.0]
    assert not [path for band in axis.collections for path in band.get_paths()]


def test_one_legend_stands_below_all_panels() -> None:
    figure, axes = figures.panels(2)
    for axis in axes:
        figures.draw_means(axis, SCORES, "score", label="one")
    figures.legend_below(figure, axes[0])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["one"]
    figure.canvas.draw()
    assert legend.get_window_extent().y1 < min(axis.get_window_extent().y0 for axis in axes)


def test_panels_have_the_column_s_width_and_letters() -> None:
    figure, axes = figures.panels(2, 2, height=2.0)
    assert figure.get_size_inches().tolist() == [figures.WIDTH, 4.0]
    figures.label_panels(axes.flat)
    assert [axis.get_title(loc="left") for axis in axes.flat] == list("abcd")


def test_every_method_has_a_colour_and_no_two_the_same() -> None:
    colours = [figures.COLOURS[name] for name in METHODS if name in figures.COLOURS]
    assert len(colours) == len(set(colours)) == len(METHODS)


def test_the_same_figure_is_the_same_file_and_a_grid_s_run_keeps_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "FIGURES", tmp_path / "figures")
    figure, axis = figures.panels()
    axis.plot([0, 1])
    first = figures.save(figure, "line")
    assert first == tmp_path / "figures/line.png"
    monkeypatch.setenv("STEMLIB_RUN", str(tmp_path / "run"))
    second = figures.save(figure, "line")
    assert second == tmp_path / "run/line.png"
    assert first.read_bytes() == second.read_bytes()
    assert b"Matplotlib" not in first.read_bytes()


def test_the_style_is_the_colour_blind_palette_without_frames() -> None:
    _, axis = figures.panels()
    (line,) = axis.plot([0, 1])
    assert to_rgba(line.get_color()) == to_rgba(figures.PALETTE["blue"])
    assert not axis.spines["top"].get_visible()
    assert not plt.rcParams["legend.frameon"]
