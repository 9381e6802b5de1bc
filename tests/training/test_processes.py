"""Two processes on this machine train what one would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from pretrain_samples import tiny_pool, tiny_run, weights
from run_samples import equal
from safetensors.torch import load_file
from samples import small_model
from two_processes import SETTINGS

from stemlib.model import encoder as experts
from stemlib.training import processes
from stemlib.training.pretrain import pretrain


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `two_processes.py` leaves."""
    folder, tests = tmp_path_factory.mktemp("two"), Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, str(tests / "two_processes.py"), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tests.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("what", ["exact", "noisy"])
def test_two_processes_give_the_loss_curve_of_one(
    what: str, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if what == "exact":
        monkeypatch.setattr(experts, "gumbel_noise", torch.zeros_like)
    alone = pretrain(tiny_pool(), *SETTINGS[what], root=tmp_path)
    (together,) = {file.parent for file in (pairs / what).rglob("model.json")}

    states = [load_file(pairs / what / f"weights-{rank}.safetensors") for rank in range(2)]
    assert equal(*states)  # the processes agree bit by bit
    tables = [
        [pd.read_csv(folder / f"{name}.csv") for folder in (alone, together)]
        for name in ("losses", "tokens", "experts")
    ]
    assert all(one.shape == other.shape for one, other in tables)
    curves = tables[0]
    assert (curves[0].data_set == curves[1].data_set).all()
    if what == "exact":
        for one, other in tables:
            pd.testing.assert_frame_equal(one, other, rtol=1e-3, atol=1e-5)
        for name, value in weights(alone).items():
            torch.testing.assert_close(weights(together)[name], value, rtol=1e-2, atol=1e-3)
    else:
        means = [curve.loss.tail(20).mean() for curve in curves]
        assert means[1] == pytest.approx(means[0], rel=0.05)
        assert curves[0].loss.head(3).mean() - means[0] > 3 * abs(means[1] - means[0])  # training does far more


def test_two_killed_processes_end_with_the_bits_of_uninterrupted_ones(pairs: Path) -> None:
    for rank in range(2):
        killed, whole = (load_file(pairs / what / f"weights-{rank}.safetensors") for what in ("resumed", "noisy"))
        assert equal(killed, whole)


def test_one_process_is_left_alone() -> None:
    assert (processes.together(), processes.rank(), processes.world()) == (False, 0, 1)
    value = torch.ones(2)
    assert processes.total(value) is value
    processes.wait()
    with processes.joined("cpu"):
        assert not processes.together()
    run = tiny_run()
    before = run.student.network.tokens.codebook.clone()
    processes.average_codes(run.student.network.tokens)
    assert torch.equal(run.student.network.tokens.codebook, before)


def test_batch_norm_in_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "world", lambda: 2)
    with pytest.raises(ValueError, match="norm='batch' needs one process"):
        tiny_run(small_model(norm="batch"))


def test_more_processes_than_there_is_work_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "world", lambda: 50)
    with pytest.raises(ValueError, match=r"50 processes need .* at least as many .* smallest .* 32"):
        tiny_run(batch_size=100)
