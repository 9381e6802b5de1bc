"""Settings: what a configuration accepts, and that a wrong one is refused when it is made."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from stemlib.presets import PRESETS, BaselineConfig, MixtureConfig, ModelConfig, Preset, TrainConfig, change, preset
from study.rivals.settings import BGRLConfig, DGIConfig, GraphMAEConfig, MowstConfig, ProbeConfig


def test_presets_are_found_by_name_and_grow() -> None:
    assert [preset(name) for name in ("smoke", "laptop", "paper")] == list(PRESETS.values())
    for size in ("hidden", "epochs", "patience", "seeds", "nodes"):
        sizes = [getattr(budget, size) for budget in PRESETS.values()]
        assert sizes == sorted(sizes), size
        assert sizes[0] < sizes[-1], size


def test_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown preset 'huge'; there are smoke, laptop, paper"):
        preset("huge")


def test_a_preset_sets_the_length_of_training() -> None:
    budget = preset("smoke")
    train = budget.train(lr=0.1)
    assert (train.epochs, train.patience, train.lr) == (budget.epochs, budget.patience, 0.1)
    assert budget.train(epochs=3).epochs == 3
    assert budget.pretrain() == budget.pretraining
    assert budget.pretrain(steps=3) == dataclasses.replace(budget.pretraining, steps=3)
    with pytest.raises(ValueError, match=r"PretrainConfig has no \['step'\]"):
        budget.pretrain(step=3)


def test_change_copies_and_refuses_unknown_names() -> None:
    config = ModelConfig()
    changed = change(config, routed="last", experts=5)
    assert (changed.routed, changed.experts) == ("last", 5)
    assert config == ModelConfig()
    with pytest.raises(ValueError, match=r"ModelConfig has no \['breadth'\]; it has .*'experts'"):
        change(config, breadth=5)
    with pytest.raises(ValueError, match=r"experts must lie in 1\.\.64"):
        change(config, experts=0)


def test_settings_cannot_be_altered() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ModelConfig().hidden = 3


@pytest.mark.parametrize(
    ("family", "setting", "value", "message"),
    [
        (ModelConfig, "hidden", 0, "hidden must lie in 1..inf, got 0"),
        (ModelConfig, "hidden", "32", "hidden must be of type int, got '32' [(]str[)]"),
        (ModelConfig, "hidden", 12.5, "hidden must be of type int, got 12.5 [(]float[)]"),
        (ModelConfig, "hidden", True, "hidden must be of type int, got True [(]bool[)]"),
        (ModelConfig, "layers", 0, "layers must lie in 1..inf"),
        (ModelConfig, "experts", 65, "experts must lie in 1..64, got 65"),
        (ModelConfig, "codes", 1, "codes must lie in 2..65536, got 1"),
        (ModelConfig, "codes", 65537, "codes must lie in 2..65536"),
        (ModelConfig, "heads", 65, "heads must lie in 1..64"),
        (ModelConfig, "code_width", 0, "code_width must lie in 1..inf"),
        (ModelConfig, "code_width", "8", "code_width must be of type int or NoneType"),
        (ModelConfig, "temperature", 0.0, "temperature must lie in 0.001..inf"),
        (ModelConfig, "dropout", 1.0, "dropout must lie in 0..0.99, got 1.0"),
        (ModelConfig, "routed", "some", "routed must be one of none, last, all; got 'some'"),
        (ModelConfig, "routed", None, "routed must be one of none, last, all; got None"),
        (ModelConfig, "backbone", "gnc", "backbone must be one of sage, gcn, gat, gin; got 'gnc'"),
        (ModelConfig, "codebook", "vq", "codebook must be one of none, reference, ema, learnable"),
        (ModelConfig, "norm", "group", "norm must be one of none, batch, layer"),
        (ModelConfig, "routed_edge_features", "no", "routed_edge_features must be of type bool"),
        (BaselineConfig, "kind", "transformer", "kind must be one of mlp, gcn, sage, gat, gin"),
        (BaselineConfig, "input_dropout", -0.1, "input_dropout must lie in 0..0.99"),
        (BaselineConfig, "heads", 0, "heads must lie in 1..64, got 0"),
        (BaselineConfig, "temperature", 0.0, "temperature must lie in 1e-09..inf"),
        (MowstConfig, "strong", "mlp", "strong must be one of gcn, sage, gat, gin; got 'mlp'"),
        (ProbeConfig, "encoder", "gin", "encoder must be one of gcn, gat; got 'gin'"),
        (DGIConfig, "steps", 0, "steps must lie in 1..inf, got 0"),
        (BGRLConfig, "momentum", 1.1, "momentum must lie in 0..1, got 1.1"),
        (GraphMAEConfig, "mask_rate", -0.1, "mask_rate must lie in 0..1"),
        (GraphMAEConfig, "gamma", 0.5, "gamma must lie in 1..inf, got 0.5"),
        (TrainConfig, "lr", 0, "lr must lie in 1e-09..inf"),
        (TrainConfig, "lr", float("nan"), "lr must lie in 1e-09..inf, got nan"),
        (TrainConfig, "lr", "fast", "lr must be of type float"),
        (TrainConfig, "weight_decay", -0.1, "weight_decay must lie in 0..inf"),
        (TrainConfig, "epochs", 0, "epochs must lie in 1..inf"),
        (TrainConfig, "patience", 0, "patience must lie in 1..inf"),
        (TrainConfig, "batch_size", -1, "batch_size must lie in 0..inf"),
        (TrainConfig, "lipschitz", None, "lipschitz must be of type float"),
        (TrainConfig, "edge_dropout", 1.0, "edge_dropout must lie in 0..0.99"),
        (TrainConfig, "consistency_on", "test", "consistency_on must be one of all, held_out; got 'test'"),
        (MixtureConfig, "gate", "learnt", "gate must be one of validated, uniform; got 'learnt'"),
        (MixtureConfig, "gate_counts", 0.0, "gate_counts must lie in 0.001..inf"),
    ],
)
def test_a_senseless_setting_is_refused_by_name(family: type, setting: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        family(**{setting: value})


def test_whole_numbers_serve_as_floats_and_a_width_may_be_left_open() -> None:
    assert TrainConfig(lr=1, weight_decay=0).lr == 1
    assert ModelConfig(code_width=None, codes=65536, experts=64).code_width is None
    assert isinstance(preset("paper"), Preset)
