"""What was mended in STEM-GNN's training is offered to every network: the start at the prior, the head's penalty."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from samples import graph_task, link_task, node_task

from stemlib.data.tasks import Task
from stemlib.presets import PRESETS, TrainConfig, change
from stemlib.training.evaluation import predict
from stemlib.training.finetune import fit
from study.method import Method
from study.methods import METHODS, named

SMALL = change(PRESETS["smoke"], hidden=8, epochs=2)
# A stack is not trained: its members are.
NAMES = [name for name in METHODS if name != "reference" and not METHODS[name](SMALL).members]
OF_LINKS = ("ncn", "ncnc", "nbfnet")


def small(name: str) -> Method:
    (method,) = named(SMALL, name)
    return method


def rare_labels(task: Task) -> Task:
    labels = torch.ones(task.instances, 2)
    labels[::8, 0] = labels[::4, 1] = 0.0
    return replace(task, labels=labels)


@pytest.mark.parametrize("name", NAMES)
def test_every_network_starts_at_the_log_odds(name: str) -> None:
    """With weights at zero a network's answer is its last maps' biases: the prior, for mixtures of experts too."""
    task = rare_labels(link_task() if name in OF_LINKS else graph_task())
    torch.manual_seed(0)
    model = small(name).build(task)
    with torch.no_grad():
        for last in model.last_maps:
            for key, value in last.named_parameters():
                if "weight" in key:
                    value.zero_()
    model.start_at_prior(task.labels)
    positive, negative = ((task.labels == value).sum(0) for value in (1, 0))
    expected = ((positive + 1) / (negative + 1)).log()
    torch.testing.assert_close(predict(model, task), expected.expand(task.instances, 2))


@pytest.mark.parametrize("name", NAMES)
def test_the_penalty_is_on_the_weights_that_give_the_logits(name: str) -> None:
    task = link_task() if name in OF_LINKS else node_task()
    torch.manual_seed(0)
    model = small(name).build(task).eval()
    output = model(task.graph, task.select(torch.arange(task.instances)))
    found = model.penalty(output, TrainConfig(lipschitz=0.5))
    assert found.item() > 0
    found.backward()
    reached = {id(value) for value in model.parameters() if value.grad is not None and value.grad.any()}
    of_logits = {id(v) for last in model.last_maps for key, v in last.named_parameters() if "weight" in key}
    assert reached == of_logits
    with torch.no_grad():
        for last in model.last_maps:
            for key, value in last.named_parameters():
                value.mul_(2.0 if "weight" in key else 3.0)
    again = model.penalty(output, TrainConfig(lipschitz=0.5))
    torch.testing.assert_close(again.item(), 4 * found.item())
    assert model.penalty(output, TrainConfig(lipschitz=0.0)).item() == 0


@pytest.mark.parametrize("name", NAMES)
def test_all_methods_are_trained_with_both(name: str) -> None:
    train = small(name).train
    assert train.prior
    assert train.lipschitz == 1e-3


def test_a_strong_penalty_shrinks_a_baseline_s_last_map() -> None:
    task, sizes = node_task(), []
    for strength in (0.0, 10.0):
        what = small("gcn")
        torch.manual_seed(0)
        model = what.build(task)
        fit(model, task, task.split("random"), change(what.train, lipschitz=strength, epochs=30), 0)
        sizes.append(sum(value.norm().item() for value in model.last_maps[0].parameters()))
    assert sizes[1] < 0.5 * sizes[0]
