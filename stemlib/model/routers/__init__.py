"""Where nodes are sent: the routers of a routed layer by name, each a class in this folder."""

from __future__ import annotations

from stemlib.model.routers.base import OUT, Linear, Router, Seen
from stemlib.model.routers.graphs import Anchored, Bilevel, Fuzzy, Similar, Smoothed
from stemlib.model.routers.nulls import Frozen, Hash, Top1, Uniform
from stemlib.model.routers.sparse import Dynamic, Margin, Norm, TopK
from stemlib.model.routers.states import Cosine, KMeans, Pregate, Recurrent, Uncertain

ROUTERS: dict[str, type[Router | Linear]] = {
    "linear": Linear,
    "cosine": Cosine,
    "kmeans": KMeans,
    "hash": Hash,
    "frozen": Frozen,
    "uniform": Uniform,
    "top1": Top1,
    "smoothed": Smoothed,
    "similar": Similar,
    "recurrent": Recurrent,
    "pregate": Pregate,
    "anchored": Anchored,
    "uncertain": Uncertain,
    "bilevel": Bilevel,
    "fuzzy": Fuzzy,
    "margin": Margin,
    "dynamic": Dynamic,
    "topk": TopK,
    "norm": Norm,
}

__all__ = ["OUT", "ROUTERS", "Linear", "Router", "Seen"]
