"""Variants of pretraining: one change each, the same for everybody, on the pool that they name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd
import pytest
import torch
from pretrain_samples import tiny_pool

from stemlib.presets import Preset, PretrainConfig, preset
from stemlib.training.pool import Member, Pool
from study import variants as pretrain_variants
from study.paths import RUNS
from study.variants import VARIANTS, in_numbers, pretrained_variant, related, variant

SIZES = {"hidden": 6, "epochs": 3, "patience": 3, "seeds": 1, "nodes": 80}
TINY = Preset("tiny", **SIZES, pretraining=PretrainConfig(steps=32, edge=3.0, feature_dropout=0.4))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    calls = []

    def pretrain(*given: object, device: torch.device, start: Path | None, root: Path) -> Path:
        assert root == RUNS / "pretraining"
        calls.append((*given, start))
        return Path("there")

    monkeypatch.setattr(pretrain_variants, "pretrain", pretrain)
    return calls


def changed(one: object, other: object) -> set[str]:
    return {f.name for f in dataclasses.fields(one) if getattr(one, f.name) != getattr(other, f.name)}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_differs_from_the_usual_way_in_what_it_says(
    name: str, asked: list[tuple], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain_variants, "WEIGHTS", {"tiny": 5.0, "absent": 1.0})
    for each in ("usual", name):
        assert pretrained_variant(each, tiny_pool(), TINY, "tiny", seed=3) == Path("there")
    usual_pool, usual_model, usual_config, *_ = asked[0]
    pool, model, config, seed, start = asked[-1]
    later = VARIANTS[name].after is not None
    assert changed(model, usual_model) == set(VARIANTS[name].model)
    assert changed(config, usual_config) == set(VARIANTS[name].config) | ({"steps"} if later else set())
    assert (usual_config.steps, usual_config.edge, seed) == (8, 3.0, 3)
    assert (config.steps, start) == ((2, Path("there")) if later else (8, None))
    names = {"all": usual_pool.names, "own": ["tiny"], "others": ["tiny-links", "tiny-graphs"], "reference": ["tiny"]}
    assert pool.names == names[VARIANTS[name].pool]


def test_the_reference_s_weights_are_the_defaults_and_the_paper_preset_has_them() -> None:
    for name, value in pretrain_variants.REFERENCE.items():
        assert getattr(PretrainConfig(), name) == value == getattr(preset("paper").pretrain(), name)
        assert getattr(preset("laptop").pretrain(), name) == getattr(preset("smoke").pretrain(), name) != value


def test_a_variant_of_a_run_by_epochs_has_a_part_of_the_epochs(asked: list[tuple]) -> None:
    whole = dataclasses.replace(TINY, pretraining=TINY.pretrain(steps=0))
    for name, epochs in (("usual", 12), ("adapted", 3)):
        pretrained_variant(name, tiny_pool(), whole, "tiny")
        assert (asked[-1][2].steps, asked[-1][2].epochs) == (0, epochs)


def test_the_others_have_nothing_in_common_with_a_data_set() -> None:
    tasks = [
        dataclasses.replace(member.task, name=name)
        for name, member in zip(
            ("cora", "cora-ml", "hiv", "muv"), [*tiny_pool().members[:1] * 2, *tiny_pool().members[2:] * 2], strict=True
        )
    ]
    pool = Pool(Member(task, 1.0) for task in tasks)
    assert related(pool, "cora") == {"cora", "cora-ml"}
    assert related(pool, "hiv") == {"hiv", "muv"}
    assert related(pool, "wn18rr") == {"wn18rr"}


def test_unknown_variants_and_data_sets_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown variant 'bold'; there are usual, reference, "):
        variant("bold")
    for name in ("own", "others"):
        with pytest.raises(ValueError, match=r"of one data set of the pool \(tiny, .*-graphs\), got 'cora'"):
            pretrained_variant(name, tiny_pool(), TINY, "cora")


def test_a_variant_trains_and_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain_variants, "RUNS", tmp_path)
    small = dataclasses.replace(TINY, pretraining=TINY.pretrain(steps=4))
    folder = pretrained_variant("learnable-codebook", tiny_pool(), small)
    assert folder.is_relative_to(tmp_path / "pretraining")
    assert (folder / "model.json").is_file()
    monkeypatch.setattr("stemlib.training.pretrain.Run", None)
    assert pretrained_variant("learnable-codebook", tiny_pool(), small) == folder


def test_a_run_in_a_few_numbers(tmp_path: Path) -> None:
    losses = {"step": range(20), "data_set": ["a", "b"] * 10, "feature": [9.0] * 16 + [1.0, 3.0] * 2}
    pd.DataFrame(losses).to_csv(tmp_path / "losses.csv")
    usage = pd.DataFrame({"step": [9, 9, 19, 19], "head": [0, 1] * 2, "perplexity": [1, 1, 4, 6], "dead": [7, 7, 0, 3]})
    usage.to_csv(tmp_path / "tokens.csv")
    load = {"step": [9, 19, 19], "data_set": ["a", "a", "b"], "layer": [0, 0, 0], "largest": [0.9, 0.4, 0.6]}
    pd.DataFrame(load).to_csv(tmp_path / "experts.csv")
    found = in_numbers(tmp_path, "b")
    assert "feature" not in in_numbers(tmp_path, "absent")
    assert found == {"feature": 7.8, "perplexity": 5.0, "dead": 1.5, "largest share": 0.6}
