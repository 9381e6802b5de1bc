"""Bad input is refused with an error that says what is wrong and what to do, or is handled rightly.

Collected here: what the data may be. What else can be wrong is refused beside the thing itself: settings in
`test_presets.py`, shifts and corruptions in theirs, damaged files in `test_checkpoints.py` and
`test_records.py`, notebooks' parameters in `test_study.py`, missing folders in `test_paths.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from samples import BACKBONES, BASELINES, ENCODERS, graph_task, link_task, node_task, small_baseline, small_model

from stemlib.data import public
from stemlib.data.checks import checked
from stemlib.data.graph import Graph, plain
from stemlib.data.splits import stratified_split
from stemlib.data.tasks import Split, Task
from stemlib.model.stem import StemGNN
from stemlib.presets import TrainConfig, preset
from stemlib.stress.conditions import Condition, corrupt, shift_protocol
from stemlib.stress.shifts import node_degree, tail_buckets
from study.families import build
from study.method import Method
from study.methods import named
from study.trained import run

NAN, INF = float("nan"), float("inf")
Change = Callable[[Task], Task]


def with_graph(**values: object) -> Change:
    """Some of the graph's values replaced, or removed by None."""

    def changed(task: Task) -> Task:
        unsorted = {"edge_index": plain(task.graph.edge_index)}
        return replace(task, graph=replace(task.graph, **(unsorted | values)))

    return changed


def with_cell(name: str, row: int, value: float) -> Change:
    """One value of a table of the graph replaced."""

    def changed(task: Task) -> Task:
        table = getattr(task.graph, name).clone()
        table[row, 1] = value
        return with_graph(**{name: table})(task)

    return changed


def with_labels(change: Callable[[torch.Tensor], torch.Tensor]) -> Change:
    return lambda task: replace(task, labels=change(task.labels.clone()))


def with_split(**parts: torch.Tensor) -> Change:
    return lambda task: replace(task, splits={"random": replace(task.split("random"), **parts)})


def with_pairs(change: Callable[[torch.Tensor], torch.Tensor | None]) -> Change:
    return lambda task: replace(task, pairs=change(task.pairs.clone()))


def whole(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.long)


NO_EDGES = torch.empty(2, 0, dtype=torch.long)

NODE: list[tuple[str, Change, str]] = [
    ("nan feature", with_cell("x", 3, NAN), "x has 1 NaN or infinite values, first in row 3, column 1; impute"),
    ("infinite feature", with_cell("x", 5, -INF), "x has 1 NaN or infinite values, first in row 5"),
    ("no features", with_graph(x=None), r"node features `x` must be a float tensor \[N, d\]"),
    ("whole features", with_graph(x=torch.ones(80, 3, dtype=torch.long)), "`x` must be a float tensor"),
    ("flat features", with_graph(x=torch.ones(80)), "`x` must be a float tensor"),
    ("no columns", with_graph(x=torch.empty(80, 0)), r"`x` are empty: \(80, 0\)"),
    ("edge beyond", with_graph(edge_index=whole(0, 80).view(2, 1)), r"names nodes 0\.\.80, but there are 80"),
    ("edge below", with_graph(edge_index=whole(-1, 7).view(2, 1)), r"names nodes -1\.\.7, but there are 80"),
    ("no edge index", with_graph(edge_index=None), r"must be a long tensor \[2, E\] .* use shape \[2, 0\]"),
    ("edges as rows", with_graph(edge_index=torch.zeros(9, 2, dtype=torch.long)), r"long tensor \[2, E\]"),
    ("float edges", with_graph(edge_index=torch.zeros(2, 9)), r"long tensor \[2, E\]"),
    ("negative label", with_labels(lambda y: y - 2), "class labels must be long: 0, 1, ..."),
    ("float labels", with_labels(lambda y: y.float()), "class labels must be long, got torch.float32; to predict"),
    ("huge label", with_labels(lambda y: y * 1000), "reach 2000 with 80 labels; number them 0, 1, ..."),
    ("too few labels", with_labels(lambda y: y[:70]), "70 labels for 80 nodes"),
    ("no labels", with_labels(lambda y: y[:0]), r" classes \[M\], or binary labels or numbers \[M, T\], got \(0,\)"),
    ("deep labels", with_labels(lambda y: y.view(80, 1, 1)), r"got \(80, 1, 1\)"),
    ("label 2 of 0 and 1", with_labels(lambda y: y.float().view(-1, 1)), "binary labels must be floats: 0, 1 or NaN"),
    ("infinite binary label", with_labels(lambda y: torch.full((80, 1), INF)), "binary labels must be floats"),
    ("whole binary labels", with_labels(lambda y: y.view(-1, 1) % 2), "binary labels must be floats"),
    ("empty part", with_split(val=whole()), "split 'random': its val part is empty"),
    ("instance beyond", with_split(test=whole(80)), r"its test part names instances outside 0\.\.79"),
    ("instance below", with_split(test=whole(-1)), r"its test part names instances outside 0\.\.79"),
    ("mask as split", with_split(train=torch.ones(80, dtype=torch.bool)), "train part must be a long tensor"),
    ("twice in a part", with_split(train=whole(5, 5)), "split 'random': [1-9][0-9]* instances appear more than"),
    ("parts overlap", lambda task: with_split(val=task.split("random").train)(task), "appear more than once"),
]  # fmt: skip
LINK: list[tuple[str, Change, str]] = [
    ("no pairs", with_pairs(lambda pairs: None), r"a link task needs `pairs`, a long tensor \[M, 2\]"),
    ("pairs as columns", with_pairs(lambda pairs: pairs.T), "a link task needs `pairs`"),
    ("pair beyond", with_pairs(lambda pairs: pairs + 70), r"`pairs` names nodes 7.\.\.1.., but there are 80"),
    ("pair below", with_pairs(lambda pairs: pairs - 80), "`pairs` names nodes -"),
    ("too few pairs", with_pairs(lambda pairs: pairs[:9]), "60 labels for 9 links"),
    ("nan edge feature", with_cell("edge_attr", 2, NAN), "edge_attr has 1 NaN or infinite values, first in row 2"),
    ("flat edge features", with_graph(edge_attr=torch.ones(4)), "`edge_attr` must be a float table"),
    ("type beyond", with_graph(edge_type=torch.full((320,), 4)), r"names rows 4\.\.4 of `edge_attr`, which has 4"),
    ("type below", with_graph(edge_type=torch.full((320,), -1)), r"names rows -1\.\.-1 of `edge_attr`"),
    ("too few types", with_graph(edge_type=whole(1, 2)), r"`edge_type` must be \[320\], one per edge, got \(2,\)"),
]  # fmt: skip
GRAPH_NODES = graph_task().graph.num_nodes
GRAPH: list[tuple[str, Change, str]] = [
    ("too few edge features", with_graph(edge_attr=torch.ones(3, 3)), "`edge_attr` has 3 rows for"),
    ("node type beyond", with_graph(node_type=torch.full((GRAPH_NODES,), GRAPH_NODES)), "`node_type` names rows"),
    ("too few node types", with_graph(node_type=whole(0)), r"`node_type` must be \[[0-9]+\], one per node"),
    ("no borders", with_graph(ptr=None), r"needs `batch` \[N\] and `ptr` \[G \+ 1\]"),
    ("no membership", with_graph(batch=None), "needs `batch`"),
    ("graph without nodes", lambda task: with_graph(ptr=torch.cat([task.graph.ptr[:1], task.graph.ptr]))(task),
     "graph 0 has no nodes; drop it"),
    ("borders elsewhere", lambda task: with_graph(batch=task.graph.batch.flip(0))(task), "`batch` and `ptr` disagree"),
    ("edge between graphs", with_graph(edge_index=whole(0, 100).view(2, 1), edge_attr=torch.ones(1, 3)),
     "`edge_index` joins nodes of different graphs"),
    ("too few labels", with_labels(lambda y: y[:9]), "9 labels for 32 graphs"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "change", "message"),
    [
        pytest.param(make, change, message, id=f"{make.__name__}: {name}")
        for make, cases in ((node_task, NODE), (link_task, LINK), (graph_task, GRAPH))
        for name, change, message in cases
    ],
)
def test_data_that_cannot_be_used_are_refused(make: Callable[[], Task], change: Change, message: str) -> None:
    task = change(make())
    with pytest.raises(ValueError, match=message) as refusal:
        checked(task)
    assert str(refusal.value).startswith(f"the data of '{task.name}' cannot be used:\n  - ")


def odd_task(edges: torch.Tensor) -> Task:
    graph = Graph(x=torch.randn(9, 3), edge_index=edges)
    return checked(Task("odd", "node", graph, torch.arange(9) % 2, {"s": Split("s", *torch.arange(9).split(3))}))


ODD = {
    "no edge": NO_EDGES,
    "isolated nodes": whole(0, 1, 1, 0).view(2, 2),
    "self-loops": torch.arange(9).expand(2, 9),
    "repeated edges": whole(0, 1, 2, 0, 1).repeat(2).view(2, 5).sort().values,
    "one edge": whole(3, 4).view(2, 1),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize(("routed", "backbone"), ENCODERS)
def test_odd_graphs_train(name: str, routed: str, backbone: str, runs: Path) -> None:
    task, train = odd_task(ODD[name]), TrainConfig(epochs=2)
    model = small_model(routed=routed, backbone=backbone, norm="batch")
    record = run("odd", task, "s", Method("m", model, train), 0)
    assert 0 <= record.metrics["test"] <= 1


@pytest.mark.parametrize("kind", BASELINES)
def test_odd_graphs_train_baselines(kind: str, runs: Path) -> None:
    for edges in ODD.values():
        run("odd", odd_task(edges), "s", Method(kind, small_baseline(kind), TrainConfig(epochs=2)), 0)


@pytest.mark.parametrize("codebook", ["none", "reference", "ema", "learnable"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_graph_of_one_node_without_edges_is_read(backbone: str, codebook: str) -> None:
    graph = Graph(x=torch.ones(1, 3), edge_index=NO_EDGES)
    for routed in ("none", "all"):
        config = small_model(backbone=backbone, routed=routed, codebook=codebook, norm="layer")
        model = StemGNN(config, in_width=3, classes=2)
        for training in (False, True):
            logits = model.train(training)(graph, whole(0)).logits
            assert logits.isfinite().all()
            assert logits.shape == (1, 2)


def test_a_graph_of_one_node_cannot_be_split() -> None:
    graph = Graph(x=torch.ones(1, 3), edge_index=NO_EDGES)
    with pytest.raises(ValueError, match="class 0 has 1 instances"):
        stratified_split(whole(0), whole(0), seed=0)
    with pytest.raises(ValueError, match="its val part is empty"):
        checked(Task("one", "node", graph, whole(0), {"s": Split("s", whole(0), whole(), whole())}))


def test_a_class_that_is_rare_in_a_bucket_is_refused() -> None:
    task = node_task()
    labels = task.labels.clamp(max=1)
    labels[:2] = 2
    buckets = tail_buckets(torch.arange(80.0), 0.02)  # the bucket loses the first node, and with it the class
    with pytest.raises(ValueError, match="class 2 has 1 instances among those to split, but needs 3"):
        shift_protocol(replace(task, labels=labels), buckets, seed=0)


def test_more_experts_and_codes_than_nodes_are_no_error_but_absurd_numbers_are(runs: Path) -> None:
    task = odd_task(ODD["one edge"])
    for codebook in ("reference", "ema", "learnable"):
        model = small_model(experts=64, codes=100, heads=3, codebook=codebook)
        record = run("many", task, "s", Method("m", model, TrainConfig(epochs=3, commitment=1.0)), 0)
        assert record.epochs == 3
    for name, value in (("experts", 65), ("codes", 10**6), ("heads", 1000)):
        with pytest.raises(ValueError, match=f"{name} must lie in .*got {value}"):
            small_model(**{name: value})


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    task = node_task()
    with pytest.raises(ValueError, match=r"unknown data set 'coar'.*did you mean 'cora'.* There are: "):
        public.load("coar")
    with pytest.raises(ValueError, match="unknown preset 'big'; there are smoke, laptop, paper"):
        preset("big")
    with pytest.raises(ValueError, match="tiny has no split 'publik'; it has random"):
        run("t", task, "publik", named(preset("smoke"), "gcn")[0], 0)
    with pytest.raises(ValueError, match=r"unknown methods \['gnc'\]; there are stem, .*mlp, gcn"):
        named(preset("smoke"), "gcn", "gnc")
    clean = Condition("clean", task, task.split("random").test)
    with pytest.raises(ValueError, match="unknown corruption 'noise'; there are masked, deleted"):
        corrupt(clean, "noise", 0.1, seed=0)


def test_an_empty_bucket_is_no_condition() -> None:
    task = node_task()
    with pytest.raises(ValueError, match="condition 'OOD-low' has no instances: the split or bucket is empty"):
        Condition("OOD-low", task, whole())
    with pytest.raises(ValueError, match=r"two tails of 0.6 leave no middle"):
        tail_buckets(node_degree(task.graph), 0.6)


def test_a_model_and_a_graph_that_do_not_fit_are_refused() -> None:
    task = node_task()
    model = build(small_model(), task)
    with pytest.raises(ValueError, match=r"node features of width 3 .*; the graph has 5 and None"):
        model(Graph(x=torch.ones(4, 5), edge_index=NO_EDGES), whole(0))
