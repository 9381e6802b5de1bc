"""What is done to a trained model afterwards: only what is meant to change changes, and by how much is known."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from routed_samples import exact, random_model
from run_samples import TRAIN, equal
from samples import EXACT, TASKS, graph_task, node_task, random_graph, small_model
from torch.nn import functional as F

from stemlib.data.graph import Graph
from stemlib.data.tasks import Task
from stemlib.model.stem import StemGNN
from stemlib.training.afterwards import manifold, merge, null_space
from stemlib.training.evaluation import predict
from stemlib.training.finetune import fit
from study.families import build, load_model, save_model

KIND = pytest.mark.parametrize("kind", TASKS)


def trained(task: Task, **settings: object) -> StemGNN:
    torch.manual_seed(0)
    model = build(small_model(**settings), task)
    fit(model, task, task.split("random"), replace(TRAIN, epochs=12, patience=12, batch_size=16), 0)
    return model


def copied(model: StemGNN) -> dict[str, torch.Tensor]:
    return deepcopy(model.state_dict())


@KIND
def test_manifold_moves_routers_alone_and_lowers_its_objective(kind: str) -> None:
    task = TASKS[kind]()
    before = copied(model := trained(task))
    history = manifold(model, task, task.split("random"), epochs=8)
    assert history[-1] < history[0]
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {f"encoder.routers.{level}.{name}" for level in (0, 1) for name in ("weight", "bias")}
    assert not model.training
    assert all(value.grad is None for value in model.encoder.routers.parameters())


@pytest.mark.parametrize("batch_size", [0, 7])
def test_manifold_draws_nothing(batch_size: int) -> None:
    task, results = node_task(), []
    for seed in (0, 1):
        model = trained(task)
        torch.manual_seed(seed)
        history = manifold(model, task, task.split("random"), epochs=3, batch_size=batch_size)
        results.append((history, copied(model)))
    assert results[0][0] == results[1][0]
    assert equal(results[0][1], results[1][1])


def test_the_objective_of_manifold_by_hand() -> None:
    """Cross-entropy, and squared distances of gates from those of the nearest right instances."""
    task = node_task()
    split, model = task.split("random"), trained(task)
    with torch.no_grad():
        output = model(task.graph, split.train)
    gates = torch.cat([one[split.train] for one in output.encoding.gates], 1)
    labels = task.labels[split.train]
    right = (output.logits.argmax(1) == labels).nonzero().squeeze(1)
    squared = torch.cdist(output.embedding.double(), output.embedding.double()).square()
    pairs = {}
    for i in range(len(labels)):
        near = right[squared[i, right].argsort()[:3]]
        pairs |= {(i, j): squared[i, j] for j in near.tolist() if j != i}
    scale = torch.stack(list(pairs.values())).median()
    total = 0.0
    for i in range(len(labels)):
        weights = {j: torch.exp(-value / scale) for (a, j), value in pairs.items() if a == i}
        apart = sum(weights[j] * (gates[i] - gates[j]).square().sum() for j in weights)
        total += apart / sum(weights.values()) / len(labels)
    expected = F.cross_entropy(output.logits, labels) + 0.7 * total
    found = manifold(model, task, split, epochs=1, weight=0.7, neighbours=2)
    assert found == [pytest.approx(expected.item(), rel=1e-4)]


def test_manifold_brings_neighbours_gates_together() -> None:
    task = node_task()
    spread = {}
    for weight in (0.0, 30.0):
        model = trained(task)
        manifold(model, task, task.split("random"), epochs=30, weight=weight, lr=0.01)
        gates = model.encode(task.graph).gates[0][task.split("random").train]
        labels = task.labels[task.split("random").train]
        spread[weight] = sum(gates[labels == k].var(0).sum().item() for k in range(3))
    assert spread[30.0] < spread[0.0]


def test_what_manifold_cannot_align_is_refused_by_name() -> None:
    split = (task := node_task()).split("random")
    for name, value in (("routed", "none"), ("router", "uniform"), ("router", "top1")):
        with pytest.raises(ValueError, match=f"of {name}='{value}' .* no gradient"):
            manifold(build(small_model(**{name: value}), task), task, split)
    wrong = replace(task, labels=predict(model := trained(task), task).argmin(1))
    with pytest.raises(ValueError, match=r"correctly classified instances; the model has 0 of [0-9]+"):
        manifold(model, wrong, split)
    numbers = replace(graph_task(), regression=True)
    with pytest.raises(ValueError, match="a regression has none"):
        manifold(build(small_model(), numbers), numbers, numbers.split("random"))


@KIND
@pytest.mark.parametrize("routed", ["all", "last"])
def test_merging_into_as_many_is_the_identity(kind: str, routed: str) -> None:
    task = exact(TASKS[kind]())
    model = random_model(task, routed=routed, norm="batch")
    merged = merge(model, task.graph, 3)
    assert merged is not model
    torch.testing.assert_close(predict(merged, task), predict(model, task), **EXACT)
    assert equal(merged.state_dict(), model.state_dict())


def twins(model: StemGNN) -> StemGNN:
    """With the first two experts of each layer alike, and the third the most used."""
    with torch.no_grad():
        for layer, router in zip(model.encoder.layers, model.encoder.routers, strict=True):
            layer.weight[1], router.weight[1], router.bias[1] = layer.weight[0], router.weight[0], router.bias[0]
            router.weight[2] = -router.weight[0]
            router.bias[2] += 3
    return model


def test_merging_equal_experts_changes_nothing() -> None:
    task = exact(node_task())
    model = twins(random_model(task))
    before, weights = predict(model, task), copied(model)
    merged = merge(model, task.graph, 2)
    assert merged.config.experts == 2
    torch.testing.assert_close(predict(merged, task), before, **EXACT)
    for mine, theirs in zip(merged.encode(task.graph).gates, model.encode(task.graph).gates, strict=True):
        torch.testing.assert_close(mine, torch.stack([theirs[:, :2].sum(1), theirs[:, 2]], 1), **EXACT)
    assert equal(model.state_dict(), weights)


def test_merging_into_one_is_the_mean_by_use() -> None:
    task = exact(node_task())
    model = random_model(task)
    merged = merge(model, task.graph, 1)
    use = model.encode(task.graph).gates[0].mean(0)
    expected = torch.einsum("k,kio->io", use, model.encoder.layers[0].weight)
    torch.testing.assert_close(merged.encoder.layers[0].weight[0], expected, **EXACT)
    assert (merged.encode(task.graph).gates[1] == 1).all()
    assert predict(merged, task).isfinite().all()


def test_a_group_is_of_experts_with_like_logits() -> None:
    task = exact(node_task())
    model = random_model(task, experts=4)
    with torch.no_grad():
        for router in model.encoder.routers:
            rows = torch.randn(2, router.in_features, dtype=torch.double)
            router.weight.copy_(torch.cat([rows, rows]))
            router.bias.copy_(torch.tensor([4.0, 4.0, 0.0, 0.0]))
    use = model.encode(task.graph).gates[0].mean(0).view(4, 1, 1)
    sums = use * model.encoder.layers[0].weight
    expected = (sums[:2] + sums[2:]) / (use[:2] + use[2:])
    torch.testing.assert_close(merge(model, task.graph, 2).encoder.layers[0].weight, expected, **EXACT)


def test_a_merged_network_can_be_trained_and_kept(tmp_path: Path) -> None:
    task = node_task()
    merged = merge(trained(task), task.graph, 2)
    fit(merged, task, task.split("random"), TRAIN, 0)
    save_model(merged, tmp_path / "model")
    assert torch.equal(predict(load_model(tmp_path / "model"), task), predict(merged, task))


@pytest.mark.parametrize(
    ("settings", "experts", "message"),
    [
        ({"router": "cosine"}, 2, "got routed='all', expert='mean', router='cosine'"),
        ({"routed": "none"}, 2, "got routed='none'"),
        ({}, 4, "merge leaves 1 to 3 of this model's experts, not 4"),
        ({}, 0, "merge leaves 1 to 3 of this model's experts, not 0"),
    ],
)
def test_what_cannot_be_merged_is_refused_by_name(settings: dict, experts: int, message: str) -> None:
    task = node_task()
    with pytest.raises(ValueError, match=message):
        merge(build(small_model(**settings), task), task.graph, experts)


def few_states() -> tuple[Task, Graph]:
    """A node task in float64, and a clean graph of two nodes, fewer than features and units."""
    return exact(node_task()), random_graph(2, 3, width=3)


@pytest.mark.parametrize("router", ["linear", "topk"])
def test_the_null_space_keeps_the_logits_of_clean_states(router: str) -> None:
    task, clean = few_states()
    torch.manual_seed(0)
    model = build(small_model(router=router), task).double()
    states = model.eval().encode(clean).inputs
    parts = [part.gate if router == "topk" else part for part in model.encoder.routers]
    logits = [part(own).detach() for part, own in zip(parts, states, strict=True)]
    names = model.state_dict().keys()
    other = torch.randn(50, 8, dtype=torch.double)
    elsewhere = parts[1](other).detach()
    with null_space(model, clean):
        fit(model, task, task.split("random"), replace(TRAIN, weight_decay=0.1, lr=0.1), 0)
    for part, own, expected in zip(parts, states, logits, strict=True):
        torch.testing.assert_close(part(own), expected, rtol=0, atol=1e-10)
    assert (parts[1](other) - elsewhere).abs().max() > 1e-2  # it has learnt all the same
    assert model.state_dict().keys() == names
    assert all(value.requires_grad for value in model.encoder.routers.parameters())


def test_a_share_of_the_energy_leaves_more_to_learn() -> None:
    """Of many nodes all directions are spanned; of the strongest alone the logits are kept the best."""
    task = exact(node_task())
    model = build(small_model(), task).double().eval()
    with pytest.raises(ValueError, match=r"span all directions in every routed layer.*lower energy=1"):
        null_space(model, task.graph).__enter__()
    states = model.encode(task.graph).inputs[0].detach()
    router, start = model.encoder.routers[0], model.encoder.routers[0].weight.detach().clone()
    with null_space(model, task.graph, energy=0.5):
        router.parametrizations.weight.original.data += torch.randn_like(start)
    moved = router.weight - start
    values, vectors = torch.linalg.eigh(states.T @ states)
    kept = (moved @ vectors).norm(dim=0) < 1e-9
    assert 0 < kept.sum() < len(values)
    assert kept.tolist() == sorted(kept.tolist())  # the strongest are kept
    assert values[kept].sum() >= 0.5 * values.sum()


def test_the_null_space_is_left_when_training_fails() -> None:
    task, clean = few_states()
    names = (model := build(small_model(), task).double()).state_dict().keys()
    with pytest.raises(RuntimeError, match="killed"), null_space(model, clean):
        raise RuntimeError("killed")
    assert model.state_dict().keys() == names


def test_what_has_no_null_space_is_refused_by_name() -> None:
    task, clean = few_states()
    for name, value in (("router", "cosine"), ("router", "uncertain"), ("routed", "none")):
        with pytest.raises(ValueError, match=f"{name}='{value}'"):
            null_space(build(small_model(**{name: value}), task).double(), clean).__enter__()
    with pytest.raises(ValueError, match=r"energy must lie in 0\.\.1"):
        null_space(build(small_model(), task), clean, energy=0.0).__enter__()
