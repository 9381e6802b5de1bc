"""Pretrained against from scratch: the same splits, seeds, budgets and candidates, paired."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from pretrain_samples import WIDTH, checkpoint
from samples import TASKS, node_task

from stemlib.data.features import unit_features
from stemlib.presets import Preset
from study import protocols, records, transfer
from study.protocols import CANDIDATES, Protocol
from study.records import read_record, read_results
from study.transfer import RIVALS, compared, gains, starts

TINY = Preset("tiny", hidden=8, epochs=2, patience=3, seeds=1, nodes=80)
SHORT = Protocol("tiny", runs=(), candidates=CANDIDATES[:2], batch_size=16)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("kind", TASKS)
def test_every_start_has_every_budget_and_condition(
    kind: str, saved: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocols, "STEPS", 7)
    task = unit_features(TASKS[kind](), WIDTH)
    methods = starts(TINY, {"pretrained": [saved]})
    names = ["stem", "pretrained", "pretrained, no tokens"]
    assert [method.name for method in methods] == names
    assert [method.train.freeze_tokens for method in methods] == [False, True, False]
    assert [method.model.codebook for method in methods] == ["ema", "ema", "none"]
    table = compared(task, methods, [0, 1], SHORT, TINY, budgets=(0, 3))
    recorded = [read_record(file.parent) for file in runs.rglob("record.json")]
    passes = {record.settings["train"].get("passes", 1) for record in recorded if record.split.endswith("per-class")}
    assert passes == {4}  # of one step, in two epochs
    assert {record.settings["train"].get("passes", 1) for record in recorded} == {1, 4}
    cells = table.groupby(["labels", "method", "seed"]).kind.apply(list)
    assert len(cells) == 2 * 3 * 2
    assert set(cells.map(tuple)) == {("clean", "shift", "shift", "masked", "deleted")}
    assert (set(table.task), set(table.preset)) == ({task.name}, {"tiny"})
    assert table.groupby("method").checkpoint.first().map(len).to_dict() == {
        "stem": 0,
        "pretrained": 12,
        "pretrained, no tokens": 12,
    }
    assert (
        table.groupby(["labels", "method"])[["lr", "weight_decay", "lipschitz", "dropout"]]
        .nunique()
        .eq(1)
        .all(axis=None)
    )
    assert table.val.between(0, 100).all()
    assert table.groupby(["labels", "method", "seed"]).val.nunique().eq(1).all()
    assert not table.whole_validation.any()
    if kind == "node":
        found = gains(table, "pretrained")
        assert found[["labels", "kind"]].values.tolist() == [
            [labels, kind] for labels in (0, 3) for kind in ("clean", "shift", "masked", "deleted")
        ]
        mean = table[(table.labels == 3) & (table.kind == "shift")].groupby("method").score.mean()
        gain = found[(found.labels == 3) & (found.kind == "shift")].gain.item()
        assert gain == pytest.approx(mean["pretrained"] - mean["stem"])
        assert (found.low <= found.gain).all()


def test_seeds_take_the_checkpoints_in_turn(saved: Path, runs: Path) -> None:
    other = checkpoint(runs / "other", steps=1)
    task = unit_features(TASKS["node"](), WIDTH)
    table = compared(task, starts(TINY, {"pretrained": [saved, other]}), [0, 1, 2], SHORT, TINY, budgets=(0,))
    of_seed = table.groupby(["method", "seed"]).checkpoint.unique().map(list).unstack("seed")
    first, second, third = of_seed.loc["pretrained"]
    assert first == third != second
    assert of_seed.loc["stem"].tolist() == [[""]] * 3
    recorded = {read_record(file.parent).settings.get("checkpoint", "")[:12] for file in runs.rglob("record.json")}
    assert recorded == {"", *first, *second}


def test_gains_are_paired_by_seed() -> None:
    rows = [
        {"task": "t", "labels": 5, "kind": kind, "method": method, "seed": seed, "score": 50 + 10 * seed + bonus}
        for kind in ("clean", "shift")
        for method, bonus in (("stem", 0), ("pretrained", 2))
        for seed in range(4)
    ]
    found = gains(pd.DataFrame(rows), "pretrained")
    assert found[["gain", "low", "high"]].values.tolist() == [[2.0, 2.0, 2.0]] * 2  # seeds differ by 10 points
    with pytest.raises(ValueError, match="'other' and 'stem' do not have the same seed"):
        gains(pd.DataFrame(rows), "other")


def test_the_command_keeps_each_data_set_as_soon_as_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def found(name: str, preset: Preset, checkpoints: dict[str, Path], *settings: object) -> pd.DataFrame:
        asked.append((name, preset.name, sorted(checkpoints), *settings))
        return pd.DataFrame({"task": [name]})

    monkeypatch.setattr(transfer, "results", found)
    monkeypatch.setattr(records, "DATA", tmp_path)
    monkeypatch.setattr(transfer, "DATA", tmp_path)
    with pytest.raises(SystemExit):
        transfer.main(["cora", "--preset", "paper"])
    assert "run python -m study.pretrain --preset paper --release paper first" in capsys.readouterr().err
    (tmp_path / "checkpoints/paper").mkdir(parents=True)
    (tmp_path / "checkpoints/paper/model.json").touch()
    transfer.main(["cora", "built-in", "--preset", "paper", "--seeds", "3"])
    assert asked == [
        (name, "paper", ["pretrained"], 3, (0, 10, 5, 3), transfer.RIVALS, False) for name in ("cora", "built-in")
    ]
    assert read_results("05_transfer-cora").values.tolist() == [["cora"]]
    monkeypatch.setattr(transfer, "load_pool", lambda width, nodes, whole: ("pool", width, nodes))
    monkeypatch.setattr(transfer, "pretrained_variant", lambda *given: given)
    monkeypatch.setattr(transfer, "in_numbers", lambda folder, name: {"width": folder[1][1], "of": folder[3]})
    transfer.main(["cora", "--variants", "own", "usual", "--labels", "5"])
    assert asked[2:] == [("cora", "laptop", ["own", "usual"], 5, [5], (), False)]
    kept = read_results("05_variant_runs-cora")
    assert kept.values.tolist() == [["cora", "own", 128, "cora"], ["cora", "usual", 128, "cora"]]
    assert read_results("05_variants-cora").values.tolist() == [["cora"]]
    transfer.main(["cora", "--preset", "paper", "--whole-validation"])
    assert asked[3][-1] is True
    assert read_results("05_transfer_whole_validation-cora").values.tolist() == [["cora"]]
    for wrong in (["corra"], ["cora", "--preset", "smoke"]):
        with pytest.raises(SystemExit):
            transfer.main(wrong)
        assert wrong[-1] in capsys.readouterr().err


def test_the_built_in_graph_is_compared_by_name(saved: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "mixed_graph", lambda nodes: replace(node_task(nodes), name="built-in"))
    monkeypatch.setattr(transfer, "starts", lambda preset, *given: starts(TINY, *given)[:1])
    table = transfer.results("built-in", replace(TINY, hidden=WIDTH, epochs=1), {"p": [saved]}, 1, (3,))
    assert (set(table.task), set(table.labels), set(table.method)) == ({"built-in"}, {3}, {"stem", *RIVALS})
