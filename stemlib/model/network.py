"""What all networks have in common: their shape, and what they say about a task's instances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stemlib.data.tasks import Kind, Task
from stemlib.model.encoder import Encoding
from stemlib.model.losses import task_loss
from stemlib.model.tokens import Tokens
from stemlib.presets import TrainConfig


@dataclass
class Output:
    """What the model says about `M` instances.

    Attributes:
        logits: `[M, classes]`.
        embedding: the instances before the tokens, `[M, d]`; mixtures and baselines have their logits there.
        tokens: their tokens; None without a token interface.
        encoding: the encoder's pass over all nodes, gates included; None for models without one.
        parts: mixed networks' own logits `[M, K, classes]`; None for a single network.
    """

    logits: Tensor
    embedding: Tensor
    tokens: Tokens | None = None
    encoding: Encoding | None = None
    parts: Tensor | None = None


class Network(nn.Module):
    """A network that answers for nodes, links or graphs; called with a graph and its instances it gives an `Output`.

    Args:
        config: its settings.
        in_width: width of node features.
        classes: number of logits.
        kind: what an instance is.
        edge_width: width of edge features; None if the graph has none.

    Attributes:
        unit: mean and standard deviation `[2, classes]` of the numbers that it was trained to predict, which
            standardise its answers; 0 and 1 for classes.
    """

    without_edges = False  # whether one for edge features can do without them

    def __init__(
        self, config: Any, in_width: int, classes: int, kind: Kind = "node", edge_width: int | None = None
    ) -> None:
        super().__init__()
        self.config, self.in_width, self.classes = config, in_width, classes
        self.kind, self.edge_width = kind, edge_width
        self.register_buffer("unit", torch.tensor([[0.0], [1.0]], dtype=torch.double).repeat(1, classes))

    def in_own_unit(self, answers: Tensor) -> Tensor:
        """Answers `[M, classes]` as numbers in the data's unit; a classifier's stay as they are."""
        plain = (self.unit[0] == 0).all() and (self.unit[1] == 1).all()
        return answers if plain else answers * self.unit[1] + self.unit[0]

    @property
    def last_maps(self) -> list[nn.Module]:
        """The linear maps that give the logits, or the layers around them."""
        raise NotImplementedError

    def settled(self, answers: Tensor, labels: Tensor, regression: bool = False) -> Tensor:
        """Logits `[M, classes]` of some instances after an epoch; validation's come first, and have `labels`.

        What validation alone decides about a network is decided here, see `stemlib.model.mixture`.

        Args:
            answers: an `Output`'s `parts` if it has them, otherwise its logits.
            labels: of validation.
            regression: whether they are numbers.
        """
        return answers

    def loss(self, output: Output, labels: Tensor, regression: bool = False) -> Tensor:
        """The loss on the first instances of an output, those that have `labels`; a scalar."""
        return task_loss(output.logits[: len(labels)], labels, regression=regression)

    def penalty(self, output: Output, train: TrainConfig) -> Tensor:
        """What training adds to the loss, weighted, a scalar: the squared norm of the weights of `last_maps`.

        The paper penalises only its own head, Eq. 22; here every network is offered the same.
        """
        if not train.lipschitz:
            return output.logits.new_zeros(())
        weights = [value for last in self.last_maps for name, value in last.named_parameters() if "weight" in name]
        return train.lipschitz * sum(weight.square().sum() for weight in weights)

    @torch.no_grad()
    def start_at_prior(self, labels: Tensor, regression: bool = False) -> None:
        """Start the answers' biases at the log-odds of binary labels `[M, T]`, or at the mean, 0, of a regression.

        Class labels `[M]` leave them as they are. Where positives are rare, all embeddings are first pushed the same
        way, to lower every logit; a codebook follows them, and the answer is one constant for some twenty epochs
        (Minesweeper). A bias that starts at the constant leaves only differences to learn.
        """
        if labels.dim() == 1 and not regression:
            return
        positive, negative = ((labels == value).sum(0) for value in (1, 0))
        start = torch.zeros(self.classes) if regression else ((positive + 1) / (negative + 1)).log()
        for last in self.last_maps:
            for name, value in last.named_parameters():
                if "bias" in name:
                    value.copy_(start.repeat(value.numel() // self.classes))


def require_fit(model: nn.Module, task: Task) -> None:
    """Refuse a task that does not fit a network: it would answer something else, or fail somewhere inside.

    Raises:
        ValueError: another kind, another width of features, or labels that the network has no logits for.
    """
    if not isinstance(model, Network):
        return
    width, edges, outputs = task.graph.x.size(1), task.edge_width, task.outputs
    fits = (task.kind, width) == (model.kind, model.in_width)
    fits &= edges == model.edge_width or (edges is None and model.without_edges)
    fits &= outputs <= model.classes if task.labels.dim() == 1 else outputs == model.classes
    if not fits:
        raise ValueError(
            f"this {type(model).__name__} is for {model.kind} tasks with features of width {model.in_width}, edge "
            f"features of width {model.edge_width} and {model.classes} outputs; {task.name!r} is a {task.kind} task "
            f"with {width}, {edges} and {outputs}: build one for it"
        )
