"""Triples (head, relation, tail): classify the relation of a pair of entities.

The reference's message graph contains every triple, so that the answer to a test question lies on the edge
that messages run along. Here messages run along the training triples (`message_edges="train"`) unless the
reference's form is asked for (`"all"`). In both forms each triple is two edges, the second one inverse, with a
relation type of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torch_geometric import datasets
from torch_geometric.data import Data, download_url

from stemlib.data.features import FORMAT, encode_texts
from stemlib.data.graph import Graph
from stemlib.data.raw_files import RawFiles, open_dataset, require
from stemlib.data.registry import DataSet
from stemlib.data.tasks import PARTS, Kind, Split, Task
from stemlib.paths import data_folder

TEXTS = "https://raw.githubusercontent.com/yao8839836/kg-bert/master/data"


@dataclass(frozen=True)
class Triples:
    """A knowledge graph as read.

    Attributes:
        pairs: (head, tail) of the training, validation and test triples, in this order, `[M, 2]`.
        relation: `[M]`.
        sizes: number of triples of each part.
        entities: identifiers, `N` of them.
        relations: identifiers, `R` of them.
    """

    pairs: Tensor
    relation: Tensor
    sizes: tuple[int, int, int]
    entities: list[str]
    relations: list[str]

    @property
    def split(self) -> Split:
        """The published split, named `given`."""
        return Split("given", *torch.arange(len(self.relation)).split(self.sizes))


@dataclass(frozen=True, kw_only=True)
class KnowledgeGraph(DataSet):
    """A knowledge graph that a PyG class reads, with texts for its entities and relations.

    Attributes:
        dataset: the class's name, a key of `READERS`.
        arguments: of the class, after `root`.
        texts: folder of the texts, relative to the data folder.
        descriptions: a file in that folder that describes most entities beyond their names, in Wikidata's words;
            used if it is there.
    """

    kind: Kind = "link"
    dataset: str
    arguments: Sequence[str] = ()
    texts: str
    descriptions: str | None = None

    def raw(self) -> tuple[Triples, RawFiles]:
        """The triples as the class reads them."""
        dataset = getattr(datasets, self.dataset)
        graph, files = open_dataset(dataset, *self.arguments, folder=self.folder, source=self.source)
        return READERS[self.dataset](graph, files), files

    def load(self, width: int | None, encoder: str, message_edges: str) -> Task:
        """See `DataSet.load`."""
        triples, files = self.raw()
        texts, text_files, notes = self._read_texts()
        identifiers = triples.entities + triples.relations
        if unnamed := [name for name in identifiers if name not in texts]:
            raise ValueError(f"{self.texts} has no text for {len(unnamed)} identifiers: {', '.join(unnamed[:5])}, ...")
        words, forward = ([texts[name] for name in names] for names in (triples.entities, triples.relations))
        # One call, so that entities and relations share a space. The second half is the inverse relations.
        inverse = [f"inverse of {text}" for text in forward]
        vectors, source = encode_texts(words + forward + inverse, width, encoder, self.name)
        features = {"x": vectors[: len(words)], "edge_attr": vectors[len(words) :], "source": source}
        about = {"node_text": words, "relation_text": forward}
        return self._task(
            replace(message_graph(triples, message_edges), **features, about=about),
            triples.relation,
            {"given": triples.split},
            f"{self.description} Messages run along {message_edges} triples and their inverses. Features: texts of "
            f"entities and relations, encoded by {encoder}.",
            [files.checksum, text_files.checksum, width, encoder, message_edges, FORMAT],
            pairs=triples.pairs,
            notes=files.notes + text_files.notes + notes + _ambiguity(triples),
        )

    def _read_texts(self) -> tuple[dict[str, str], RawFiles, tuple[str, ...]]:
        """Texts of entities and relations by identifier, their files, and what is missing."""
        plain = [f"{self.texts}/{part}2text.txt" for part in ("entity", "relation")]
        wanted = [f"{name}.gz" if (data_folder() / f"{name}.gz").is_file() else name for name in plain]
        url = f"{TEXTS}/{Path(self.texts).name}"
        described = f"{self.texts}/{self.descriptions}"
        optional = [described] if self.descriptions and (data_folder() / described).is_file() else []

        def fetch(folder: Path) -> None:
            for name in wanted:
                download_url(f"{url}/{Path(name).name}", str((folder / name).parent), log=False)

        files = require(wanted + optional, url, fetch)
        texts = {}
        for name in wanted:
            frame = pd.read_csv(files.paths[name], sep="\t", header=None, dtype=str, quoting=3, keep_default_na=False)
            texts |= dict(zip(frame[0], frame[1], strict=True))
        if optional:
            about = pd.read_json(files.paths[described], orient="index")["description"].dropna()
            texts |= {name: f"{texts[name]}, {text}" for name, text in about.items() if name in texts and text}
        absent = f"{described} is missing: entities are known by their names only"
        return texts, files, (absent,) if self.descriptions and not optional else ()


def message_graph(triples: Triples, message_edges: str) -> Graph:
    """The edges that messages run along, without features.

    Args:
        triples: the knowledge graph.
        message_edges: `train` for the training triples, `all` for every triple (the reference's form).

    Returns:
        `edge_index` `[2, 2 T]` and `edge_type` `[2 T]`: `T` triples head -> tail of type `r`, then their
        inverses tail -> head of type `R + r`. With `train`, `edge_pair` `[2 T]` says which triple each edge is, so
        that a training step can leave its own triples out, as those of validation and test are.
    """
    count = triples.sizes[0] if message_edges == "train" else len(triples.relation)
    edges, relation = triples.pairs[:count].T, triples.relation[:count]
    return Graph(
        edge_index=torch.cat([edges, edges.flip(0)], dim=1),
        edge_type=torch.cat([relation, relation + len(triples.relations)]),
        edge_pair=torch.arange(count).repeat(2) if message_edges == "train" else None,
        num_nodes=len(triples.entities),
    )


def _ambiguity(triples: Triples) -> tuple[str, ...]:
    """A note on how many test pairs have several relations: only one is asked for, so they bound the accuracy."""
    repeated = pd.DataFrame(triples.pairs.numpy()).duplicated(keep=False)
    share = repeated[triples.split.test.numpy()].mean()
    return (f"{share:.1%} of the test pairs have several relations; only the one asked for counts",)


def _wordnet_triples(graph: Data, files: RawFiles) -> Triples:
    """The class keeps no identifiers: it numbers entities by first appearance, file by file, heads then tails."""
    seen = []
    for path in files.paths.values():
        frame = pd.read_csv(path, sep="\t", header=None, dtype=str)
        seen += [frame[0], frame[2]]
    order = [graph[f"{part}_mask"].nonzero().flatten() for part in PARTS]
    index = torch.cat(order)
    return Triples(
        pairs=graph.edge_index[:, index].T.contiguous(),
        relation=graph.edge_type[index],
        sizes=tuple(part.numel() for part in order),
        entities=list(pd.concat(seen).unique()),
        relations=sorted(datasets.WordNet18RR.edge2id, key=datasets.WordNet18RR.edge2id.get),
    )


def _freebase_triples(graph: Data, files: RawFiles) -> Triples:
    parts = ("train", "valid", "test")
    paths = [path for path in files.paths.values() if path.suffix == ".dict"]
    frames = [pd.read_csv(path, sep="\t", header=None, keep_default_na=False) for path in paths]
    entities, relations = (list(frame.sort_values(0)[1]) for frame in frames)
    return Triples(
        pairs=torch.cat([graph[f"{part}_edge_index"] for part in parts], dim=1).T.contiguous(),
        relation=torch.cat([graph[f"{part}_edge_type"] for part in parts]),
        sizes=tuple(graph[f"{part}_edge_type"].numel() for part in parts),
        entities=entities,
        relations=relations,
    )


READERS = {"WordNet18RR": _wordnet_triples, "RelLinkPredDataset": _freebase_triples}
