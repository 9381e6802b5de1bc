"""Objectives without labels: their values on tensors that can be checked by hand."""

from __future__ import annotations

import math
from copy import copy

import pytest
import torch
from samples import EXACT, node_task, random_graph
from torch import nn
from torch_geometric.nn import GATConv

from stemlib.baselines.networks import adjacency
from stemlib.data.tasks import Task
from study.rivals.self_supervised import (
    Bootstrap,
    MaskedAutoencoder,
    SingleHeadGAT,
    cosine_distance,
    masked_nodes,
    mean_summary,
    momentum,
    objective,
    scaled_cosine_error,
    shuffled_rows,
)
from study.rivals.settings import BGRLConfig, DGIConfig, GraphMAEConfig, PretextConfig, ProbeConfig

GCN, GAT = ProbeConfig("gcn", hidden=8), ProbeConfig("gat", hidden=8, heads=2, norm="batch")
PRETEXTS = [DGIConfig(), BGRLConfig(predictor=6), GraphMAEConfig()]
UNDISTURBED = dict.fromkeys(
    ("first_feature_dropout", "first_edge_dropout", "second_feature_dropout", "second_edge_dropout"), 0.0
)


@pytest.mark.parametrize("encoder", [GCN, GAT], ids=["gcn", "gat"])
@pytest.mark.parametrize("config", PRETEXTS, ids=lambda config: config.objective)
def test_every_objective_reads_every_kind_of_task(task: Task, config: PretextConfig, encoder: ProbeConfig) -> None:
    what = objective(config, encoder, task.graph.x.size(1), task.edge_width).train()
    labelled = copy(task.graph)
    labelled.y = task.labels
    torch.manual_seed(3)
    loss = what(task.graph)
    torch.manual_seed(3)
    assert torch.equal(what(labelled), loss) or encoder.norm == "batch"
    loss.backward()
    assert loss.isfinite()
    trained = {name for name, value in what.named_parameters() if value.requires_grad}
    assert {name for name, value in what.named_parameters() if value.grad is not None} == trained
    assert all(name.startswith("target.") for name, value in what.named_parameters() if name not in trained)


def test_infomax_deals_the_features_out_to_other_nodes() -> None:
    x, edges = torch.randn(50, 4), torch.randint(50, (2, 9))
    other, same = shuffled_rows(x, edges)
    assert same is edges
    assert not torch.equal(other, x)
    assert torch.equal(other[other[:, 0].argsort()], x[x[:, 0].argsort()])
    torch.testing.assert_close(mean_summary(torch.zeros(3, 2), x, edges), torch.tensor([0.5, 0.5]))


def test_an_infomax_that_cannot_tell_pays_two_bits_in_nats() -> None:
    task = node_task()
    dgi = objective(DGIConfig(), GCN, 3, None)
    nn.init.zeros_(dgi.weight)  # every pair of node and summary has probability 1/2
    assert dgi(task.graph).item() == pytest.approx(2 * math.log(2), rel=1e-5)


def test_cosine_distance_by_hand() -> None:
    one = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    assert cosine_distance(one, 5 * one).item() == pytest.approx(0, abs=1e-6)
    assert cosine_distance(one, -one).item() == pytest.approx(2)
    assert cosine_distance(one, torch.tensor([[1.0, 0.0], [1.0, 0.0]])).item() == pytest.approx(0.5)
    target = torch.randn(2, 2, requires_grad=True)
    cosine_distance(one.requires_grad_(), target).backward()
    assert target.grad is None
    assert one.grad is not None


def test_bootstrap_has_no_loss_where_target_and_prediction_agree() -> None:
    task = node_task()
    bgrl = objective(BGRLConfig(**UNDISTURBED), GCN, 3, None)
    bgrl.predictor = nn.Identity()
    assert bgrl(task.graph).item() == pytest.approx(0, abs=1e-5)
    disturbed = objective(BGRLConfig(), GCN, 3, None)
    disturbed.predictor = nn.Identity()
    assert disturbed(task.graph).item() > 1e-3


def test_the_target_follows_by_its_momentum() -> None:
    assert momentum(0.99, 0) == pytest.approx(0.99)
    assert momentum(0.99, 0.5) == pytest.approx(0.995)
    assert momentum(0.99, 1) == 1
    bgrl = objective(BGRLConfig(momentum=0.9), GCN, 3, None)
    assert isinstance(bgrl, Bootstrap)
    for mine, theirs in zip(bgrl.target.parameters(), bgrl.encoder.parameters(), strict=True):
        assert torch.equal(mine, theirs)
        nn.init.constant_(mine, 1.0)
        nn.init.constant_(theirs, 3.0)
    bgrl.follow(0.0)
    for mine, theirs in zip(bgrl.target.parameters(), bgrl.encoder.parameters(), strict=True):
        torch.testing.assert_close(mine, torch.full_like(mine, 0.9 * 1 + 0.1 * 3))
        assert (theirs == 3).all()
        assert not mine.requires_grad


def test_scaled_cosine_error_by_hand() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    told = torch.tensor([[1.0, math.sqrt(3)], [0.0, 7.0]])  # 60 degrees away, and right but for its length
    assert scaled_cosine_error(told, x, 1).item() == pytest.approx((1 - 0.5) / 2, rel=1e-5)
    assert scaled_cosine_error(told, x, 3).item() == pytest.approx((1 - 0.5) ** 3 / 2, rel=1e-5)


def test_masks_have_the_rates_that_were_asked_for() -> None:
    masked, replaced = masked_nodes(1000, 0.5, 0.05)
    assert (len(masked), len(replaced)) == (475, 25)
    assert len({*masked.tolist(), *replaced.tolist()}) == 500
    assert not torch.equal(masked, masked_nodes(1000, 0.5, 0.05)[0])
    assert [len(nodes) for nodes in masked_nodes(1, 0.5, 0.05)] == [1, 0]


def autoencoder(**settings: float) -> MaskedAutoencoder:
    mae = objective(GraphMAEConfig(**settings), GCN, 3, None)
    assert isinstance(mae, MaskedAutoencoder)
    nn.init.constant_(mae.token, 7.0)
    return mae.eval()


def test_masked_nodes_show_the_token_and_replaced_ones_another_nodes_features() -> None:
    x = torch.randn(80, 3)
    kept = x.clone()
    masked, replaced = torch.arange(20), torch.arange(20, 40)
    shown = autoencoder().shown(x, masked, replaced)
    assert (shown[masked] == 7).all()
    assert torch.equal(shown[40:], x[40:])
    assert torch.equal(x, kept)
    rows = {tuple(row) for row in x.tolist()}
    assert all(tuple(row) in rows for row in shown[replaced].tolist())
    assert not torch.equal(shown[replaced], x[replaced])


def test_the_decoder_does_not_see_masked_nodes_codes() -> None:
    task = node_task()
    mae = autoencoder()
    edges = adjacency(mae.kind, task.graph, torch.float)
    hidden = torch.arange(0, 80, 2)
    code = mae.masked_code(task.graph.x, edges, hidden)
    assert (code[hidden] == 0).all()
    assert (code[1::2] != 0).any(1).all()
    # A masked node without neighbours has nothing to be told from but the decoder's bias.
    lonely = mae.decoder(torch.zeros_like(code), edges)
    torch.testing.assert_close(lonely, mae.decoder.bias.expand(80, -1))


def test_a_single_head_gat_is_pygs() -> None:
    ours, plainly = SingleHeadGAT(6, 9).double(), GATConv(6, 9).double()
    plainly.load_state_dict(ours.state_dict())
    graph = random_graph()
    x, same_x = (graph.x.clone().requires_grad_() for _ in range(2))
    out, expected = ours(x, graph.edge_index), plainly(same_x, graph.edge_index)
    torch.testing.assert_close(out, expected, **EXACT)
    out.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(x.grad, same_x.grad, **EXACT)
    for name, value in ours.named_parameters():
        torch.testing.assert_close(value.grad, plainly.get_parameter(name).grad, **EXACT)


def test_only_masked_nodes_count() -> None:
    task = node_task()
    mae = autoencoder(dropout=0.0, mask_rate=0.0, replace_rate=0.0, gamma=1.0)  # one node at least
    torch.manual_seed(5)
    loss = mae(task.graph)
    torch.manual_seed(5)
    (only,), _ = masked_nodes(80, 0.0, 0.0)
    shown = task.graph.x.clone()
    shown[only] = mae.token.detach()
    edges = adjacency(mae.kind, task.graph, torch.float)
    told = mae.decoder(mae.masked_code(shown, edges, only.view(1)), edges)[only]
    expected = 1 - nn.functional.cosine_similarity(told, task.graph.x[only], dim=0)
    torch.testing.assert_close(loss, expected)
