"""What people keep a graph in becomes the same task, and the task says what was done."""

from __future__ import annotations

import networkx
import numpy as np
import pytest
import torch
from samples import ring
from torch_geometric.data import Data, HeteroData, InMemoryDataset
from torch_geometric.transforms import RandomLinkSplit

from stemlib.data.graph import node_features
from stemlib.data.own_data import from_data


def notes(task: object, word: str) -> list[str]:
    return [note for note in task.notes if word in note]


def typed(width: int = 3) -> HeteroData:
    data = HeteroData()
    for kind, size in (("author", 8), ("paper", 12)):
        data[kind].x = torch.randn(size, 3 if kind == "author" else width)
    part = ring()
    for name in ("y", "train_mask", "val_mask", "test_mask"):
        data["paper"][name] = part[name]
    data["author", "writes", "paper"].edge_index = torch.tensor([[0, 1, 7], [0, 5, 11]])
    return data


def test_a_typed_graph_is_one_type_whose_unlabelled_nodes_have_no_label() -> None:
    given = typed()
    task = from_data(given)
    assert torch.equal(node_features(task.graph), torch.cat([given["author"].x, given["paper"].x]))
    assert task.labels.tolist() == [-1] * 8 + [0, 1] * 6
    assert task.split("masks").test.tolist() == [16, 17, 18, 19]
    assert notes(task, "2 node and 1 edge types are not distinguished")
    assert task.outputs == 2


def test_types_of_different_widths_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"of the same width, got {'author': \(3,\), 'paper': \(5,\)}"):
        from_data(typed(width=5))


def test_a_networkx_graph() -> None:
    usual = ring()
    graph = networkx.DiGraph()
    for node in range(12):
        masks = {f"{part}_mask": bool(usual[f"{part}_mask"][node]) for part in ("train", "val", "test")}
        graph.add_node(f"n{node}", x=usual.x[node].tolist(), y=int(usual.y[node]), **masks)
    graph.add_edges_from((f"n{a}", f"n{b}") for a, b in usual.edge_index.T.tolist())
    task = from_data(graph)
    assert task.checksum == from_data(usual).checksum
    assert notes(task, "NetworkX")
    graph.add_node("odd")
    with pytest.raises(ValueError, match="give every node the same attributes"):
        from_data(graph)


def molecules(count: int = 12) -> list[Data]:
    return [Data(x=torch.randn(2, 3), edge_index=torch.tensor([[0], [1]]), y=torch.tensor(i % 2)) for i in range(count)]


def test_a_list_of_graphs_with_labels_of_no_dimension() -> None:
    task = from_data(molecules(), kind="graph")
    assert (task.instances, task.graph.num_nodes, task.outputs) == (12, 24, 2)
    assert notes(task, "split 'stratified-0' is drawn: 50/25/25 within every class, seed 0")


def test_lists_that_are_no_union_are_refused_with_the_place() -> None:
    graphs = molecules()
    graphs[3].edge_attr = torch.ones(1, 2)
    with pytest.raises(ValueError, match="graphs 0 and 3 of the list differ in edge_attr"):
        from_data(graphs, kind="graph")
    with pytest.raises(ValueError, match="12 graphs: a list is for kind='graph'"):
        from_data(molecules())
    with pytest.raises(TypeError, match="got list"):
        from_data([])


def test_a_data_set_of_one_graph_is_that_graph() -> None:
    class One(InMemoryDataset):
        def __init__(self) -> None:
            super().__init__()
            self.data, self.slices = self.collate([ring()])

    torch.manual_seed(1)
    dataset = One()
    assert from_data(dataset).checksum == from_data(dataset[0]).checksum


def test_the_parts_of_a_random_link_split_are_one_task_on_the_first_one_s_edges() -> None:
    torch.manual_seed(0)
    edges = torch.randint(0, 30, (2, 200))
    whole = Data(x=torch.randn(30, 4), edge_index=edges)
    parts = RandomLinkSplit(num_val=0.2, num_test=0.2, is_undirected=False, add_negative_train_samples=True)(whole)
    task = from_data(parts, kind="link")
    assert task.metric == "roc_auc"  # floats of 0 and 1 are a classification
    assert torch.equal(task.pairs[task.split("masks").test], parts[2].edge_label_index.T)
    assert task.graph.num_edges == parts[0].num_edges
    assert notes(task, "messages run along the edges of the first")


@pytest.mark.parametrize(
    "turned", [torch.Tensor.t, lambda edges: edges.t().int(), lambda edges: edges.numpy().T.tolist()]
)
def test_edges_as_rows_are_turned(turned: object) -> None:
    graph = ring()
    usual = from_data(graph)
    graph.edge_index = turned(graph.edge_index)
    assert from_data(graph).checksum == usual.checksum
    assert notes(from_data(graph), "transposed to [2, 12]")


def test_unlabelled_nodes_stand_in_no_part_and_are_not_scored() -> None:
    graph = ring()
    graph.y[5] = -1
    with pytest.raises(ValueError, match="its val part has 1 instances without a label; leave them out"):
        from_data(graph)
    graph.val_mask[5] = False
    task = from_data(graph)
    assert 5 not in task.labelled()
    assert notes(task, "1 of 12 instances are unlabelled")
    graph.y = torch.where(graph.y < 0, torch.nan, graph.y.float() + 1)  # the same, as floats that are no 0 and 1
    assert torch.equal(from_data(graph).labels, task.labels)
    assert from_data(graph).class_names == (1, 2)


@pytest.mark.parametrize("names", [(0, 500), ("cat", "dog")])
def test_classes_keep_their_names(names: tuple[int | str, int | str]) -> None:
    graph = ring()
    graph.y = np.array([names[label] for label in graph.y.tolist()])
    task = from_data(graph)
    assert task.labels.tolist() == ring().y.tolist()
    assert task.class_names == names
    assert notes(task, "`y`")


def test_without_masks_a_split_is_drawn_and_said() -> None:
    graph = ring(40)
    first = from_data(graph, split="stratified", seed=3)
    for part in ("train", "val", "test"):
        del graph[f"{part}_mask"]
    drawn = from_data(graph, seed=3)
    assert drawn.split("stratified-3").hash == first.split("stratified-3").hash
    assert notes(drawn, "seed 3")
    graph.y[:] = torch.arange(40) // 2
    with pytest.raises(ValueError, match="no split can be drawn: class 0 has 2 instances"):
        from_data(graph)


def test_several_splits_may_come_as_numpy_masks_of_numbers() -> None:
    graph = ring()
    for part in ("train", "val", "test"):
        graph[f"{part}_mask"] = graph[f"{part}_mask"].unsqueeze(1).repeat(1, 3).numpy().astype(int)
    assert list(from_data(graph).splits) == ["masks-0", "masks-1", "masks-2"]


def test_what_is_carried_along_unread_is_named() -> None:
    graph = ring()
    graph.edge_weight, graph.pos = torch.rand(12), torch.randn(12, 2)
    assert notes(from_data(graph), "not read: edge_weight, pos")


def test_a_table_of_one_column_and_whole_numbers() -> None:
    graph = ring()
    graph.x, graph.edge_attr = torch.arange(12), torch.rand(12)
    task = from_data(graph)
    assert task.graph.x.tolist() == [[float(i)] for i in range(12)]
    assert task.graph.edge_attr.shape == (12, 1)


def test_a_sparse_table_too_large_to_be_dense_is_refused() -> None:
    graph = ring()
    graph.x = torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.long), torch.ones(1), (12, 10**9))
    with pytest.raises(ValueError, match="too large to be made dense"):
        from_data(graph)
