"""Inputs that users of other projects reported as trouble, each with its thread: what becomes of them here."""

from __future__ import annotations

import networkx
import numpy as np
import pytest
import torch
from samples import ring
from torch_geometric.data import Data, HeteroData
from torch_geometric.transforms import RandomLinkSplit

from stemlib.cache import digest
from stemlib.data.own_data import from_data
from stemlib.data.tasks import Task
from stemlib.presets import ModelConfig, TrainConfig
from stemlib.training.finetune import fit
from stemlib.weights import read_weights, write_weights
from study.families import build


def notes(task: Task, word: str) -> list[str]:
    return [note for note in task.notes if word in note]


def test_networkx_attributes_named_by_numbers() -> None:
    """pyg-team/pytorch_geometric#1645: a TypeError from deep inside."""
    graph = networkx.path_graph(3)
    networkx.set_node_attributes(graph, {0: {1: 20, 2: 50}, 1: {1: 21}})
    with pytest.raises(ValueError, match="give every node the same attributes"):
        from_data(graph)


def undirected(nodes: int = 40, edges: int = 150) -> Data:
    torch.manual_seed(0)
    drawn = torch.randint(0, nodes, (2, edges))
    drawn = drawn[:, drawn[0] != drawn[1]]
    return Data(x=torch.randn(nodes, 4), edge_index=torch.cat([drawn, drawn.flip(0)], 1).unique(dim=1))


def test_a_negative_pair_of_validation_that_is_tested_the_other_way_round() -> None:
    """pyg-team/pytorch_geometric#10706: said nowhere."""
    parts = RandomLinkSplit(num_val=0.3, num_test=0.3, is_undirected=True)(undirected(12, 30))
    flipped = parts[1].edge_label_index[:, parts[1].edge_label == 0][:, :1].flip(0)
    parts[2].edge_label_index[:, -1:] = flipped
    assert notes(from_data(parts, kind="link"), "are in validation with the same label")


def test_a_link_split_without_validation() -> None:
    """pyg-team/pytorch_geometric#10590: trained and tested on the same edges."""
    parts = RandomLinkSplit(num_val=0.0, num_test=0.2, is_undirected=True)(undirected())
    with pytest.raises(ValueError, match="its val part is empty"):
        from_data(parts, kind="link")


def test_reverse_edges_of_another_type_that_tell_the_test() -> None:
    """pyg-team/pytorch_geometric#7281: reverse edges of a type that the split does not know."""
    given = undirected()
    parts = RandomLinkSplit(num_val=0.2, num_test=0.2, is_undirected=False)(given)
    parts[0].edge_index = given.edge_index
    (note,) = notes(from_data(parts, kind="link"), "joined by an edge that carries messages")
    assert "masks" in note


def test_labels_of_edges_to_which_negative_sampling_has_added_one() -> None:
    """pyg-team/pytorch_geometric#3668: 0 is no edge, 1 and 2 are the labels 0 and 1."""
    given = undirected()
    given.edge_label = torch.arange(given.num_edges) % 2
    parts = RandomLinkSplit(num_val=0.2, num_test=0.2)(given)
    task = from_data(parts, kind="link")
    assert (task.metric, task.outputs) == ("accuracy", 3)


def ogb_molecules(labels: torch.Tensor) -> list[Data]:
    """Whole numbers as features, one row of float64 labels to a graph."""
    path = torch.tensor([[0, 1], [1, 0]])
    table = {
        "x": torch.ones(2, 9, dtype=torch.long),
        "edge_index": path,
        "edge_attr": torch.ones(2, 3, dtype=torch.long),
    }
    return [Data(**table, y=row.view(1, -1)) for row in labels]


def test_molecules_as_ogb_has_them() -> None:
    """snap-stanford/ogb#4 and #25: float64 labels with NaN, features of whole numbers."""
    labels = (torch.arange(60).view(20, 3) % 2).double()
    labels[::4, 1] = torch.nan
    task = from_data(ogb_molecules(labels), kind="graph")
    assert (task.metric, task.outputs, task.graph.x.dtype) == ("roc_auc", 3, torch.float32)
    assert notes(task, "`x` converted from torch.int64 to float32")
    split = next(iter(task.splits.values()))
    fit(build(ModelConfig(hidden=4, codes=4), task), task, split, TrainConfig(epochs=1), 0)


def test_a_label_without_a_positive_in_the_test() -> None:
    """snap-stanford/ogb#269: the metric is undefined for it, and the mean over labels is not."""
    labels = (torch.arange(24) % 2).double().view(24, 1).repeat(1, 2)
    labels[18:, 1] = 0
    data = ogb_molecules(labels)
    for place, graph in enumerate(data):
        for number, part in enumerate(("train", "val", "test")):
            graph[f"{part}_mask"] = torch.tensor([min(place // 9, 2) == number])
    assert notes(from_data(data, kind="graph"), "1 of 2 labels cannot be scored")


def test_edges_to_nodes_that_have_no_features() -> None:
    """pyg-team/pytorch_geometric#7306: an IndexError in the first batch."""
    graph = ring()
    graph.edge_index[0, 3], graph.num_nodes = 15, 16
    with pytest.raises(ValueError, match="node features `x` have 12 rows for 16 nodes"):
        from_data(graph)


def test_arrays_in_fortran_s_order_are_stored_as_what_they_hold(tmp_path: object) -> None:
    """safetensors/safetensors#826: stored transposed, without a word."""
    graph = ring()
    x = graph.x.clone()
    graph.x = np.asfortranarray(graph.x.numpy())
    task = from_data(graph)
    assert torch.equal(task.graph.x, x)
    assert digest(task.graph.x) == digest(x)
    layer = torch.nn.Linear(3, 4)
    layer.weight.data = layer.weight.data.t().contiguous().t()
    write_weights(layer, {"format": "f"}, tmp_path)
    assert torch.equal(read_weights(tmp_path, "f", lambda _: torch.nn.Linear(3, 4)).weight, layer.weight)


def test_masks_of_uint8() -> None:
    """pyg-team/pytorch_geometric#1287: indexing by numbers instead of by truth."""
    graph = ring()
    usual = from_data(graph)
    for part in ("train", "val", "test"):
        graph[f"{part}_mask"] = graph[f"{part}_mask"].byte()
    assert from_data(graph).split("masks").hash == usual.split("masks").hash


def test_a_typed_graph_of_which_one_type_has_no_features() -> None:
    """A common form of MovieLens: users have an id and nothing else."""
    data = HeteroData()
    data["user"].num_nodes = 5
    data["movie"].x, data["movie"].y = torch.randn(6, 3), torch.arange(6) % 2
    data["user", "rates", "movie"].edge_index = torch.tensor([[0, 4], [1, 5]])
    with pytest.raises(ValueError, match=r"features `x` of the same width, got {'user': None, 'movie': \(3,\)}"):
        from_data(data)
