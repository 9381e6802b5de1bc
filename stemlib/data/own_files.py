"""A user's own files as a task: a folder or file is read as what it looks like, and notes say what was read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from stemlib.data.feature_space import FeatureSpace
from stemlib.data.features import TFIDF
from stemlib.data.graph import plain
from stemlib.data.own_arrays import read_arrays
from stemlib.data.own_data import from_data
from stemlib.data.own_formats import ARRAYS, NETWORKS, PARTS, TRIPLE, found, network, table
from stemlib.data.own_molecules import from_smiles
from stemlib.data.own_splits import column_split
from stemlib.data.own_tables import Tables, read_tables
from stemlib.data.own_triples import from_triples
from stemlib.data.readings import Reader
from stemlib.data.tasks import UNLABELLED, Kind, Task

COLUMNS = ("source", "target", "type", "id", "label", "time", "smiles", *TRIPLE)
WIDTH = 128  # of encoded texts
DENSE = 0.5  # share of nonzero numbers from which they count as measurements, not as counts of words


@dataclass(frozen=True)
class Own:
    """What was read.

    Attributes:
        task: the task.
        names: the user's names of its instances, `M` of them.
        notes: what was read, converted, left out, and what is doubtful.
        space: what other graphs' features are made with.
    """

    task: Task
    names: list[str]
    notes: list[str]
    space: FeatureSpace | None = None


def read_own(
    path: str | Path,
    *,
    split: str | None = None,
    regression: bool | None = None,
    directed: bool | None = None,
    kind: Kind | None = None,
    space: FeatureSpace | None = None,
    encoder: str = TFIDF,
    width: int | None = None,
    seed: int = 0,
    **names: str | Sequence[str],
) -> Own:
    """Read a graph, triples or molecules from a file, or a folder of files; docs/own_data.md lists the forms.

    Args:
        path: the file or folder.
        split: `random`, `time`, `scaffold` (of molecules), or a column that says train, val or test; by default masks
            or the column `split`, if there are any, otherwise one is drawn.
        regression: whether labels are numbers to predict; by default those in tables that have fractions are.
        directed: whether edges of a table run one way; by default they do if some, not all, appear both ways.
        kind: of arrays; by default what they look like.
        space: of the graph that a model was trained on; columns other than its own are refused by name.
        encoder: of texts.
        width: of features; by default texts have 128 columns, numbers as many as there are.
        seed: of a split that is drawn.
        names: what the columns `source`, `target` and `type` of edges, `id`, `label` (one or several) and `time` of
            nodes, `smiles`, and `head`, `relation` and `tail` are called.

    Returns:
        The task, its instances' names, what was read, and the feature space.

    Raises:
        FileNotFoundError: there is nothing of that name.
        ValueError: all problems, one a line, with the row or node; an unknown name of a column; an unknown form.

    Example:
        >>> from tempfile import mkdtemp
        >>> folder = Path(mkdtemp())
        >>> _ = (folder / "edges.csv").write_text("source,target\\n" + "".join(f"n{i},n{i + 1}\\n" for i in range(8)))
        >>> rows = "".join(f"n{i},{'cat' if i % 2 else 'dog'},{i}\\n" for i in range(9))
        >>> _ = (folder / "nodes.csv").write_text("id,label,age\\n" + rows)
        >>> own = read_own(folder)
        >>> own.names[:2], own.task.class_names, own.task.graph.num_edges
        (['n0', 'n1'], ('cat', 'dog'), 16)
    """
    if unknown := [name for name in names if name not in COLUMNS]:
        raise ValueError(f"unknown column {', '.join(unknown)}; there are {', '.join(COLUMNS)}")
    reading = _Reading(Path(path), names, split, regression, directed, kind, space, encoder, width, seed)
    return reading.read()


@dataclass(frozen=True)
class _Reading:
    """The arguments of `read_own`, and the reader that collects notes and problems."""

    path: Path
    names: dict[str, Any]
    split: str | None
    regression: bool | None
    directed: bool | None
    kind: Kind | None
    space: FeatureSpace | None
    encoder: str
    width: int | None
    seed: int
    reader: Reader = field(default_factory=Reader)

    @property
    def columns(self) -> dict[str, Any]:
        return {name: name for name in COLUMNS} | self.names

    def read(self) -> Own:
        file, columns = found(self.path), self.columns
        if isinstance(file, dict):
            tables = {name: table(path, columns, self.reader) for name, path in file.items()}
            if "edges" in tables:
                return self._graph(tables["edges"], tables.get("nodes"), self.directed)
            frames = [frame.assign(split=PARTS[part]) for part, frame in tables.items()]
            places = [f"{frame.index.name} {line}" for frame in frames for line in frame.index]
            return self._triples(pd.concat(frames).set_axis(pd.Index(places, name=""), axis=0))
        if file.suffix in ARRAYS:
            return self._arrays(file)
        if file.suffix in NETWORKS:
            edges, nodes, directed = network(file, columns, self.reader)
            return self._graph(edges, nodes, directed if self.directed is None else self.directed)
        frame = table(file, columns, self.reader)
        if columns["smiles"] in frame:
            return self._molecules(frame)
        if missing := [columns[name] for name in TRIPLE if columns[name] not in frame]:
            raise ValueError(
                f"{file} has columns {', '.join(frame)}; molecules need {columns['smiles']!r}, triples also "
                f"need {', '.join(missing)}, and a graph comes as edges.csv and nodes.csv: name the columns to use"
            )
        return self._triples(frame)

    def _graph(self, edges: pd.DataFrame, nodes: pd.DataFrame | None, directed: bool | None) -> Own:
        columns, reader = self.columns, self.reader
        read = read_tables(edges, nodes, columns, self.split, self.regression, directed, reader)
        if read is None:
            raise ValueError("\n  - ".join([f"{self.path} cannot be used:", *reader.problems.values()]))
        names, labels = (), read.labels
        if labels is not None and labels.values.dim() == 1:
            names = labels.names or tuple(range(int(labels.values.max()) + 1))
            read.data.y = np.array([*names, UNLABELLED], dtype=object)[labels.values.numpy()]
        elif labels is not None:
            read.data.y = labels.values
        space = self.space or replace(self._fitted(read), class_names=names, outputs=len(names))
        task = from_data(
            read.data,
            name=self.path.stem,
            splits=None if read.split is None else {read.split.name: read.split},
            seed=self.seed,
            regression=labels is not None and labels.regression,
            space=space,
        )
        return self._said(task, read.ids, space)

    def _fitted(self, read: Tables) -> FeatureSpace:
        """The space of raw features: numbers that are mostly nonzero are standardised."""
        x = read.data.x
        numbers = x.select_dtypes(["number", "bool"])
        dense = len(numbers.columns) > 0 and bool((numbers != 0).mean(axis=None) >= DENSE)
        if len(numbers.columns):
            how = "standardised" if dense else "left as given, since most are zero"
            self.reader.notes.append(f"{len(numbers.columns)} columns of numbers, {how}")
        width = self.width or (WIDTH if len(numbers.columns) < len(x.columns) else None)
        return FeatureSpace.fit(x, width, encoder=self.encoder, standardise=dense)

    def _arrays(self, path: Path) -> Own:
        data, about = read_arrays(path, self.reader)
        several = isinstance(data, list) or "batch" in data
        kind = "graph" if several else "link" if "edge_label_index" in data else "node"
        space, missing = self.space, not several and kind == "node" and data.get("y") is None
        task = from_data(
            data,
            name=self.path.stem,
            kind=self.kind or about.get("kind", kind),
            split="stratified" if self.split == "random" else None,
            seed=self.seed,
            description=about.get("description", ""),
            regression=bool(about.get("regression", self.regression)),
            space=FeatureSpace.fit(data.x) if space is None and missing else space,
        )
        if self.split == "time":
            moment = task.graph.about.get(self.columns["time"])
            moments = pd.DataFrame({} if moment is None else {self.columns["time"]: np.asarray(moment).reshape(-1)})
            drawn = column_split(moments, "time", self.columns["time"], task.labelled(), self.reader)
            if drawn is None:
                raise ValueError(f"{path} cannot be used: {self.reader.problems['split']}")
            task = replace(task, splits={drawn.name: drawn})
        elif self.split not in (None, "random"):
            task = replace(task, splits={self.split: task.split(self.split)})
        if names := about.get("class_names"):
            task = replace(task, class_names=tuple(names))
        instances = about.get("names") or task.graph.about.get("names") or range(task.instances)
        return self._said(task, [str(one) for one in instances], space)

    def _triples(self, frame: pd.DataFrame) -> Own:
        titles = {name: self.columns[name] for name in TRIPLE}
        beside, texts = (self.path if self.path.is_dir() else self.path.parent) / "texts.tsv", None
        if beside.is_file():
            pairs = pd.read_csv(beside, sep="\t", header=None, dtype=str, quoting=3, keep_default_na=False)
            texts = dict(zip(pairs[0], pairs[1], strict=True))
            self.reader.notes.append(f"texts of {len(texts)} names read from {beside.name}")
        task = from_triples(frame, **titles, texts=texts, **self._shared())
        entity = task.graph.about["entity"]
        return self._said(task, [f"{entity[head]} -> {entity[tail]}" for head, tail in task.pairs.tolist()])

    def _molecules(self, frame: pd.DataFrame) -> Own:
        target, smiles = self.columns["label"], self.columns["smiles"]
        others = [one for one in frame if one not in (smiles, self.columns["id"], self.columns["time"], "split")]
        if target == "label" and target not in frame and len(others) == 1:
            (target,) = others
            self.reader.notes.append(f"the target is column {target!r}")
        task = from_smiles(frame, target=target, smiles=smiles, regression=self.regression, **self._shared())
        named = frame[self.columns["id"] if self.columns["id"] in frame else smiles]
        return self._said(task, named.loc[task.graph.about["row"]].astype(str).tolist())

    def _shared(self) -> dict[str, Any]:
        """What `from_triples` and `from_smiles` both take."""
        table = {"name": self.path.stem, "split": self.split, "time": self.columns["time"], "seed": self.seed}
        return table | {"encoder": self.encoder, "width": self.width or WIDTH, "space": self.space}

    def _said(self, task: Task, names: list[str], space: FeatureSpace | None = None) -> Own:
        """All notes on a task: counts, the largest class, what was done, what its own checks say."""
        graph, labels = task.graph, task.labels
        source, target = plain(graph.edge_index)
        asked = "" if task.kind == "node" else f"; {task.instances} {task.kind}s"
        notes = [f"{graph.num_nodes} nodes, {len(source)} edges (each direction counts){asked}"]
        if labels.dim() == 1 and (labels != UNLABELLED).any():
            count = labels[labels != UNLABELLED].bincount()
            most = int(count.argmax())
            name = task.class_names[most] if task.class_names else most
            share = f"{int(count[most]) / int(count.sum()):.1%}"
            notes.append(f"{len(count)} classes; always answering {name!r} is right {share} of the time")
        if loose := task.instances - len(task.labelled()):
            notes.append(f"{loose} of {task.instances} {task.kind}s have no label: answered, not learnt or scored")
        back = torch.isin(target * graph.num_nodes + source, source * graph.num_nodes + target)
        if not back.all():
            share = (~back).double().mean().item()
            notes.append(f"{share:.1%} of the edges are one-way: messages run only from source to target")
        return Own(task, names, [*notes, *self.reader.notes, *task.notes], space or self.space or FeatureSpace.of(task))
