"""Networks whose decompositions are known by construction, on the built-in graph: the estimators return them.

Without feature noise a node's own feature is its class `y = +-1`, and its neighbours' mean is `y` where homophily
is 1 and `-y` where it is 0. Expert 0 believes the neighbours, expert 1 believes the opposite, so that one is right in
each environment; a context column `c = +-1` tells which. Logits are `(-z, z)` with `z = +-1`, so that a right answer
costs `log(1 + e^-2)` and a wrong one 2 more.
"""

from __future__ import annotations

import math
from copy import copy

import pytest
import torch
from routed_samples import condition, exact
from torch import Tensor

from stemlib.data.built_in import built_in
from stemlib.data.tasks import Task
from stemlib.model.stem import StemGNN
from stemlib.model.tokens import TIE
from stemlib.presets import ModelConfig
from stemlib.stress.conditions import Condition
from stemlib.theory.coverage import coverage, coverages
from stemlib.theory.coverage_report import report
from stemlib.theory.replay import change_under
from stemlib.theory.sensitivity import sensitivity
from study.families import build

NODES = 400
SURE = 80.0  # a router's logit whose softmax is 1 to rounding
RIGHT = math.log1p(math.exp(-2))
WRONG = RIGHT + 2
IDENTITY = {"rel": 1e-9, "abs": 1e-9}
MEAN_Y, OWN_Y, OWN_C, OWN_ONE = (0, 3, 4, 5)  # rows of an expert's weight: neighbours' mean of (y, c, 1), then own


def graph_of_two_environments(wrong_context: float = 0.0) -> Task:
    """Columns `y, c, 1`; the context is wrong for a share of either environment's nodes."""
    homophily = (torch.arange(NODES) < NODES // 2).float()
    task = exact(built_in(NODES, degree=5, homophily=homophily, mu=1.0, sigma=0.0))
    context = 2 * homophily.double() - 1
    for half in torch.arange(NODES).chunk(2):
        context[half[: round(wrong_context * len(half))]] *= -1
    return with_features(task, torch.stack([task.graph.x[:, 0], context, torch.ones(NODES).double()], 1))


def with_features(task: Task, x: Tensor) -> Task:
    graph = copy(task.graph)
    graph.x = x
    return task.with_graph(graph)


def environments(task: Task) -> list[Condition]:
    halves = torch.arange(NODES).chunk(2)
    return [Condition(name, task, half) for name, half in zip(("like", "unlike"), halves, strict=True)]


def network(task: Task, hidden: int, layers: int = 1, **settings: object) -> StemGNN:
    """All weights zero, waiting for a hand."""
    settings = {"experts": 2, "codebook": "none", "dropout": 0.0, **settings}
    model = build(ModelConfig(hidden=hidden, layers=layers, **settings), task).double().eval()
    for value in model.parameters():
        value.data.zero_()
    return model


def opposite_experts(task: Task, per_context: float, bias: float = 0.0, second: float = -1.0) -> StemGNN:
    """`z` is the neighbours' mean, by expert 1 `second` times it; router logits are `per_context c + bias` and 0."""
    model = network(task, hidden=1)
    model.encoder.layers[0].weight.data[:, MEAN_Y, 0] = torch.tensor([1.0, second]).double()
    model.encoder.routers[0].weight.data[0, 1] = per_context
    model.encoder.routers[0].bias.data[0] = bias
    model.head.linear.weight.data[:, 0] = torch.tensor([-1.0, 1.0]).double()
    return model


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


@pytest.mark.parametrize("scope", ["node", "graph"])
def test_a_perfect_router(scope: str) -> None:
    task = graph_of_two_environments()
    found = coverages(opposite_experts(task, SURE), environments(task), scope)
    for item in found[:2]:
        assert pytest.approx((RIGHT, RIGHT, 0, 0), **IDENTITY) == (item.R, item.C, item.S, item.X)
        assert item.oracle_share == 1
    table = report(found).set_index(["loss", "condition"])
    assert table.best_path.tolist() == [(0,), (1,), (0,), (1,)]
    assert table.loc["ce", "C_env"].tolist() == pytest.approx([RIGHT, RIGHT], **IDENTITY)
    assert table.loc["ce", "C_all"].tolist() == pytest.approx([WRONG, WRONG], **IDENTITY)
    assert table.loc["ce", "routing_gain"].tolist() == pytest.approx([2, 2], **IDENTITY)
    assert table.loc["zero_one", "routing_gain"].tolist() == [1, 1]
    assert table.loc["ce"][["load_1_0", "load_1_1"]].to_numpy().round(9).tolist() == [[1, 0], [0, 1]]
    assert (table.entropy_1 < 1e-9).all()


def test_a_constant_router() -> None:
    """Expert 0 everywhere: all of the shift is selection."""
    task = graph_of_two_environments()
    like, unlike = coverages(opposite_experts(task, 0, SURE), environments(task), losses=["ce"])
    assert pytest.approx((RIGHT, RIGHT, 0, 0), **IDENTITY) == (like.R, like.C, like.S, like.X)
    assert pytest.approx((WRONG, RIGHT, 2, 0), **IDENTITY) == (unlike.R, unlike.C, unlike.S, unlike.X)
    assert (like.oracle_share, unlike.oracle_share, unlike.regret_if_misselected) == (1, 0, pytest.approx(2))
    table = report([like, unlike])
    assert table.iloc[1][["dR", "dC", "dS", "dX"]].tolist() == pytest.approx([2, 0, 2, 0], **IDENTITY)
    assert table.routing_gain.tolist() == pytest.approx([0, 0], **IDENTITY)


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5])
def test_a_router_that_errs_at_a_known_rate(rate: float) -> None:
    task = graph_of_two_environments(wrong_context=rate)
    model = opposite_experts(task, SURE)
    for met in environments(task):
        found = coverage(model, met)
        assert pytest.approx((RIGHT + 2 * rate, RIGHT, 2 * rate, 0), **IDENTITY) == (found.R, found.C, found.S, found.X)
        assert (found.oracle_share, found.regret_if_misselected) == pytest.approx((1 - rate, 2))
        error = coverage(model, met, loss="zero_one")
        assert pytest.approx((rate, 0, rate, 0)) == (error.R, error.C, error.S, error.X)


def test_a_soft_router_that_errs() -> None:
    """Gates (3/4, 1/4) halve `z`: mixing costs the right ones and helps the wrong ones."""
    rate, task = 0.25, graph_of_two_environments(wrong_context=0.25)
    found = coverage(opposite_experts(task, math.log(3)), condition(task))
    mixing = (1 - rate) * (softplus(-1) - softplus(-2)) + rate * (softplus(1) - softplus(2))
    assert pytest.approx((RIGHT, 2 * rate, mixing), **IDENTITY) == (found.C, found.S, found.X)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert found.entropy.tolist() == [[pytest.approx(entropy)]] * NODES


def test_experts_that_agree() -> None:
    """Nothing to select: whatever the router does, all that is lost is coverage."""
    task = graph_of_two_environments(wrong_context=0.3)
    like, unlike = coverages(opposite_experts(task, 1.0, second=1.0), environments(task), losses=["ce"])
    assert pytest.approx((RIGHT, RIGHT, 0, 0), **IDENTITY) == (like.R, like.C, like.S, like.X)
    assert pytest.approx((WRONG, WRONG, 0, 0), **IDENTITY) == (unlike.R, unlike.C, unlike.S, unlike.X)
    assert unlike.oracle_share == 1
    assert report([like, unlike]).routing_gain.tolist() == pytest.approx([0, 0], **IDENTITY)


def two_layers(task: Task, second_turns: bool) -> StemGNN:
    """Layer 1 is `opposite_experts` written as `(relu z, relu -z)`; expert 1 of layer 2 may exchange the two again."""
    model = network(task, hidden=4, layers=2)
    first, second = model.encoder.layers
    signs = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).double()
    first.weight.data[:, MEAN_Y, :2] = signs  # [expert, (relu z, relu -z)]
    if second_turns:
        second.weight.data[1, 4:6, :2] = -torch.eye(2).double() + torch.eye(2).double().flip(0)
    model.encoder.routers[0].weight.data[0, 1] = SURE
    model.encoder.routers[1].bias.data[0] = SURE  # layer 2 always takes expert 0, which leaves its input alone
    model.head.linear.weight.data[:, :2] = -signs
    return model


def test_layer_regrets_of_two_layers() -> None:
    """A wrong choice of layer 1 is charged to it alone, unless layer 2 could have put it right."""
    rate = 0.25
    task = graph_of_two_environments(wrong_context=rate)
    for second_turns, expected in ((False, [2 * rate, 0]), (True, [0, 2 * rate])):
        found = coverage(two_layers(task, second_turns), condition(task))
        assert pytest.approx((RIGHT, 2 * rate, 0), **IDENTITY) == (found.C, found.S, found.X)
        assert found.layer_regrets.mean(0).tolist() == pytest.approx(expected, **IDENTITY)
    assert found.path_risks.tolist() == pytest.approx([(RIGHT + WRONG) / 2] * 4, **IDENTITY)


W, V = torch.tensor([1.0, 2.0, -1.0, 0.5]).double(), torch.tensor([0.0, 3.0, 0.0, -4.0]).double()
SHIFT, SHARE = 0.5, 0.2  # of every node's y; of nodes whose context turns


def differing_experts(task: Task, row: int) -> StemGNN:
    """Expert 0 is `y w`; expert 1 adds `v` times the feature `row`; the context decides, surely."""
    model = network(task, hidden=4)
    weight = model.encoder.layers[0].weight.data
    weight[:, OWN_Y] = W
    weight[1, row] += V
    model.encoder.routers[0].weight.data[0, 1] = SURE
    model.head.linear.weight.data[:, 0] = torch.tensor([-1.0, 1.0]).double()
    return model


def moved(task: Task, shift: float = SHIFT, share: float = SHARE) -> tuple[Condition, Tensor]:
    """The graph with every `y` shifted and the context turned for a share of the nodes; who was turned `[N]`."""
    x = task.graph.x.clone()
    x[:, 0] += shift
    turned = torch.zeros(NODES, dtype=torch.bool)
    for half in torch.arange(NODES).chunk(2):
        turned[half[: round(share * len(half))]] = True
    x[turned, 1] *= -1
    return condition(with_features(task, x), "moved"), turned


def towards_expert_one(task: Task, turned: Tensor) -> Tensor:
    """Change of expert 1's gate `[N]`: context -1 is its own."""
    return turned * task.graph.x[:, 1]


def test_experts_that_differ_by_a_known_vector() -> None:
    """Base is `shift w`, amplification `+-v` for those whose route flips, in either order."""
    task = graph_of_two_environments()
    perturbed, turned = moved(task)
    model, clean = differing_experts(task, OWN_ONE), condition(task)
    change = change_under(model, clean, perturbed, "embedding")
    released = towards_expert_one(task, turned).unsqueeze(1) * V
    for pieces in (change.sequential, change.symmetric):
        torch.testing.assert_close(pieces.base, (SHIFT * W).expand(NODES, -1))
        torch.testing.assert_close(pieces.amplification, released)
    found = sensitivity(model, clean, perturbed)
    row = found.summary()
    base, amplification = SHIFT**2 * W.square().sum().item(), SHARE * V.square().sum().item()
    assert (row["base"], row["amplification"]) == pytest.approx((base, amplification), **IDENTITY)
    assert row["cross"] == pytest.approx(0, abs=1e-9)  # as many turn to expert 1 as away from it
    assert row["factor"] == pytest.approx(math.sqrt(1 + amplification / base), **IDENTITY)
    assert row["order_gap"] == pytest.approx(0, abs=1e-18)
    assert (row["variation_1"], row["route_flips_1"], row["l1_1"]) == pytest.approx((SHARE, SHARE, 2 * SHARE))
    assert row["layer_tightness_1"] == pytest.approx(1)
    torch.testing.assert_close(found.gates.layer_bound[:, 0], turned * V.norm())


def test_experts_that_differ_by_a_vector_that_the_input_scales() -> None:
    """Now the order matters: released on the perturbed input a route moves `y' v`, on the clean one `y v`."""
    task = graph_of_two_environments()
    perturbed, turned = moved(task)
    change = change_under(differing_experts(task, OWN_Y), condition(task), perturbed, "embedding")
    released = towards_expert_one(task, turned).unsqueeze(1) * V
    y = task.graph.x[:, :1]
    torch.testing.assert_close(change.sequential.amplification, (y + SHIFT) * released)
    torch.testing.assert_close(change.symmetric.amplification, (y + SHIFT / 2) * released)
    found = sensitivity(differing_experts(task, OWN_Y), condition(task), perturbed)
    expected = SHARE * (SHIFT / 2) ** 2 * V.square().sum().item()
    assert found.order_gap.mean().item() == pytest.approx(expected, **IDENTITY)


def test_experts_that_agree_do_not_amplify() -> None:
    """Every turned node's gates move all the way, and nothing follows."""
    task = graph_of_two_environments()
    perturbed, _ = moved(task)
    model = differing_experts(task, OWN_ONE)
    model.encoder.layers[0].weight.data[1, OWN_ONE] = 0
    row = sensitivity(model, condition(task), perturbed).summary()
    assert (row["amplification"], row["factor"]) == pytest.approx((0, 1), **IDENTITY)
    assert row["variation_1"] == pytest.approx(SHARE)


def test_a_change_of_routes_alone() -> None:
    task = graph_of_two_environments()
    perturbed, _ = moved(task, shift=0.0)
    row = sensitivity(differing_experts(task, OWN_ONE), condition(task), perturbed).summary()
    assert (row["base"], row["amplification"]) == pytest.approx((0, SHARE * 25), **IDENTITY)
    assert row["factor"] == math.inf


def test_of_two_layers_the_one_whose_route_flips_amplifies() -> None:
    task = graph_of_two_environments()
    perturbed, turned = moved(task, shift=0.0)
    change = change_under(two_layers(task, second_turns=True), condition(task), perturbed, "logits")
    expected = torch.stack([turned * 2.0, torch.zeros(NODES)], 1).double()  # z turns from 1 to -1 or back
    torch.testing.assert_close(change.sequential.layers[..., 0].abs(), expected)


@pytest.mark.parametrize(("degrees", "flips"), [(40, False), (60, True)])
def test_tokens_of_a_known_turn(degrees: float, flips: bool) -> None:
    """Codes at 0 and 90 degrees; an embedding of 30 turns to 40 (kept: the border is at 45) or to 60 (flipped)."""
    task = graph_of_two_environments()

    def at(angle: float) -> Condition:
        direction = torch.tensor([math.radians(angle), math.radians(90 - angle)], dtype=torch.double).cos()
        return condition(with_features(task, direction.expand(NODES, 2).clone()), f"{angle} degrees")

    clean = at(30)
    # With experts that are 0 an embedding is the features, by the residual.
    model = network(clean.task, hidden=2, codebook="ema", heads=1, codes=2)
    model.tokens.project_in.weight.data = torch.eye(2).double()
    model.tokens.codebook.data = torch.eye(2).double().unsqueeze(0)
    model.head.linear.weight.data = torch.tensor([[2.0, 0.0], [0.0, 1.0]]).double()
    found = sensitivity(model, clean, at(degrees), "logits")
    turn = 2 * math.sin(math.radians(degrees - 30) / 2)
    tokens, head, row = found.tokens, found.head, found.summary()
    assert tokens.query_change.flatten().tolist() == pytest.approx([turn] * NODES, rel=1e-9)
    # To the border, less what a tie can take.
    assert tokens.margin.flatten().tolist() == pytest.approx([math.sin(math.radians(15))] * NODES, abs=2 * TIE)
    assert (row["token_flip_rate"], row["tokens_kept"], row["tokens_explained"]) == (flips, 1 - flips, 1 - flips)
    assert row["token_gain"] == pytest.approx(2 / turn**2 if flips else 0, rel=1e-9)
    assert (row["perplexity"], row["perplexity_perturbed"]) == pytest.approx((1, 1))
    assert row["total"] == pytest.approx(5 if flips else 0)  # logits (2, 0) to (0, 1)
    assert (row["head_spectral"], row["head_frobenius"]) == pytest.approx((2, math.sqrt(5)))
    assert head.radius.tolist() == pytest.approx([2 / math.sqrt(5)] * NODES, rel=1e-9)
    assert (row["decisions_kept"], row["decisions_explained"]) == (1 - flips, 1 - flips)
