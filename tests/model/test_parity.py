"""Equal to the authors' implementation: given their weights and inputs, the same outputs and gradients.

Reads `model.npz` and `protocols.npz` from the folder that STEMLIB_PARITY names; assumes their keys and no
sizes. The routed layers of the reference average over out-neighbours and ours over in-neighbours, so they
are given the flipped edges.
"""

from __future__ import annotations

import re

import pytest
import torch
from parity_arrays import FOLDER, Arrays, below, below_once, encoder_state, graph_of, read, reference_config
from torch_geometric.utils import to_undirected

from stemlib.data.graph import sorted_by_target
from stemlib.data.splits import stratified_split
from stemlib.model import encoder as experts
from stemlib.model.losses import routing_regulariser, task_loss
from stemlib.model.stem import StemGNN
from stemlib.presets import ModelConfig, TrainConfig
from stemlib.stress.corruptions import delete_edges, mask_features
from stemlib.stress.shifts import alignment_buckets, feature_homophily, node_degree, tail_buckets
from stemlib.training.student import Decoders

pytestmark = pytest.mark.skipif(
    FOLDER is None, reason="set STEMLIB_PARITY to the folder with model.npz and protocols.npz to hold parity"
)
CLOSE = {"atol": 1e-5, "rtol": 0}


@pytest.fixture(scope="module")
def recorded() -> Arrays:
    return read("model.npz")


@pytest.fixture(scope="module")
def protocols() -> Arrays:
    return read("protocols.npz")


def groups() -> list[tuple[str, str]]:
    names = below_once("model.npz", r"encoder/(.+)/z$")
    return [tuple(name.split("/")) if "/" in name else (name, name) for name in names]


@pytest.mark.parametrize("fast", [False, True], ids=["plain", "sorted"])
@pytest.mark.parametrize(("kind", "norm"), groups())
def test_encoder(recorded: Arrays, kind: str, norm: str, fast: bool) -> None:
    theirs = below(recorded, f"encoder/{kind}/{norm}/state/")
    config = reference_config(kind, norm, theirs)
    width = recorded["graph/x"].size(1)
    encoder = experts.Encoder(config, width, width).eval()
    encoder.load_state_dict(encoder_state(theirs, config))
    # Mixed stacks (moe_last) go both ways in the reference; run layer by layer on the edges each one uses.
    graph = graph_of(recorded, flipped=False)
    x = graph.x
    for index, (layer, routed) in enumerate(zip(encoder.layers, encoder.is_routed, strict=True)):
        step = graph_of(recorded, flipped=routed)
        step = sorted_by_target(step) if fast else step
        if routed:
            router = encoder.routers[sum(encoder.is_routed[:index])]
            x = layer(encoder.layer_mean(index, x, step), x, encoder.route(router(x)))
        else:
            x = layer(x, step, step.edge_attr)
        x = encoder.finish_layer(index, x)
    torch.testing.assert_close(x, recorded[f"encoder/{kind}/{norm}/z"], **CLOSE)
    if kind != "moe_last":
        whole = encoder(graph_of(recorded, flipped=kind == "moe_all")).z
        torch.testing.assert_close(whole, x, **CLOSE)


@pytest.fixture
def model(recorded: Arrays) -> StemGNN:
    """Routed encoder, tokens and head with the recorded weights."""
    encoder, tokens = below(recorded, "train/encoder/state/"), below(recorded, "train/tokens/state/")
    heads, codes, code_width = tokens["_codebook.embed"].shape
    classes = recorded["eval/probabilities"].size(1)
    base = reference_config("moe_all", "batch", encoder)
    config = ModelConfig(
        **{**vars(base), "codebook": "reference", "heads": heads, "codes": codes, "code_width": code_width}
    )
    width = recorded["graph/x"].size(1)
    model = StemGNN(config, width, classes, edge_width=width)
    model.encoder.load_state_dict(encoder_state(encoder, config))
    model.tokens.load_state_dict(
        {name: tokens[name] for name in tokens if name.startswith("project")} | {"codebook": tokens["_codebook.embed"]},
        strict=False,
    )
    model.head.linear.load_state_dict(below(recorded, "train/head/"), strict=False)
    return model


def before_training_pass(model: StemGNN) -> None:
    """The recorded state follows the training pass; its statistics were the initial ones before it."""
    for norm in model.encoder.norms:
        norm.reset_running_stats()


def test_training_pass_and_gradients(recorded: Arrays, model: StemGNN, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = iter([value for key, value in sorted(recorded.items()) if key.endswith("gumbel_noise")])
    monkeypatch.setattr(experts, "gumbel_noise", lambda like: next(noise))
    temperature = 0.7  # stated in the vectors' README
    object.__setattr__(model.config, "temperature", temperature)
    before_training_pass(model)
    graph = graph_of(recorded, flipped=True)
    output = model.train()(graph, torch.arange(graph.num_nodes))

    for layer, gates in enumerate(output.encoding.gates):
        torch.testing.assert_close(gates, recorded[f"train/layer{layer}/routing_weights"], **CLOSE)
    torch.testing.assert_close(output.embedding, recorded["train/z"], **CLOSE)
    assert torch.equal(output.tokens.indices, recorded["train/tokens/indices"])
    torch.testing.assert_close(output.tokens.codes, recorded["train/tokens/codes"], **CLOSE)
    torch.testing.assert_close(model.tokens.reconstruct(output.tokens), recorded["train/tokens/quantized"], **CLOSE)
    per_head = model.head.logits_per_head(output.tokens.codes)
    torch.testing.assert_close(per_head, recorded["train/head/logits_per_head"], **CLOSE)

    task = task_loss(output.logits, graph.about["y"])
    routing = routing_regulariser(output.encoding.gates, output.encoding.gate_logits)
    token_loss = 10 * model.tokens.commitment(output.tokens) + model.tokens.orthogonality()
    torch.testing.assert_close(task, recorded["train/loss/task"], **CLOSE)
    torch.testing.assert_close(1e-3 * model.head.penalty(), recorded["train/loss/lipschitz"], **CLOSE)
    torch.testing.assert_close(routing, recorded["train/routing_regulariser"], **CLOSE)
    torch.testing.assert_close(token_loss.view(1), recorded["train/tokens/loss"], **CLOSE)
    weights = TrainConfig(lipschitz=1e-3, routing=0.1, commitment=10.0, orthogonality=1.0)
    total = task + model.penalty(output, weights)
    torch.testing.assert_close(total.view(1), recorded["train/loss/total_with_0.1_regulariser_and_token_loss"], **CLOSE)

    total.backward()
    theirs = {
        name.replace("vq._codebook.embed", "tokens.codebook")
        .replace("vq.", "tokens.")
        .replace("decoder.", "head.linear."): value
        for name, value in below(recorded, "train/grad/").items()
        if not name.startswith("encoder.")
    }
    theirs |= {
        f"encoder.{name}": value
        for name, value in encoder_state(below(recorded, "train/grad/encoder."), model.config).items()
    }
    ours = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    assert theirs.keys() == ours.keys()
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, **CLOSE, msg=lambda text, name=name: f"{name}: {text}")

    for layer, norm in enumerate(model.encoder.norms):
        state = below(recorded, f"train/encoder/state/norms.{layer}.")
        torch.testing.assert_close(norm.running_mean, state["running_mean"], **CLOSE)
        torch.testing.assert_close(norm.running_var, state["running_var"], **CLOSE)


def test_evaluation(recorded: Arrays, model: StemGNN) -> None:
    graph = graph_of(recorded, flipped=True)
    output = model.eval()(graph, torch.arange(graph.num_nodes))
    torch.testing.assert_close(output.embedding, recorded["eval/z"], **CLOSE)
    assert torch.equal(output.tokens.indices, recorded["eval/tokens/indices"])
    torch.testing.assert_close(output.tokens.codes, recorded["eval/tokens/codes"], **CLOSE)
    torch.testing.assert_close(model.tokens.reconstruct(output.tokens), recorded["eval/tokens/quantized"], **CLOSE)
    per_head = model.head.logits_per_head(output.tokens.codes)
    torch.testing.assert_close(per_head, recorded["eval/head/logits_per_head"], **CLOSE)
    torch.testing.assert_close(output.logits.softmax(-1), recorded["eval/probabilities"], **CLOSE)


@pytest.mark.parametrize("name", ["degree", "homophily"])
def test_tail_buckets(protocols: Arrays, name: str) -> None:
    graph = graph_of(protocols, flipped=False, edge_features=False)
    value = {"degree": node_degree, "homophily": feature_homophily}[name](graph)
    torch.testing.assert_close(value, protocols[f"{name}/value"], **CLOSE)
    buckets = tail_buckets(value)
    torch.testing.assert_close(
        torch.tensor(buckets.borders, dtype=torch.double), protocols[f"{name}/boundaries"], **CLOSE
    )
    for bucket, members in buckets.members.items():
        same_up_to_ties(value, members, protocols[f"{name}/{bucket}"])


def test_alignment_buckets(protocols: Arrays) -> None:
    graph = graph_of(protocols, flipped=False, edge_features=False)
    buckets = alignment_buckets(feature_homophily(graph))
    torch.testing.assert_close(
        torch.tensor(buckets.borders, dtype=torch.double), protocols["alignment/boundaries"], **CLOSE
    )
    for bucket, members in buckets.members.items():
        same_up_to_ties(buckets.covariate, members, protocols[f"alignment/{bucket}"])


def same_up_to_ties(value: torch.Tensor, ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Equal sets, but for nodes whose covariate equals that of a node which the other set has instead."""
    ours_only, theirs_only = (set(ours.tolist()) - set(theirs.tolist()), set(theirs.tolist()) - set(ours.tolist()))
    assert ours.numel() == theirs.numel()
    torch.testing.assert_close(
        value[sorted(ours_only)].sort().values, value[sorted(theirs_only)].sort().values, **CLOSE
    )


@pytest.mark.parametrize("seed", below_once("protocols.npz", r"degree/split_seed(\d+)/"))
def test_stratified_split(protocols: Arrays, seed: str) -> None:
    split = stratified_split(protocols["degree/ID"], protocols["graph/y"], int(seed))
    for part in ("train", "val", "test"):
        assert torch.equal(getattr(split, part), protocols[f"degree/split_seed{seed}/{part}"].sort().values)


@pytest.mark.parametrize("case", below_once("protocols.npz", r"perturb/feature_mask/(.+)/x"))
def test_feature_masking(protocols: Arrays, case: str) -> None:
    rate, seed = re.fullmatch(r"p([\d.]+)_seed(\d+)", case).groups()
    graph = graph_of(protocols, flipped=False, edge_features=False)
    ours = mask_features(graph, protocols["perturb/test_mask"], float(rate), int(seed))
    assert torch.equal(ours.graph.x, protocols[f"perturb/feature_mask/{case}/x"])


@pytest.mark.parametrize("case", below_once("protocols.npz", r"perturb/edge_delete/(.+)/edge_index"))
def test_edge_deletion(protocols: Arrays, case: str) -> None:
    rate, seed = re.fullmatch(r"p([\d.]+)_seed(\d+)", case).groups()
    graph = graph_of(protocols, flipped=False, edge_features=False)
    graph.edge_index = to_undirected(graph.edge_index, num_nodes=graph.num_nodes)  # as the reference does first
    ours = delete_edges(graph, protocols["perturb/test_mask"], float(rate), int(seed)).graph.edge_index
    theirs = protocols[f"perturb/edge_delete/{case}/edge_index"]
    assert set(map(tuple, ours.T.tolist())) == set(map(tuple, theirs.T.tolist()))
    assert ours.shape == theirs.shape


def test_pretraining_objectives(recorded: Arrays) -> None:
    theirs = {"feature": "feature_decoder", "edge": "edge_decoder"}
    theirs |= {"edge_feature": "edge_feature_decoder", "teacher": "teacher_projector"}
    width = recorded["pretrain/edge_decoder.weight"].size(1)
    feature_width = recorded["pretrain/feature_decoder.weight"].size(0)
    decoders = Decoders(width, feature_width, recorded["pretrain/edge_feature_decoder.weight"].size(0))
    decoders.load_state_dict(
        {
            f"{name}.{part}": recorded[f"pretrain/{theirs[name]}.{part}"]
            for name in theirs
            for part in ("weight", "bias")
        }
    )
    x, edges, edge_attr = (recorded[f"graph/{name}"] for name in ("x", "edge_index", "edge_attr"))
    quantised = recorded["eval/tokens/quantized"]
    negatives = recorded["pretrain/negative_edge_index"]
    losses = {
        "feature": decoders.feature_loss(quantised, x),
        "edge": decoders.edge_loss(quantised, edges, negatives),
        "edge_feature": decoders.edge_feature_loss(quantised, edges, edge_attr),
        "teacher": decoders.teacher_loss(quantised, recorded["eval/z"]),
    }
    for key, value in below(recorded, "pretrain/loss/").items():
        if found := re.fullmatch(r"feature_first_(\d+)_nodes", key):
            nodes = int(found.group(1))
            ours_value = decoders.feature_loss(quantised[:nodes], x[:nodes])
        else:
            ours_value = losses[key]
        torch.testing.assert_close(ours_value, value, **CLOSE, msg=lambda text, key=key: f"{key}: {text}")
