"""Drawings: no text lies on another or runs off the sheet, there are two sizes of text, and the same bits each time."""

from itertools import combinations

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from study import figures
from study.drawings import DRAWINGS, drawn
from study.drawings.pieces import LARGE, SMALL, say, sheet


@pytest.fixture(autouse=True)
def style():
    with plt.rc_context():
        figures.use_style()
        yield
    plt.close("all")


def texts(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_text()]


def flaws(figure: Figure) -> list[tuple[str, ...]]:
    """Texts that overlap, in pairs, and texts that are not whole."""
    frames = [(text.get_text(), text.get_window_extent(figure.canvas.get_renderer())) for text in texts(figure)]
    touching = [(one, other) for (one, a), (other, b) in combinations(frames, 2) if a.overlaps(b)]
    inside = figure.bbox
    return touching + [(text,) for text, a in frames if min(a.min) < 0 or (a.max > inside.max).any()]


def test_flaws_are_found():
    figure, axis = sheet(1.0)
    for x, text in ((1.0, "one"), (1.1, "other"), (3.0, "alone"), (5.5, "clipped")):
        say(axis, x, 0.5, text)
    assert flaws(figure) == [("one", "other"), ("clipped",)]


@pytest.mark.parametrize("name", DRAWINGS)
def test_texts_are_whole_and_apart(name):
    figure = drawn(name)
    assert flaws(figure) == []
    assert {text.get_fontsize() for text in texts(figure)} <= {LARGE, SMALL}


def test_files_are_the_same_each_time_and_committed(tmp_path, monkeypatch):
    committed = figures.FIGURES
    monkeypatch.setattr(figures, "FIGURES", tmp_path)
    first, second = (figures.save(drawn("tokens"), name, ("png", "svg")).read_bytes() for name in "ab")
    assert first == second
    assert b"<svg" in first
    wanted = {f"drawing_{name}.{kind}" for name in DRAWINGS for kind in ("svg", "png")}
    assert {path.name for path in committed.glob("drawing_*")} == wanted
