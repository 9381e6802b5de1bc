"""Baselines: PyG's networks behind the common interface."""

from __future__ import annotations

from copy import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import EXACT, few, fewer, graphs, node_task, random_graph, renumbered, small_baseline
from torch_geometric.nn.models import GCN, GIN, GraphSAGE

from stemlib.baselines.networks import NETWORKS, Baseline, adjacency
from stemlib.data.batches import batches
from stemlib.data.graph import Graph, node_features, plain, sorted_by_target
from stemlib.data.tasks import Task, read_out
from stemlib.model.messages import edge_mean
from stemlib.presets import TrainConfig
from study.families import build


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_network_reads_every_kind_of_task(task: Task, kind: str) -> None:
    model = build(small_baseline(kind), task).eval()
    graph, instances, labels, *_ = next(batches(task, torch.arange(task.instances)))
    output = model(graph, instances)
    assert output.logits.shape == (task.instances, task.outputs) == (len(labels), task.outputs)
    assert output.tokens is None
    assert output.encoding is None
    assert model.penalty(output, TrainConfig(lipschitz=0.0)).item() == 0


@pytest.mark.parametrize("kind", NETWORKS)
@fewer
@given(graph=graphs, random=st.randoms(use_true_random=False))
def test_networks_do_not_depend_on_numbering_or_on_the_fast_path(kind: str, graph: Graph, random: object) -> None:
    torch.manual_seed(1)
    edge_width = None if graph.edge_attr is None else 3
    model = Baseline(small_baseline(kind), 6, classes=3, edge_width=edge_width).double().eval()
    order, edge_order = list(range(graph.num_nodes)), list(range(graph.num_edges))
    random.shuffle(order)
    random.shuffle(edge_order)
    other = renumbered(graph, torch.tensor(order), torch.tensor(edge_order, dtype=torch.long))
    everyone = torch.arange(graph.num_nodes)
    with torch.no_grad():
        logits = model(graph, everyone).logits
        assert logits.isfinite().all()
        for same in (other, sorted_by_target(other)):
            torch.testing.assert_close(model(same, everyone).logits, logits[order], **EXACT)


@pytest.mark.parametrize("kind", NETWORKS)
def test_all_but_the_mlp_read_the_edges(kind: str) -> None:
    task = node_task()
    model = build(small_baseline(kind), task).eval()
    alone = Graph(x=task.graph.x, edge_index=torch.empty(2, 0, dtype=torch.long))
    everyone = torch.arange(80)
    same = torch.allclose(model(task.graph, everyone).logits, model(alone, everyone).logits)
    assert same == (kind == "mlp")


def test_the_network_is_pygs_own() -> None:
    task = node_task()
    model = build(small_baseline("gcn", layers=3), task).eval()
    assert isinstance(model.network, GCN)
    assert model.network.num_layers == 3
    own = GCN(3, 8, num_layers=3, out_channels=3).eval()
    own.load_state_dict(model.network.state_dict())
    everyone = torch.arange(80)
    expected = read_out(own(task.graph.x, plain(task.graph.edge_index)), task.graph, everyone, "node")
    torch.testing.assert_close(model(task.graph, everyone).logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["gcn", "sage", "gin"])
@few
@given(graph=graphs)
def test_a_sparse_product_gives_the_numbers_and_gradients_of_messages(kind: str, graph: Graph) -> None:
    torch.manual_seed(1)
    ours = NETWORKS[kind](6, 8, num_layers=2, out_channels=3).double().eval()
    plainly = {"gcn": GCN, "sage": GraphSAGE, "gin": GIN}[kind](6, 8, num_layers=2, out_channels=3).double().eval()
    plainly.load_state_dict(ours.state_dict())
    x, same_x = (graph.x.clone().requires_grad_() for _ in range(2))
    edges = adjacency(kind, graph, torch.double)
    assert edges.matrix.layout == torch.sparse_csr
    out, expected = ours(x, edges), plainly(same_x, graph.edge_index)
    torch.testing.assert_close(out, expected, **EXACT)
    out.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(x.grad, same_x.grad, **EXACT)


def test_the_adjacency_follows_the_graph() -> None:
    """It is made once per graph: another graph, or precision, must not meet the one that was kept."""
    task = node_task()
    graph, everyone = task.graph, torch.arange(80)
    flipped = Graph(x=graph.x, edge_index=plain(graph.edge_index).flip(0))
    model = build(small_baseline("gcn"), task).eval()
    fresh = build(small_baseline("gcn"), task).eval()
    fresh.load_state_dict(model.state_dict())
    first = model(graph, everyone).logits
    assert adjacency("gcn", graph, torch.float) is adjacency("gcn", graph, torch.float)
    assert torch.equal(model(flipped, everyone).logits, fresh(flipped, everyone).logits)
    assert torch.equal(model(graph, everyone).logits, first)
    wide = copy(graph)
    wide.x = graph.x.double()
    torch.testing.assert_close(model.double()(wide, everyone).logits.float(), first)


@pytest.mark.parametrize("kind", NETWORKS)
def test_an_evaluation_first_leaves_nothing_that_training_cannot_use(kind: str) -> None:
    task = node_task()
    model, everyone = build(small_baseline(kind), task), torch.arange(80)
    with torch.inference_mode():
        model(task.graph, everyone)
    model(task.graph, everyone).logits.sum().backward()
    assert all(value.grad is not None for value in model.parameters())


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("stored", ["rows", "types"])
def test_edge_features_stand_behind_the_nodes_own(kind: str, stored: str) -> None:
    graph = random_graph(edge_features=stored)
    model = Baseline(small_baseline(kind), 6, classes=2, edge_width=3).double().eval()
    twice = copy(graph)
    twice.edge_attr = 2 * graph.edge_attr
    everyone = torch.arange(12)
    logits = model(graph, everyone).logits
    if kind == "mlp":
        assert torch.equal(logits, model(twice, everyone).logits)
        return
    assert not torch.allclose(logits, model(twice, everyone).logits)
    bare = Baseline(small_baseline(kind), 9, classes=2).double().eval()
    bare.load_state_dict(model.state_dict())
    beside = Graph(x=torch.cat([graph.x, edge_mean(graph, graph.edge_attr)], 1), edge_index=graph.edge_index)
    assert torch.equal(logits, bare(beside, everyone).logits)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_table_of_node_types_is_spelled_out(kind: str) -> None:
    graph = random_graph()
    graph.num_nodes, graph.node_type = 12, torch.arange(12) % 5
    spelled = Graph(x=node_features(graph), edge_index=graph.edge_index)
    model = Baseline(small_baseline(kind), 6, classes=2).double().eval()
    everyone = torch.arange(12)
    assert torch.equal(model(graph, everyone).logits, model(spelled, everyone).logits)


def test_dropout_acts_in_training_only() -> None:
    task = node_task()
    model = build(small_baseline("mlp", input_dropout=0.5, dropout=0.5), task).eval()
    everyone = torch.arange(80)
    assert torch.equal(model(task.graph, everyone).logits, model(task.graph, everyone).logits)
    model.train()
    assert not torch.equal(model(task.graph, everyone).logits, model(task.graph, everyone).logits)
