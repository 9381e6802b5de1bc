"""Bag-of-words features as sparse matrices: the same numbers, in networks that map features first."""

from __future__ import annotations

from copy import copy, deepcopy
from dataclasses import replace

import pytest
import torch
from samples import node_task, small_baseline, small_model
from torch import Tensor

from stemlib.baselines.networks import MAPS_FIRST, NETWORKS, Baseline
from stemlib.data.tasks import Task
from stemlib.model import sparse_features
from stemlib.model.layers import Dropout
from stemlib.model.sparse_features import compact, first_rows, is_sparse
from stemlib.presets import TrainConfig
from stemlib.stress.conditions import Condition, corrupt
from stemlib.theory.coverage import coverages
from stemlib.theory.sensitivity import sensitivity
from stemlib.training.finetune import training_batches
from study.costs import size
from study.families import build

NODES, WORDS = 80, 600


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> Task:
    """Nodes with a few words of many; so few nodes count as many."""
    monkeypatch.setattr(sparse_features, "FEWEST", NODES * WORDS)
    task, generator = node_task(NODES), torch.Generator().manual_seed(0)
    graph = copy(task.graph)
    graph.x = (torch.rand(NODES, WORDS, generator=generator) < 0.02).float()
    return replace(task, graph=graph)


def test_few_values_or_full_matrices_stay_as_they_are(words: Task) -> None:
    x = words.graph.x
    assert compact(x).layout == torch.sparse_csr
    assert torch.equal(compact(x).to_dense(), x)
    assert compact(x[1:]).layout == torch.strided  # fewer values
    assert compact(torch.ones_like(x)).layout == torch.strided


def logits_and_gradients(model: Baseline, task: Task) -> list[Tensor]:
    model.zero_grad()
    logits = model(task.graph, None).logits
    logits.square().sum().backward()
    return [logits.detach(), *(value.grad.clone() for value in model.parameters())]


@pytest.mark.parametrize("kind", NETWORKS)
def test_networks_give_the_numbers_of_full_features(kind: str, words: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = Baseline(small_baseline(kind), WORDS, classes=3)
    read = []
    model.network.register_forward_pre_hook(lambda _, given: read.append(given[0].layout))
    sparse = logits_and_gradients(model, words)
    monkeypatch.setattr(sparse_features, "FEWEST", NODES * WORDS + 1)
    full = logits_and_gradients(deepcopy(model), replace(words, graph=copy(words.graph)))
    assert read == [torch.sparse_csr if kind in MAPS_FIRST else torch.strided, torch.strided]
    for one, other in zip(sparse, full, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


FORMS = {"stem": {}, "static": {"routed": "none"}, "last": {"routed": "last"}, "as wide": {"hidden": WORDS}}


@pytest.mark.parametrize("form", FORMS)
def test_experts_give_the_numbers_of_full_features(form: str, words: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, split, found = build(small_model(**FORMS[form]), words).eval(), words.split("random"), []
    for fewest in (NODES, 2**40):
        monkeypatch.setattr(sparse_features, "FEWEST", fewest)
        (batch,) = training_batches(model, words, split, TrainConfig())(None)
        assert is_sparse(batch.graph.x) == (fewest == NODES)
        model.zero_grad()
        logits = model(batch.graph, batch.instances).logits
        logits.square().sum().backward()
        found.append([logits.detach(), *(value.grad for value in model.parameters() if value.grad is not None)])
        found[-1].append(model.embed(batch.graph, batch.instances).detach())
        with torch.autocast("cpu", torch.bfloat16):
            found[-1].append(model.embed(batch.graph, batch.instances).detach())
        found[-1] += model.encoder(batch.graph, keep_outputs=True).outputs
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_features_stay_full_beside_those_of_edges(words: Task) -> None:
    words.graph.edge_attr = torch.randn(words.graph.num_edges, 5)
    model = build(small_model(), words)
    (batch,) = training_batches(model, words, words.split("random"), TrainConfig())(None)
    assert not is_sparse(batch.graph.x)


def test_the_first_rows_are_those_of_full_features(words: Task) -> None:
    x = words.graph.x
    for count in (0, 1, 30, NODES):
        assert torch.equal(first_rows(compact(x), count).to_dense(), first_rows(x, count))
        assert first_rows(x, count).shape == (count, WORDS)


def test_changed_features_are_read_again(words: Task) -> None:
    model = Baseline(small_baseline("gcn"), WORDS, classes=3).eval()
    before = model(words.graph, None).logits
    words.graph.x[0] = 1 - words.graph.x[0]
    after = model(words.graph, None).logits
    assert not torch.allclose(before, after)
    assert torch.equal(after, deepcopy(model)(words.graph, None).logits)


def test_dropout_of_a_sparse_matrix_drops_and_scales_what_is_there(words: Task) -> None:
    x, dropout = compact(words.graph.x), Dropout(0.25)
    torch.manual_seed(0)
    dropped = dropout(x).to_dense()
    there = words.graph.x.bool()
    assert (dropped[~there] == 0).all()
    assert set(dropped[there].unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert (dropped[there] == 0).float().mean().item() == pytest.approx(0.25, abs=0.05)
    assert dropout.eval()(x) is x


def test_a_network_s_products_are_counted_as_of_full_features(words: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    model, few = build(small_model(), words), torch.arange(5)
    counted = []
    for fewest in (1, NODES * WORDS + 1):
        monkeypatch.setattr(sparse_features, "FEWEST", fewest)
        counted.append(size(model, words, few))
    assert counted[0] == counted[1]


CHOICES = [{"router": "cosine"}, {"router": "smoothed"}, {"expert": "filters", "filters": "low mean high two ppr self"}]


@pytest.mark.parametrize("choice", [*CHOICES, {"expert": "filters", "router": "pregate"}, {"expert": "shared_pool"}])
def test_routed_layers_map_words_first_and_theory_has_them_full(
    choice: dict[str, str], words: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    experts = 6 if "filters" in choice else 3
    model = build(small_model(codebook="none", experts=experts, **choice), words).double().eval()
    task = replace(words, graph=copy(words.graph))
    task.graph.x = task.graph.x.double()
    encode = model.encoder
    sparse, full = encode(task.graph), encode(task.graph, keep_outputs=True)
    assert is_sparse(sparse.inputs[0])
    assert not is_sparse(full.inputs[0])
    torch.testing.assert_close(sparse.z, full.z, atol=1e-12, rtol=1e-12)
    gradients = [
        torch.autograd.grad(found.z.square().sum(), encode.parameters(), allow_unused=True) for found in (sparse, full)
    ]
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-10)
    monkeypatch.setattr(sparse_features, "FEWEST", NODES * WORDS + 1)
    assert not is_sparse(encode(replace(task, graph=copy(task.graph)).graph).inputs[0])


@pytest.mark.parametrize("choice", [{"router": "cosine"}, {"router": "smoothed"}, {"expert": "filters"}])
def test_both_decompositions_read_words(choice: dict[str, str], words: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = build(small_model(codebook="none", **choice), words)

    def read() -> list[float]:
        task = replace(words, graph=copy(words.graph))
        clean = Condition("clean", task, torch.arange(NODES))
        found = coverages(model, [clean], losses=["ce"])[0]
        moved = sensitivity(model, clean, corrupt(clean, "masked", 0.4, seed=0)[0], "loss").sequential
        return [found.R, found.C, found.S, *moved.mean.flatten().tolist()]

    sparse = read()
    monkeypatch.setattr(sparse_features, "FEWEST", NODES * WORDS + 1)
    assert read() == pytest.approx(sparse, rel=1e-4, abs=1e-6)
