"""What was fitted on one graph's features, kept, so that another graph's get the same coordinates.

An SVD or TF-IDF that is fitted anew on other data has other coordinates, of the same width: a model that reads them
answers something else, and nothing objects. A space is fitted once, saved beside the model, and only applied after.

Example:
    >>> north, south = torch.rand(9, 6), torch.rand(5, 6)
    >>> space = FeatureSpace.fit(north, width=4)
    >>> space.encode(south).shape
    torch.Size([5, 4])
    >>> torch.equal(space.encode(south[:2]), space.encode(south)[:2])
    True
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
from safetensors.torch import load_file
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch_geometric.data import Data

from stemlib.data.feature_source import FeatureSource, Step, Terms, same_steps
from stemlib.data.features import TFIDF, components_of, sentence_vectors
from stemlib.data.raw_features import Raw, of_length_one, read_raw, require_columns, require_length_one
from stemlib.data.readings import Reader
from stemlib.data.tasks import Task
from stemlib.weights import read_settings, write_tensors

FORMAT = "stem-gnn-study feature space, version 1"
FILE = "features"


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """What a source's features were made with; `encode` makes another graph's with the same.

    Columns are numbers first, as they come, then the terms or coordinates of the texts.

    Attributes:
        steps: what makes features `[n, d]` of raw ones: a map, zero columns, rows of length one.
        numbers: how many columns of numbers the raw features have.
        columns: their names, in order; empty where they have none.
        texts: names of the columns of texts; `("",)` for texts without a name, empty for none.
        encoder: of these texts, see `stemlib.data.features`.
        terms: that TF-IDF knows; None for another encoder.
        scaling: means and standard deviations that numbers are freed of, `[2, numbers]`; None for numbers as they are.
        unit_rows: whether raw rows have length one (or zero), as words' do that were counted in documents.
        edge_steps: what makes features of edges of their raw ones; empty for features as they are.
        class_names: of the labels, in the order of the model's outputs; empty for numbers and binary labels.
        outputs: how many classes, binary labels or numbers to predict there are; 0 where that is not known.
    """

    steps: tuple[Step, ...]
    numbers: int = 0
    columns: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    encoder: str = ""
    terms: Terms | None = None
    scaling: Tensor | None = None
    unit_rows: bool = False
    edge_steps: tuple[Step, ...] = ()
    class_names: tuple[int | str, ...] = ()
    outputs: int = 0

    @classmethod
    def fit(
        cls,
        source: Any,
        width: int | None = None,
        *,
        encoder: str = TFIDF,
        standardise: bool = False,
        unit: bool | None = None,
        labels: Any = None,
    ) -> FeatureSpace:
        """Fit a space on a source; nothing of any other graph is ever seen.

        Args:
            source: raw features: an array or sparse table `[N, F]`, a DataFrame of numbers and texts, a list of texts;
                or a `Data` with one of these as `x`.
            width: columns of the features: more are projected by a truncated SVD, fewer get zero columns behind them;
                None for as many as there are (768 for texts by TF-IDF).
            encoder: of texts, as `encode_texts` has it.
            standardise: whether numbers are freed of mean and standard deviation first.
            unit: whether rows get length one; None: where there are texts alone.
            labels: whose names are kept for other graphs' labels `[M]`; None for the `y` of a `Data`.

        Raises:
            ValueError: features that cannot be read, by row and column.
        """
        if width is not None and width < 1:
            raise ValueError(f"width must be at least 1, or None for the native features, got {width}")
        if isinstance(source, Data):
            labels = source.get("y") if labels is None else labels
            source = source.x
        raw = read_raw(source)
        numbers = 0 if raw.numbers is None else raw.numbers.shape[1]
        space = cls((), numbers, raw.columns, raw.names, encoder if raw.texts else "")
        if standardise and numbers:
            known = StandardScaler().fit(raw.numbers.toarray().astype(np.float64))
            space = replace(space, scaling=torch.from_numpy(np.stack([known.mean_, known.scale_])))
        if space.encoder == TFIDF:
            space = replace(space, terms=Terms.of(raw.texts)[0])
        rows, only_texts = space._rows(raw), raw.numbers is None
        if not raw.texts and not standardise:
            space = replace(space, unit_rows=of_length_one(rows))
        by_terms = only_texts and space.encoder == TFIDF  # always projected, as `encode_texts` has it
        width = width or (768 if by_terms else rows.shape[1])
        components = components_of(rows, width) if by_terms or rows.shape[1] > width else None
        step = Step(width, components, by_terms if unit is None else unit)
        names = Reader().names(labels)
        return replace(space, steps=(step,), class_names=names, outputs=len(names))

    @classmethod
    def of(cls, task: Task) -> FeatureSpace:
        """The space of a task's features and labels: its source's where it has one, else that of features as they are.

        Of texts by a sentence encoder a task keeps the vectors alone: other graphs' texts are to be encoded before.
        """
        source = task.graph.source
        raw = scipy.sparse.csr_matrix(task.graph.x.numpy()) if source is None else source.raw
        steps = (Step(raw.shape[1]),) if source is None else source.steps
        space = cls(steps, raw.shape[1], unit_rows=of_length_one(raw), edge_steps=task.graph.edge_steps)
        if source is not None and source.terms is not None:
            space = replace(space, numbers=0, unit_rows=False, texts=("",), encoder=TFIDF, terms=source.terms)
        return space.for_labels(task)

    def for_labels(self, task: Task) -> FeatureSpace:
        """The space with the names that a task's classes have, and the number of its outputs.

        Raises:
            ValueError: it has names already, and others.
        """
        names = (task.class_names or tuple(range(task.outputs))) if task.labels.dim() == 1 else ()
        if self.class_names[: len(names)] != names and self.class_names:
            raise ValueError(
                f"the classes of {task.name!r} are {names}, those of the space {self.class_names}; make the task by "
                "from_data(data, space=space)"
            )
        return replace(self, class_names=self.class_names or names, outputs=max(task.outputs, self.outputs))

    @property
    def width(self) -> int:
        """Columns of the features that it makes."""
        return self.steps[-1].width

    @property
    def is_plain(self) -> bool:
        """Whether features are the data's own, or a sentence encoder's, with zero columns behind them at most."""
        mapped = any(step.components is not None or step.unit for step in self.steps)
        return self.encoder not in ("", TFIDF) or (not mapped and self.scaling is None and not self.encoder)

    def encode(self, raw: Any) -> Tensor:
        """Features `[n, width]` of raw ones in any form that `fit` takes, each row by itself.

        Raises:
            ValueError: columns that are missing, added, in another order or of another number; rows of another length
                than the source's; NaN, infinity or a blank text, by row and column.
        """
        source = self.source(raw)
        return source.encode(source.raw)

    def source(self, raw: Any) -> FeatureSource:
        """Raw features, and what makes features of them; errors as `encode`."""
        read = read_raw(raw)
        require_columns(read, self.numbers, self.columns, self.texts)
        rows = self._rows(read)
        if self.unit_rows:
            require_length_one(rows)
        return FeatureSource(rows, self.steps, terms=self.terms)

    def require(self, task: Task) -> None:
        """Refuse a task whose features this space did not make, though they may have the same width.

        Raises:
            ValueError: it was made otherwise; says how to make it.
        """
        made = () if task.graph.source is None else task.graph.source.steps
        if not same_steps(() if self.is_plain else self.steps, made) or task.graph.x.size(1) != self.width:
            raise ValueError(
                f"the features of {task.name!r} were not made with the space of the source; give raw features, by "
                "from_data(data, space=space) or in a Data"
            )

    def encode_edges(self, raw: Any) -> Tensor:
        """Features of edges `[n, d_e]` of raw ones, or of texts, which nodes' encoder makes the same of."""
        read = read_raw(raw, "edge")
        rows = read.numbers if read.texts is None else self._rows(read)
        as_they_are = (Step(rows.shape[1]),) if read.texts is None else self.steps
        steps = self.edge_steps or as_they_are
        first = steps[0].components
        if first is not None and first.size(1) != rows.shape[1]:
            raise ValueError(f"edges have {rows.shape[1]} columns of features, and the source's {first.size(1)}")
        return FeatureSource(rows, steps).encode(rows)

    def _rows(self, raw: Raw) -> scipy.sparse.csr_matrix:
        """Numbers, scaled, and then what the encoder makes of texts, `[n, F]`."""
        blocks = []
        if raw.numbers is not None:
            numbers = raw.numbers
            if self.scaling is not None:
                mean, deviation = self.scaling.numpy()
                numbers = scipy.sparse.csr_matrix((numbers.toarray() - mean) / deviation, dtype=np.float32)
            blocks.append(numbers)
        if raw.texts is not None:
            by_terms = self.encoder == TFIDF
            texts = self.terms(raw.texts) if by_terms else sentence_vectors(raw.texts, self.encoder).numpy()
            blocks.append(scipy.sparse.csr_matrix(texts))
        return blocks[0] if len(blocks) == 1 else scipy.sparse.hstack(blocks, format="csr")

    def save(self, folder: str | Path) -> None:
        """Write `features.safetensors` and `features.json`."""
        tensors = dict(_maps("step", self.steps)) | dict(_maps("edge_step", self.edge_steps))
        if self.scaling is not None:
            tensors["scaling"] = self.scaling
        if self.terms is not None:
            tensors["terms"] = self.terms.weights
        plain = ("numbers", "columns", "texts", "encoder", "unit_rows", "class_names", "outputs")
        settings = {"format": FORMAT} | {name: getattr(self, name) for name in plain}
        for name, steps in (("steps", self.steps), ("edge_steps", self.edge_steps)):
            settings[name] = [{"width": step.width, "unit": step.unit} for step in steps]
        words = None if self.terms is None else self.terms.words
        write_tensors(tensors, settings | {"words": words}, folder, FILE)

    @classmethod
    def load(cls, folder: str | Path) -> FeatureSpace:
        """The space that `save` wrote.

        Raises:
            FileNotFoundError, ValueError: a file is missing, cut, or another program's.
        """
        kept = read_settings(folder, FORMAT, FILE)
        tensors = load_file(Path(folder) / f"{FILE}.safetensors")
        words = kept.pop("words")
        steps, edges = (
            tuple(Step(components=tensors.get(f"{name}_{place}"), **step) for place, step in enumerate(kept.pop(key)))
            for name, key in (("step", "steps"), ("edge_step", "edge_steps"))
        )
        plain = {name: tuple(value) if isinstance(value, list) else value for name, value in kept.items()}
        return cls(
            steps,
            edge_steps=edges,
            terms=None if words is None else Terms(tuple(words), tensors["terms"]),
            scaling=tensors.get("scaling"),
            **{name: value for name, value in plain.items() if name not in ("format", "sha256")},
        )


def _maps(name: str, steps: Iterable[Step]) -> Iterable[tuple[str, Tensor]]:
    return ((f"{name}_{i}", step.components) for i, step in enumerate(steps) if step.components is not None)
