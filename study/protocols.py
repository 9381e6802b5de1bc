"""How each public data set is learnt: splits, budgets and candidates of settings, equal for all methods.

Validation chooses among the candidates: see `best`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from stemlib.data.built_in import BUILT_IN, mixed_graph
from stemlib.data.public import DATA_SETS, load
from stemlib.data.tasks import Task
from stemlib.presets import Preset, change
from study.method import Method
from study.trained import run


class Candidate(NamedTuple):
    """Training settings to choose among; the input has the same dropout as the layers.

    With `penalised`, the last map's weights are penalised with the method's own strength, otherwise not at all.
    """

    lr: float
    weight_decay: float
    dropout: float
    penalised: bool


CANDIDATES = (
    Candidate(1e-2, 0.5, 0.5, True),
    Candidate(1e-2, 5e-4, 0.5, False),
    Candidate(5e-3, 1e-3, 0.2, True),
    Candidate(1e-3, 1e-2, 0.2, False),
    Candidate(5e-4, 5e-4, 0.2, False),
)
FILTERED = "-filtered"  # ends the name of a task that is tested without what training gives away of it
STEPS = 150  # the fewest steps in which few labels are learnt, as many as whole graphs of medium size have
THREE = CANDIDATES[::2]  # from the most regularised to the slowest
FAST = (Candidate(1e-2, 5e-4, 0.2, False), CANDIDATES[2])  # where an epoch is a few steps
SLOW = CANDIDATES[2::2]  # where it is many
TRAININGS = ((0.0, 1.0), (0.3, 1.0))  # DropEdge and consistency that any method may have beside plain training


@dataclass(frozen=True)
class Protocol:
    """How a data set is learnt.

    Attributes:
        name: of the data set, as `stemlib.data.public.load` takes it.
        runs: (split, seed) of every run, the first of which also chooses among the candidates.
        width: of the features, or the preset's if that is not `limited`; None for the native ones.
        candidates: of training settings.
        batch_size: instances per step; 0 for all.
        epochs: at most, and no more than the preset's; the preset's if that is not `limited`.
        patience: the same.
        penalty: whether candidates may penalise the last map, of any method.
        passes: over the training instances in an epoch.
        trained_alike: whether any method may have the `TRAININGS`, see `with_trainings`.
    """

    name: str
    runs: tuple[tuple[str, int], ...]
    width: int | None = None
    candidates: tuple[Candidate, ...] = CANDIDATES
    batch_size: int = 0
    epochs: int = 1000
    patience: int = 200
    penalty: bool = True
    passes: int = 1
    trained_alike: bool = False

    def task(self, preset: Preset) -> Task:
        """The data set; the built-in graph in the preset's size."""
        return mixed_graph(preset.nodes) if self.name == BUILT_IN else load(self.name, width=self.width_in(preset))

    def width_in(self, preset: Preset) -> int | None:
        """The width of the features; None for the native ones."""
        return self.width if self.width is None or preset.limited else preset.hidden

    def tasks(self, preset: Preset) -> list[Task]:
        """The data set; a link data set in both forms of its message graph, `<name>` and `<name>-all`.

        In the second, the reference's, messages run along validation and test triples as well: the answer to a
        test question lies on an edge of the graph.
        """
        task = self.task(preset)
        if task.kind != "link":
            return [task]
        leaky = load(self.name, width=self.width_in(preset), message_edges="all")
        return [task, replace(leaky, name=f"{self.name}-all")]

    def epochs_in(self, preset: Preset) -> int:
        """The largest number of epochs."""
        return min(self.epochs, preset.epochs) if preset.limited else preset.epochs

    def for_few(self, instances: int, preset: Preset) -> Protocol:
        """The protocol with enough passes in an epoch for few training instances to make at least `STEPS` steps in all.

        What is learnt in batches has few epochs, for they are long; with few instances an epoch is a step or two.
        """
        if not self.batch_size:
            return self
        steps = self.epochs_in(preset) * math.ceil(instances / self.batch_size)
        return replace(self, passes=math.ceil(STEPS / steps))

    def methods(self, base: Method, preset: Preset) -> list[Method]:
        """A method with every candidate's settings, within the preset's budget; for members see `tuned`."""
        if base.members:
            return [replace(base, members=tuple(self.methods(each, preset)[0] for each in base.members))]
        budget = {
            "batch_size": self.batch_size,
            "passes": self.passes,
            "epochs": self.epochs_in(preset),
            "patience": min(self.patience, preset.patience) if preset.limited else preset.patience,
        }
        methods = []
        for settings in self.candidates:
            chosen = {
                "lr": settings.lr,
                "weight_decay": settings.weight_decay,
                "lipschitz": base.train.lipschitz if settings.penalised and self.penalty else 0.0,
            }
            model = change(base.model, **dict.fromkeys(base.dropouts, settings.dropout))
            methods.append(replace(base, train=change(base.train, **chosen, **budget), model=model))
        return methods

    @property
    def penalised(self) -> Protocol:
        """The protocol with all candidates penalised, for when the penalty's own worth is the question."""
        return replace(self, candidates=tuple(settings._replace(penalised=True) for settings in self.candidates))


def _each(names: str, split: str, seeds: int, public: int = 0, **settings: Any) -> dict[str, Protocol]:
    """The same protocol for several data sets; `{}` in the split's name is the seed; `public`: seeds on that split."""
    runs = *((split.format(seed), seed) for seed in range(seeds)), *(("public", seed) for seed in range(public))
    return {name: Protocol(name, runs, **settings) for name in names.split()}


# Budgets for two cores: what the data set's size allows, the same for every method.
# Scores jump about while the loss still falls, on 45 validation nodes most of all: with a patience of 20, runs of every
# method ended too early.
MEDIUM = {"candidates": THREE, "epochs": 200, "patience": 50}
LARGE = {"epochs": 30, "patience": 15}
# The penalty sums over classes, heads and labels, while the loss is a mean. At its usual strength 237 relations are not
# learnt (validation loss 2.7 after three epochs, against 1.7 without), and where binary labels are rare, a constant
# answer with a head near zero costs least: one run of three on HIV stayed there, and SIDER's hardly left it. So no
# method has it there.
NO_PENALTY = {"penalty": False}
MOLECULES = {"width": 128, "batch_size": 128, "candidates": SLOW, **NO_PENALTY}
# Scores of a few hundred validation molecules are noise at first: nothing ends a run early.
SMALL_MOLECULES = MOLECULES | {"batch_size": 32, "candidates": THREE, "epochs": 30, "patience": 30}

PROTOCOLS: dict[str, Protocol] = {
    **_each("cora", "draw-{}", 10, public=3),
    **_each("pubmed", "draw-{}", 10, **MEDIUM),
    **_each("wikics", "fixed-{}", 3, **MEDIUM),
    # A GCN's validation score falls for a dozen epochs while its loss does too: next to nothing ends a run early.
    **_each("ogbn-arxiv ogbn-arxiv-predictions", "time", 3, candidates=FAST, epochs=60, patience=60, **NO_PENALTY),
    **_each("wn18rr", "given", 3, width=128, batch_size=8192, candidates=FAST, **LARGE),
    **_each("fb15k237", "given", 3, width=128, batch_size=16384, candidates=FAST, epochs=10, patience=10, **NO_PENALTY),
    **_each("hiv pcba", "scaffold", 3, **MOLECULES, **LARGE | {"epochs": 10}),
    **_each("cornell-as-published texas wisconsin", "fixed-{}", 5, **MEDIUM),
    **_each("cornell washington", "draw-{}", 5, **MEDIUM),
    **_each("citeseer cora-ml", "draw-{}", 3, **MEDIUM),
    **_each("amazon-computers amazon-photo dblp", "draw-{}", 3, **MEDIUM),
    # Thousands of words: on two cores an epoch with all of them takes minutes.
    **_each("coauthor-cs coauthor-physics", "draw-{}", 3, width=256, **MEDIUM),
    **_each("chameleon squirrel actor", "fixed-{}", 3, **MEDIUM),
    # STEM-GNN's tokens could stay at a constant answer, ROC-AUC 50, for twenty epochs.
    **_each("minesweeper tolokers", "fixed-{}", 3, **MEDIUM, **NO_PENALTY),
    **_each("clintox bace bbbp sider", "scaffold", 3, **SMALL_MOLECULES),
    # Regressions are still being learnt after thirty epochs.
    **_each("esol lipo", "scaffold", 3, **SMALL_MOLECULES | {"epochs": 100}),
    **_each("tox21 toxcast", "scaffold", 3, **MOLECULES, **LARGE),
    **_each("muv", "scaffold", 3, **MOLECULES, **LARGE | {"epochs": 4}),
    **_each("chembl-activities", "time", 3, **MOLECULES, **LARGE | {"epochs": 10}),
}


ON_BUILT_IN = Protocol(BUILT_IN, tuple(("random", seed) for seed in range(10)), candidates=THREE)


def protocol_of(name: str) -> Protocol:
    """How a data set, or the built-in graph, is learnt.

    Raises:
        ValueError: there is no such protocol; the message lists the known ones.
    """
    known = {BUILT_IN: ON_BUILT_IN} | PROTOCOLS
    if name not in known:
        raise ValueError(f"no protocol for {name!r}; there are {', '.join(known)}")
    return known[name]


def split_overlap(task: str, labels: int = 0, demand: str = "clean") -> float:
    """Test instances per training instance of splits that share training instances, for `paired_test`.

    Args:
        task: name of a data set.
        labels: per class; 0 for all.
        demand: by name, or the kind of a condition.

    Returns:
        0.5 where seeds draw a split of 50/25/25 % anew, as on node tasks. 0 where all have the data set's own split, as
        for links and graphs, or draw few labels from many, which hardly overlap except on graphs of a few hundred
        nodes. 0 as well for all that is shifted: tails are the same instances in every run, so that no test instance of
        one run trains another; findings are about these instances.
    """
    entry = DATA_SETS.get(task.removesuffix(FILTERED))
    anew = entry is None or entry.kind == "node"
    return 0.5 * (anew and not labels and "shift" not in demand)


def with_trainings(method: Method, task: Task) -> list[Method]:
    """A method as it is, and with the `TRAININGS` that any method may have; a regression has no consistency.

    A method's own DropEdge stays.
    """
    trainings = dict.fromkeys((edges, consistency * (not task.regression)) for edges, consistency in TRAININGS)
    found = [method]
    for edges, consistency in trainings:
        more = {"edge_dropout": method.train.edge_dropout or edges, "consistency": consistency}
        found.append(replace(method, train=change(method.train, **more)))
    return list(dict.fromkeys(found))


def tuned(
    experiment: str, task: Task, split: str, method: Method, protocol: Protocol, preset: Preset, seed: int
) -> Method:
    """A method with the settings that do best on validation in one run; with `trained_alike`, then the training too.

    Members are tuned one by one.
    """
    if method.members:
        members = (tuned(experiment, task, split, each, protocol, preset, seed) for each in method.members)
        return replace(method, members=tuple(members))
    found = best(experiment, task, split, protocol.methods(method, preset), seed)
    return best(experiment, task, split, with_trainings(found, task), seed) if protocol.trained_alike else found


def best(experiment: str, task: Task, split: str, candidates: Iterable[Method], seed: int) -> Method:
    """The candidate with the best validation score of one run, the first of equals; a single one is not run."""
    candidates = list(candidates)
    if len(candidates) == 1:
        return candidates[0]
    return max(candidates, key=lambda method: run(experiment, task, split, method, seed).metrics["val"])
