"""Settings of the rivals, of the same family as all others: see `stemlib.presets`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stemlib.settings import Settings, bounded


@dataclass(frozen=True)
class MowstConfig(Settings):
    """A weak and a strong expert, and a gate that knows how sure the weak one is; see `study.rivals.mowst`."""

    strong: Literal["gcn", "sage", "gat", "gin"] = "gcn"  # the weak one is an MLP
    hidden: int = bounded(128, 1)
    layers: int = bounded(2, 1)
    gate_hidden: int = bounded(16, 1)
    input_dropout: float = bounded(0.5, 0, 0.99)
    dropout: float = bounded(0.5, 0, 0.99)
    pool: Literal["mean", "sum", "max"] = "mean"


@dataclass(frozen=True)
class NCNConfig(Settings):
    """Links predicted from the neighbours that both ends have; see `study.rivals.common_neighbours`."""

    encoder: Literal["gcn", "sage", "gat", "gin"] = "sage"
    hidden: int = bounded(128, 1)
    layers: int = bounded(2, 1)
    complete: bool = False  # True: NCNC, which adds neighbours of one end by the chance that the other has them
    most: int = bounded(32, 0)  # neighbours of an end that is completed
    input_dropout: float = bounded(0.5, 0, 0.99)
    dropout: float = bounded(0.5, 0, 0.99)


@dataclass(frozen=True)
class NBFNetConfig(Settings):
    """Links predicted from the walks from one end to the other; see `study.rivals.bellman_ford`."""

    hidden: int = bounded(128, 1)  # of the head, which reads walks and features
    width: int = bounded(32, 1)  # of a walk's state
    rounds: int = bounded(3, 1)  # the longest walk
    hub: int = bounded(30, 0)  # most edges that leave an inner node of a walk
    input_dropout: float = bounded(0.5, 0, 0.99)
    dropout: float = bounded(0.5, 0, 0.99)


@dataclass(frozen=True)
class ProbeConfig(Settings):
    """A frozen encoder, trained without labels, and a linear head on it; see `study.rivals.probe`."""

    encoder: Literal["gcn", "gat"] = "gcn"
    hidden: int = bounded(128, 1)
    layers: int = bounded(2, 1)
    heads: int = bounded(4, 1, 64)  # of a GAT encoder; they share the hidden units
    norm: Literal["none", "batch"] = "none"
    embedding_norm: float = bounded(10.0, 1e-9)  # root mean square norm of the embeddings that the head reads
    dropout: float = bounded(0.0, 0, 0.99)  # of the embeddings, before the head
    pool: Literal["mean", "sum", "max"] = "mean"


@dataclass(frozen=True)
class PretextConfig(Settings):
    """What the ways to train an encoder without labels share: the optimiser is Adam, or AdamW if `decoupled`."""

    steps: int = bounded(300, 1)
    batch_size: int = bounded(128, 1)  # graphs per step of a graph task; other tasks show their whole graph
    lr: float = bounded(1e-3, 1e-9)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: float = bounded(0.0, 0, 1)  # share of the steps in which the rate rises
    weight_decay: float = 0.0
    decoupled: bool = False


@dataclass(frozen=True)
class DGIConfig(PretextConfig):
    """Deep Graph Infomax; see `study.rivals.self_supervised.Infomax`."""

    objective: Literal["dgi"] = "dgi"


@dataclass(frozen=True)
class BGRLConfig(PretextConfig):
    """Bootstrapped graph latents, two views of a graph; see `study.rivals.self_supervised.Bootstrap`."""

    objective: Literal["bgrl"] = "bgrl"
    lr: float = bounded(5e-4, 1e-9)
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup: float = bounded(0.1, 0, 1)
    weight_decay: float = 1e-5
    decoupled: bool = True
    momentum: float = bounded(0.99, 0, 1)  # the share of itself that the target keeps in the first step
    predictor: int = bounded(512, 1)  # hidden units
    first_feature_dropout: float = bounded(0.3, 0, 0.99)
    first_edge_dropout: float = bounded(0.2, 0, 0.99)
    second_feature_dropout: float = bounded(0.4, 0, 0.99)
    second_edge_dropout: float = bounded(0.4, 0, 0.99)


@dataclass(frozen=True)
class GraphMAEConfig(PretextConfig):
    """Masked features, reconstructed; see `study.rivals.self_supervised.MaskedAutoencoder`."""

    objective: Literal["graphmae"] = "graphmae"
    schedule: Literal["constant", "cosine"] = "cosine"
    weight_decay: float = 2e-4
    mask_rate: float = bounded(0.5, 0, 1)  # of the nodes
    replace_rate: float = bounded(0.05, 0, 1)  # of the masked nodes: they get another node's features, not the mask
    gamma: float = bounded(3.0, 1)  # power of the cosine error
    dropout: float = bounded(0.2, 0, 0.99)  # before every layer of encoder and decoder
    attention_dropout: float = bounded(0.1, 0, 0.99)
