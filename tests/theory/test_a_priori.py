"""No damage within the budget moves an embedding further, or changes a certified decision: every one is tried."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from routed_samples import random_model, random_task, seeds
from samples import node_task, small_baseline, small_model
from scipy.sparse import csr_matrix
from torch import Tensor

from stemlib.data.feature_source import FeatureSource
from stemlib.data.graph import Graph, plain, undirected_pairs
from stemlib.data.tasks import Task
from stemlib.model.stem import StemGNN
from stemlib.theory.a_priori import Budget, a_priori, moves
from stemlib.theory.certificates import ReachCertificate
from stemlib.theory.neighbourhoods import Neighbourhoods
from study.families import build

DTYPES = (torch.float64, torch.float32)
some = settings(max_examples=30)
forms = st.fixed_dictionaries(
    {
        "layers": st.integers(1, 3),
        "experts": st.integers(1, 3),
        "routed": st.sampled_from(["all", "last", "none"]),
        "activation": st.sampled_from(["relu", "leaky_relu"]),
        "codebook": st.sampled_from(["none", "ema"]),
        "hidden": st.sampled_from([6, 8]),  # as wide as the features, with a residual everywhere, or not
    }
)
budgets = st.builds(Budget, st.sampled_from(["deleted", "masked", "masked own"]), st.integers(0, 2))


def without(graph: Graph, lost: Tensor) -> Graph:
    """The graph without some of its undirected pairs."""
    _, pair_of_edge = undirected_pairs(plain(graph.edge_index), graph.num_nodes)
    return graph.without_edges(torch.isin(pair_of_edge, lost))


def masked(graph: Graph, places: Tensor) -> Graph:
    """The graph with entries of `x` set to zero, `places` being their numbers."""
    x = graph.x.clone()
    x.view(-1)[places] = 0
    return replace(graph, x=x)


def damages(graph: Graph, budget: Budget, node: int, seed: int) -> list[Graph]:
    """Every deletion and every masking of the node's own row within the budget; of masking every row, random ones."""
    if budget.damage == "deleted":
        pairs = range(len(undirected_pairs(plain(graph.edge_index), graph.num_nodes)[0]))
        sets = chain.from_iterable(combinations(pairs, count) for count in range(budget.count + 1))
        return [without(graph, torch.tensor(lost, dtype=torch.long)) for lost in sets]
    width = graph.x.size(1)
    if budget.damage == "masked own":
        sets = combinations(range(node * width, node * width + width), budget.count)
        return [masked(graph, torch.tensor(places, dtype=torch.long)) for places in sets]
    generator, found = torch.Generator().manual_seed(seed), []
    for _ in range(40):
        order = torch.rand(graph.x.shape, generator=generator).argsort(1)[:, : budget.count]
        found.append(masked(graph, (order + width * torch.arange(len(order)).unsqueeze(1)).flatten()))
    largest = graph.x.abs().topk(budget.count, dim=1).indices + width * torch.arange(len(graph.x)).unsqueeze(1)
    return [*found, masked(graph, largest.flatten())]


@torch.no_grad()
def classes(model: StemGNN, graph: Graph) -> Tensor:
    return model(graph, torch.arange(graph.num_nodes)).logits.argmax(-1)


@some
@given(seeds, forms, budgets)
def test_no_damage_within_the_budget_moves_an_embedding_further(seed: int, form: dict, budget: Budget) -> None:
    """On graphs with self-loops, repeated and one-way edges, and isolated nodes."""
    task = random_task("node", seed, nodes=6, edges=11)
    model = random_model(task, seed, **form)
    with torch.no_grad():
        z, bound = moves(model, task.graph, torch.arange(6), budget)
        torch.testing.assert_close(z, model.embed(task.graph, torch.arange(6)), rtol=1e-9, atol=1e-12)
        for node in range(6):
            for graph in damages(task.graph, budget, node, seed):
                moved = torch.linalg.vector_norm(model.embed(graph, torch.tensor([node]))[0] - z[node])
                assert moved <= bound[node] + 1e-12


def of_strength(task: Task, seed: int, strength: float, **settings: object) -> StemGNN:
    """A random network whose encoder is so strong against its head's bias."""
    model = random_model(task, seed, codes=3, **settings)
    for value in model.encoder.parameters():
        value.data *= strength
    return model


@pytest.mark.parametrize("damage", ["deleted", "masked", "masked own"])
@pytest.mark.parametrize("codebook", ["none", "ema"])
def test_no_counter_example_is_found_where_it_certifies(damage: str, codebook: str) -> None:
    """Exhaustively, over networks of all strengths; and some of the others do have a counter-example."""
    certified = others = fallen = 0
    for seed in range(16):
        task, budget = random_task("node", seed, nodes=6, edges=10), Budget(damage, 1)
        model = of_strength(task, seed, 0.004 * 2 ** (seed % 8), codebook=codebook)
        before, holds = classes(model, task.graph), a_priori(model, task, torch.arange(6), budget)
        for node in range(6):
            changed = any(
                classes(model, graph)[node] != before[node] for graph in damages(task.graph, budget, node, seed)
            )
            assert not (holds[node] and changed)
            certified += int(holds[node])
            others += int(~holds[node])
            fallen += changed
    assert certified > 8
    assert others > 8
    assert fallen > 2


@pytest.mark.parametrize("codebook", ["none", "ema"])
def test_a_greedy_search_finds_no_counter_example_in_float32(codebook: str) -> None:
    """Edge after edge, the one that closes the gap most, on a graph of 60 nodes and in the precision of deployment."""
    task = node_task(60, degree=8)
    model = build(small_model(codebook=codebook, codes=4), task).eval()
    for value in model.encoder.parameters():
        value.data *= 0.5
    budget, index = Budget("deleted", 2), torch.arange(60)
    holds, found = a_priori(model, task, index, budget), classes(model, task.graph)
    assert 3 < holds.sum() < 60
    for node in index[holds][:8]:
        graph = task.graph
        for _ in range(budget.count):
            pairs = undirected_pairs(plain(graph.edge_index), 60)[0]
            near = torch.isin(torch.stack([pairs // 60, pairs % 60]), graph.edge_index[0][graph.edge_index[1] == node])
            tried = [without(graph, place) for place in near.any(0).nonzero().flatten()]
            with torch.no_grad():
                logits = torch.cat([model(each, node.view(1)).logits for each in tried])
            rivals = logits.clone()
            rivals[:, found[node]] = -torch.inf
            graph = tried[int((rivals.amax(1) - logits[:, found[node]]).argmax())]
            assert (logits.argmax(1) == found[node]).all()


@some
@given(seeds, st.integers(1, 3))
def test_the_mean_moves_no_further_than_the_bound_and_so_far_for_one(seed: int, count: int) -> None:
    """All sets of lost neighbours; with one lost the bound is met, but where neighbours are heard several times."""
    graph = random_task("node", seed, nodes=5, edges=9).graph
    near, maps = Neighbourhoods(graph), torch.randn(2, 6, 3, dtype=torch.double)
    gates = torch.rand(5, 2, dtype=torch.double).softmax(1)
    mixed = torch.einsum("nk,kde->nde", gates, maps)
    bound = near.missing(graph.x, count, maps, gates)
    source, target = plain(graph.edge_index)
    for node in range(5):
        heard = source[target == node]
        clean = graph.x[heard].mean(0) if len(heard) else torch.zeros(6).double()
        far = [0.0]
        for lost in chain.from_iterable(combinations(heard.unique().tolist(), k) for k in range(1, count + 1)):
            left = heard[~torch.isin(heard, torch.tensor(lost))]
            mean = graph.x[left].mean(0) if len(left) else torch.zeros_like(clean)
            far.append(torch.linalg.vector_norm((mean - clean) @ mixed[node]).item())
        assert max(far) <= bound[count, node] + 1e-12
        if count == 1 and len(heard) == len(heard.unique()):
            assert max(far) == pytest.approx(bound[1, node].item(), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("codebook", ["none", "ema"])
def test_a_decision_stays_in_a_ball_of_embeddings(codebook: str) -> None:
    """Random embeddings on the ball's border, and nearly all decisions where the ball is tiny or has everything."""
    task = random_task("node")
    model = random_model(task, codebook=codebook)
    certificate, reached = ReachCertificate(model), 0
    with torch.no_grad():
        z = torch.randn(400, 8).double()
        before = model.classify(z)[0].argmax(-1)
        for move in (1e-3, 1e-2, 0.1, 0.3):
            radius = torch.full((400,), move).double()
            holds = certificate.stays(z, radius)
            reached += int(holds.sum())
            for _ in range(50):
                moved = z + move * torch.nn.functional.normalize(torch.randn_like(z), dim=1)
                after, tokens = model.classify(moved)
                assert (after.argmax(-1) == before)[holds].all()
                if tokens is not None:
                    assert certificate.reachable(z, radius).gather(2, tokens.indices.unsqueeze(2)).all()
        assert certificate.stays(z, torch.zeros(400).double()).double().mean() > 0.95
        assert not certificate.stays(z, torch.full((400,), torch.inf).double()).any()
    assert 300 < reached < 1500


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_what_is_too_far_to_be_heard_changes_no_bound(layers: int) -> None:
    task, budget = random_task("node", nodes=60, edges=45), Budget("masked own", 1)
    edges = plain(task.graph.edge_index)
    task = replace(task, graph=replace(task.graph, edge_index=torch.cat([edges, edges.flip(0)], 1)))  # heard in return
    model = random_model(task, layers=layers, hidden=8)
    with torch.no_grad():
        together = moves(model, task.graph, torch.arange(60), budget)  # they reach the whole graph
        for node in torch.arange(60).split(1):
            for alone, expected in zip(moves(model, task.graph, node, budget), together, strict=True):
                assert torch.allclose(alone, expected[node], rtol=1e-12)


def test_bounds_by_hand() -> None:
    """One layer, one expert, features (1), (2), (4) heard by node 0: without the last its mean is 1.5, not 7/3."""
    graph = Graph(torch.tensor([[0.0], [1], [2], [4]]).double(), torch.tensor([[1, 2, 3], [0, 0, 0]]))
    task = Task("hand", "node", graph, torch.tensor([0, 1, 0, 1]), {})
    model = build(small_model(layers=1, experts=1, hidden=1, codebook="none"), task).double().eval()
    model.encoder.layers[0].weight.data = torch.tensor([[[3.0], [10.0]]]).double()
    with torch.no_grad():
        for budget, expected in (
            (Budget("deleted", 1), 3 * (7 / 3 - 1.5)),
            (Budget("deleted", 3), 3 * 7 / 3),
            (Budget("masked", 1), 3 * 7 / 3),
            (Budget("masked own", 1), 0.0),
        ):
            z, move = moves(model, graph, torch.tensor([0]), budget)
            assert z.item() == pytest.approx(7)
            assert move.item() == pytest.approx(expected, abs=1e-12)


def test_rounding_is_part_of_the_bound() -> None:
    task = random_task("node")
    model = random_model(task)
    nothing = Budget("deleted", 0)
    with torch.no_grad():
        double, single = (moves(model, task.graph, torch.arange(9), nothing, dtype)[1] for dtype in DTYPES)
        z = model.embed(task.graph, torch.arange(9))
        coarse = model.float().embed(replace(task.graph, x=task.graph.x.float()), torch.arange(9))
    assert (torch.linalg.vector_norm(coarse - z, dim=1) <= single).all()
    assert (double < 1e-11).all()
    assert (single < 1e-2).all()


def test_refusals() -> None:
    task = random_task("node")
    index, budget = torch.arange(9), Budget("masked", 1)
    with pytest.raises(ValueError, match="a budget is a number of 'deleted', 'masked' or 'masked own', got -1"):
        Budget("masked", -1)
    with pytest.raises(ValueError, match="needs a StemGNN, got Baseline: smooth it instead"):
        a_priori(build(small_baseline("gcn"), task), task, index, budget)
    for settings_of, name in (({"norm": "layer"}, "norm='layer'"), ({"backbone": "gat", "routed": "last"}, "'gat'")):
        with pytest.raises(ValueError, match=f"does not hold for .*{name}: smooth instead"):
            a_priori(random_model(task, **settings_of), task, index, budget)
    links = random_task("link")
    with pytest.raises(ValueError, match="does not hold for link tasks"):
        a_priori(random_model(links), links, torch.arange(7), budget)
    edges = random_task("node", edge_features="rows")
    with pytest.raises(ValueError, match="does not hold for edge features"):
        a_priori(random_model(edges), edges, index, budget)
    made = task.with_graph(replace(task.graph, source=FeatureSource(csr_matrix(task.graph.x.numpy()), ())))
    with pytest.raises(ValueError, match="masking features that were made from other columns"):
        a_priori(random_model(task), made, index, budget)
    with pytest.raises(ValueError, match="a copy of the model in float64"):
        ReachCertificate(random_model(task).float())
