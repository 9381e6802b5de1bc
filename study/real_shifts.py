"""Real shifts: learnt in one place or until one year, met in another.

    python -m study.real_shifts webkb airports --methods mlp gcn mixture --seeds 3

Every method has the same candidates of settings and trainings; the source's validation alone chooses, on the first
seed. What a target is made of is seen by no training, see `stemlib.stress.domains`; features are fitted on the source.
`data/results/17_real-<name>.csv` is kept. docs/real_shifts.md says what the data are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
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
from stemlib.presets import PRESETS, Preset
from stemlib.stress.domains import disjoint_union, through_time
from stemlib.stress.shifts import Buckets
from study.computing import add_device
from study.interrupt import interruptible
from study.methods import METHODS, Method, named
from study.protocols import FAST, LARGE, MEDIUM, MOLECULES, NO_PENALTY, SMALL_MOLECULES, Protocol
from study.records import KEPT, save_results
from study.stress import StressTest

EXPERIMENT = "real_shifts"
COMPARED = ("mlp", "gcn", "sage", "gat", "acm", "ensemble", "averaged", "mixture", "routed", "filters", "stem")
UNIVERSITIES = ("cornell", "texas", "washington", "wisconsin")
COUNTRIES = ("brazil", "europe", "usa")
AIRPORTS = "https://github.com/leoribeiro/struc2vec (graph/, labels)"
YEARS = "https://github.com/nelsonaloysio/pubmed-temporal (node_time.npy)"
FIRST_YEAR = 1965  # to which PubMed's numbers are added
WORDS = 256  # coordinates of a page's text


Molecule = tuple[Sequence[str], Tensor]


class Shift(NamedTuple):
    """What is learnt, and what is met, by name."""

    source: Task
    targets: dict[str, Task]


def webkb(preset: Preset) -> Iterator[Shift]:
    """Three universities to the fourth, all four ways: pages, links, and whose page it is."""
    cornell = DATA_SETS["cornell"]
    pages = {name: replace(cornell, name=name, file=f"webkb_{name}.csv.gz").raw()[0] for name in UNIVERSITIES}
    for target in UNIVERSITIES:
        yield of_universities(pages, target)


def of_universities(pages: Mapping[str, pd.DataFrame], target: str) -> Shift:
    """All universities but one as source.

    Args:
        pages: tables with `category`, `links` and `text`, by university.
        target: the one that is met.
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


def airports(preset: Preset) -> Iterator[Shift]:
    """One country to the two others, all three ways: airports, flights between them, and quarters of their traffic."""
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
    """What a graph without features says of its nodes: four measures, and each one's rank among the graph's nodes.

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


def pubmed(preset: Preset) -> Iterator[Shift]:
    """Papers until 2000, then those of 2001 to 2004, then later ones; the graph grows with them."""
    (path,) = require(["other/pubmed_temporal/node_time.npy"], YEARS).paths.values()
    years = torch.from_numpy(np.load(path, allow_pickle=False)) + FIRST_YEAR
    yield Shift(*through_time(load("pubmed", width=None), years, (2000, 2004)))


def arxiv(preset: Preset, name: str) -> Iterator[Shift]:
    """Papers until 2017, then those of 2018, then later ones, as in OGB's split; the graph grows with them."""
    task = load(name, width=None)
    yield Shift(*through_time(task, task.graph.about["year"].flatten(), (2017, 2018)))


def scaffolds(preset: Preset, name: str) -> Iterator[Shift]:
    """Molecules of frequent scaffolds, then those of rarer ones that validate and test in the usual split, OGB's."""
    smiles, labels, _ = DATA_SETS[name].raw()
    parsed = molecules(smiles, name)
    split = scaffold_split(parsed.scaffold)
    rows = {part: parsed.rows[getattr(split, part)] for part in PARTS}
    tables = {part: ([smiles[row] for row in index.tolist()], labels[index]) for part, index in rows.items()}
    yield of_molecules(name, tables.pop("train"), tables, DATA_SETS[name].regression)


def of_molecules(
    name: str, learnt: Molecule, met: Mapping[str, Molecule], regression: bool = False, width: int = 128
) -> Shift:
    """Molecules as source, split 50/25/25, and others as targets, their atoms and bonds in the source's words.

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


OF_NODES = Protocol("", (), **MEDIUM)
OF_PAPERS = Protocol("", (), candidates=FAST, epochs=60, patience=60, **NO_PENALTY)
OF_MOLECULES = Protocol("", (), **MOLECULES | LARGE)
OF_FEW_MOLECULES = Protocol("", (), **SMALL_MOLECULES)
SHIFTS: dict[str, tuple[Callable[[Preset], Iterator[Shift]], Protocol]] = {
    "webkb": (webkb, OF_NODES),
    "airports": (airports, OF_NODES),
    "pubmed": (pubmed, OF_NODES),
    **{name: (partial(arxiv, name=f"ogbn-{name}"), OF_PAPERS) for name in ("arxiv", "arxiv-predictions")},
    "hiv": (partial(scaffolds, name="hiv"), OF_MOLECULES),
    **{name: (partial(scaffolds, name=name), OF_FEW_MOLECULES) for name in ("bace", "bbbp", "esol", "lipo")},
}


def compared(
    shift: Shift, protocol: Protocol, preset: Preset, methods: Sequence[Method], seeds: Sequence[int]
) -> pd.DataFrame:
    """What each method scores where it was trained and where it was not.

    Args:
        shift: what is learnt and met.
        protocol: gives candidates, batches, epochs.
        preset: the budget.
        methods: what learns.
        seeds: one run each; a seed also draws the split of a source's nodes.

    Returns:
        One row per target, method and seed: `task`, `target`, `method`, `seed`, and in per cent `score` there, `clean`
        at home, and `val`, the run's on the source's validation.
    """
    every = Buckets(torch.zeros(shift.source.instances), (), {"ID": torch.arange(shift.source.instances)})
    test = StressTest(shift.source, every, methods, seeds, EXPERIMENT, targets=shift.targets)
    found = test.tuned(replace(protocol, trained_alike=True), preset).scores(rates=())
    run, clean = ["task", "method", "seed", "val"], found.kind == "clean"
    at_home = found[clean].set_index(run).score.rename("clean")
    away = found[~clean].rename(columns={"condition": "target"}).join(at_home, on=run)
    return away[["task", "target", "method", "seed", "score", "clean", "val"]]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m study.real_shifts", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("names", nargs="+", choices=SHIFTS, metavar="NAME", help=", ".join(SHIFTS))
    add("--methods", nargs="+", choices=METHODS, default=COMPARED, metavar="METHOD", help=", ".join(METHODS))
    add("--preset", choices=KEPT, default="laptop", help="the budget (default: %(default)s)")
    add("--seeds", type=int, default=3, help="runs of each (default: %(default)s)")
    add_device(parser)
    options = parser.parse_args(arguments)
    preset = PRESETS[options.preset]
    for name in options.names:
        shifts, protocol = SHIFTS[name]
        rows = []
        for shift in shifts(preset):
            rows.append(compared(shift, protocol, preset, named(preset, *options.methods), range(options.seeds)))
            print(f"{shift.source.name} to {', '.join(shift.targets)}: done", flush=True)
        print(f"{name}: {save_results(pd.concat(rows), f'17_real-{name}')}", flush=True)


if __name__ == "__main__":
    sys.exit(interruptible(main))
