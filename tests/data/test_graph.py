"""The prepared graph: read once from a `Data`, which is left alone, and nothing of it under another meaning."""

from __future__ import annotations

import inspect
from copy import copy, deepcopy
from dataclasses import fields

import pytest
import torch
from samples import node_task, random_graph, small_baseline, small_model
from torch_geometric import EdgeIndex
from torch_geometric.data import Batch, Data
from torch_geometric.data.storage import E_KEYS, N_KEYS

from stemlib.baselines.networks import Baseline
from stemlib.data.batches import batches
from stemlib.data.checks import checked
from stemlib.data.graph import READ, Graph, Hop, is_sorted, plain, sorted_by_target
from stemlib.data.own_data import from_data
from stemlib.data.tasks import Task
from stemlib.model.stem import StemGNN
from stemlib.stress.shifts import covariates

# Every name under which PyG's `Data` or the library's graphs keep or offer something, and what people call their own.
OFFERED = {name for kind in (Data, Graph, Hop) for name, _ in inspect.getmembers(kind) if not name.startswith("_")}
FIELDS = {item.name for item in fields(Hop)} | N_KEYS | E_KEYS
OTHERS = {
    "scaffold",
    "smiles",
    "edge_pair",
    "known",
    "degree",
    "homophily",
    "name",
    "label",
    "year",
    "edge_weight",
    "mask",
    "gates",
    "tokens",
    "values",
}
MEANT = {*READ, "num_nodes", "edge_type", "y", "train_mask", "val_mask", "test_mask"}


def users_graph() -> Data:
    task = node_task()
    data = Data(x=task.graph.x, edge_index=plain(task.graph.edge_index), y=task.labels)
    for part in ("train", "val", "test"):
        mask = torch.zeros(80, dtype=torch.bool)
        mask[getattr(task.split("random"), part)] = True
        data[f"{part}_mask"] = mask
    return data


def settable(name: str) -> bool:
    """Whether a `Data` lets a user keep a tensor under that name."""
    data = users_graph()
    try:
        data[name] = torch.ones(1)
        return data.to_dict().get(name) is not None
    except (AttributeError, TypeError, ValueError, KeyError):
        return False


RESERVED = sorted(name for name in OFFERED | FIELDS | OTHERS if name not in MEANT and settable(name))


def test_names_that_could_be_mistaken_are_among_those_tried() -> None:
    assert {"mean", "hops", "nodes", "node_type", "edge_pair", "products", "about", "known"} <= set(RESERVED)
    assert len(RESERVED) > 40


@pytest.mark.parametrize("name", RESERVED)
def test_an_attribute_of_a_users_graph_is_never_read_under_another_meaning(name: str) -> None:
    """Neither one value per node, nor one per edge, nor a matrix changes an answer, and all is carried as given."""
    plain_data = users_graph()
    everyone = torch.arange(80)
    torch.manual_seed(0)
    models = [
        StemGNN(small_model(), plain_data.x.size(1), 3).eval(),
        Baseline(small_baseline("gcn"), plain_data.x.size(1), 3).eval(),
    ]
    expected = [model(plain_data, everyone).logits for model in models]
    for value in (torch.arange(80), torch.rand(80, 4), torch.zeros(plain_data.num_edges, dtype=torch.long)):
        data = users_graph()
        data[name] = value
        task = from_data(data)
        assert data[name] is value
        assert torch.equal(task.graph.about[name], value)
        for model, logits in zip(models, expected, strict=True):
            assert torch.equal(model(data, everyone).logits, logits)
            torch.testing.assert_close(model(task.graph, everyone).logits, logits)


@pytest.mark.parametrize("name", RESERVED)
@pytest.mark.parametrize("kind", ["link", "graph"])
def test_nor_is_one_of_a_link_or_graph_task(name: str, kind: str) -> None:
    """What a user calls `edge_pair` hides no edge, what is called `scaffold` shifts no molecule."""

    def made(**more: torch.Tensor) -> Task:
        if kind == "link":
            data = users_graph()
            data.edge_label_index, data.edge_label = torch.randint(80, (2, 80)), torch.arange(80) % 3
        else:
            parts = [
                Data(x=torch.rand(4, 3), edge_index=torch.tensor([[0, 1], [1, 2]]), y=torch.tensor([i % 3]))
                for i in range(20)
            ]
            data = Batch.from_data_list(parts)
            for part, index in zip(("train", "val", "test"), torch.arange(20).split([12, 4, 4]), strict=True):
                data[f"{part}_mask"] = torch.zeros(20, dtype=torch.bool).index_fill_(0, index, True)
        for key, value in more.items():
            data[key] = value
        return from_data(data, kind=kind)

    torch.manual_seed(0)
    bare = made()
    torch.manual_seed(0)
    task = made(**{name: torch.arange(80)})
    assert torch.equal(task.graph.about[name], torch.arange(80))
    assert covariates(task) == covariates(bare)
    for one, other in zip(
        batches(bare, torch.arange(8), 4, hide=True), batches(task, torch.arange(8), 4, hide=True), strict=True
    ):
        assert torch.equal(one.graph.x, other.graph.x)
        assert torch.equal(plain(one.graph.edge_index), plain(other.graph.edge_index))


def test_a_datas_own_tensors_are_left_alone() -> None:
    data = users_graph()
    before = {name: (value, value._version) for name, value in data.to_dict().items()}
    task = from_data(data)
    StemGNN(small_model(), data.x.size(1), 3)(task.graph, torch.arange(80))
    for name, (value, version) in before.items():
        assert data[name] is value
        assert value._version == version
    assert not isinstance(data.edge_index, EdgeIndex)
    assert is_sorted(task.graph.edge_index)


def test_an_edge_type_names_rows_only_where_edges_have_no_features_of_their_own() -> None:
    edges = torch.tensor([[0, 1, 2], [1, 2, 0]])
    kinds = torch.tensor([1, 0, 1])
    by_type = Graph.of(Data(x=torch.ones(3, 1), edge_index=edges, edge_type=kinds, edge_attr=torch.eye(2)))
    assert by_type.edge_type is kinds
    by_edge = Graph.of(Data(x=torch.ones(3, 1), edge_index=edges, edge_type=kinds, edge_attr=torch.eye(3)))
    assert by_edge.edge_type is None
    assert by_edge.about["edge_type"] is kinds


def test_a_prepared_graph_is_given_back() -> None:
    graph = random_graph()
    assert Graph.of(graph) is graph
    assert checked(Task("t", "node", sorted_by_target(graph), torch.arange(12) % 3, {})).graph.edge_index is not None


def test_what_is_derived_is_made_once_of_the_same_unchanged_tensors() -> None:
    graph, made, a, b = random_graph(), [], torch.zeros(2), torch.zeros(2)

    def make() -> torch.Tensor:
        made.append(1)
        return torch.zeros(1)

    assert graph.derived("it", make, a, b) is graph.derived("it", make, a, b)
    assert len(made) == 1
    for given in ((b, a), (a, b)):
        graph.derived("it", make, *given)
    a.add_(1)
    graph.derived("it", make, a, b)
    assert len(made) == 4
    graph.derived("other", make, a, b)
    graph.derived("it", make, a, b)
    assert len(made) == 5
    for other in (copy(graph), deepcopy(graph)):  # sparse matrices cannot be copied
        other.derived("it", make, a, b)
    assert len(made) == 7
    with torch.inference_mode():
        c = torch.zeros(2)
    graph.derived("it", make, c)
    graph.derived("it", make, c)
    assert len(made) == 9, "changes of such a tensor are not counted"


@pytest.mark.parametrize("is_in_order", [True, False])
@pytest.mark.parametrize("features", ["none", "rows", "types"])
def test_without_edges_what_is_stored_by_edge_goes_with_them(features: str, is_in_order: bool) -> None:
    graph = random_graph(edge_features=features)
    graph.edge_pair = torch.arange(graph.num_edges)
    graph = sorted_by_target(graph) if is_in_order else graph
    hidden = torch.arange(graph.num_edges) % 3 == 0
    left = graph.without_edges(hidden)
    assert torch.equal(plain(left.edge_index), plain(graph.edge_index)[:, ~hidden])
    assert is_sorted(left.edge_index) == is_in_order
    assert left.per_edge.keys() == graph.per_edge.keys()
    for name, value in left.per_edge.items():
        assert torch.equal(value, graph.per_edge[name][~hidden])
    assert left.num_nodes == graph.num_nodes


def test_a_hop_forgets_what_it_knew_of_other_edges() -> None:
    edges = EdgeIndex([[0, 1], [0, 0]], sparse_size=(2, 1), sort_order="col")
    hop = Hop(edge_index=edges, num_nodes=1, mean=torch.ones(1, 1), products=lambda weight: weight)
    left = hop.without_edges(torch.tensor([True, False]))
    assert left.mean is None
    assert left.products is None
    assert left.num_edges == 1


def test_to_a_device_moves_every_tensor_and_hop() -> None:
    graph = random_graph(edge_features="types")
    graph.hops = (Hop(edge_index=graph.edge_index, num_nodes=12),)
    moved = graph.to("meta")
    assert all(value.is_meta for value in (moved.x, moved.edge_index, moved.edge_attr, moved.edge_type))
    assert moved.hops[0].edge_index.is_meta
    assert not graph.x.is_meta
