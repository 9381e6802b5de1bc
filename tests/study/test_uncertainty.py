"""Calibration and warnings: against closed forms, and on networks whose answers are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from run_samples import TINY
from samples import node_task

from stemlib.stress.shifts import instance_covariate, tail_buckets
from stemlib.training.stacking import temperature
from study import trained
from study.methods import named
from study.stress import StressTest
from study.uncertainty import (
    calibration_error,
    class_logits,
    coverage_of,
    found_by,
    information,
    other_votes,
    uncertainties,
)


def test_the_temperature_finds_by_what_right_logits_were_multiplied() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20000, 3, generator=generator, dtype=torch.double)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).flatten()
    for factor in (0.25, 1.0, 3.0):
        assert temperature(factor * logits, labels) == pytest.approx(factor, rel=0.05)
    with pytest.raises(ValueError, match="validation"):
        temperature(logits[:0], labels[:0])


def test_the_calibration_error_is_the_distance_of_confidence_and_accuracy() -> None:
    assert calibration_error(np.full(10, 0.9), np.arange(10) < 9) == pytest.approx(0)
    assert calibration_error(np.full(10, 0.9), np.arange(10) < 4) == pytest.approx(0.5)
    two = np.r_[np.full(5, 0.5), np.full(5, 1.0)]  # bins do not make up for each other
    assert calibration_error(two, np.r_[np.ones(5), np.zeros(5)] > 0) == pytest.approx(0.75)


def test_warnings_by_hand() -> None:
    sure, unsure = [0.0, 20.0], [0.0, 0.0]
    parts = torch.tensor([[sure, sure[::-1]], [sure, sure], [unsure, unsure]])
    assert torch.allclose(information(parts), torch.tensor([np.log(2), 0.0, 0.0], dtype=torch.float), atol=1e-4)
    assert other_votes(parts, torch.tensor([1, 1, 0])).tolist() == [0.5, 0.0, 0.0]
    assert found_by(np.array([0.1, 0.2, 0.9]), np.array([False, False, True])) == 1
    assert np.isnan(found_by(np.ones(2), np.array([True, True])))
    assert torch.equal(class_logits(torch.tensor([[2.0]])).softmax(-1)[0, 0, 1], torch.tensor(2.0).sigmoid())


def test_the_parts_of_the_risk_of_mixed_networks_add_up() -> None:
    generator = torch.Generator().manual_seed(1)
    parts, labels = torch.randn(50, 3, 4, generator=generator), torch.arange(50) % 4
    gate = torch.tensor([0.5, 0.3, 0.2])
    logits = parts.transpose(1, 2) @ gate
    found = coverage_of(parts, logits, gate, labels)
    log_p = parts.log_softmax(-1)
    of_label = -log_p[torch.arange(50), :, labels]
    assert found["C"] == pytest.approx(of_label.min(1).values.mean().item(), abs=1e-6)
    assert found["C"] + found["S"] == pytest.approx((of_label @ gate).mean().item(), abs=1e-6)
    product = (gate @ log_p).softmax(-1)  # a product of experts
    assert found["R"] == pytest.approx(-product[torch.arange(50), labels].log().mean().item(), abs=1e-6)
    assert found["X"] <= 0 <= found["S"]
    alone = coverage_of(parts[:, :1], parts[:, 0], torch.ones(1), labels)
    assert (alone["S"], alone["X"]) == (pytest.approx(0, abs=1e-7), pytest.approx(0, abs=1e-7))


def test_every_network_says_how_sure_it_is_of_every_condition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained, "RUNS", tmp_path)
    task = node_task()
    buckets = tail_buckets(instance_covariate(task, "degree"))
    test = StressTest(task, buckets, named(TINY, "mixture", "gcn", "stem"), [0, 1])
    found = uncertainties(test)
    assert found.groupby(["method", "seed"]).size().eq(5).all()
    assert found.ece.between(0, 100).all()
    assert found.by_votes.notna().groupby(found.method).any().to_dict() == {
        "gcn": False,
        "mixture": True,
        "stem": False,
    }
    with pytest.raises(ValueError, match="regression"):
        uncertainties(replace(test, task=replace(task, labels=torch.randn(80, 1), regression=True)))
