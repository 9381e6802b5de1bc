"""Training terms: what a step may ask of a router besides the task, by name; each a function of one step.

A term is a mean over the routed layers and over the nodes that the step computes. It is weighted by
`TrainConfig.term_weight` and draws from PyTorch's global generators only, which are part of a training's state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stemlib.data.batches import Batch
from stemlib.data.graph import Graph, node_features, sorted_by_target
from stemlib.model.network import Output
from stemlib.model.stem import StemGNN
from stemlib.presets import TrainConfig
from stemlib.stress.views import view
from stemlib.training.evaluation import products_in

SPARSE = ("topk", "dynamic", "norm")  # routers that put experts out of use while they learn
Term = Callable[[StemGNN, Batch, Output, TrainConfig], Tensor]


def balance(model: StemGNN, batch: Batch, output: Output, train: TrainConfig) -> Tensor:
    """`K sum_k f_k p_k`: `f_k` is the share of nodes whose largest gate is expert `k`'s, `p_k` its mean probability.

    Robust QA by MoE (the Switch loss); 1 at uniform use, `K` where one expert has all. Meant to lower selection.
    """
    values = []
    for gates, logits in zip(output.encoding.gates, output.encoding.gate_logits, strict=True):
        experts = logits.size(1)
        used = gates.argmax(1).bincount(minlength=experts).to(logits.dtype) / len(gates)
        values.append(experts * (used * logits.softmax(1).mean(0)).sum())
    return torch.stack(values).mean()


def coupling(model: StemGNN, batch: Batch, output: Output, train: TrainConfig) -> Tensor:
    """`mean_kj [M_kj - a M_kk]_+ + [M_jk - a M_kk]_+` over `j != k`, with `M_kj = ||expert_j(R_k)||` and share `a`.

    ERC loss. A router's row `R_k` stands for the nodes that expert `k` is for; it is scaled unit by unit by noise that
    keeps it on its side of the nearest other row. Here it is a lone node with a self-loop, so that the mean of its
    neighbours is itself; the residual, the same for all experts, is left out. Meant to lower selection.
    """
    values = []
    for index, router in routed_parts(model):
        rows = row_map(router).weight
        layer, experts = model.encoder.layers[index], len(rows)
        states = _scattered(rows)
        alone = torch.arange(experts, device=rows.device).expand(2, -1)
        outputs = model.encoder.expert_outputs(index, states, sorted_by_target(Graph(states, alone)))
        if getattr(layer, "residual", False):
            outputs = outputs - states.unsqueeze(1)
        answers = outputs.norm(dim=2)
        own = train.coupling_share * answers.diagonal().unsqueeze(1)
        excess = (answers - own).relu() + (answers.T - own).relu()
        others = ~torch.eye(experts, dtype=torch.bool, device=rows.device)
        values.append((excess * others).sum() / experts**2)
    return torch.stack(values).mean()


def _scattered(rows: Tensor) -> Tensor:
    """Rows `[K, d]` times uniform noise in `1 - e .. 1 + e`, `e = ||R_k - R_j|| / (2 ||R_k||)`, `R_j` the nearest."""
    if len(rows) == 1:
        return rows
    fixed = rows.detach()
    apart = torch.cdist(fixed, fixed).fill_diagonal_(float("inf")).amin(1)
    reach = (apart / (2 * fixed.norm(dim=1)).clamp_min(torch.finfo(rows.dtype).tiny)).clamp(max=1)
    return rows * (1 + reach.unsqueeze(1) * (2 * torch.rand_like(rows) - 1))


def anchor(model: StemGNN, batch: Batch, output: Output, train: TrainConfig) -> Tensor:
    """`CE(stop(pi(x)), pi(x'))`: the gates of a damaged graph `x'` are to be those of the graph as it is.

    UOE. `x'` lacks some columns of the features and some edges, see `stemlib.stress.views.view`. It is encoded as
    in training, with noise; batch norm's running statistics see both. Meant to lower fluctuation.
    """
    graph = replace(batch.graph, x=node_features(batch.graph).to_dense(), node_type=None)
    # What was cached from the undamaged features must not be read.
    graph.hops = tuple(replace(hop, mean=None, products=None) for hop in graph.hops)
    with products_in(train.precision, batch):
        damaged = model.encode(view(graph, train.anchor_features, train.anchor_edges))
    pairs = zip(output.encoding.gate_logits, damaged.gate_logits, strict=True)
    return torch.stack([F.cross_entropy(after, before.detach().softmax(1)) for before, after in pairs]).mean()


def teacher(model: StemGNN, batch: Batch, output: Output, train: TrainConfig) -> Tensor:
    """`CE(argmin_k ||u_k - t||, pi)`: the router learns which expert comes closest to a dense teacher's output `t`.

    FactorLLM, whose experts are the parts of a dense layer; here the teacher is all of them together, the uniform
    mixture `t = mean_k u_k` of the same layer. No gradient goes to `u` or `t`. Meant to lower selection.
    """
    encoder, encoding, values = model.encoder, output.encoding, []
    hops = batch.graph.hops or [batch.graph] * len(encoder.layers)
    for (index, _), logits in zip(routed_parts(model), encoding.gate_logits, strict=True):
        with torch.no_grad(), products_in(train.precision, batch):
            outputs = encoder.expert_outputs(index, encoding.inputs[index].to_dense(), hops[index])
        closest = (outputs - outputs.mean(1, keepdim=True)).square().sum(2).argmin(1)
        values.append(F.cross_entropy(logits, closest))
    return torch.stack(values).mean()


def prior(model: StemGNN, batch: Batch, output: Output, train: TrainConfig) -> Tensor:
    """`KL(q, pi)`: the gates are to follow the soft prior `q` that `anchored` routers make from measurable descriptors.

    AME-TS. The gradient goes to both: `q` is a learnt map too. Meant to lower selection under shift.
    """
    values = []
    for level, logits in enumerate(output.encoding.gate_logits):
        log_q = output.encoding.memory["prior", level]
        values.append(F.kl_div(logits.log_softmax(1), log_q, reduction="batchmean", log_target=True))
    return torch.stack(values).mean()


TERMS: dict[str, Term] = {
    "balance": balance,
    "coupling": coupling,
    "anchor": anchor,
    "teacher": teacher,
    "prior": prior,
}


def row_map(router: nn.Module) -> nn.Linear | None:
    """The linear map `[d -> K]` of own states from which a router makes its logits; None if it has no such map."""
    if not router.own_state:
        return None
    own = router if isinstance(router, nn.Linear) else None
    shape = (own.out_features, own.in_features) if own else (router.experts, router.width)
    linear = (part for part in router.modules() if isinstance(part, nn.Linear))
    fitting = [part for part in linear if part.weight.shape == shape]
    return fitting[0] if len(fitting) == 1 else None


def require_term(model: nn.Module, train: TrainConfig) -> None:
    """Refuse a term, or routers that stop learning, for a model that cannot have them.

    Raises:
        ValueError: it routes nothing, its routers learn nothing, or it lacks what the term reads.
    """
    asked = [f"term={train.term!r}"] * (train.term != "none")
    asked += [f"router_share={train.router_share:g}"] * (train.router_share < 1)
    if not asked:
        return
    if not isinstance(model, StemGNN) or not model.encoder.routed_layers:
        raise ValueError(
            f"{' and '.join(asked)}: this {type(model).__name__} has no routed layers; set term='none' and "
            "router_share=1, or train a StemGNN with routed='last' or 'all'"
        )
    if train.term != "none" and (missing := _missing(model, train)):
        raise ValueError(f"term={train.term!r} {missing}")


def _missing(model: StemGNN, train: TrainConfig) -> str:
    """What a term lacks, in words; empty if it lacks nothing."""
    config, routers = model.config, model.encoder.routers
    if not any(value.requires_grad for value in routers.parameters()):
        return f"teaches a router, but router={config.router!r} does not learn by gradients; use one that does"
    if train.term == "prior" and config.router != "anchored":
        return f"reads the prior of router='anchored'; router={config.router!r} has none"
    if train.term == "coupling" and any(row_map(router) is None for router in routers):
        return f"sends a router's rows through the experts; router={config.router!r} has no row of a state's width"
    if train.term == "teacher" and config.experts == 2:
        return "needs one expert closest to the experts' mean; with experts=2 both are equally close: use 3"
    if train.term == "teacher" and config.router in SPARSE:
        return (
            f"pulls up the closest expert's logit, which router={config.router!r} gives no gradient where it is unused"
        )
    if train.term == "anchor" and not (train.anchor_features or train.anchor_edges):
        return "compares with a damaged graph; set anchor_features or anchor_edges above 0"
    return ""


def routed_parts(model: StemGNN) -> Iterator[tuple[int, nn.Module]]:
    """Index and router of every routed layer."""
    routed = [index for index, is_so in enumerate(model.encoder.is_routed) if is_so]
    return zip(routed, model.encoder.routers, strict=True)
