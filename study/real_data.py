"""What networks are trained and tested on where a shift is real: universities, countries, years, scaffolds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import networkx as nx
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch_geometric import datasets
from torch_geometric.data import Data
from torch_geometric.utils import to_networkx, to_undirected

from stemlib.data.checks import checked
from stemlib.data.feature_space import FeatureSpace
from stemlib.data.features import TFIDF
from stemlib.data.graph import Graph
from stemlib.data.molecules import MOLECULE, featured
from stemlib.data.own_data import from_data
from stemlib.data.pages import links_between
from stemlib.data.public import DATA_SETS, load
from stemlib.data.raw_files import open_dataset, require
from stemlib.data.smiles import atom_text, bond_text, molecules, scaffold_split
from stemlib.data.splits import stratified_split
from stemlib.data.tasks import PARTS, Task
from stemlib.stress.domains import disjoint_union, through_time

UNIVERSITIES = ("cornell", "texas", "washington", "wisconsin")
COUNTRIES = ("brazil", "europe", "usa")
AIRPORTS = "https://github.com/leoribeiro/struc2vec (graph/, labels)"
YEARS = "https://github.com/nelsonaloysio/pubmed-temporal (node_time.npy)"
FIRST_YEAR = 1965  # to which PubMed's numbers are added
WORDS = 32  # coordinates of a page's text: of 256, fitted on 650 pages, most tell apart only these pages
Molecule = tuple[Sequence[str], Tensor]


class Shift(NamedTuple):
    """What to train on, and what to test on, by name."""

    source: Task
    targets: dict[str, Task]


def webkb() -> Iterator[Shift]:
    """From three universities to the fourth, all four ways: pages, links, and whose page it is."""
    cornell = DATA_SETS["cornell"]
    pages = {name: replace(cornell, name=name, file=f"webkb_{name}.csv.gz").raw()[0] for name in UNIVERSITIES}
    for target in UNIVERSITIES:
        yield of_universities(pages, target)


def of_universities(pages: Mapping[str, pd.DataFrame], target: str) -> Shift:
    """All universities but one as source.

    Args:
        pages: tables with `category`, `links` and `text`, by university.
        target: the one that is tested on.
    """
    learnt = {name: table for name, table in pages.items() if name != target}
    every = pd.concat(learnt.values())
    classes = tuple(sorted(every.category.unique()))
    space = replace(FeatureSpace.fit(every.text.tolist(), WORDS), class_names=classes, outputs=len(classes))
    tasks = {}
    for name, table in pages.items():
        graph = Data(x=table.text.tolist(), edge_index=links_between(table), y=table.category.tolist())
        tasks[name] = from_data(graph, name=name, space=space, splits={})
    source = disjoint_union([tasks[name] for name in learnt], f"webkb-without-{target}")
    return Shift(source, {target: tasks[target]})


def airports() -> Iterator[Shift]:
    """From one country to the two others, all three ways: airports, flights between them, traffic in quarters."""
    graphs = {
        name: open_dataset(datasets.Airports, name, folder="other/airports", source=AIRPORTS)[0] for name in COUNTRIES
    }
    for source in COUNTRIES:
        yield of_countries(graphs, source)


def of_countries(graphs: Mapping[str, Data], source: str) -> Shift:
    """One graph as source, the others as targets, with `structure` for features.

    Args:
        graphs: with `edge_index` and `y`, by name.
        source: the one that is learnt on.
    """
    space = FeatureSpace.fit(structure(graphs[source]), standardise=True, labels=graphs[source].y)
    tasks = {}
    for name, graph in graphs.items():
        edges = to_undirected(graph.edge_index, num_nodes=graph.num_nodes)
        mine = Data(x=structure(graph), edge_index=edges, y=graph.y)
        tasks[name] = from_data(mine, name=f"airports-{name}", space=space, splits={})
    return Shift(tasks.pop(source), tasks)


def structure(graph: Data) -> pd.DataFrame:
    """What a graph without features says about its nodes: four measures, and each one's rank among the graph's nodes.

    Degree, core number and PageRank (in units of the mean) as `log(1 + value)`; clustering as it is. Ranks lie in 0..1.
    """
    whole = to_networkx(graph, to_undirected=True, remove_self_loops=True)
    measures = {
        "degree": dict(whole.degree()),
        "core": nx.core_number(whole),
        "pagerank": {node: share * len(whole) for node, share in nx.pagerank(whole).items()},
    }
    frame = np.log1p(pd.DataFrame(measures)).assign(clustering=pd.Series(nx.clustering(whole)))
    return frame.join(frame.rank(pct=True).add_prefix("rank of "))


def pubmed() -> Iterator[Shift]:
    """Papers until 2000, then those of 2001 to 2004, then later ones; the graph grows with them."""
    (path,) = require(["other/pubmed_temporal/node_time.npy"], YEARS).paths.values()
    years = torch.from_numpy(np.load(path, allow_pickle=False)) + FIRST_YEAR
    yield Shift(*through_time(load("pubmed", width=None), years, (2000, 2004)))


def arxiv(name: str) -> Iterator[Shift]:
    """Papers until 2017, then those of 2018, then later ones, as in OGB's split; the graph grows with them."""
    task = load(name, width=None)
    yield Shift(*through_time(task, task.graph.about["year"].flatten(), (2017, 2018)))


def scaffolds(name: str) -> Iterator[Shift]:
    """Molecules of frequent scaffolds, then those of rarer ones, which validate and test in the usual split, OGB's."""
    smiles, labels, _ = DATA_SETS[name].raw()
    parsed = molecules(smiles, name)
    split = scaffold_split(parsed.scaffold)
    rows = {part: parsed.rows[getattr(split, part)] for part in PARTS}
    tables = {part: ([smiles[row] for row in index.tolist()], labels[index]) for part, index in rows.items()}
    yield of_molecules(name, tables.pop("train"), tables, DATA_SETS[name].regression)


def of_molecules(
    name: str, learnt: Molecule, met: Mapping[str, Molecule], regression: bool = False, width: int = 128
) -> Shift:
    """Molecules as source, split 50/25/25, and others as targets, with atoms and bonds in the source's words.

    Args:
        name: of the data set.
        learnt: strings, and labels `[M, T]`.
        met: the same, by name.
        regression: whether labels are numbers to predict.
        width: of the features.
    """
    parsed = molecules(learnt[0], f"{name}-source")
    graph = featured(parsed, learnt[0], width, TFIDF, f"{name}-source")
    source = _molecule_task(f"{name}-frequent", graph, learnt[1][parsed.rows], regression)
    space, strata = FeatureSpace.of(source), source.strata.clone()
    if strata.size(1) > 1:
        strata = torch.zeros(len(strata))
    source = source.with_split(stratified_split(source.labelled(), strata.nan_to_num(), 0))
    targets = {}
    for part, (strings, labels) in met.items():
        parsed = molecules(strings, f"{name}-{part}")
        atoms, bonds = map(atom_text, parsed.atoms.tolist()), map(bond_text, parsed.bonds.tolist())
        source_of = space.source(list(atoms))
        graph = replace(
            parsed.graph,
            x=source_of.encode(source_of.raw),
            edge_attr=space.encode(list(bonds)),
            source=source_of.of(parsed.graph.node_type),
        )
        targets[f"scaffolds of {part}"] = _molecule_task(f"{name}-{part}", graph, labels[parsed.rows], regression)
    return Shift(source, targets)


def _molecule_task(name: str, graph: Graph, labels: Tensor, regression: bool) -> Task:
    task = checked(Task(name, "graph", graph, labels, {}, description=MOLECULE, regression=regression))
    return replace(task, checksum=task.content)
