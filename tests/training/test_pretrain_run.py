"""A run's steps: the rate, the loss, the state, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from pretrain_samples import MODEL, tiny_pool, tiny_run
from samples import small_model

from stemlib.presets import PretrainConfig, preset
from stemlib.training.journal import LOSSES
from stemlib.training.pretrain_run import Run, learning_rate


def stepped(run: Run) -> dict[str, float]:
    """What a step writes down."""
    run.step()
    return run.checked()


def test_one_cosine_over_the_run_by_hand() -> None:
    config = PretrainConfig(lr=2.0)
    rates = [learning_rate(step, 8, config) for step in range(8)]
    assert rates[0] == 2.0
    assert rates[2] == pytest.approx(1 + math.sqrt(0.5))
    assert rates[4] == pytest.approx(1.0)
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < 0.08
    assert learning_rate(8, 8, config) == 0


def test_the_references_rate_swings_with_a_period_of_so_many_steps() -> None:
    """As recorded of it: 0 at step 50, back at the maximum at step 100, whatever the length of the run."""
    config = PretrainConfig(lr=1e-4, schedule="reference")
    for steps in (10, 100_000):
        rates = {step: learning_rate(step, steps, config) for step in (0, 25, 50, 100, 150, 200)}
        expected = {0: 1e-4, 25: 0.5e-4, 50: 0.0, 100: 1e-4, 150: 0.0, 200: 1e-4}
        assert rates == pytest.approx(expected, abs=1e-12)


def test_the_optimiser_has_the_steps_rate() -> None:
    run = tiny_run()
    for step in range(3):
        rate = run.optimiser.param_groups[0]["lr"]
        assert rate == learning_rate(step, 8, run.config) == stepped(run)["rate"]


@pytest.mark.parametrize("codebook", ["ema", "reference", "learnable", "none"])
def test_training_lowers_the_loss(codebook: str) -> None:
    run = tiny_run(small_model(codebook=codebook), steps=80, lr=1e-2)
    while run.journal.done < run.steps:
        run.step()
    frame = run.journal.losses(run.pool.names)
    losses = frame.loss / frame.groupby("data_set").loss.transform("first")
    assert losses.groupby(frame.data_set).apply(lambda of: of.tail(5).mean()).max() < 0.9


def test_a_step_writes_down_the_weighted_sum_and_its_terms() -> None:
    run = tiny_run()
    row = stepped(run)
    weighted = sum(getattr(run.config, name) * row[name] for name in LOSSES if not math.isnan(row[name]))
    assert row["loss"] == pytest.approx(weighted)
    noted = run.journal.losses(run.pool.names).iloc[0]
    assert noted.loss == pytest.approx(row["loss"])
    assert noted.data_set == run.pool.names[run.pool.drawn(0, 0)]
    assert run.journal.codes[0].sum(1).unique().numel() == 1  # every head has a token for every node
    load = run.journal.load[0].sum(-1)
    drawn = run.pool.drawn(0, 0)
    assert torch.allclose(load[drawn], run.journal.nodes[0, drawn].expand(2))


def test_gradients_are_clipped_before_the_step() -> None:
    """Without decay, Adam's first step is the same for a gradient and its multiple: look at its moments."""
    run = tiny_run(clip=1e-3)
    row = stepped(run)
    assert row["gradient_norm"] > 1e-3
    moments = [state["exp_avg"] for state in run.optimiser.state.values()]
    assert math.sqrt(sum(float(m.square().sum()) for m in moments)) == pytest.approx(0.1 * 1e-3, rel=1e-3)


def test_steps_are_given_or_follow_from_epochs() -> None:
    pool = tiny_pool()
    assert tiny_run(steps=5).steps == 5
    run = tiny_run(steps=0, epochs=3, batch_size=40)
    assert run.steps == 3 * pool.epoch_steps(40) > 3
    assert [preset(name).pretrain().steps for name in ("smoke", "laptop", "paper")] == [100, 8000, 0]
    assert preset("paper").pretrain() == PretrainConfig(steps=0, epochs=50, lr=1e-4, log_every=200)
    assert preset("laptop").pretrain(steps=7, schedule="reference").steps == 7


def test_a_state_brings_back_everything(tmp_path: Path) -> None:
    run = tiny_run(file=tmp_path / "state")
    for _ in range(3):
        run.step()
    run.loop.keep()
    again = tiny_run(file=tmp_path / "state")
    assert again.journal.done == 3
    for _ in range(3):
        run.step()
        again.step()
    assert torch.equal(run.journal.steps.nan_to_num(), again.journal.steps.nan_to_num())
    one, other = run.student.state_dict(), again.student.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_loss_that_is_not_finite_is_reported_with_step_and_data_set() -> None:
    run = tiny_run(lr=1e30)
    stepped(run)  # moves every weight to infinity
    for _ in range(2):  # on a GPU several steps may pass before one looks
        run.step()
    with pytest.raises(FloatingPointError, match=r"step 1 on tiny.*lower the learning rate"):
        run.checked()


def test_nothing_to_learn_is_refused() -> None:
    with pytest.raises(ValueError, match=r"nothing to learn: all of feature, edge, .* have weight 0"):
        tiny_run(**dict.fromkeys(LOSSES, 0.0))


def test_a_data_set_with_nothing_to_learn_from_is_named() -> None:
    only_edge_features = {name: 0.0 for name in LOSSES if name != "edge_feature"}
    run = tiny_run(steps=20, **only_edge_features)
    first = [run.pool.names[run.pool.drawn(step, 0)] for step in range(20)].index("tiny")
    for _ in range(first):
        assert stepped(run)["edge_feature"] > 0
    with pytest.raises(ValueError, match=rf"step {first}: tiny has no data for the objectives with a weight"):
        run.step()


def test_every_encoder_can_be_pretrained() -> None:
    """Those that need whole graphs too."""
    for routed, backbone, norm in (("none", "gcn", "none"), ("last", "gat", "none"), ("all", "sage", "batch")):
        run = tiny_run(small_model(routed=routed, backbone=backbone, norm=norm), steps=4)
        for _ in range(4):
            assert math.isfinite(stepped(run)["loss"])


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("steps", -1, "steps must lie in 0..inf"),
        ("epochs", 0, "epochs must lie in 1..inf"),
        ("fanout", 0, "fanout must lie in 1..inf"),
        ("lr", 0.0, "lr must lie in"),
        ("schedule", "linear", "schedule must be one of cosine, reference; got 'linear'"),
        ("precision", "fp16", "precision must be one of float32, bf16; got 'fp16'"),
        ("teacher_decay", 1.1, r"teacher_decay must lie in 0..1"),
        ("edge_share", 2.0, r"edge_share must lie in 0..1"),
        ("feature_dropout", 1.0, r"feature_dropout must lie in 0..0.99"),
        ("clip", 0.0, "clip must lie in"),
    ],
)
def test_senseless_settings_are_refused(setting: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PretrainConfig(**{setting: value})


def test_a_width_that_the_model_cannot_route_is_no_matter(tmp_path: Path) -> None:
    """Features need not be as wide as the model."""
    assert tiny_pool().width != MODEL.hidden
    assert stepped(Run(tiny_pool(), MODEL, PretrainConfig(steps=1), 0, "cpu", tmp_path / "none"))["loss"] > 0
