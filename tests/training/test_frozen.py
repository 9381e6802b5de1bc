"""Answers of a loaded model: by name, in their own unit, and refused by name where there can be none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from samples import TASKS, graph_task, node_task, small_baseline, small_model
from saved_samples import CONFIGS, kept, raw_of
from torch.nn import functional as F
from torch_geometric.data import Batch, Data

import stemlib
from stemlib.data.feature_space import FeatureSpace
from stemlib.data.features import unit_features
from stemlib.data.graph import plain
from stemlib.data.molecules import featured
from stemlib.data.own_data import from_data
from stemlib.data.own_triples import from_triples
from stemlib.data.smiles import molecules
from stemlib.data.tasks import Split, Task, standardised
from stemlib.model.deployed import deploy
from stemlib.presets import MixtureConfig, TrainConfig
from stemlib.training.evaluation import decisions, predict
from stemlib.training.families import build
from stemlib.training.finetune import fit
from stemlib.training.saved import freeze


def test_pairs_are_asked_for_by_their_nodes(tmp_path: Path) -> None:
    task = TASKS["link"]()
    frozen = kept(build(small_model(), task), task, tmp_path)
    data = raw_of(task)
    expected = frozen.predict(data, torch.tensor([3, 7]))
    del data.edge_label_index
    found = frozen.predict(data, task.pairs[[3, 7]])
    assert found["class"].tolist() == expected["class"].tolist()
    assert found[["source", "target"]].to_numpy().tolist() == task.pairs[[3, 7]].tolist()
    with pytest.raises(ValueError, match="nodes of raw data have no names here"):
        frozen.predict(data, [("a", "b")])


def test_pairs_of_triples_are_asked_for_by_name(tmp_path: Path) -> None:
    """Neither a relation nor a part of a split is needed; what stands there already is answered as it was."""
    names = [f"person {number}" for number in range(20)]
    pairs = [(names[a], names[(a + step) % 20]) for step in (1, 2, 3) for a in range(20)]
    table = pd.DataFrame(pairs, columns=["head", "tail"]).assign(relation=["likes", "knows", "meets"] * 20)
    task = from_triples(table, width=8, seed=0)
    frozen = kept(build(small_model(hidden=8), task), task, tmp_path)
    known = [(task.graph.about["entity"][a], task.graph.about["entity"][b]) for a, b in task.pairs[:3].tolist()]
    expected, found = frozen.predict(task, torch.arange(3)), frozen.predict(task, known)
    columns = ["source", "target", "class", "confidence"]
    pd.testing.assert_frame_equal(found[columns], expected[columns])
    assert len(frozen.predict(task, [("person 0", "person 10")])) == 1
    assert frozen.predict(task, torch.empty(0, 2, dtype=torch.long)).empty
    with pytest.raises(ValueError, match="entities that 'own-triples' does not have: nobody"):
        frozen.predict(task, [("person 0", "nobody")])
    with pytest.raises(ValueError, match=r"pairs name nodes 0\.\.99; there are 20"):
        frozen.predict(task, torch.tensor([[0, 99]]))
    of_nodes = node_task()
    frozen = kept(build(small_model(), of_nodes), of_nodes, tmp_path / "nodes")
    for data in (of_nodes, raw_of(of_nodes)):  # not answers for all nodes instead
        with pytest.raises(ValueError, match=r"is of a node task: name instances by their numbers \[M\]"):
            frozen.predict(data, torch.tensor([[0, 1]]))


def test_one_graph_alone_is_answered_as_among_others(tmp_path: Path) -> None:
    task = graph_task()
    frozen = kept(build(small_model(), task), task, tmp_path)
    many = [
        Data(x=data.x, edge_index=data.edge_index, edge_attr=data.edge_attr)
        for data in Batch.from_data_list([raw_graph(task, number) for number in range(4)]).to_data_list()
    ]
    among = frozen.predict(many)
    assert frozen.predict(many[2]).confidence_0[0] == pytest.approx(among.confidence_0[2], rel=1e-5)
    assert among.confidence_0.tolist() == pytest.approx(frozen.predict(task).confidence_0[:4].tolist(), rel=1e-5)


def raw_graph(task: Task, number: int) -> Data:
    nodes = (task.graph.batch == number).nonzero().squeeze(1)
    edges = plain(task.graph.edge_index)
    inside = torch.isin(edges[1], nodes)
    return Data(x=task.graph.x[nodes], edge_index=edges[:, inside] - nodes[0], edge_attr=task.graph.edge_attr[inside])


def test_numbers_are_answered_in_their_own_unit(tmp_path: Path) -> None:
    node = node_task()
    labels = 1000 + 50 * node.graph.x[:, :1].double()
    task = replace(node, labels=labels, regression=True)
    split = next(iter(node.splits.values()))
    learnt = standardised(task, split)
    model = build(small_baseline("mlp"), learnt)
    fit(model, learnt, split, TrainConfig(epochs=40, lr=0.05), 0)
    found = kept(model, task, tmp_path).predict(raw_of(node))
    np.testing.assert_allclose(found.value, decisions(model, task)[:, 0], rtol=1e-6)
    assert found.value.corr(pd.Series(labels[:, 0])) > 0.9
    assert list(found) == ["instance", "value", "notes"]


def test_classes_have_their_names_on_a_graph_that_has_fewer(tmp_path: Path) -> None:
    index = torch.arange(30)
    edges = torch.stack([index, (index + 1) % 30])
    names = np.array(["ash", "beech", "cedar"])[index % 3]
    data = Data(x=F.one_hot(index % 3).float() * 3, edge_index=edges, y=names.tolist())
    space = FeatureSpace.fit(data)
    task = from_data(data, space=space)
    model = build(small_baseline("mlp"), task)
    fit(model, task, next(iter(task.splits.values())), TrainConfig(epochs=60, lr=0.05), 0)
    frozen = kept(model, task, tmp_path)
    assert frozen.predict(data)["class"].tolist() == names.tolist()
    other = Data(x=torch.tensor([[0, 0, 3.0], [0, 3.0, 0]]), edge_index=torch.tensor([[0], [1]]), y=["oak", "elm"])
    assert frozen.predict(other)["class"].tolist() == ["cedar", "beech"]


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", CONFIGS)
def test_nan_and_infinity_are_refused_by_node_and_column(name: str, value: float, tmp_path: Path) -> None:
    """One value of one node: its neighbours' answers would change, and look like any other."""
    task = node_task()
    model = build(CONFIGS[name], task).eval()
    frozen = kept(model, task, tmp_path)
    data = raw_of(task)
    data.x = data.x.clone()
    data.x[7, 1] = value
    for asked in (None, torch.tensor([0])):
        with pytest.raises(ValueError, match="first at node 7, column 1"):
            frozen.predict(data, asked)
        with pytest.raises(ValueError, match="first at node 7, column 1"):
            deploy(model)(data, asked)
    with pytest.raises(ValueError, match="first at node 7, column 1"):
        frozen.predict(task.with_graph(replace(task.graph, x=data.x)))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_family_is_deployed_and_all_nodes_or_graphs_are_the_default(task: Task, name: str) -> None:
    model = build(CONFIGS[name], task).eval()
    asked = None if task.kind == "graph" else task.select(torch.arange(task.instances))
    torch.testing.assert_close(deploy(model)(task.graph, asked), predict(model, task), rtol=1e-4, atol=1e-5)
    if task.kind == "node":
        torch.testing.assert_close(deploy(model)(task.graph, None), predict(model, task), rtol=1e-4, atol=1e-5)
    if task.kind == "link":
        with pytest.raises(ValueError, match="answers for pairs of nodes"):
            deploy(model)(task.graph, None)


def test_gates_and_mixed_networks_are_explained(tmp_path: Path) -> None:
    task = node_task()
    routed = kept(build(small_model(), task), task, tmp_path / "routed").explain(task)
    encoding = stemlib.load(tmp_path / "routed").model.encode(task.graph)
    for layer, gates in enumerate(encoding.gates, 1):
        columns = routed[[f"gate_{layer}_{expert}" for expert in (1, 2, 3)]].to_numpy()
        np.testing.assert_allclose(columns, gates.detach(), rtol=1e-4, atol=1e-6)
    mixed = kept(build(MixtureConfig("self mean", hidden=8), task), task, tmp_path / "mixed").explain(task)
    assert {"class_1_self", "confidence_2_mean"} <= set(mixed)


def test_what_lies_outside_of_trainings_ranges_is_said(tmp_path: Path) -> None:
    task = node_task()
    split = Split("s", *torch.arange(60).split(20))
    frozen = kept(build(small_model(), task), task, tmp_path, split=split)
    data = raw_of(task)
    data.edge_index = torch.stack([torch.zeros(79, dtype=torch.long), torch.arange(1, 80)])
    notes = frozen.predict(data).notes
    assert notes[0].startswith("degree 79 is above training's")
    lone = raw_of(task)
    lone.edge_index = torch.zeros(2, 0, dtype=torch.long)
    assert frozen.predict(lone).notes.str.contains("degree 0 is below|homophily 0 is").any()


def test_features_that_the_space_did_not_make_are_refused(tmp_path: Path) -> None:
    """Encoded anew they have the same width."""
    task, other = (unit_features(node_task(noise_features=9, seed=seed), 4) for seed in (0, 1))
    frozen = kept(build(small_model(), task), task, tmp_path)
    with pytest.raises(ValueError, match="were not made in the source's space"):
        frozen.predict(other)
    raw = node_task(noise_features=9, seed=1)
    found = frozen.predict(raw_of(raw))
    again = from_data(raw_of(raw), space=frozen.space)
    assert found["class"].tolist() == frozen.predict(again)["class"].tolist()
    narrow = raw_of(raw)
    narrow.x = narrow.x[:, 1:]
    with pytest.raises(ValueError, match="columns, but the source has"):
        frozen.predict(narrow)
    with pytest.raises(ValueError, match=r"asked for instances 0..99; there are 80"):
        frozen.predict(raw_of(raw), torch.tensor([0, 99]))


def test_known_molecules_alone_are_what_they_are_among_others(tmp_path: Path) -> None:
    smiles = ["CCO", "c1ccccc1O", "CC(=O)N", "CCN", "C1CCCCC1", "CCCl", "O=C=O", "CC(C)O"]
    graph = featured(molecules(smiles), smiles, 6, "tfidf-svd", "known")
    task = Task("known", "graph", graph, torch.tensor([[0.0, 1.0]] * 8), {})
    task = unit_features(task.with_graph(graph), 4)
    frozen = kept(build(small_model(), task), task, tmp_path)
    whole = frozen.predict(task).drop(columns="notes")
    for place in (1, 4):
        alone = frozen.predict([smiles[place]]).drop(columns=["notes", "instance"])
        among = whole.drop(columns="instance").loc[place]
        pd.testing.assert_series_equal(alone.loc[0], among, check_names=False, rtol=1e-3)
    assert len(frozen.predict(["C"])) == 1  # without a bond
    with pytest.raises(ValueError, match="row 1: nonsense"):
        frozen.predict(["CCO", "nonsense"])


def test_answers_do_not_depend_on_how_many_are_asked_at_once(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen = freeze(build(small_model(), task), task)
    whole = frozen.explain(task)
    monkeypatch.setattr("stemlib.training.frozen.AT_ONCE", 7)
    pd.testing.assert_frame_equal(frozen.explain(task), whole, rtol=1e-3, atol=1e-5)
