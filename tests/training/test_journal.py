from __future__ import annotations

import math

import pandas as pd
import pytest
import torch

from stemlib.training.journal import COLUMNS, Journal

NAMES = ["first", "second"]


def a_row(**values: float) -> torch.Tensor:
    return torch.tensor([values.get(name, math.nan) for name in COLUMNS], dtype=torch.double)


def filled() -> Journal:
    """Five steps in windows of two; two heads of four codes, two layers of three experts."""
    journal = Journal(5, 2, (2, 4), (2, 2, 3))
    for step in range(5):
        codes = torch.tensor([[5, 5, 0, 0], [1, 1, 1, 7]])
        load = torch.tensor([[2.0, 1.0, 1.0], [4.0, 0.0, 0.0]], dtype=torch.double)
        row = a_row(data_set=step % 2, rate=0.1, loss=float(step), feature=2.0 * step)
        journal.note(row, step % 2, codes, load, 4.0)
    return journal


def test_a_row_of_losses_per_step() -> None:
    frame = filled().losses(NAMES)
    assert list(frame) == ["step", *COLUMNS]
    assert frame.data_set.tolist() == ["first", "second", "first", "second", "first"]
    assert frame.feature.tolist() == [0, 2, 4, 6, 8]
    assert frame.edge.isna().all()
    assert Journal(5, 2, (2, 4), (2, 2, 3)).losses(NAMES).empty


def test_token_usage_by_hand() -> None:
    frame = filled().usage()
    assert frame.step.tolist() == [1, 1, 3, 3, 4, 4]
    assert frame["head"].tolist() == [0, 1, 0, 1, 0, 1]
    assert frame.dead.tolist() == [2, 0] * 3
    assert frame.perplexity.iloc[0] == pytest.approx(2)
    entropy = -(3 * 0.1 * math.log(0.1) + 0.7 * math.log(0.7))
    assert frame.perplexity.iloc[1] == pytest.approx(math.exp(entropy))


def test_the_largest_experts_share_by_hand() -> None:
    frame = filled().experts(NAMES)
    expected = pd.DataFrame(
        {
            "step": [1, 1, 1, 1, 3, 3, 3, 3, 4, 4],
            "data_set": ["first", "first", "second", "second"] * 2 + ["first"] * 2,
            "layer": [0, 1] * 5,
            "largest": [0.5, 1.0] * 5,
        }
    )
    pd.testing.assert_frame_equal(frame, expected)


def test_models_without_tokens_or_routed_layers_have_empty_tables() -> None:
    journal = Journal(3, 2, (0, 0), (2, 0, 3))
    journal.note(a_row(data_set=0, loss=1.0), 0, torch.empty(0, 0, dtype=torch.long), torch.empty(0, 3), 4.0)
    assert journal.usage().empty
    assert journal.experts(NAMES).empty
    assert len(journal.losses(NAMES)) == 1
