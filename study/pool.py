"""The pool that the study pretrains on: which data sets, and how much each weighs."""

from __future__ import annotations

from collections.abc import Iterable

from stemlib.data.built_in import BUILT_IN, mixed_graph
from stemlib.data.features import unit_features
from stemlib.data.public import available, load
from stemlib.data.tasks import Kind
from stemlib.training.pool import Member, Pool

# The reference's weights; a substitute weighs as much as its data set, the built-in graph as a citation graph.
WEIGHTS = {
    "cora": 5.0, "citeseer": 5.0, "pubmed": 5.0, "ogbn-arxiv": 5.0, "ogbn-arxiv-predictions": 5.0, "wikics": 5.0,
    "wn18rr": 5.0, "fb15k237": 10.0, "hiv": 1.0, "chembl": 0.1, "chembl-10k": 0.1, "pcba": 0.1, BUILT_IN: 5.0,
}  # fmt: skip
OTHER_WEIGHTS: dict[Kind, float] = {"node": 1.0, "link": 1.0, "graph": 0.1}  # of data sets that the reference lacks
# Regressions stay out of the default pool, so that a checkpoint can be tried on files that it has never seen. It may
# have seen their molecules: 61 % of ESOL's, 12 % of lipo's and 3 % of the activities' are in other sets of the pool.
# What is published as Cornell has the features of Texas. The released checkpoints have not seen Washington.
HELD_OUT = {"esol", "lipo", "chembl-activities", "cornell-as-published", "washington"}


def at_hand(whole: bool = False) -> list[str]:
    """The built-in graph, and every data set whose raw files are there, except `HELD_OUT`; no graph occurs twice.

    Nothing is downloaded.

    Args:
        whole: all of ChEMBL and PCBA, whose molecules take minutes to parse, instead of a sample of ChEMBL.
    """
    names = available()
    left_out = HELD_OUT | ({"chembl-10k"} if whole else {"chembl", "pcba"})
    if "ogbn-arxiv" in names:
        left_out.add("ogbn-arxiv-predictions")
    return [*(name for name in names if name not in left_out), BUILT_IN]


def load_pool(width: int, names: Iterable[str] | None = None, *, nodes: int = 10_000, whole: bool = False) -> Pool:
    """The pool of some data sets, with the reference's weights where it has one, and otherwise `OTHER_WEIGHTS`.

    Args:
        width: of all features.
        names: as `stemlib.data.public.load` takes them, or `built-in`. Default: what is `at_hand`.
        nodes: of the built-in graph.
        whole: see `at_hand`.

    Raises:
        ValueError: an unknown name, or none.
        FileNotFoundError: raw files are missing and cannot be downloaded.
    """
    names = at_hand(whole) if names is None else names
    tasks = (mixed_graph(nodes) if name == BUILT_IN else load(name, width=width) for name in names)
    return Pool(Member(unit_features(task, width), WEIGHTS.get(task.name, OTHER_WEIGHTS[task.kind])) for task in tasks)
