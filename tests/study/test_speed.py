"""Speed: goals against what was found, and figures whose titles say it."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from study.speed import by_algorithm, by_size, draw_epochs, draw_scaling, kept_tables, verdicts


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return kept_tables()


def test_a_goal_is_met_from_its_own_side(tables: dict[str, pd.DataFrame]) -> None:
    faster = pd.DataFrame(
        [{"what": "epoch, slow", "found": 1.9, "goal": 2.0}, {"what": "x", "found": 2.0, "goal": 2.0}]
    )
    table = verdicts(tables, faster).set_index("what")
    assert table.met[["epoch, slow: times faster", "x: times faster"]].tolist() == [False, True]
    for row in table.itertuples():
        side, goal = row.goal.split()
        assert row.met == (row.found >= float(goal) if side == "≥" else row.found <= float(goal))
    assert table.index.is_unique
    memory = tables["speed"].query("case == 'arxiv-128' and algorithm == 'ours'").peak_mb.item() / 1000
    assert table.found["memory, arxiv-128, GB"] == memory


def test_figures_have_every_case_and_size(tables: dict[str, pd.DataFrame]) -> None:
    theirs, ours = by_algorithm(tables["speed"])
    assert theirs.index.tolist() == ours.index.tolist()
    assert (ours.epoch_s == ours.train_s + ours.evaluate_s).all()
    (axis,) = draw_epochs(theirs.assign(epoch_s=3 * ours.epoch_s), ours).axes
    assert axis.get_title() == "An epoch is 3.0 to 3.0 times faster than by the reference's algorithm"
    assert [text.get_text() for text in axis.texts] == ["3.0×"] * len(ours)
    sizes, slopes = by_size(tables["scaling"])
    assert [len(panel.lines) for panel in draw_scaling(sizes, slopes).axes] == [len(slopes)] * 3
    plt.close("all")
