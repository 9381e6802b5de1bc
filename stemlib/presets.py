"""Every setting of the study: one family of frozen dataclasses, and three presets of them.

`smoke` proves that everything runs (seconds), `laptop` gives results on two cores, `paper` has the
reference's sizes. `change` alters settings by name and refuses a name that does not exist.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from stemlib.settings import Settings, bounded

T = TypeVar("T")


@dataclass(frozen=True)
class ModelConfig(Settings):
    """STEM-GNN's architecture. The switches `routed="none"` and `codebook="none"` are the ablations."""

    hidden: int = bounded(128, 1)
    layers: int = bounded(2, 1)
    backbone: Literal["sage", "gcn", "gat", "gin"] = "sage"  # of the dense layers; experts are GraphSAGE-mean
    routed: Literal["none", "last", "all"] = "all"
    router: Literal[
        "linear", "cosine", "kmeans", "hash", "frozen", "uniform", "top1", "smoothed", "similar", "recurrent",
        "pregate", "anchored", "uncertain", "bilevel", "fuzzy", "margin", "dynamic", "topk", "norm",
    ] = "linear"  # fmt: skip  # see `stemlib.model.routers`
    router_width: int = bounded(32, 1)  # of the small space of `cosine`, of the state of `recurrent`
    router_temperature: float = bounded(0.3, 1e-3)  # `t` of `cosine`, `kmeans`, `similar` and `fuzzy`
    regimes: int = bounded(2, 1, 64)  # routers that `bilevel` chooses from
    active: int = bounded(2, 1, 64)  # experts that `topk` uses
    mass: float = bounded(0.8, 0, 1)  # share of the gates that `dynamic` wants in use
    capacity: Literal["all", "descending", "ascending", "pyramid"] = "all"  # most experts per layer of `dynamic`
    expert: Literal[
        "mean", "filters", "shared_pool", "reuse", "modulated", "condenser", "prompted", "collaborating", "big_little",
        "hyper",
    ] = "mean"  # fmt: skip  # what each computes, see `stemlib.model.kinds`
    filters: str = "low mean two"  # of expert="filters", in turn, see `stemlib.model.kinds.filters`
    experts: int = bounded(3, 1, 64)
    temperature: float = bounded(1.0, 1e-3)  # of the Gumbel-softmax in training; evaluation: plain softmax
    norm: Literal["none", "batch", "layer"] = "none"
    activation: Literal["relu", "leaky_relu"] = "relu"
    input_dropout: float = bounded(0.0, 0, 0.99)
    dropout: float = bounded(0.15, 0, 0.99)
    routed_edge_features: bool = True  # False: routed layers ignore edge features, as in the reference
    expert_init: Literal["per_expert", "reference"] = "per_expert"
    codebook: Literal["none", "reference", "ema", "learnable", "rounded"] = "ema"
    token_bits: int = bounded(8, 1, 16)  # of each coordinate of codebook="rounded"
    heads: int = bounded(4, 1, 64)
    codes: int = bounded(128, 2, 65536)
    code_width: int | None = bounded(None, 1)  # None: `hidden`, as in the reference
    pool: Literal["mean", "sum", "max"] = "mean"


@dataclass(frozen=True)
class BaselineConfig(Settings):
    """A plain network from PyTorch Geometric, or one of `stemlib.baselines.robust` or `stemlib.baselines.deep`."""

    kind: Literal["mlp", "gcn", "sage", "gat", "gin", "softmedian", "appnp", "gcnii", "acm"] = "gcn"
    hidden: int = bounded(128, 1)
    layers: int = bounded(2, 1)
    input_dropout: float = bounded(0.5, 0, 0.99)
    dropout: float = bounded(0.5, 0, 0.99)
    pool: Literal["mean", "sum", "max"] = "mean"
    heads: int = bounded(1, 1, 64)  # of a GAT; they share the hidden units
    temperature: float = bounded(1.0, 1e-9)  # of the soft median; a high one gives the mean


@dataclass(frozen=True)
class MixtureConfig(Settings):
    """Networks that are different graph filters, whose logits are mixed; see `stemlib.model.mixture`."""

    filters: str = "self low mean ppr rich"  # one network each; a name may be repeated
    hidden: int = bounded(64, 1)  # of each network
    layers: int = bounded(2, 1)
    input_dropout: float = bounded(0.5, 0, 0.99)
    dropout: float = bounded(0.5, 0, 0.99)
    pool: Literal["mean", "sum", "max"] = "mean"
    gate: Literal["validated", "uniform"] = "validated"
    gate_counts: float = bounded(5.0, 1e-3)  # validation instances that each network's weight of 1/K is worth


@dataclass(frozen=True)
class StackedConfig(Settings):
    """Separately trained networks whose answers are mixed; see `stemlib.training.stacking`."""

    gate: Literal["selected", "simplex"] = "selected"
    rounds: int = bounded(12, 1)  # of a selection: at most this many networks
    repeats: int = bounded(1, 1)  # trainings of each network that is kept, from different seeds
    gate_counts: float = bounded(5.0, 1e-3)  # of the simplex: as in `MixtureConfig`
    members: str = ""  # JSON: family, settings and shape of each network, once they are known


@dataclass(frozen=True)
class TrainConfig(Settings):
    """Fine-tuning: AdamW, early stopping on validation, the best validation state restored."""

    lr: float = bounded(5e-3, 1e-9)
    weight_decay: float = 0.0
    epochs: int = bounded(300, 1)
    patience: int = bounded(100, 1)
    batch_size: int = 0  # instances per step; 0: all
    passes: int = bounded(1, 1)  # over the training instances from one evaluation to the next, an epoch
    fanout: int = 0  # neighbours drawn per node and layer in a training step of a node or link task; 0: all
    lipschitz: float = 1e-3  # times the squared Frobenius norm of the last map's weight
    routing: float = 0.0  # times the routing regulariser (negative entropy of the gates)
    commitment: float = 0.0  # times the distance between queries and codes; 0 in the reference's fine-tuning
    orthogonality: float = 0.0  # times the codebooks' orthogonality term
    freeze_tokens: bool = False  # True: token projection and codes stay as they are, as in the reference
    prior: bool = False  # True: the answers start at binary labels' log-odds
    precision: Literal["float32", "bf16"] = "float32"  # of a StemGNN encoder's products
    term: Literal["none", "balance", "coupling", "anchor", "teacher", "prior"] = "none"  # see `stemlib.training.terms`
    term_weight: float = 0.01
    coupling_share: float = bounded(1.0, 0, 1)  # largest answer to another's row, as a share of an expert's to its own
    anchor_features: float = bounded(0.2, 0, 0.99)  # feature columns hidden from the view of `anchor`
    anchor_edges: float = bounded(0.2, 0, 0.99)  # edges hidden from it
    router_share: float = bounded(1.0, 0, 1)  # share of `epochs` after which routers stop learning (`frozen_late`)
    edge_dropout: float = bounded(0.0, 0, 0.99)  # DropEdge: share of the edges missing in a step
    consistency: float = 0.0  # times the distance to the network's running answers, see `stemlib.training.consistency`
    consistency_after: float = bounded(0.05, 0, 0.3)  # share of `epochs` after which it begins; after thrice it is full
    consistency_on: Literal["all", "held_out"] = "all"  # instances without labels, or only those not used at test


@dataclass(frozen=True)
class PretrainConfig(Settings):
    """Pretraining: AdamW on sampled batches of one data set after another.

    The defaults are the reference's except for `schedule` and `routing`.
    """

    steps: int = 0  # 0: as many as `epochs` passes over the weighted pool take
    epochs: int = bounded(50, 1)  # also the period, in steps, of the `reference` schedule
    batch_size: int = bounded(1024, 1)  # seed nodes per step, of all processes together
    fanout: int = bounded(10, 1)  # neighbours per node and layer
    lr: float = bounded(1e-4, 1e-9)
    schedule: Literal["cosine", "reference"] = "cosine"  # see `stemlib.training.pretrain.learning_rate`
    weight_decay: float = 1e-5
    clip: float = bounded(1.0, 1e-9)  # largest norm of the gradient
    teacher_decay: float = bounded(0.99, 0, 1)  # the share of itself that the teacher keeps in a step
    feature: float = 100.0  # weight of feature reconstruction
    edge: float = 0.01  # weight of edge reconstruction
    edge_share: float = bounded(0.1, 0, 1)  # of the seeds' sampled edges that are reconstructed
    edge_feature: float = 100.0  # weight of edge-feature reconstruction, where edges have features
    teacher: float = 1.0  # weight of agreement with the teacher
    commitment: float = 10.0
    orthogonality: float = 1.0
    routing: float = 0.1  # weight of the routing regulariser; the reference's default is 0
    feature_dropout: float = bounded(0.2, 0, 0.99)  # of the student's view
    edge_dropout: float = bounded(0.2, 0, 0.99)
    precision: Literal["float32", "bf16"] = "float32"  # of the encoders' products
    log_every: int = bounded(200, 1)  # steps per logged figure of token usage and expert load


@dataclass(frozen=True)
class Preset(Settings):
    """A budget: how wide, how long, how many seeds, how large the built-in graph.

    With `limited`, large data sets use the epochs, patience and width that their protocols set for two cores, and the
    pretraining pool has a sample of ChEMBL.
    """

    name: str
    hidden: int
    epochs: int
    patience: int
    seeds: int
    nodes: int
    limited: bool = True
    pretraining: PretrainConfig = PretrainConfig()

    def train(self, **settings: Any) -> TrainConfig:
        """The budget's fine-tuning, with some settings of `TrainConfig` changed."""
        return TrainConfig(**{"epochs": self.epochs, "patience": self.patience, **settings})

    def pretrain(self, **settings: Any) -> PretrainConfig:
        """The budget's pretraining, with some settings of `PretrainConfig` changed."""
        return change(self.pretraining, **settings)


# A tenth of the reference's steps or fewer need a higher rate; with its edge weight nothing asks where a node lies.
PRESETS = {
    "smoke": Preset(
        "smoke", hidden=32, epochs=100, patience=50, seeds=2, nodes=2000,
        pretraining=PretrainConfig(steps=100, lr=5e-3, edge=5.0, feature_dropout=0.6, log_every=50),
    ),
    "laptop": Preset(
        "laptop", hidden=128, epochs=300, patience=50, seeds=5, nodes=10000,
        pretraining=PretrainConfig(steps=8000, lr=1e-3, edge=5.0, feature_dropout=0.6),
    ),
    "paper": Preset("paper", hidden=768, epochs=1000, patience=200, seeds=10, nodes=100000, limited=False),
}  # fmt: skip


def preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        ValueError: an unknown name; lists the known ones.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


def change(settings: T, **changes: Any) -> T:
    """A copy of `settings` with some values changed.

    Raises:
        ValueError: a name that the settings do not have; lists those they have.
    """
    known = {item.name for item in dataclasses.fields(settings)}
    if unknown := changes.keys() - known:
        raise ValueError(f"{type(settings).__name__} has no {sorted(unknown)}; it has {sorted(known)}")
    return dataclasses.replace(settings, **changes)
