"""STEM-GNN: routed encoder -> read-out of instances -> tokens -> head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from stemlib.data.graph import Graph
from stemlib.data.tasks import Kind, read_out
from stemlib.model.encoder import Encoder, Encoding
from stemlib.model.head import AveragedHead
from stemlib.model.losses import routing_regulariser
from stemlib.model.network import Network, Output
from stemlib.model.rounded import RoundedTokens
from stemlib.model.tokens import TokenInterface, Tokens
from stemlib.presets import ModelConfig, TrainConfig


class StemGNN(Network):
    """The whole model.

    Args:
        config: the architecture; `routed="none"` and `codebook="none"` are the ablations.
        in_width: width of node features.
        classes: number of logits.
        kind: what an instance is.
        edge_width: width of edge features; None if the graph has none.

    Raises:
        ValueError: a setting that makes no sense, which it names.
    """

    without_edges = True

    def __init__(
        self, config: ModelConfig, in_width: int, classes: int, kind: Kind = "node", edge_width: int | None = None
    ) -> None:
        super().__init__(config, in_width, classes, kind, edge_width)
        self.encoder = Encoder(config, in_width, edge_width)
        kind = RoundedTokens if config.codebook == "rounded" else TokenInterface
        self.tokens = kind(config, config.hidden) if config.codebook != "none" else None
        width = self.tokens.project_in.out_features if self.tokens else config.hidden
        self.head = AveragedHead(width, classes, config.heads if self.tokens else 1)

    def encode(self, graph: Graph | Data, gates: Sequence[Tensor | None] | None = None) -> Encoding:
        """The encoder's pass over all nodes, with the router's gates or with given ones.

        All of the theory rests on this: every pass returns its gates, and any other can replay or force them.

        Args:
            graph: see `Encoder.forward`.
            gates: one entry per routed layer, `[N, K]`, or None for 'as routed'.

        Raises:
            ValueError: a wrong number or shape of gates, or features of another width than the model's.

        Example:
            >>> graph = Data(x=torch.randn(4, 8), edge_index=torch.tensor([[0, 1, 2], [1, 2, 3]]))
            >>> model = StemGNN(ModelConfig(hidden=16, layers=2, experts=3), in_width=8, classes=2).eval()
            >>> clean = model.encode(graph)
            >>> clean.z.shape, [gates.shape for gates in clean.gates]
            (torch.Size([4, 16]), [torch.Size([4, 3]), torch.Size([4, 3])])
            >>> torch.equal(model.encode(graph, clean.gates).z, clean.z)
            True
        """
        return self.encoder(graph, gates)

    @property
    def reach(self) -> int:
        """See `Encoder.reach`."""
        return self.encoder.reach

    @property
    def coded(self) -> TokenInterface | None:
        """The tokens where they are codes of a codebook; None for a model without tokens, or with rounded ones."""
        return self.tokens if isinstance(self.tokens, TokenInterface) else None

    @property
    def last_maps(self) -> list[nn.Module]:
        """The head."""
        return [self.head]

    def embed(self, graph: Graph | Data, instances: Tensor | None) -> Tensor:
        """Embeddings of the instances, before the tokens, `[M, d]`."""
        return read_out(self.encode(graph).z, graph, instances, self.kind, self.config.pool)

    def classify(self, embedding: Tensor) -> tuple[Tensor, Tokens | None]:
        """Logits `[M, classes]` and tokens of instance embeddings `[M, d]`."""
        with torch.autocast(embedding.device.type, enabled=False):  # bf16 cannot tell codes that are nearly tied
            tokens = self.tokens(embedding) if self.tokens else None
            return self.head(tokens.codes if tokens else embedding), tokens

    def forward(
        self, graph: Graph | Data, instances: Tensor | None, gates: Sequence[Tensor | None] | None = None
    ) -> Output:
        """Encode all nodes, read the instances out, quantise and classify them: the paper's model, part by part.

        Args:
            graph: see `Encoder.forward`; a graph task's also has `batch` and `ptr`.
            instances: nodes `[M]`, pairs of nodes `[M, 2]`, or None for the graphs of a graph task.
            gates: see `encode`.

        Raises:
            ValueError: see `encode`.

        Example:
            >>> graph = Data(x=torch.randn(4, 8), edge_index=torch.tensor([[0, 1, 2], [1, 2, 3]]))
            >>> model = StemGNN(ModelConfig(hidden=16, heads=4), in_width=8, classes=2).eval()
            >>> output = model(graph, torch.tensor([1, 3]))
            >>> output.logits.shape, output.embedding.shape, output.tokens.indices.shape
            (torch.Size([2, 2]), torch.Size([2, 16]), torch.Size([2, 4]))
        """
        encoding = self.encode(graph, gates)
        embedding = read_out(encoding.z, graph, instances, self.kind, self.config.pool)
        logits, tokens = self.classify(embedding)
        return Output(logits, embedding, tokens, encoding)

    def penalty(self, output: Output, train: TrainConfig) -> Tensor:
        """The regularisers of one training step, weighted; a scalar. Terms of weight 0 are not computed."""
        total = output.logits.new_zeros(())
        if train.lipschitz:
            total = total + train.lipschitz * self.head.penalty()
        if train.routing and self.encoder.routed_layers:
            routing = routing_regulariser(output.encoding.gates, output.encoding.gate_logits)
            total = total + train.routing * routing
        if self.tokens and not self.tokens.frozen:
            if train.commitment:
                total = total + train.commitment * self.tokens.commitment(output.tokens)
            if train.orthogonality and self.coded and self.tokens.codebook.requires_grad:
                total = total + train.orthogonality * self.tokens.orthogonality()
        return total

    @torch.no_grad()
    def start_tokens(self, graph: Graph | Data, instances: Tensor | None) -> None:
        """Start the codebooks by k-means on the queries of `instances`, unless they have been started."""
        if self.tokens is None or self.tokens.started:
            return
        training = self.training
        self.eval()
        self.tokens.start(self.tokens.queries(self.embed(graph, instances)))
        self.train(training)
