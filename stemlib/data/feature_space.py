"""What was fitted on one graph's features, kept so that another graph's features get the same coordinates.

An SVD or TF-IDF that is fitted anew has other coordinates, of the same width: a model that reads them gives other
answers, and nothing objects. A space is fitted once, saved beside the model, and from then on only applied.

Example:
    >>> north, south = torch.rand(9, 6), torch.rand(5, 6)
    >>> space = FeatureSpace.fit(north, width=4)
    >>> space.encode(south).shape
    torch.Size([5, 4])
    >>> torch.equal(space.encode(south[:2]), space.encode(south)[:2])
    True
"""

from __future__ import annotations

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
from stemlib.data.tasks import UNLABELLED, Task
from stemlib.weights import read_settings, write_tensors

FORMAT = "stem-gnn-study feature space, version 1"
FILE = "features"
PLAIN = ("numbers", "columns", "texts", "encoder", "unit_rows", "class_names", "outputs")


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """How a source's features were made; `encode` makes another graph's features in the same way.

    Attributes:
        steps: what turns raw features into features `[n, d]`: a map, zero columns, rows of length one.
        numbers: how many columns of numbers the raw features have.
        columns: their names, in order; empty where they have none.
        texts: names of the columns of texts; `("",)` for texts without a name, empty for none.
        encoder: of these texts, see `stemlib.data.features`.
        terms: that TF-IDF knows; None for another encoder.
        scaling: means and standard deviations `[2, numbers]` to standardise numbers by; None for numbers as they are.
        unit_rows: whether raw rows have length one (or zero), as rows of words counted in documents do.
        edge_steps: what turns raw edge features into edge features; empty to leave them as they are.
        class_names: of the labels, in the order of the model's outputs; empty for numbers and binary labels.
        outputs: how many classes, binary labels or numbers to predict there are; 0 if that is not known.
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
            width: columns of the features: more are projected by a truncated SVD, fewer are padded with zero columns;
                None for as many as there are (768 for texts by TF-IDF).
            encoder: of texts, as `encode_texts` has it.
            standardise: whether numbers are first standardised by mean and standard deviation.
            unit: whether rows get length one; None: if all are texts for TF-IDF.
            labels: `[M]`; their names are kept for other graphs' labels; None for the `y` of a `Data`.

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
        terms = Terms.of(raw.texts)[0] if raw.texts and encoder == TFIDF else None
        space = cls((), numbers, raw.columns, raw.names, encoder if raw.texts else "", terms)
        if standardise and numbers:
            known = StandardScaler().fit(raw.numbers.toarray().astype(np.float64))
            space = replace(space, scaling=torch.from_numpy(np.stack([known.mean_, known.scale_])))
        rows = space._rows(raw)
        by_terms = terms is not None and not numbers  # always projected, as `encode_texts` has it
        width = width or (768 if by_terms else rows.shape[1])
        components = components_of(rows, width) if by_terms or rows.shape[1] > width else None
        step = Step(width, components, by_terms if unit is None else unit)
        names, unit_rows = Reader().names(labels), not raw.texts and not standardise and of_length_one(rows)
        return replace(space, steps=(step,), unit_rows=unit_rows, class_names=names, outputs=len(names))

    @classmethod
    def of(cls, task: Task) -> FeatureSpace:
        """The space of a task's features and labels: its source's if it has one, otherwise of the features as they are.

        Of texts read by a sentence encoder a task keeps only the vectors: other graphs' texts must be encoded first.
        """
        graph = task.graph
        source, space = graph.source, graph.space
        if space is not None:  # and what was done to its features since
            steps = () if source is None else source.steps
            steps = (*space.steps, *steps) if space.is_plain else steps
            return replace(space, steps=steps, edge_steps=graph.edge_steps).for_labels(task)
        raw = scipy.sparse.csr_matrix(graph.x.numpy()) if source is None else source.raw
        steps = (Step(raw.shape[1]),) if source is None else source.steps
        space = cls(steps, raw.shape[1], unit_rows=of_length_one(raw), edge_steps=graph.edge_steps)
        if source is not None and source.terms is not None:
            space = replace(space, numbers=0, unit_rows=False, texts=("",), encoder=TFIDF, terms=source.terms)
        return space.for_labels(task)

    def for_labels(self, task: Task) -> FeatureSpace:
        """The space with the names of a task's classes and the number of its outputs.

        Raises:
            ValueError: it already has other names.
        """
        names = (task.class_names or tuple(range(task.outputs))) if task.labels.dim() == 1 else ()
        if self.class_names[: len(names)] != names and self.class_names:
            raise ValueError(
                f"the classes of {task.name!r} are {names}, the space's {self.class_names}; make the task with "
                "from_data(data, space=space)"
            )
        return replace(self, class_names=self.class_names or names, outputs=max(task.outputs, self.outputs))

    @property
    def width(self) -> int:
        """Columns of the features that it makes."""
        return self.steps[-1].width

    @property
    def is_plain(self) -> bool:
        """Whether features are the data's own, at most with zero columns after them, or made by a sentence encoder."""
        mapped = any(step.components is not None or step.unit for step in self.steps)
        return self.encoder not in ("", TFIDF) or (not mapped and self.scaling is None and not self.encoder)

    @property
    def own_names(self) -> tuple[int | str, ...]:
        """The class names as a `Task` has them: empty if they are 0, 1, ..."""
        return () if self.class_names == tuple(range(self.outputs)) else self.class_names

    def unknown(self, count: int, regression: bool = False) -> Tensor:
        """The labels of `count` instances, all unknown: `[count]` for classes, otherwise `[count, T]`."""
        if self.class_names:
            return torch.full((count,), UNLABELLED)
        return torch.full((count, max(self.outputs, 1)), torch.nan, dtype=torch.double if regression else torch.float)

    def encode(self, raw: Any) -> Tensor:
        """Features `[n, width]` from raw ones in any form that `fit` takes, each row independently.

        Raises:
            ValueError: columns that are missing, added, in another order or of another number; rows of another length
                than the source's; NaN, infinity or a blank text, by row and column.
        """
        source = self.source(raw)
        return source.encode(source.raw)

    def source(self, raw: Any) -> FeatureSource:
        """Raw features, and what turns them into features; errors as in `encode`."""
        read = read_raw(raw)
        require_columns(read, self.numbers, self.columns, self.texts)
        rows = self._rows(read)
        if self.unit_rows:
            require_length_one(rows)
        return FeatureSource(rows, self.steps, terms=self.terms)

    def require(self, task: Task) -> None:
        """Refuse a task whose features this space did not make, even if they have the same width.

        Raises:
            ValueError: it was made otherwise; says how to make it.
        """
        other = FeatureSpace.of(task)
        reads = [(one.numbers, one.columns, one.texts, one.encoder) for one in (self, other)]
        scales = [None if one.scaling is None else one.scaling.tolist() for one in (self, other)]
        if reads[0] != reads[1] or scales[0] != scales[1] or not same_steps(self.steps, other.steps):
            raise ValueError(
                f"the features of {task.name!r} were not made in the source's space; give raw features, with "
                "from_data(data, space=space) or in a Data"
            )

    def encode_edges(self, raw: Any) -> Tensor:
        """Edge features `[n, d_e]` from raw ones, or from texts, which are encoded as the nodes' texts are."""
        read = read_raw(raw, "edge")
        rows = read.numbers if read.texts is None else self._rows(read)
        steps = self.edge_steps or ((Step(rows.shape[1]),) if read.texts is None else self.steps)
        if (first := steps[0].components) is not None and first.size(1) != rows.shape[1]:
            raise ValueError(f"edges have {rows.shape[1]} feature columns, the source's {first.size(1)}")
        return FeatureSource(rows, steps).encode(rows)

    def _rows(self, raw: Raw) -> scipy.sparse.csr_matrix:
        """Numbers, scaled, and then what the encoder makes of texts, `[n, F]`."""
        blocks = [] if raw.numbers is None else [raw.numbers]
        if blocks and self.scaling is not None:
            mean, deviation = self.scaling.numpy()
            blocks = [scipy.sparse.csr_matrix((raw.numbers.toarray() - mean) / deviation, dtype=np.float32)]
        if raw.texts is not None:
            texts = self.terms(raw.texts) if self.terms else sentence_vectors(raw.texts, self.encoder).numpy()
            blocks.append(scipy.sparse.csr_matrix(texts))
        return blocks[0] if len(blocks) == 1 else scipy.sparse.hstack(blocks, format="csr")

    def save(self, folder: str | Path) -> None:
        """Write `features.safetensors` and `features.json`."""
        settings = {"format": FORMAT} | {name: getattr(self, name) for name in PLAIN}
        tensors = {"scaling": self.scaling, "terms": None if self.terms is None else self.terms.weights}
        for key in ("steps", "edge_steps"):
            settings[key] = [{"width": step.width, "unit": step.unit} for step in getattr(self, key)]
            maps = [step.components for step in getattr(self, key)]  # safetensors writes no tensor twice: copied
            tensors |= {f"{key}_{place}": one.clone() for place, one in enumerate(maps) if one is not None}
        settings["words"] = [] if self.terms is None else self.terms.words
        write_tensors({name: one for name, one in tensors.items() if one is not None}, settings, folder, FILE)

    @classmethod
    def load(cls, folder: str | Path) -> FeatureSpace:
        """The space that `save` wrote.

        Raises:
            FileNotFoundError, ValueError: a file is missing, cut, or another program's.
        """
        kept, tensors = read_settings(folder, FORMAT, FILE), load_file(Path(folder) / f"{FILE}.safetensors")
        read = {name: tuple(value) if isinstance(value := kept[name], list) else value for name in PLAIN}
        for key in ("steps", "edge_steps"):
            steps = enumerate(kept[key])
            read[key] = tuple(Step(components=tensors.get(f"{key}_{place}"), **step) for place, step in steps)
        read["terms"] = Terms(tuple(kept["words"]), tensors["terms"]) if kept["words"] else None
        return cls(**read, scaling=tensors.get("scaling"))
