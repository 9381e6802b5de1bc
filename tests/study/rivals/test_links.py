"""What NCN, NCNC and NBFNet have in common: who they answer for, what they may not read, and that they come back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from run_samples import equal, weights
from samples import EXACT, TASKS, link_task, random_graph, renumbered

from stemlib.data.batches import batches
from stemlib.data.graph import sorted_by_target
from stemlib.data.tasks import Split, Task
from stemlib.data.triples import Triples, message_graph
from stemlib.presets import Preset, change
from stemlib.training.evaluation import predict
from study.families import build
from study.method import Method
from study.methods import named
from study.rivals.bellman_ford import BellmanFord
from study.rivals.common_neighbours import CommonNeighbours
from study.trained import run, trained_model

NAMES = ("ncn", "ncnc", "nbfnet")
TINY = Preset("tiny", hidden=8, epochs=3, patience=3, seeds=1, nodes=80)
FEATURES = ("none", "rows", "types")


def small(name: str, **train: object) -> Method:
    (method,) = named(TINY, name)
    return replace(method, train=change(method.train, batch_size=16, **train))


def network(name: str, edge_features: str = "none") -> CommonNeighbours | BellmanFord:
    """In float64, for `random_graph`'s width and five classes, in evaluation mode."""
    config = small(name).model
    kind = BellmanFord if name == "nbfnet" else CommonNeighbours
    return kind(config, 6, 5, "link", None if edge_features == "none" else 3).double().eval()


def triples_task() -> Task:
    """Forty triples of three relations, of which thirty train; messages run along these, as in a knowledge graph."""
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randint(12, (40, 2), generator=generator)
    relation = torch.arange(40) % 3
    graph = message_graph(Triples(pairs, relation, (30, 5, 5), list("abcdefghijkl"), list("rst")), "train")
    graph.x, graph.edge_attr = torch.randn(12, 4, generator=generator), torch.randn(6, 5, generator=generator)
    split = Split("given", *torch.arange(40).split((30, 5, 5)))
    return Task("triples", "link", sorted_by_target(graph), relation, {"given": split}, pairs=pairs)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["node", "graph"])
def test_only_links_are_answered_for(name: str, kind: str) -> None:
    with pytest.raises(ValueError, match=f"answers for pairs of nodes, and a {kind} task has none"):
        build(small(name).model, TASKS[kind]())


@pytest.mark.parametrize("edge_features", FEATURES)
@pytest.mark.parametrize("name", NAMES)
def test_numbers_of_nodes_and_order_of_edges_and_pairs_do_not_matter(name: str, edge_features: str) -> None:
    graph = random_graph(edge_features=edge_features)
    pairs, order, edge_order, turn = torch.randint(12, (9, 2)), *map(torch.randperm, (12, 30, 9))
    other = renumbered(graph, order, edge_order)
    model = network(name, edge_features)
    expected = model(graph, pairs).logits
    torch.testing.assert_close(model(other, order.argsort()[pairs][turn]).logits, expected[turn], **EXACT)


@pytest.mark.parametrize("name", NAMES)
def test_a_training_pairs_own_edge_is_not_read(name: str) -> None:
    """With the types of a step's own edges changed the answers stay; where they are shown, they change."""
    task, step = triples_task(), torch.arange(8)
    graph = replace(task.graph, edge_type=task.graph.edge_type.clone())
    graph.edge_type[torch.isin(graph.edge_pair, step)] = 5
    other, model = replace(task, graph=graph), build(small(name).model, task).eval()

    def answers(of: Task, hide: bool) -> torch.Tensor:
        (batch,) = batches(of, step, hide=hide)
        return model(batch.graph, batch.instances).logits

    assert torch.equal(answers(task, True), answers(other, True))
    assert not torch.allclose(answers(task, False), answers(other, False))


@pytest.mark.parametrize("name", NAMES)
def test_a_graph_without_edges_is_answered_for(name: str) -> None:
    assert network(name)(random_graph(edges=0), torch.tensor([[0, 1], [2, 2]])).logits.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_comes_back_and_a_seed_says_it_all(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, method, found = link_task(), small(name), []
    for folder, seed in (("one", 0), ("two", 0), ("one", 1)):
        monkeypatch.setattr("study.trained.RUNS", tmp_path / folder)
        record = run("t", task, "random", method, seed)
        found.append(weights(task, method, seed))
    assert record.epochs == 3
    assert equal(found[0], found[1])
    assert not equal(found[0], found[2])
    model = trained_model("t", task, "random", method, 1)
    assert model.config == method.model
    assert torch.equal(predict(model, task), predict(model, task))


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_the_training_pairs(name: str) -> None:
    task = link_task()
    torch.manual_seed(0)
    model = build(change(small(name).model, dropout=0.0, input_dropout=0.0), task)
    index = task.split("random").train
    optimiser = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(60):
        optimiser.zero_grad()
        output = model(task.graph, task.pairs[index])
        torch.nn.functional.cross_entropy(output.logits, task.labels[index]).backward()
        optimiser.step()
    assert (predict(model, task, index).argmax(1) == task.labels[index]).float().mean() > 0.95
