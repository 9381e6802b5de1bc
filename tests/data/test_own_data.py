from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from samples import ring
from torch import Tensor
from torch_geometric.data import Batch, Data

from stemlib.data.own_data import from_data
from stemlib.data.splits import stratified_split


def test_a_node_task() -> None:
    task = from_data(ring(), name="ring")
    assert (task.kind, task.metric, task.outputs, task.instances) == ("node", "accuracy", 2, 12)
    assert task.split("masks").test.tolist() == [8, 9, 10, 11]


def test_labels_in_a_column_are_classes_when_whole_and_binary_when_floats() -> None:
    graph = ring()
    graph.y = graph.y.unsqueeze(1)
    assert from_data(graph).metric == "accuracy"
    graph.y = graph.y.float()
    assert from_data(graph).metric == "roc_auc"
    column = from_data(graph).labels
    graph.y = graph.y.squeeze(1)
    assert torch.equal(from_data(graph).labels, column)


@pytest.mark.parametrize("name", ["x", "edge_attr"])
@pytest.mark.parametrize(
    "form",
    [
        Tensor.double,
        lambda x: x.double().numpy(),
        Tensor.to_sparse,
        Tensor.to_sparse_csr,
        lambda x: scipy.sparse.csr_array(x.numpy()),
        torch.nn.Parameter,
    ],
    ids=["double", "numpy", "coo", "csr", "scipy", "parameter"],
)
def test_features_in_any_form_are_the_same_table(name: str, form: Callable[[Tensor], Any]) -> None:
    graph = ring()
    graph.edge_attr = torch.randn(12, 2)
    usual = from_data(graph)
    graph[name] = form(graph[name])
    task = from_data(graph)
    assert torch.equal(getattr(task.graph, name), getattr(usual.graph, name))
    assert not getattr(task.graph, name).requires_grad
    assert task.checksum == usual.checksum


def test_features_of_half_precision_are_read_as_they_are() -> None:
    for kind in (torch.float16, torch.bfloat16):
        graph = ring()
        graph.x = graph.x.to(kind)
        assert torch.equal(from_data(graph).graph.x, graph.x.float())


def test_edges_of_numpy_are_taken() -> None:
    graph = ring()
    usual = from_data(graph)
    graph.edge_index = graph.edge_index.numpy()
    assert from_data(graph).checksum == usual.checksum


def test_what_is_carried_along_is_not_converted() -> None:
    graph = ring()
    graph.names, graph.links = np.array(["a"] * 12), scipy.sparse.csr_array((10**6, 10**6))
    about = from_data(graph).graph.about
    assert (about["names"] == graph.names).all()
    assert about["links"].shape == (10**6, 10**6)


def test_an_array_that_its_owner_changes_later_changes_no_task() -> None:
    graph = ring()
    graph.x = graph.x.numpy()
    task = from_data(graph)
    before = task.graph.x.clone()
    graph.x[:] = 0
    assert torch.equal(task.graph.x, before)


def test_masks_labels_and_reversed_arrays_of_numpy_are_taken() -> None:
    graph = ring()
    usual = from_data(graph)
    for name in ("y", "train_mask", "val_mask", "test_mask"):
        graph[name] = graph[name].numpy()
    graph.x = np.ascontiguousarray(graph.x.numpy()[::-1])[::-1]
    assert from_data(graph).checksum == usual.checksum


@pytest.mark.parametrize(("part", "label"), [("train", torch.nan), ("val", 0.0), ("test", 1.0)])
def test_binary_labels_that_cannot_be_learnt_or_scored_are_refused_by_part(part: str, label: float) -> None:
    graph = ring()
    graph.y = torch.where(graph[f"{part}_mask"], label, graph.y.float()).unsqueeze(1)
    with pytest.raises(ValueError, match=f"split 'masks': .* {part} part"):
        from_data(graph)


def test_a_link_task() -> None:
    graph = ring()
    del graph.y
    graph.edge_label_index, graph.edge_label = graph.edge_index.clone(), torch.arange(12) % 3
    task = from_data(graph, kind="link")
    assert task.pairs.tolist() == graph.edge_label_index.T.tolist()
    assert task.outputs == 3


def test_a_graph_task() -> None:
    graphs = [
        Data(x=torch.randn(2 + i, 3), edge_index=torch.tensor([[0], [1]]), y=torch.tensor([i % 2])) for i in range(9)
    ]
    batch = Batch.from_data_list(graphs)
    splits = {"drawn": stratified_split(torch.arange(9), batch.y, seed=0, name="drawn")}
    task = from_data(batch, kind="graph", splits=splits)
    assert (task.instances, task.graph.num_nodes) == (9, 54)


def test_the_user_s_graph_is_left_alone() -> None:
    graph = ring()
    before = graph.edge_index.clone()
    from_data(graph)
    assert type(graph.edge_index) is torch.Tensor
    assert torch.equal(graph.edge_index, before)


def test_the_checksum_is_that_of_the_data() -> None:
    graph = ring()
    other = graph.clone()
    other.x[0, 0] += 1
    assert from_data(graph).checksum == from_data(graph.clone()).checksum != from_data(other).checksum


def test_every_problem_is_named_at_once() -> None:
    graph = ring()
    graph.x[1, 2] = torch.nan
    graph.edge_index[0, 0] = 99
    graph.y[3] = -2
    graph.val_mask = graph.val_mask.long() * 2
    graph.test_mask = graph.test_mask[:-1]
    with pytest.raises(ValueError, match="cannot be used") as error:
        from_data(graph, name="broken")
    message = str(error.value)
    for text in ("'broken'", "NaN", "99", "go down to -2", "`val_mask` must be boolean", "`test_mask` must be [12]"):
        assert text in message
    assert message.count("\n  - ") == 5


@pytest.mark.parametrize("odd", [torch.inf, torch.nan, 0.5, 1e20])
def test_whole_numbers_are_finite_and_exact(odd: float) -> None:
    graph = ring()
    graph.edge_index = graph.edge_index.double()
    graph.edge_index[0, 0] = odd
    with pytest.raises(ValueError, match="`edge_index` must be whole numbers"):
        from_data(graph)


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("x", "node features `x`"),
        ("edge_index", "`edge_index` must be"),
        ("y", "no labels: `y`"),
        ("train_mask", "no split: train_mask missing"),
    ],
)
def test_what_is_missing_is_named(missing: str, told: str) -> None:
    graph = ring()
    del graph[missing]
    with pytest.raises(ValueError, match=told):
        from_data(graph)


def test_edges_of_a_sparse_adjacency_run_from_its_columns_to_its_rows() -> None:
    graph = ring()
    usual = from_data(graph)
    graph.adj_t = torch.sparse_coo_tensor(graph.edge_index.flip(0), torch.ones(12), (12, 12))
    del graph.edge_index
    task = from_data(graph)
    assert task.checksum == usual.checksum
    assert any("adj_t" in note for note in task.notes)


def test_masks_of_different_numbers_of_splits_are_refused() -> None:
    graph = ring()
    graph.train_mask = graph.train_mask.unsqueeze(1).expand(-1, 2)
    graph.val_mask = graph.val_mask.unsqueeze(1).expand(-1, 3)
    with pytest.raises(ValueError, match=r"different numbers of splits: \[2, 3\]"):
        from_data(graph)


def test_other_types_and_kinds_are_refused() -> None:
    with pytest.raises(TypeError, match="a torch_geometric Data, Batch or HeteroData, a NetworkX graph"):
        from_data({"x": torch.ones(3, 2)})
    with pytest.raises(ValueError, match="kind must be one of"):
        from_data(ring(), kind="edge")


def test_splits_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`splits` must map names to `stemlib\.data\.tasks\.Split"):
        from_data(ring(), splits={"mine": (torch.arange(4), torch.arange(4, 8), torch.arange(8, 12))})


def test_splits_are_given_or_drawn_not_both() -> None:
    given = from_data(ring()).splits
    with pytest.raises(ValueError, match="not both"):
        from_data(ring(), splits=given, split="stratified")


def test_a_dense_adjacency_is_read_as_a_sparse_one() -> None:
    graph = ring()
    usual = from_data(graph)
    graph.adj_t = torch.zeros(12, 12).index_put(tuple(graph.edge_index.flip(0)), torch.tensor(1.0))
    del graph.edge_index
    assert torch.equal(from_data(graph).graph.edge_index, usual.graph.edge_index)
