"""The protocol of the first results: equal for all methods, chosen on validation, complete, and it continues."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from samples import link_task, node_task

from stemlib import finetune, first_results, records
from stemlib.benchmarks import BENCHMARKS, names
from stemlib.first_results import (
    CANDIDATES,
    METHODS,
    PROTOCOLS,
    PUBLISHED,
    Protocol,
    results,
    task_results,
    tuned,
)
from stemlib.methods import Method
from stemlib.presets import PRESETS, Preset
from stemlib.records import read_results
from stemlib.tasks import Task

TINY = Preset("tiny", hidden=8, epochs=3, patience=3, seeds=1, nodes=80)
SHORT = Protocol("tiny", runs=(("random", 0), ("random", 1)), candidates=CANDIDATES[:2])


def test_every_labelled_data_set_has_a_protocol_on_splits_that_it_has() -> None:
    assert set(PROTOCOLS) == {name for name in names() if not name.startswith("chembl")}
    published = read_results("splits").groupby("task").split.agg(set)
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        if name in published:  # what is not staged has no published splits
            assert {split for split, _ in protocol.runs} <= published[name]
        assert len(set(protocol.runs)) == len(protocol.runs) >= 3
        assert (protocol.width is None) == (BENCHMARKS[name].kind == "node" and "coauthor" not in name)
    for name in ("cora", "pubmed"):
        assert [run for run in PROTOCOLS[name].runs if run[0] != "public"] == [
            (f"draw-{seed}", seed) for seed in range(10)
        ]


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_all_methods_have_the_same_candidates_within_the_budget(protocol: Protocol) -> None:
    for preset in PRESETS.values():
        for candidate in protocol.candidates:
            methods = [protocol.method(name, candidate, preset) for name in METHODS]
            (train,) = {method.train for method in methods}
            assert (train.lr, train.weight_decay) == candidate[:2]
            assert train.epochs == min(protocol.epochs, preset.epochs)
            assert train.patience == min(protocol.patience, preset.patience)
            assert {method.model.dropout for method in methods} == {candidate.dropout}
            assert {method.model.input_dropout for method in methods} == {candidate.dropout}


def test_validation_alone_chooses_on_the_first_run(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def run(experiment: str, task: Task, split: str, method: Method, seed: int) -> SimpleNamespace:
        seen.append((split, seed))
        place = next(i for i, c in enumerate(CANDIDATES) if c[:2] == (method.train.lr, method.train.weight_decay))
        return SimpleNamespace(metrics={"val": (0.5, 0.7, 0.7, 0.6)[place], "test": (0.9, 0.1, 0.8, 0.8)[place]})

    monkeypatch.setattr(first_results, "run", run)
    chosen = tuned(node_task(), replace(SHORT, candidates=CANDIDATES), TINY)
    assert [method.name for method in chosen] == list(METHODS)
    assert {method.train.weight_decay for method in chosen} == {CANDIDATES[1].weight_decay}
    assert set(seen) == {("random", 0)}
    seen.clear()
    assert len(tuned(node_task(), replace(SHORT, candidates=CANDIDATES[:1]), TINY)) == len(METHODS)
    assert not seen


def test_results_say_what_was_run_and_are_read_back(
    task: Task, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = task_results(task, SHORT, TINY)
    assert found.model.tolist() == [name for name in METHODS for _ in SHORT.runs]
    assert found.seed.tolist() == [0, 1] * len(METHODS)
    assert set(found.hash) == {task.split("random").hash}
    assert set(found.metric) == {task.metric}
    assert set(found.preset) == {"tiny"}
    assert set(zip(found.lr, found.weight_decay, found.dropout, strict=True)) <= set(SHORT.candidates)
    assert found.test.between(0, 100).all()

    def again(*arguments: object) -> None:
        raise AssertionError("a finished run was run again")

    monkeypatch.setattr(finetune, "fit", again)
    pd.testing.assert_frame_equal(task_results(task, SHORT, TINY), found)


def test_a_link_data_set_is_learnt_in_both_forms(monkeypatch: pytest.MonkeyPatch, runs: Path) -> None:
    asked = []

    def load(name: str, **options: object) -> Task:
        asked.append(options.get("message_edges"))
        return replace(link_task(), name=name, checksum=str(options))

    monkeypatch.setattr(first_results, "load", load)
    monkeypatch.setitem(PROTOCOLS, "wn18rr", replace(SHORT, name="wn18rr", candidates=CANDIDATES[:1]))
    assert results("wn18rr", TINY).task.unique().tolist() == ["wn18rr", "wn18rr-all"]
    assert asked == [None, "all"]


def test_the_command_keeps_each_data_set_as_soon_as_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def found(name: str, preset: Preset) -> pd.DataFrame:
        if name == "texas":
            raise FileNotFoundError("missing")
        return pd.DataFrame({"task": [name], "preset": [preset.name]})

    monkeypatch.setattr(first_results, "results", found)
    monkeypatch.setattr(records, "DATA", tmp_path)
    with pytest.raises(FileNotFoundError):
        first_results.main(["cornell", "texas", "cora", "--preset", "smoke"])
    assert read_results("02_benchmarks-cornell").values.tolist() == [["cornell", "smoke"]]
    assert not (tmp_path / "results/02_benchmarks-cora.csv").exists()
    with pytest.raises(SystemExit):
        first_results.main(["corra"])
    assert "corra" in capsys.readouterr().err


def test_an_unknown_data_set_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no protocol for 'chembl'; there are cora, pubmed"):
        results("chembl", TINY)


def test_published_figures_belong_to_data_sets_that_there_are() -> None:
    known = set(PROTOCOLS) | {f"{name}-all" for name in names("link")}
    assert {figure.task for figure in PUBLISHED} <= known
    assert all(50 < figure.score < 100 and figure.differs for figure in PUBLISHED)
