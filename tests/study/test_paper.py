"""The reference's size from end to end: its estimate, and what it runs."""

from __future__ import annotations

import pytest

from stemlib.data.built_in import BUILT_IN
from study import paper
from study.protocols import PROTOCOLS


def test_the_estimate_measures_a_few_steps_of_everything(capsys: pytest.CaptureFixture) -> None:
    arguments = ["--names", BUILT_IN, "--data", BUILT_IN, "--seeds", "2"]
    assert paper.main(["--estimate", "--preset", "smoke", *arguments]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("pretraining: 100 steps of ")
    assert told[1].startswith(f"{BUILT_IN}: at most ")
    assert told[2].startswith("all on 1 CPU threads: at most ")


def test_both_commands_are_run_from_one_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(paper.pretrain, "main", calls.append)
    monkeypatch.setattr(paper.transfer, "main", calls.append)
    assert paper.main(["--names", "cora", "hiv"]) == 0
    assert calls[0] == ["--preset", "paper", "--release", "paper"]
    assert calls[1] == ["cora", "hiv", "--preset", "paper", "--seeds", "5"]
    with pytest.raises(SystemExit):
        paper.main(["--preset", "smoke"])


def test_of_the_nine_those_at_hand_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(paper.NINE) <= set(PROTOCOLS)
    monkeypatch.setattr(paper, "available", lambda: ["cora", "ogbn-arxiv-predictions", "texas"])
    assert paper.benchmarks() == ["cora", "ogbn-arxiv-predictions"]
    monkeypatch.setattr(paper, "available", lambda: ["ogbn-arxiv-predictions", "ogbn-arxiv"])
    assert paper.benchmarks() == ["ogbn-arxiv"]
