"""Another graph as a condition: it is read rightly, and no training sees any of it."""

from __future__ import annotations

from dataclasses import replace

import networkx as nx
import pytest
import torch
from run_samples import equal
from samples import graph_task, link_task, node_task, small_baseline, small_model
from torch import nn

from stemlib.data.feature_space import FeatureSpace
from stemlib.data.graph import Graph, plain
from stemlib.data.own_data import from_data
from stemlib.data.scores import score
from stemlib.data.tasks import PARTS, Task
from stemlib.presets import TrainConfig
from stemlib.stress.conditions import corrupt, shift_protocol
from stemlib.stress.domains import disjoint_union, domain_protocol, met_elsewhere, through_time
from stemlib.stress.shifts import covariates, instance_covariate, tail_buckets
from stemlib.theory.coverage import coverages
from stemlib.theory.sensitivity import sensitivity
from stemlib.training.evaluation import predict, scores
from stemlib.training.finetune import fit
from study.families import build

TRAIN = TrainConfig(epochs=4, patience=4, lr=0.02, consistency=1.0, consistency_after=0.0, edge_dropout=0.3)


def trained(task: Task, targets: dict[str, Task], kind: str = "stem") -> tuple[nn.Module, list]:
    inside, split, conditions = domain_protocol(task, targets, seed=0)
    torch.manual_seed(0)
    model = build(small_model() if kind == "stem" else small_baseline(kind), inside)
    fit(model, inside, split, TRAIN, seed=0)
    return model, conditions


def poisoned(task: Task) -> Task:
    """The task with garbage for features and edges, and every label another."""
    graph = task.graph
    edges = torch.randint(graph.num_nodes, (2, 300))
    rows = {} if graph.edge_type is None else {"edge_type": torch.zeros(300, dtype=torch.long)}
    rows |= {} if graph.edge_attr is None or rows else {"edge_attr": torch.full((300, graph.edge_attr.size(1)), 1e6)}
    garbage = replace(graph, x=torch.full_like(graph.x, 1e6), edge_index=edges, **rows)
    if task.kind == "graph":  # edges stay within graphs
        garbage = replace(graph, x=torch.full_like(graph.x, 1e6))
    labels = task.labels.roll(1, 0)
    return replace(task, labels=labels).with_graph(garbage)


@pytest.mark.parametrize("make", [node_task, link_task, graph_task], ids=["node", "link", "graph"])
def test_no_training_sees_a_target(make) -> None:
    """The codebooks' start, consistency and what is kept of the best epoch among it."""
    home, away = make(seed=0), make(seed=1)
    model, conditions = trained(home, {"away": away})
    other, damaged = trained(home, {"away": poisoned(away)})
    assert equal(model.state_dict(), other.state_dict())
    assert conditions[-1].task.graph.content != damaged[-1].task.graph.content
    assert equal(model.state_dict(), trained(home, {})[0].state_dict())


@pytest.mark.parametrize("make", [node_task, link_task, graph_task], ids=["node", "link", "graph"])
def test_a_target_is_scored_decomposed_and_damaged_as_any_condition(make) -> None:
    home, away = make(seed=0), make(seed=1)
    model, (clean, met) = trained(home, {"away": away})
    index = away.split(next(iter(away.splits))).test if away.kind == "link" else away.labelled()
    assert torch.equal(met.index, index)
    by_hand = score(predict(model, away, index), away.labels[index])
    assert scores(model, [clean, met])["away"] == pytest.approx(by_hand)
    for found in coverages(model, [clean, met]):
        assert pytest.approx(found.C + found.S + found.X) == found.R
    damaged, told = corrupt(met, "deleted", 0.5, seed=0)
    assert damaged.name == "away, deleted 0.5"
    assert told.hit > 0
    summary = sensitivity(model, met, damaged).summary()
    assert summary["residual"] < 1e-3


def test_buckets_of_the_source_and_targets_are_met_side_by_side() -> None:
    home, away = node_task(seed=0), node_task(seed=1)
    buckets = tail_buckets(instance_covariate(home, "degree"))
    task, split, conditions = domain_protocol(home, {"away": away}, 3, buckets=buckets)
    assert [condition.name for condition in conditions] == ["clean", "OOD-low", "OOD-high", "away"]
    alone = shift_protocol(home, buckets, 3)
    assert split.hash == alone[1].hash
    assert all(torch.equal(a.index, b.index) for a, b in zip(conditions, alone[2], strict=False))
    with pytest.raises(ValueError, match="target name OOD-low is taken"):
        domain_protocol(home, {"OOD-low": away}, 3, buckets=buckets)
    assert not torch.isin(task.split(split.name).train, buckets.members["OOD-low"]).any()


def test_classes_are_matched_by_name() -> None:
    home = replace(node_task(), class_names=("a", "b", "c"))
    away = node_task(seed=1)
    swapped = replace(away, labels=(away.labels + 1) % 3, class_names=("c", "a", "b"))
    assert torch.equal(met_elsewhere(home, "away", swapped).task.labels, away.labels)
    strange = replace(away, class_names=("a", "b", "z"))
    with pytest.raises(ValueError, match=r"classes that 'tiny' does not know: z \(it knows a, b, c\)"):
        met_elsewhere(home, "away", strange)
    unknown = replace(strange, labels=strange.labels.masked_fill(strange.labels == 2, -1))
    met = met_elsewhere(home, "away", unknown)
    assert met.index.numel() == int((away.labels != 2).sum())
    assert set(met.task.labels.unique().tolist()) == {-1, 0, 1}
    with pytest.raises(ValueError, match="does not know: 3"):
        met_elsewhere(node_task(), "away", replace(away, labels=away.labels + 1))


def test_what_does_not_fit_is_named() -> None:
    home = node_task()
    wide = home.with_graph(replace(home.graph, x=torch.ones(80, 7)))
    with pytest.raises(ValueError, match=r"away: 'tiny' does not fit 'tiny': its feature width is 7, not \d+"):
        domain_protocol(home, {"away": wide}, 0)
    with pytest.raises(ValueError, match="its kind is graph, not node; its metric is roc_auc, not accuracy"):
        domain_protocol(home, {"away": graph_task()}, 0)
    with pytest.raises(ValueError, match="condition 'away' has no instances"):
        domain_protocol(home, {"away": replace(home, labels=home.labels * 0 - 1)}, 0)


def test_features_of_another_space_are_refused_though_their_width_is_the_same() -> None:
    words = torch.rand(80, 30, generator=torch.Generator().manual_seed(0))
    data = [Graph(words[:40], torch.randint(40, (2, 90))), Graph(words[40:], torch.randint(40, (2, 90)))]
    spaces = [FeatureSpace.fit(graph.x, width=5) for graph in data]

    def task(which: int, space: int) -> Task:
        graph = data[which]
        source = spaces[space].source(graph.x)
        labels = torch.arange(40) % 2
        made = replace(graph, x=source.encode(source.raw), source=source)
        return Task(f"task-{which}", "node", made, labels, {}).with_graph(made)

    assert met_elsewhere(task(0, 0), "away", task(1, 0)).task.instances == 40
    with pytest.raises(ValueError, match="not made in the source's space"):
        met_elsewhere(task(0, 0), "away", task(1, 1))


def test_a_regression_is_met_in_the_source_s_unit() -> None:
    home = node_task()
    numbers = [replace(one, labels=one.labels[:, None] * 3.0 + 5, regression=True) for one in (home, node_task(seed=1))]
    task, _, (_, met) = domain_protocol(numbers[0], {"away": numbers[1]}, 0)
    back = met.task.labels.double() * task.scale[1] + task.scale[0]
    torch.testing.assert_close(back.float(), numbers[1].labels)
    union = disjoint_union(numbers, "both")
    assert union.regression
    assert union.scale is None


def test_a_union_answers_as_its_parts() -> None:
    parts = [replace(node_task(nodes, seed), name=f"part-{seed}") for seed, nodes in enumerate((80, 50, 30))]
    union = disjoint_union(parts, "all")
    assert union.instances == 160
    assert union.graph.num_edges == sum(part.graph.num_edges for part in parts)
    assert instance_covariate(union, "domain").unique(return_counts=True)[1].tolist() == [80, 50, 30]
    model = build(small_model(), union)
    each = torch.cat([predict(model, part) for part in parts])
    torch.testing.assert_close(predict(model, union), each)
    assert torch.equal(union.labels, torch.cat([part.labels for part in parts]))
    with pytest.raises(ValueError, match="a union takes node tasks; tiny-links"):
        disjoint_union([parts[0], link_task()], "all")


def test_time_shows_the_graph_as_it_was() -> None:
    task, time = node_task(), torch.arange(80.0) % 10
    source, later = through_time(task, time, (4, 6))
    assert list(later) == ["until 6", "until 9"]
    old = (time <= 4).nonzero().flatten()
    assert torch.equal(source.graph.x, task.graph.x[old])
    whole = nx.DiGraph(plain(task.graph.edge_index).T.tolist())
    expected = {(int(old.tolist().index(a)), old.tolist().index(b)) for a, b in whole.subgraph(old.tolist()).edges}
    assert {tuple(edge) for edge in plain(source.graph.edge_index).T.tolist()} == expected
    for (name, met), (low, high) in zip(later.items(), ((4, 6), (6, 9)), strict=True):
        nodes = (time <= high).nonzero().flatten()
        assert torch.equal(nodes[met.labelled()], ((time > low) & (time <= high)).nonzero().flatten()), name
        assert torch.equal(met.labels[met.labelled()], task.labels[nodes[met.labelled()]])
    _, split, conditions = domain_protocol(source, later, 0)
    assert sum(getattr(split, part).numel() for part in PARTS) == 40
    assert [condition.index.numel() for condition in conditions[1:]] == [16, 24]
    with pytest.raises(ValueError, match=r"one time for each node; .* times \(79,\)"):
        through_time(task, time[1:], (4,))
    fitted = FeatureSpace.fit(task.graph.x, width=2).source(task.graph.x)
    late = task.with_graph(replace(task.graph, x=fitted.encode(fitted.raw), source=fitted))
    with pytest.raises(ValueError, match="fitted on all nodes, even later ones"):
        through_time(late, time, (4,))


def test_an_own_split_is_kept_and_narrowed() -> None:
    task = node_task(200)
    parts = torch.arange(200).split([90, 40, 50, 20])  # the last are held back
    mine = from_data_with(task, parts)
    buckets = tail_buckets(instance_covariate(mine, "degree"))
    inside = set(buckets.members["ID"].tolist())
    shifted, split, conditions = shift_protocol(mine, buckets, 0, own_split="masks")
    for part, given in zip(PARTS, parts, strict=False):
        assert set(getattr(split, part).tolist()) == set(given.tolist()) & inside
    assert split.hash == shift_protocol(mine, buckets, 7, own_split="masks")[1].hash
    for condition in conditions[1:]:
        assert set(condition.index.tolist()) == set(buckets.members[condition.name].tolist()) & set(parts[2].tolist())
    assert shifted.splits[split.name] is split
    with pytest.raises(ValueError, match="has no split 'other'; it has masks"):
        shift_protocol(mine, buckets, 0, own_split="other")
    _, whole, (clean, _) = domain_protocol(mine, {"away": node_task(seed=1)}, 0, own_split="masks")
    assert torch.equal(clean.index, parts[2])
    assert torch.equal(whole.train, parts[0])


def from_data_with(task: Task, parts: tuple[torch.Tensor, ...]) -> Task:
    """The task with masks of its own."""
    from torch_geometric.data import Data

    data = Data(x=task.graph.x, edge_index=plain(task.graph.edge_index), y=task.labels)
    for part, index in zip(PARTS, parts, strict=False):
        data[f"{part}_mask"] = torch.zeros(task.instances, dtype=torch.bool).index_fill_(0, index, True)
    return from_data(data)


def test_several_labels_are_shifted_with_an_own_split_alone() -> None:
    task = node_task(200)
    labels = torch.stack([task.labels == 0, task.labels == 1], 1).float()
    several = replace(from_data_with(task, torch.arange(200).split([90, 40, 50, 20])), labels=labels)
    buckets = tail_buckets(instance_covariate(several, "degree"))
    with pytest.raises(ValueError, match="or one of the task's own splits, with `own_split`"):
        shift_protocol(several, buckets, 0)
    assert shift_protocol(several, buckets, 0, own_split="masks")[1].train.numel() > 50


def test_pyg_s_properties_are_covariates_of_nodes_and_links() -> None:
    path = Graph(torch.eye(4), torch.tensor([[0, 1, 2, 1], [1, 2, 3, 3]]))  # 0 - 1, and the triangle 1 2 3
    task = Task("tailed triangle", "node", path, torch.tensor([0, 1, 0, 1]), {})
    assert instance_covariate(task, "density").tolist() == pytest.approx([0, 1 / 3, 1, 1])
    popular = instance_covariate(task, "popularity")
    assert popular.sum().item() == pytest.approx(1)
    assert popular.argmax() == 1
    near = instance_covariate(task, "locality")
    assert near[0] < near[2] < near[1]
    assert covariates(task, every=True) == ["degree", "homophily", "popularity", "locality", "density"]
    assert covariates(task) == ["degree", "homophily"]
    links = link_task()
    of_nodes = instance_covariate(replace(links, kind="node", labels=links.labels[:1].expand(80)), "density")
    torch.testing.assert_close(instance_covariate(links, "density"), of_nodes[links.pairs].mean(1))
    assert "density" not in covariates(graph_task(), every=True)


def test_time_is_a_covariate_where_the_graph_carries_it() -> None:
    task = node_task()
    dated = task.with_graph(replace(task.graph, about={"time": torch.arange(80), "year": torch.arange(3)}))
    assert "time" in covariates(dated, every=True)
    assert "year" not in covariates(dated, every=True)  # not one for each instance
    assert instance_covariate(dated, "time").tolist() == list(range(80))
    with pytest.raises(ValueError, match="no covariate 'time' for the node task"):
        instance_covariate(task, "time")
