"""From how far away a node's answer comes: the Jacobian's norm by distance, any network's base sensitivity by hop.

    I_i(j) = sum_cd |d logits_ic / d x_jd|,      share_i(h) = sum_{j at h hops} I_i(j) / sum_j I_i(j)

This is influence as City-Networks measures it; a hop is an edge that leads towards `i`, and `j` counts at its shortest
distance. It is for the features at hand, to first order. Codes count as moving with their queries.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from stemlib.data.batches import batches
from stemlib.data.graph import node_features, plain
from stemlib.data.tasks import Task
from stemlib.devices import device_of
from stemlib.model.network import Network, require_fit
from stemlib.theory.routing import evaluating


def influence_by_hop(model: Network, task: Task, nodes: Tensor, hops: int) -> Tensor:
    """The share of influence that comes from each distance, `[M, hops + 2]`; NaN for a node that nothing moves.

    Args:
        model: for a node task; a backward pass is made for each node and logit.
        task: what it answers.
        nodes: those asked about, `[M]`.
        hops: distances 0 to `hops` have a column each; the last is for all that is farther, or not connected.

    Raises:
        ValueError: a link or graph task, or one that does not fit the model.
    """
    if task.kind != "node":
        raise ValueError(f"influence by hop is for one node's answer; {task.name!r} is a {task.kind} task")
    require_fit(model, task)
    reach = (None,) * getattr(model, "reach", 0)  # a part of the graph may suffice: far less work
    found = []
    for some in nodes.split(1 if reach else len(nodes)):
        (batch,) = (each.to(device_of(model)) for each in batches(task, some, fanouts=reach))
        x = node_features(batch.graph).detach().clone().requires_grad_()
        shown = slice(None) if batch.graph.nodes is None else batch.graph.nodes.cpu()
        with evaluating(model), torch.enable_grad():
            for answer in model(replace(batch.graph, x=x, node_type=None), batch.instances).logits:
                slopes = [torch.autograd.grad(logit, x, retain_graph=True)[0].abs().sum(1) for logit in answer]
                found.append(x.new_zeros(task.graph.num_nodes, device="cpu"))
                found[-1][shown] = torch.stack(slopes).sum(0).cpu()
    influence = torch.stack(found)
    source, target = plain(task.graph.edge_index).numpy()
    backwards = scipy.sparse.csr_matrix((np.ones(len(source)), (target, source)), shape=(task.graph.num_nodes,) * 2)
    far = scipy.sparse.csgraph.dijkstra(backwards, unweighted=True, indices=nodes.numpy(), limit=hops)
    hop = torch.from_numpy(far).clamp(max=hops + 1).long()
    return influence.new_zeros(len(nodes), hops + 2).scatter_add_(1, hop, influence) / influence.sum(1, keepdim=True)
