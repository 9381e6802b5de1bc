"""Triples (head, relation, tail): classify the relation of a pair of entities.

The reference's message graph contains every triple, so that the answer to a test question lies on the edge
that messages run along. Here messages run along the training triples (`message_edges="train"`) unless the
reference's form is asked for (`"all"`). In both forms each triple is two edges, the second one inverse and of a
relation type of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torch_geometric import datasets
from torch_geometric.data import Data, InMemoryDataset, download_url

from stemlib.data.checks import checked
from stemlib.data.features import FORMAT, encode_texts
from stemlib.data.raw_files import RawFiles, open_dataset, require
from stemlib.data.registry import Benchmark
from stemlib.data.tasks import PARTS, Split, Task
from stemlib.files import digest
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
class KnowledgeGraph(Benchmark):
    """A knowledge graph that a PyG class reads, with texts for its entities and relations.

    Attributes:
        dataset: the class.
        arguments: of the class, after `root`.
        texts: folder of the texts, relative to the data folder.
        descriptions: a file there, in Wikidata's words, which describes most entities beyond their names; used
            where it is.
    """

    dataset: type[InMemoryDataset]
    arguments: tuple[str, ...] = ()
    texts: str
    descriptions: str | None = None

    def raw(self) -> tuple[Triples, RawFiles]:
        """The triples as the class reads them."""
        graph, files = open_dataset(self.dataset, *self.arguments, folder=self.folder, source=self.source)
        reader = _wordnet_triples if self.dataset is datasets.WordNet18RR else _freebase_triples
        return reader(graph, files), files

    def load(self, width: int | None, encoder: str, message_edges: str) -> Task:
        triples, files = self.raw()
        entity_text, relation_text, text_files, notes = self._read_texts()
        unnamed = [name for name in triples.entities if name not in entity_text]
        unnamed += [name for name in triples.relations if name not in relation_text]
        if unnamed:
            raise ValueError(
                f"{self.texts} has no text for {len(unnamed)} identifiers: {', '.join(unnamed[:5])}, ..."
            )
        words = [entity_text[name] for name in triples.entities]
        forward = [relation_text[name] for name in triples.relations]
        # One call, for entities and relations to share a space. The second half is the inverse relations.
        vectors = encode_texts(
            words + forward + [f"inverse of {text}" for text in forward], width, encoder, self.name
        )
        graph = message_graph(triples, message_edges)
        graph.x, graph.edge_attr = vectors[: len(words)], vectors[len(words) :]
        graph.node_text, graph.relation_text = words, forward
        return checked(
            Task(
                name=self.name,
                kind="link",
                graph=graph,
                labels=triples.relation,
                splits={"given": triples.split},
                pairs=triples.pairs,
                description=f"{self.description} Messages run along {message_edges} triples and their inverses. "
                f"Features: texts of entities and relations, encoded by {encoder}. Source: {self.source}",
                checksum=digest([files.checksum, text_files.checksum, width, encoder, message_edges, FORMAT]),
                notes=files.notes + text_files.notes + notes + _ambiguity(triples),
            )
        )

    def _read_texts(self) -> tuple[dict[str, str], dict[str, str], RawFiles, tuple[str, ...]]:
        """Texts of entities and relations by identifier, their files, and what is missing."""
        wanted = [_packed_or_plain(f"{self.texts}/{part}2text.txt") for part in ("entity", "relation")]
        url = f"{TEXTS}/{Path(self.texts).name}"
        described = f"{self.texts}/{self.descriptions}"
        optional = [described] if self.descriptions and (data_folder() / described).is_file() else []

        def fetch(folder: Path) -> None:
            for name in wanted:
                download_url(f"{url}/{Path(name).name}", str((folder / name).parent), log=False)

        files = require(wanted + optional, url, fetch)
        entity, relation = (_two_columns(files.paths[name]) for name in wanted)
        if optional:
            about = pd.read_json(files.paths[described], orient="index")["description"].dropna()
            entity |= {
                name: f"{entity[name]}, {text}" for name, text in about.items() if name in entity and text
            }
        absent = f"{described} is not there: entities are known by their names only"
        return entity, relation, files, (absent,) if self.descriptions and not optional else ()


def message_graph(triples: Triples, message_edges: str) -> Data:
    """The edges that messages run along, without features.

    Args:
        triples: the knowledge graph.
        message_edges: `train` for the training triples, `all` for every triple (the reference's form).

    Returns:
        `edge_index` `[2, 2 T]` and `edge_type` `[2 T]`: `T` triples head -> tail of type `r`, then their
        inverses tail -> head of type `R + r`. With `train`, `edge_pair` `[2 T]` says which triple each edge is, so
        that a training step can leave its own triples out: those of validation and test are not there either.
    """
    count = triples.sizes[0] if message_edges == "train" else len(triples.relation)
    head, tail = triples.pairs[:count].T
    relation = triples.relation[:count]
    graph = Data(
        edge_index=torch.stack([torch.cat([head, tail]), torch.cat([tail, head])]),
        edge_type=torch.cat([relation, relation + len(triples.relations)]),
        num_nodes=len(triples.entities),
    )
    if message_edges == "train":
        graph.edge_pair = torch.arange(count).repeat(2)
    return graph


def _ambiguity(triples: Triples) -> tuple[str, ...]:
    """A note of how many test pairs carry several relations: one label is asked, so they bound the accuracy."""
    key = triples.pairs[:, 0] * len(triples.entities) + triples.pairs[:, 1]
    _, pair, count = key.unique(return_inverse=True, return_counts=True)
    share = (count[pair[triples.split.test]] > 1).double().mean().item()
    return (f"{share:.1%} of the test pairs have further relations; only the asked one counts as right",)


def _wordnet_triples(graph: Data, files: RawFiles) -> Triples:
    """The class keeps no identifiers: it numbers entities by first appearance, file by file, heads then tails."""
    seen = []
    for part in ("train.txt", "valid.txt", "test.txt"):
        path = next(path for name, path in files.paths.items() if name.endswith(part))
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
    identifiers = {}
    for kind in ("entities", "relations"):
        path = next(path for name, path in files.paths.items() if name.endswith(f"{kind}.dict"))
        frame = pd.read_csv(path, sep="\t", header=None, names=["index", "name"], keep_default_na=False)
        identifiers[kind] = list(frame.sort_values("index")["name"])
    return Triples(
        pairs=torch.cat([graph[f"{part}_edge_index"] for part in parts], dim=1).T.contiguous(),
        relation=torch.cat([graph[f"{part}_edge_type"] for part in parts]),
        sizes=tuple(graph[f"{part}_edge_type"].numel() for part in parts),
        **identifiers,
    )


def _packed_or_plain(name: str) -> str:
    return f"{name}.gz" if (data_folder() / f"{name}.gz").is_file() else name


def _two_columns(path: Path) -> dict[str, str]:
    frame = pd.read_csv(path, sep="\t", header=None, dtype=str, quoting=3, keep_default_na=False)
    return dict(zip(frame[0], frame[1], strict=True))


KNOWLEDGE_GRAPHS = [
    KnowledgeGraph(
        name="wn18rr",
        kind="link",
        source="https://github.com/villmow/datasets_knowledge_embedding (WN18RR/original); texts: "
        "https://github.com/yao8839836/kg-bert (data/WN18RR)",
        licence="MIT; texts Apache-2.0",
        description="A node is a set of synonyms in WordNet, an edge a lexical relation, the label the relation "
        "of a pair.",
        folder="WordNet18RR/raw",
        statistics={"entities": 40943, "relations": 11, "train": 86835, "val": 3034, "test": 3134},
        dataset=datasets.WordNet18RR,
        texts="other/kg_text/WN18RR",
    ),
    KnowledgeGraph(
        name="fb15k237",
        kind="link",
        source="https://github.com/MichSchli/RelationPrediction (data/FB-Toutanova); texts: "
        "https://github.com/yao8839836/kg-bert (data/FB15k-237), https://github.com/LechengKong/OneForAll",
        licence="MIT; texts Apache-2.0, MIT",
        description="A node is an entity of Freebase, an edge a fact, the label the relation of a pair.",
        folder="RelLinkPredDataset/FB15k-237/raw",
        statistics={"entities": 14541, "relations": 237, "train": 272115, "val": 17535, "test": 20466},
        dataset=datasets.RelLinkPredDataset,
        arguments=("FB15k-237",),
        texts="other/kg_text/FB15k-237",
        descriptions="entity2wikidata.json.gz",
    ),
]
