"""Node classification: one graph, classes (or binary labels) of its nodes, published or drawn splits.

All but ogbn-arxiv (`stemlib.data.arxiv`) are read by PyTorch Geometric's own classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional as F
from torch_geometric import datasets
from torch_geometric.data import Data, InMemoryDataset

from stemlib.data.features import FORMAT, TFIDF, Features, reduced
from stemlib.data.graph import Graph
from stemlib.data.raw_files import RawFiles, open_dataset, require
from stemlib.data.registry import DataSet
from stemlib.data.splits import per_class_split
from stemlib.data.tasks import PARTS, Kind, Split, Task
from stemlib.data.texts import encode_some, read_texts

DRAWS = 10


def mask_splits(graph: Data, name: str = "fixed") -> dict[str, Split]:
    """Splits from the masks `train_mask`, `val_mask`, `test_mask` of a graph, each `[N]` or `[N, S]`.

    Args:
        graph: has the masks; one that is `[N]` holds for all `S` splits.
        name: of a single split; of several, followed by `-0`, `-1`, ...
    """
    masks = [graph[f"{part}_mask"] for part in PARTS]
    table = torch.stack(torch.broadcast_tensors(*(mask.view(mask.size(0), -1) for mask in masks)))  # [3, N, S]
    single = all(mask.dim() == 1 for mask in masks)
    names = [name] if single else [f"{name}-{i}" for i in range(table.size(2))]
    return {
        name: Split(name, *(mask.nonzero().flatten() for mask in masks))
        for name, masks in zip(names, table.permute(2, 0, 1), strict=True)
    }


def drawn_splits(graph: Data) -> dict[str, Split]:
    """`draw-0` to `draw-9`: 20 of every class to train, 500 to validate, the rest to test."""
    draws = [per_class_split(graph.y, seed) for seed in range(DRAWS)]
    return {split.name: split for split in draws}


def planetoid_splits(graph: Data) -> dict[str, Split]:
    """`public` (Planetoid's), `public-rest` (the same, tested on all the rest) and `draw-0` to `draw-9`."""
    public = mask_splits(graph, "public")["public"]
    rest = ~(graph.train_mask | graph.val_mask)
    others = {"public-rest": Split("public-rest", public.train, public.val, rest.nonzero().flatten())}
    return {"public": public} | others | drawn_splits(graph)


SPLITS = {"masks": mask_splits, "drawn": drawn_splits, "planetoid": planetoid_splits}


class FilteredWikipedia(datasets.HeterophilousGraphDataset):
    """Chameleon and Squirrel without their duplicated nodes, from the same source in the same format."""

    def __init__(self, root: str, name: str) -> None:
        self.name = f"{name}_filtered"
        InMemoryDataset.__init__(self, root)
        self.load(self.processed_paths[0])


CLASSES = vars(datasets) | {"FilteredWikipedia": FilteredWikipedia}


@dataclass(frozen=True, kw_only=True)
class NodeDataSet(DataSet):
    """A graph with labelled nodes that a PyG class reads.

    Attributes:
        dataset: the class's name, a key of `CLASSES`.
        arguments: of the class, after `root`.
        words: whether features are counts or weights of words, whose rows are scaled to length 1 like vectors of texts.
            (The reference divides them by their sums.)
        binary: whether the two classes are scored as one binary label, by ROC-AUC, as published.
        split_by: what makes the splits from the graph, a key of `SPLITS`.
        texts: file of the nodes' texts, relative to the data folder, where there is one: features for any encoder but
            TF-IDF, for which the published words are used.
        text_source: where it is published.
    """

    kind: Kind = "node"
    dataset: str
    arguments: Sequence[str | bool | None] = ()
    words: bool = True
    binary: bool = False
    split_by: str = "masks"
    texts: str = ""
    text_source: str = ""

    def raw(self) -> tuple[Data, RawFiles]:
        """The graph as the class gives it, with its native features `x` `[N, F]`."""
        return open_dataset(CLASSES[self.dataset], *self.arguments, folder=self.folder, source=self.source)

    def splits(self, graph: Data) -> dict[str, Split]:
        """By name; the first is the protocol's."""
        return SPLITS[self.split_by](graph)

    def load(self, width: int | None, encoder: str, message_edges: str) -> Task:
        """See `DataSet.load`.

        Raises:
            ValueError: a sentence encoder for nodes without texts.
        """
        if encoder != TFIDF and not self.texts:
            raise ValueError(f"{self.name} has no texts for encoder={encoder!r} to read; omit `encoder`")
        graph, files = self.raw()
        features = self._words if encoder == TFIDF else self._texts
        (x, source), how, made_of, notes = features(graph, width, encoder)
        return self._task(
            replace(Graph.of(Data(x=x, edge_index=graph.edge_index, y=graph.y)), source=source),
            graph.y.float().unsqueeze(1) if self.binary else graph.y,
            self.splits(graph),
            f"{self.description} Features: {how}.",
            [files.checksum, *made_of],
            notes=files.notes + notes,
        )

    def _words(self, graph: Data, width: int | None, encoder: str) -> tuple[Features, str, list[Any], tuple[str, ...]]:
        """The published features, how they were made, all that determines them, and notes."""
        native = graph.x.size(1)
        how = "rows of length 1" if self.words else "as given"
        if width is not None and width < native:
            how += f", truncated SVD of all nodes' rows to {width}"
        found = reduced(F.normalize(graph.x) if self.words else graph.x.float(), width, self.name)
        return found, f"{native} columns, {how}", [width, FORMAT, how], ()

    def _texts(self, graph: Data, width: int | None, encoder: str) -> tuple[Features, str, list[Any], tuple[str, ...]]:
        """The same for the nodes' texts."""
        files = require([self.texts], self.text_source)
        texts = read_texts(files.paths[self.texts], graph.num_nodes)
        found = Features(encode_some(texts, width, encoder, f"{self.name}-text"))
        notes, blank = files.notes, texts.count("")
        if blank:
            notes += (f"{blank} of {len(texts)} nodes have no text: their features are zeros",)
        how = f"the node's text ({self.text_source}), encoded by {encoder}"
        return found, how, [files.checksum, width, encoder, FORMAT], notes
