"""Baselines: PyG's networks behind the common interface."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import BASELINES, EXACT, fewer, graphs, node_task, renumbered, small_baseline
from torch_geometric.data import Data
from torch_geometric.nn.models import GCN

from stemlib.baselines import Baseline
from stemlib.batches import batches
from stemlib.checkpoints import build
from stemlib.messages import plain, sorted_by_target
from stemlib.presets import TrainConfig
from stemlib.tasks import Task, read_out


@pytest.mark.parametrize("kind", BASELINES)
def test_every_network_reads_every_kind_of_task(task: Task, kind: str) -> None:
    model = build(small_baseline(kind), task).eval()
    graph, instances, labels = next(batches(task, torch.arange(task.instances)))
    output = model(graph, instances)
    assert output.logits.shape == (task.instances, task.outputs) == (len(labels), task.outputs)
    assert output.tokens is None
    assert output.encoding is None
    assert model.penalty(output, TrainConfig(lipschitz=1.0)).item() == 0


@pytest.mark.parametrize("kind", BASELINES)
@fewer
@given(graph=graphs, random=st.randoms(use_true_random=False))
def test_networks_do_not_depend_on_numbering_or_on_the_fast_path(
    kind: str, graph: Data, random: object
) -> None:
    torch.manual_seed(1)
    model = Baseline(small_baseline(kind), in_width=6, classes=3).double().eval()
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


@pytest.mark.parametrize("kind", BASELINES)
def test_all_but_the_mlp_read_the_edges(kind: str) -> None:
    task = node_task()
    model = build(small_baseline(kind), task).eval()
    alone = Data(x=task.graph.x, edge_index=torch.empty(2, 0, dtype=torch.long))
    everyone = torch.arange(80)
    same = torch.allclose(model(task.graph, everyone).logits, model(alone, everyone).logits)
    assert same == (kind == "mlp")


def test_the_network_is_pygs_own() -> None:
    task = node_task()
    model = build(small_baseline("gcn", layers=3), task).eval()
    assert isinstance(model.network, GCN)
    assert model.network.num_layers == 3
    z = model.network(task.graph.x, plain(task.graph.edge_index))
    everyone = torch.arange(80)
    assert torch.equal(model(task.graph, everyone).logits, read_out(z, task.graph, everyone, "node"))


def test_dropout_acts_in_training_only() -> None:
    task = node_task()
    model = build(small_baseline("mlp", input_dropout=0.5, dropout=0.5), task).eval()
    everyone = torch.arange(80)
    assert torch.equal(model(task.graph, everyone).logits, model(task.graph, everyone).logits)
    model.train()
    assert not torch.equal(model(task.graph, everyone).logits, model(task.graph, everyone).logits)
