"""What can be done to the routers and experts of a trained model: align, merge, or protect them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch_geometric.data import Data

from stemlib.data.batches import Batch
from stemlib.data.graph import Graph
from stemlib.data.tasks import Split, Task, read_out
from stemlib.devices import device_of
from stemlib.model.losses import task_loss
from stemlib.model.network import Output, require_fit
from stemlib.model.stem import StemGNN
from stemlib.presets import change
from stemlib.training.epochs import every_epoch
from stemlib.training.evaluation import finite, hops
from stemlib.training.terms import routed_parts, row_map

LINEAR = ("linear", "top1", "topk", "dynamic")  # routers whose logits come from one linear map of own states


def manifold(
    model: StemGNN,
    task: Task,
    split: Split,
    *,
    epochs: int = 20,
    lr: float = 1e-3,
    weight: float = 1.0,
    neighbours: int = 5,
    batch_size: int = 0,
) -> list[float]:
    """Tune the routers alone: `CE + weight mean_i sum_j W_ij ||pi_i - pi_j||^2`, experts and all else frozen.

    RoMA. `j` are the nearest, by their embeddings in the model as given, of the training instances that it gets right;
    `W_ij = exp(-||z_i - z_j||^2 / s)`, rows summing to one, `s` the median of the squared distances. An instance's
    `pi` are its nodes' mean gates in every layer; neighbours keep their gates from the epoch's start, so that no step
    needs all instances. Nothing is drawn: the model is in evaluation mode and stays in it. Meant to lower
    selection and fluctuation.

    Args:
        model: trained; its routers are changed in place.
        task: what it has learnt, classes or binary labels.
        split: its training instances are used.
        epochs: passes over them.
        lr: of Adam.
        weight: of the second term.
        neighbours: of an instance that is itself right, at least 1; others have one more.
        batch_size: instances per step; 0: all.

    Returns:
        The objective's mean in each epoch.

    Raises:
        ValueError: a regression, no router that learns, or fewer than two instances that are classified correctly.
    """
    require_fit(model, task)
    routers = [value for value in model.encoder.routers.parameters() if value.requires_grad]
    if task.regression:
        raise ValueError("manifold aligns routers with those of correctly classified instances; a regression has none")
    if not routers or model.config.router == "top1":  # whose gates are one-hot in evaluation
        what = f"router={model.config.router!r}" if model.encoder.routed_layers else "routed='none'"
        raise ValueError(f"manifold tunes routers through their gates; those of {what} have no gradient")
    reach = (None,) * hops(model, task)
    shown = every_epoch(task, split.train, batch_size, fanouts=reach, hide=True, device=device_of(model))
    model.eval()
    with torch.no_grad():
        outputs = [(batch, model(batch.graph, batch.instances)) for batch in shown(None)]
        embedding = torch.cat([output.embedding for _, output in outputs])
        right = torch.cat([_right(output.logits, batch.labels) for batch, output in outputs])
    del outputs
    near, kernel = _neighbours(embedding, right, neighbours)
    optimiser, history = torch.optim.Adam(routers, lr=lr), []
    for _ in range(epochs):
        with torch.no_grad():
            known = torch.cat([_routes(model, batch, model(batch.graph, batch.instances)) for batch in shown(None)])
        losses, first = [], 0
        for batch in shown(None):
            rows = slice(first, first := first + len(batch.labels))
            output = model(batch.graph, batch.instances)
            apart = (_routes(model, batch, output).unsqueeze(1) - known[near[rows]]).square().sum(2)
            loss = task_loss(output.logits, batch.labels) + weight * (kernel[rows] * apart).sum(1).mean()
            for value, gradient in zip(routers, torch.autograd.grad(loss, routers, allow_unused=True), strict=True):
                value.grad = gradient
            optimiser.step()
            losses.append(loss.detach())
        history.append(finite(torch.stack(losses), task.name).mean().item())
    optimiser.zero_grad(set_to_none=True)
    return history


def _right(logits: Tensor, labels: Tensor) -> Tensor:
    """Which instances `[M]` are classified correctly in all their known labels."""
    if labels.dim() == 1:
        return logits.argmax(1) == labels
    return ((logits > 0) == (labels > 0)).logical_or(labels.isnan()).all(1)


def _routes(model: StemGNN, batch: Batch, output: Output) -> Tensor:
    """Gates of a batch's instances, `[M, L K]`: means over an instance's nodes, layers side by side."""
    gates = output.encoding.gates
    return torch.cat([read_out(one, batch.graph, batch.instances, model.kind) for one in gates], dim=1)


def _neighbours(embedding: Tensor, right: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The nearest instances that are `right` `[M]`, `[M, count + 1]`, and their weights; 0 for an instance itself."""
    places = right.nonzero().squeeze(1)
    if len(places) < 2:
        raise ValueError(f"manifold needs correctly classified instances; the model has {len(places)} of {len(right)}")
    found = NearestNeighbors(n_neighbors=min(count + 1, len(places))).fit(embedding[places].cpu().numpy())
    distances, near = (torch.from_numpy(part) for part in found.kneighbors(embedding.cpu().numpy()))
    near, squared = places[near.to(places.device)], distances.to(embedding).square()
    other = near != torch.arange(len(near), device=near.device).unsqueeze(1)
    scale = squared[other].median().clamp_min(torch.finfo(squared.dtype).tiny)
    # Minus the nearest one's distance: the same weights, but no row of zeros if all are far.
    nearest = squared.masked_fill(~other, float("inf")).amin(1, keepdim=True)
    kernel = (-(squared - nearest) / scale).exp() * other
    return near, kernel / kernel.sum(1, keepdim=True)


def merge(model: StemGNN, graph: Graph | Data, experts: int) -> StemGNN:
    """A new network of fewer experts: `W_g = sum_k w_k W_k` over the experts of each group, weighted by use.

    M-SMoE. In each layer the `experts` most used ones each lead a group, and every other one joins the leader whose
    logits over the nodes are most like its own (cosine). Neurons need no aligning: an expert is one map between states
    that all experts share. A group's gate should be the sum of its members' gates; the row `sum_k w_k (R_k - log w_k)`
    is the closest from below that a linear router can give, and equals that sum where the members' gates are in
    proportion to `w`. Meant to lower cost at equal coverage.

    Args:
        model: trained, with the paper's experts and router.
        graph: on which use is measured.
        experts: how many are left in each layer.

    Raises:
        ValueError: a model with other parts or without routed layers, or more experts than it has.
    """
    config, encoder = model.config, model.encoder
    if not encoder.routed_layers or not encoder.as_published:
        raise ValueError(
            f"merge needs routed layers with expert='mean' and router='linear', whose weights can be added; got "
            f"routed={config.routed!r}, expert={config.expert!r}, router={config.router!r}"
        )
    if not 1 <= experts <= config.experts:
        raise ValueError(f"merge leaves 1 to {config.experts} of this model's experts, not {experts}")
    training = model.training
    with torch.no_grad():
        encoding = model.eval().encode(graph)
        state = dict(model.state_dict())
        for level, (index, _) in enumerate(routed_parts(model)):
            share = _groups(encoding.gates[level], encoding.gate_logits[level], experts)
            layer, router = f"encoder.layers.{index}.weight", f"encoder.routers.{level}."
            state[layer] = torch.einsum("gk,kio->gio", share, state[layer])
            state[router + "weight"] = share @ state[router + "weight"]
            state[router + "bias"] = share @ state[router + "bias"] + torch.special.entr(share).sum(1)
    model.train(training)
    merged = StemGNN(change(config, experts=experts), model.in_width, model.classes, model.kind, model.edge_width)
    merged.to(encoding.z).load_state_dict(state)
    return merged.train(training)


def _groups(gates: Tensor, logits: Tensor, count: int) -> Tensor:
    """Each group's weights of the experts, `[K', K]`, from gates and logits `[N, K]`; rows sum to one."""
    use = gates.mean(0).clamp_min(torch.finfo(gates.dtype).tiny)
    leaders = use.topk(count).indices.sort().values
    profiles = F.normalize(logits.T, dim=1)
    group = (profiles @ profiles[leaders].T).argmax(1)
    group[leaders] = torch.arange(count, device=group.device)
    members = F.one_hot(group, count).T * use
    return members / members.sum(1, keepdim=True)


class _Protected(nn.Module):
    """A weight that moves from its start only in directions orthogonal to a `basis` `[d, r]`."""

    def __init__(self, start: Tensor, basis: Tensor) -> None:
        super().__init__()
        self.register_buffer("start", start.detach().clone())
        self.register_buffer("basis", basis)

    def forward(self, weight: Tensor) -> Tensor:
        moved = weight - self.start
        return self.start + moved - (moved @ self.basis) @ self.basis.T


@contextmanager
def null_space(model: StemGNN, graph: Graph | Data, energy: float = 1.0) -> Iterator[StemGNN]:
    """A context that projects routers' updates onto the null space of a clean graph's states and fixes their biases.

    GRIP. With `V` an orthonormal basis of the span of the routed layer's states on the graph, a router's weight is
    `W = W_0 + (W' - W_0)(I - V V^T)` with `W'` learnt in its place: so the logits of these states stay what they are,
    whatever the optimiser. Any training goes inside, `with null_space(model, clean): fit(model, new, split, ...)`,
    and a training interrupted inside is resumed inside. Meant to lower the drift of selection.

    Args:
        model: trained.
        graph: the clean graph.
        energy: the share of the states' squared norm whose directions are protected; 1 for all of it. States of more
            nodes than units often span all directions, most of them only slightly.

    Raises:
        ValueError: routers that are not one linear map of a node's own state, an `energy` outside 0..1, or states that
            leave no direction free in any layer.
    """
    if not 0 < energy <= 1:
        raise ValueError(f"energy must lie in 0..1, above 0; got {energy}")
    if not model.encoder.routed_layers or model.config.router not in LINEAR:
        raise ValueError(
            f"null_space needs routed layers whose router is a linear map of a node's state ({', '.join(LINEAR)}); "
            f"this model has routed={model.config.routed!r}, router={model.config.router!r}"
        )
    linear, training = [row_map(router) for _, router in routed_parts(model)], model.training
    with torch.no_grad():
        inputs = model.eval().encode(graph).inputs
        spans = [_span(inputs[index].to_dense(), energy) for index, _ in routed_parts(model)]
    model.train(training)
    if all(basis.size(0) == basis.size(1) for basis in spans):
        raise ValueError(
            "the clean states span all directions in every routed layer, so nothing is left to learn; lower "
            f"energy={energy:g}, or protect fewer than {len(inputs[0])} nodes"
        )
    for part, basis in zip(linear, spans, strict=True):
        parametrize.register_parametrization(part, "weight", _Protected(part.weight, basis))
        part.bias.requires_grad_(False)
    try:
        yield model
    finally:
        for part in linear:
            parametrize.remove_parametrizations(part, "weight")
            part.bias.requires_grad_(True)


def _span(states: Tensor, energy: float) -> Tensor:
    """Orthonormal directions `[d, r]` that hold a share of the squared norm of states `[N, d]`."""
    values, vectors = torch.linalg.eigh(states.double().T @ states.double())  # smallest first
    left = values.clamp_min(0).cumsum(0)
    free = left <= (1 - energy + len(values) * torch.finfo(values.dtype).eps) * left[-1]
    return vectors[:, ~free].to(states)
