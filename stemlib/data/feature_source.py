"""Where a graph's features came from: the data's own features, and the steps that turned them into `x`.

No sensor fails to deliver an SVD's coordinates, and no author leaves them out; words do go missing. Damage is therefore
done to the rows of words, which are then encoded as those of the whole graph were.

Example:
    >>> words = scipy.sparse.csr_matrix([[3.0, 0.0, 4.0], [0.0, 1.0, 0.0]])
    >>> source = FeatureSource(words, (Step(2, torch.eye(3)[:2]), Step(3, unit=True)))
    >>> source.encode(words)
    tensor([[1., 0., 0.],
            [0., 1., 0.]])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize
from torch import Tensor
from torch.nn import functional as F

CLOSE = 1e-3  # between features and what their source makes; rounding is below 1e-6


@dataclass(frozen=True, eq=False)
class Step:
    """A linear map of rows, zero columns after it, rows scaled to length one; what is not wanted is left out.

    Attributes:
        width: columns that it gives.
        components: the map, `[k, F]`, `k` at most `width`; None to leave rows as they are.
        unit: whether rows are scaled to length one; zero rows stay zero.
    """

    width: int
    components: Tensor | None = None
    unit: bool = False

    def __call__(self, rows: scipy.sparse.csr_matrix | np.ndarray) -> np.ndarray:
        """Rows `[n, F]` as rows `[n, width]` of 32 bits."""
        rows = rows if self.components is None else rows @ self.components.numpy().T
        rows = rows.toarray() if scipy.sparse.issparse(rows) else rows
        rows = F.pad(torch.from_numpy(np.ascontiguousarray(rows)).float(), (0, self.width - rows.shape[1])).numpy()
        return normalize(rows) if self.unit and len(rows) else rows  # of no rows, sklearn would complain


def same_steps(some: Sequence[Step], others: Sequence[Step]) -> bool:
    """Whether the steps are equal, their maps bit by bit."""
    forms = [[(one.width, one.unit, one.components is None) for one in steps] for steps in (some, others)]
    return forms[0] == forms[1] and all(
        one.components is None or torch.equal(one.components, other.components)
        for one, other in zip(some, others, strict=True)
    )


@dataclass(frozen=True, eq=False)
class Terms:
    """What TF-IDF has learnt from some texts: words and pairs of words, and how rare each is.

    Attributes:
        words: terms in the order of their columns.
        weights: inverse document frequencies `[T]`.
    """

    words: tuple[str, ...]
    weights: Tensor

    @classmethod
    def of(cls, texts: Sequence[str]) -> tuple[Terms, scipy.sparse.csr_matrix]:
        """The terms of some texts, and the terms' weights in these texts, `[n, T]`."""
        # A term that only one text has says nothing of that text's likeness to others, unless there are few texts.
        vectoriser = _vectoriser(min_df=1 if len(texts) < 10_000 else 2)
        rows = vectoriser.fit_transform(texts)
        return cls(tuple(vectoriser.get_feature_names_out().tolist()), torch.from_numpy(vectoriser.idf_)), rows

    def __call__(self, texts: Sequence[str]) -> scipy.sparse.csr_matrix:
        """The terms' weights in these or other texts, `[n, T]`; a word that is no term counts for nothing."""
        vectoriser = _vectoriser(vocabulary=self.words)
        vectoriser.idf_ = self.weights.numpy()
        return vectoriser.transform(texts)


def _vectoriser(**settings: int | Sequence[str]) -> TfidfVectorizer:
    # Single characters count as words, because `charge 1` differs from `charge 2`.
    return TfidfVectorizer(
        token_pattern=r"(?u)\b\w+\b", ngram_range=(1, 2), sublinear_tf=True, dtype=np.float32, **settings
    )


@dataclass(frozen=True, eq=False)
class FeatureSource:
    """What node features were made from, and how.

    Attributes:
        raw: features of the data, `[A, F]`, of nodes or of types of nodes: weights of words, of a text's terms, or
            numbers. Only nonzero values are stored.
        steps: the steps that turn them into `x`, in order.
        rows: each node's row of `raw`, `[N]`; None for the nodes in order.
        terms: what turned texts into `raw`; None if `raw` was not made from texts.
    """

    raw: scipy.sparse.csr_matrix
    steps: tuple[Step, ...]
    rows: Tensor | None = None
    terms: Terms | None = None

    def encode(self, raw: scipy.sparse.csr_matrix) -> Tensor:
        """Node features `[n, d]` from features of the data `[n, F]`, which need not be the graph's."""
        rows = raw
        for step in self.steps:
            rows = step(rows)
        return torch.from_numpy(rows)

    def then(self, step: Step) -> FeatureSource:
        """The source with one more step."""
        return replace(self, steps=(*self.steps, step))

    def of(self, nodes: Tensor) -> FeatureSource:
        """The source of some nodes `[n]`, in that order."""
        return replace(self, rows=nodes if self.rows is None else self.rows[nodes])

    def raw_of(self, nodes: Tensor) -> scipy.sparse.csr_matrix:
        """Features of the data of some nodes `[n]`: a copy, `[n, F]`."""
        return self.raw[self.of(nodes).rows.numpy()]

    def with_raw(self, nodes: Tensor, raw: scipy.sparse.csr_matrix, count: int) -> FeatureSource:
        """The source of `count` nodes, of which the given ones `[n]` have other features of the data, `[n, F]`."""
        rows = self.of(torch.arange(count)).rows.clone()
        rows[nodes] = self.raw.shape[0] + torch.arange(nodes.numel())
        return replace(self, raw=scipy.sparse.vstack([self.raw, raw], format="csr"), rows=rows)

    def require(self, x: Tensor, nodes: Tensor) -> None:
        """Refuse features `x` `[n, d]` of some nodes `[n]` that this source did not make.

        Raises:
            ValueError: they differ, or have another width.
        """
        made = self.encode(self.raw_of(nodes))
        if made.shape != x.shape or not torch.allclose(made.to(x.dtype), x, rtol=0, atol=CLOSE):
            raise ValueError(
                "the graph's x is not what its source makes: it was changed since. Remove the source with "
                "dataclasses.replace(graph, source=None); the features are then damaged directly"
            )
