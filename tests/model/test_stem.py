"""The whole model: read-outs, ablations, penalties, and independence of numbering."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import ENCODERS, EXACT, TASKS, fewer, graphs, node_task, random_graph, renumbered, small_model
from torch.nn import functional as F

from stemlib.data.batches import batches
from stemlib.data.graph import Graph, sorted_by_target
from stemlib.data.tasks import Task, read_out
from stemlib.model.encoder import path_gates
from stemlib.model.losses import routing_regulariser, task_loss
from stemlib.model.stem import StemGNN
from stemlib.presets import TrainConfig
from study.families import build

CODEBOOKS = ("none", "reference", "ema", "learnable")
OFF = TrainConfig(lipschitz=0.0)  # every regulariser


def whole_batch(task: Task) -> tuple[Graph, torch.Tensor | None]:
    graph, instances, *_ = next(batches(task, torch.arange(task.instances)))
    return graph, instances


@pytest.mark.parametrize("codebook", CODEBOOKS)
@pytest.mark.parametrize("routed", ["none", "last", "all"])
def test_every_ablation_reads_every_kind_of_task(task: Task, routed: str, codebook: str) -> None:
    model = build(small_model(routed=routed, codebook=codebook), task).eval()
    output = model(*whole_batch(task))
    assert output.logits.shape == (task.instances, task.outputs)
    assert output.embedding.shape == (task.instances, 8)
    assert output.encoding.z.shape == (task.graph.num_nodes, 8)
    assert len(output.encoding.gates) == {"none": 0, "last": 1, "all": 2}[routed]
    assert (model.tokens is None) == (output.tokens is None) == (codebook == "none")
    if codebook == "none":
        assert model.head.heads == 1
        torch.testing.assert_close(output.logits, model.head(output.embedding))
    else:
        assert output.tokens.indices.shape == (task.instances, 2)
        torch.testing.assert_close(output.logits, model.head(output.tokens.codes))


@pytest.mark.parametrize("pool", ["mean", "sum", "max"])
def test_instances_are_read_out_of_nodes(task: Task, pool: str) -> None:
    model = build(small_model(pool=pool), task).eval()
    graph, instances = whole_batch(task)
    output = model(graph, instances)
    z = model.encode(graph).z
    torch.testing.assert_close(output.embedding, read_out(z, graph, instances, task.kind, pool))
    if task.kind == "graph":
        reduce = {"mean": torch.mean, "sum": torch.sum, "max": torch.amax}[pool]
        by_hand = torch.stack([reduce(z[graph.batch == i], 0) for i in range(task.instances)])
        torch.testing.assert_close(output.embedding, by_hand)
    logits, tokens = model.classify(output.embedding)
    assert torch.equal(logits, output.logits)
    assert torch.equal(tokens.indices, output.tokens.indices)


def test_only_the_instances_asked_for_are_read_out() -> None:
    task = node_task()
    model = build(small_model(), task).eval()
    index = torch.tensor([7, 3, 7])
    torch.testing.assert_close(
        model(task.graph, index).logits, model(task.graph, torch.arange(80)).logits[index], atol=1e-6, rtol=0
    )


@pytest.mark.parametrize(("routed", "backbone"), ENCODERS)
@fewer
@given(graph=graphs, random=st.randoms(use_true_random=False))
def test_the_model_does_not_depend_on_numbering_or_on_the_fast_path(
    routed: str, backbone: str, graph: Graph, random: object
) -> None:
    torch.manual_seed(2)
    config = small_model(routed=routed, backbone=backbone)
    model = StemGNN(config, in_width=6, classes=3, edge_width=3).double().eval()
    order, edge_order = list(range(graph.num_nodes)), list(range(graph.num_edges))
    random.shuffle(order)
    random.shuffle(edge_order)
    other = renumbered(graph, torch.tensor(order), torch.tensor(edge_order, dtype=torch.long))
    everyone = torch.arange(graph.num_nodes)
    with torch.no_grad():
        logits = model(graph, everyone).logits
        for same in (other, sorted_by_target(other)):
            torch.testing.assert_close(model(same, everyone).logits, logits[order], **EXACT)


def test_gates_are_passed_on() -> None:
    task = node_task()
    model = build(small_model(), task).eval()
    everyone = torch.arange(80)
    output = model(task.graph, everyone)
    replayed = model(task.graph, everyone, output.encoding.gates)
    assert torch.equal(replayed.logits, output.logits)
    forced = model(task.graph, everyone, path_gates((1, 2), 80, 3))
    assert not torch.equal(forced.embedding, output.embedding)


def test_the_penalty_is_the_weighted_sum_of_its_terms() -> None:
    task = node_task()
    model = build(small_model(codebook="learnable"), task).train()
    output = model(task.graph, torch.arange(80))
    terms = {
        "lipschitz": model.head.penalty(),
        "routing": routing_regulariser(output.encoding.gates, output.encoding.gate_logits),
        "commitment": model.tokens.commitment(output.tokens),
        "orthogonality": model.tokens.orthogonality(),
    }
    assert model.penalty(output, OFF).item() == 0
    for name, term in terms.items():
        weights = {"lipschitz": 0.0, name: 0.7}
        torch.testing.assert_close(model.penalty(output, TrainConfig(**weights)), 0.7 * term)
    together = TrainConfig(lipschitz=0.1, routing=0.2, commitment=0.3, orthogonality=0.4)
    expected = sum(weight * term for weight, term in zip((0.1, 0.2, 0.3, 0.4), terms.values(), strict=True))
    torch.testing.assert_close(model.penalty(output, together), expected)


@pytest.mark.parametrize("name", ["lipschitz", "routing", "commitment", "orthogonality"])
def test_terms_of_weight_0_are_not_computed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    task = node_task()
    model = build(small_model(codebook="learnable"), task)
    output = model(task.graph, torch.arange(80))

    def computed(*_: object) -> None:
        raise AssertionError(f"{name} was computed")

    where = {
        "lipschitz": (model.head, "penalty"),
        "routing": ("stemlib.model.stem", "routing_regulariser"),
        "commitment": (model.tokens, "commitment"),
        "orthogonality": (model.tokens, "orthogonality"),
    }[name]
    if isinstance(where[0], str):
        monkeypatch.setattr(".".join(where), computed)
    else:
        monkeypatch.setattr(*where, computed)
    others = {key: 0.1 for key in ("lipschitz", "routing", "commitment", "orthogonality") if key != name}
    model.penalty(output, TrainConfig(**{name: 0.0, **others}))
    with pytest.raises(AssertionError, match=f"{name} was computed"):
        model.penalty(output, TrainConfig(**{**others, name: 0.1}))


def test_ablated_parts_and_frozen_tokens_are_not_penalised() -> None:
    task = node_task()
    everything = TrainConfig(lipschitz=0.0, routing=1.0, commitment=1.0, orthogonality=1.0)
    bare = build(small_model(routed="none", codebook="none"), task)
    assert bare.penalty(bare(task.graph, torch.arange(80)), everything).item() == 0
    ema = build(small_model(routed="none"), task)
    output = ema(task.graph, torch.arange(80))
    torch.testing.assert_close(ema.penalty(output, everything), ema.tokens.commitment(output.tokens))
    frozen = build(small_model(routed="none"), task)
    frozen.tokens.freeze()
    assert frozen.penalty(frozen(task.graph, torch.arange(80)), everything).item() == 0


def test_tokens_start_once_on_the_data() -> None:
    task = node_task()
    model = build(small_model(), task).train()
    drawn = model.tokens.codebook.clone()
    model.start_tokens(task.graph, torch.arange(80))
    started = model.tokens.codebook.clone()
    assert model.training
    assert not torch.equal(started, drawn)
    model.start_tokens(task.graph, torch.arange(80))
    assert torch.equal(model.tokens.codebook, started)
    build(small_model(codebook="none"), task).start_tokens(task.graph, None)  # nothing to start


def test_tokens_start_from_embeddings_without_noise() -> None:
    task = node_task()
    model = build(small_model(dropout=0.5, input_dropout=0.5, norm="batch"), task).train()
    buffers = {name: value.clone() for name, value in model.encoder.named_buffers()}
    embedding = model.eval()(task.graph, torch.arange(80)).embedding
    torch.manual_seed(3)
    model.tokens.start(model.tokens.queries(embedding))
    expected = model.tokens.codebook.clone()
    model.tokens.started.fill_(False)
    torch.manual_seed(3)
    model.train().start_tokens(task.graph, torch.arange(80))
    assert torch.equal(model.tokens.codebook, expected)
    assert all(torch.equal(value, buffers[name]) for name, value in model.encoder.named_buffers())


def test_task_loss_of_classes_and_of_binary_labels() -> None:
    logits = torch.randn(6, 3)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    assert torch.equal(task_loss(logits, labels), F.cross_entropy(logits, labels))

    binary = torch.randint(0, 2, (6, 3)).float()
    binary[0, 1] = binary[4, 2] = float("nan")
    each = F.softplus(logits) - logits * binary.nan_to_num()
    torch.testing.assert_close(task_loss(logits, binary), each[binary.isfinite()].mean())


def test_a_batch_without_any_label_neither_teaches_nor_poisons() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    loss = task_loss(logits, torch.full((2, 3), float("nan")))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.eq(0).all()


@pytest.mark.parametrize("kind", TASKS)
def test_every_parameter_learns(kind: str) -> None:
    """A training step with all terms reaches every weight but those that only pretraining reads."""
    task = TASKS[kind]()
    model = build(small_model(codebook="learnable", norm="layer"), task).train()
    graph, instances, labels, *_ = next(batches(task, torch.arange(task.instances)))
    output = model(graph, instances)
    every = TrainConfig(routing=0.1, commitment=0.1, orthogonality=0.1)
    (task_loss(output.logits, labels) + model.penalty(output, every)).backward()
    idle = {name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()}
    assert idle == {"tokens.project_out.weight", "tokens.project_out.bias"}


def test_a_graph_without_edge_features_suits_a_model_that_could_read_them() -> None:
    model = StemGNN(small_model(), in_width=6, classes=2, edge_width=3).double().eval()
    assert model(random_graph(), torch.arange(12)).logits.isfinite().all()


def test_a_head_starts_at_the_log_odds_of_binary_labels_and_class_labels_leave_it_alone() -> None:
    model = StemGNN(small_model(), in_width=4, classes=2)
    before = model.head.effective_bias.clone()
    model.start_at_prior(torch.tensor([0, 1, 1]))
    assert torch.equal(model.head.effective_bias, before)
    nan = float("nan")
    model.start_at_prior(torch.tensor([[1.0, nan]] * 2 + [[0.0, 0.0]] * 8 + [[0.0, nan]]))
    expected = torch.tensor([3 / 10, 1 / 9]).log()  # one more of either, so that none is infinite
    torch.testing.assert_close(model.head.effective_bias, expected)
    embedding = torch.zeros(3, model.head.linear.in_features)
    torch.testing.assert_close(model.head(embedding), expected.expand(3, 2))
