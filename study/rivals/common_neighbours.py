"""Links predicted from the neighbours that both ends have: NCN, and NCNC, which first adds those that may be missing.

Wang, Yang and Zhang, "Neural Common Neighbor with Completion for Link Prediction" (ICLR 2024). There the question is
whether a link exists; here that is known, and the question is its class.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data
from torch_geometric.nn.models import MLP
from torch_geometric.utils import remove_self_loops, to_undirected
from torch_geometric.utils.sparse import index2ptr

from stemlib.baselines.networks import Baseline
from stemlib.data.graph import Graph, plain
from stemlib.data.sampling import spans
from stemlib.data.tasks import Kind
from stemlib.devices import device_of
from stemlib.model.messages import Spread
from stemlib.model.network import Network, Output
from stemlib.presets import BaselineConfig, TrainConfig
from study.rivals.settings import NCNConfig

CHUNK = 32_768  # links whose existence is asked at once


def require_links(kind: Kind, reader: str) -> None:
    """Refuse what is not a link task.

    Raises:
        ValueError: it is not; `reader` names the method that answers for pairs only.
    """
    if kind != "link":
        raise ValueError(f"{reader} answers for pairs of nodes, and a {kind} task has none; take another method")


class Neighbours:
    """Which nodes of a graph are linked, in either direction and however often; none with itself. On the CPU."""

    def __init__(self, graph: Graph) -> None:
        edges = remove_self_loops(plain(graph.edge_index).cpu())[0]
        row, self.column = to_undirected(edges, num_nodes=graph.num_nodes)  # by row, then by column
        self.nodes, self.links = graph.num_nodes, row * graph.num_nodes + self.column
        self.first = index2ptr(row, graph.num_nodes)
        self.count = self.first.diff()

    def of(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """The neighbours of each of `nodes` `[n]` in turn: whose each is (a position in `nodes`), and which node."""
        places, owner = spans(self.first[nodes], self.count[nodes])
        return owner, self.column[places]

    def linked(self, one: Tensor, other: Tensor) -> Tensor:
        """Whether the nodes `one[k]` and `other[k]` are linked, `[n]`."""
        link = one * self.nodes + other
        place = torch.searchsorted(self.links, link)
        return place.lt(self.links.numel()) & self.links[place.clamp(max=self.links.numel() - 1)].eq(link)

    def common(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """The neighbours that both ends of `pairs` `[M, 2]` have, as `of` gives them."""
        fewer = self.count[pairs].argmin(1, keepdim=True)
        owner, node = self.of(pairs.gather(1, fewer).flatten())
        both = self.linked(node, pairs.gather(1, 1 - fewer).flatten()[owner])
        return owner[both], node[both]

    def of_one_end(self, pairs: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
        """Neighbours of only one end of `pairs` `[M, 2]`, if it has at most `most`, and that are not the other end.

        Returns:
            As `of`, and for each the link that it lacks to be a common neighbour, `[n, 2]`.
        """
        found = []
        for end in (0, 1):
            asked = self.count[pairs[:, end]].le(most).nonzero().flatten()
            owner, node = self.of(pairs[asked, end])
            owner, other = asked[owner], pairs[asked[owner], 1 - end]
            alone = ~self.linked(node, other) & (node != other)
            link = (node, other) if end == 0 else (other, node)
            found.append((owner[alone], node[alone], torch.stack(link, 1)[alone]))
        return tuple(torch.cat(parts) for parts in zip(*found, strict=True))


@dataclass
class LinkOutput(Output):
    """What the model says, and its loss in telling links from pairs that are not, a scalar."""

    existence_loss: Tensor | None = None


class CommonNeighbours(Network):
    """NCN: for a pair, a graph network's states of both ends, their product, and the sum over their common neighbours.

    With `complete` it is NCNC. A second head learns whether a pair is a link: the pairs of a step are, and with the
    tail of the pair before they are taken not to be. A neighbour `w` of one end alone then counts in the sum as much as
    this head finds it likely, from the states without completion, that `w` is linked with the other end too; no
    gradient passes.

    What differs: the ends' states are read as well, for a relation has a direction; in NCNC the head for existence is a
    second one, and an end with more than `most` neighbours is not completed, which bounds the cost. A training pair's
    own edge is not in the graph that training shows (`stemlib.data.batches`), which is the paper's target link removal.

    Args:
        config: which graph network, how large.
        in_width, classes, kind, edge_width: see `Network`.

    Raises:
        ValueError: a task that is not about links.
    """

    def __init__(
        self, config: NCNConfig, in_width: int, classes: int, kind: Kind = "link", edge_width: int | None = None
    ) -> None:
        require_links(kind, "NCN")
        super().__init__(config, in_width, classes, kind, edge_width)
        names = ("hidden", "layers", "input_dropout", "dropout")
        encoder = BaselineConfig(config.encoder, **{name: getattr(config, name) for name in names})
        self.encoder = Baseline(encoder, in_width, config.hidden, "node", edge_width)
        widths = [4 * config.hidden, config.hidden]
        self.head = MLP([*widths, classes], dropout=config.dropout, norm=None)
        self.existence = MLP([*widths, 1], dropout=config.dropout, norm=None) if config.complete else None

    @property
    def last_maps(self) -> list[nn.Module]:
        """The last layer of the head."""
        return [self.head.lins[-1]]

    def penalty(self, output: LinkOutput, train: TrainConfig) -> Tensor:
        """See `Network.penalty`; the loss of NCNC's second head is added to it."""
        penalty = super().penalty(output, train)
        return penalty if output.existence_loss is None else penalty + output.existence_loss

    def likely(self, z: Tensor, neighbours: Neighbours, links: Tensor) -> Tensor:
        """Logits of whether `links` `[n, 2]` exist, `[n]`, from node states `[N, d]` without completion."""
        return self.existence(pair_states(z, links, *neighbours.common(links))).flatten()

    def forward(self, graph: Graph | Data, instances: Tensor) -> LinkOutput:
        """Logits and states of pairs of nodes `[M, 2]`."""
        graph, pairs = Graph.of(graph).on(device_of(self)), instances.cpu()
        z = self.encoder(graph, torch.arange(graph.num_nodes, device=device_of(self))).logits
        neighbours = graph.derived("neighbours", lambda: Neighbours(graph), graph.edge_index)
        owner, node = neighbours.common(pairs)
        weight, loss = z.new_ones(len(node)), None
        if self.existence is not None:
            own, alone, missing = neighbours.of_one_end(pairs, self.config.most)
            with torch.no_grad():
                chance = [self.likely(z, neighbours, some).sigmoid() for some in missing.split(CHUNK)]
            owner, node, weight = torch.cat([owner, own]), torch.cat([node, alone]), torch.cat([weight, *chance])
            if self.training:
                loss = self._existence_loss(z, neighbours, pairs)
        states = pair_states(z, pairs, owner, node, weight)
        return LinkOutput(self.head(states), states, existence_loss=loss)

    def _existence_loss(self, z: Tensor, neighbours: Neighbours, pairs: Tensor) -> Tensor:
        others = torch.stack([pairs[:, 0], pairs[:, 1].roll(1)], 1)
        exist, not_exist = self.likely(z, neighbours, torch.cat([pairs, others])).split(len(pairs))
        return -torch.cat([F.logsigmoid(exist), F.logsigmoid(-not_exist)]).mean()


def pair_states(z: Tensor, pairs: Tensor, owner: Tensor, node: Tensor, weight: Tensor | None = None) -> Tensor:
    """For pairs `[M, 2]`, the ends' states, their product, and a weighted sum over further nodes, `[M, 4 d]`.

    Args:
        z: states of nodes, `[N, d]`.
        pairs: of nodes.
        owner, node: which pair has which further node, `[n]`.
        weight: of each, `[n]`, without gradient; 1 by default.
    """
    weight = z.new_ones(len(node)) if weight is None else weight
    places = torch.stack([owner, node]).to(z.device)
    rows = torch.sparse_coo_tensor(places, weight, (len(pairs), len(z))).to_sparse_csr()
    head, tail = z[pairs.to(z.device)].unbind(1)
    return torch.cat([head, tail, head * tail, Spread(rows) @ z], 1)
