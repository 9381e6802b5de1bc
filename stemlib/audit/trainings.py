"""What a report card trains: five networks, tuned alike on validation and kept as they finish; and their selection."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from stemlib.audit.drawn import LEAST, Drawn, is_drawn, rare, whole
from stemlib.cache import run_key
from stemlib.data.tasks import Split, Task
from stemlib.devices import device as named_device
from stemlib.presets import BaselineConfig, MixtureConfig, ModelConfig, TrainConfig, change
from stemlib.stress.conditions import MOST_OVERLAP, shift_protocol
from stemlib.stress.shifts import Buckets, in_words, tail_buckets
from stemlib.training.evaluation import evaluate
from stemlib.training.families import FORMAT, build, load_model, save_model
from stemlib.training.finetune import fit
from stemlib.training.stacking import stacked
from stemlib.weights import read_settings

FEWEST = 10  # tested instances in a tail
TAIL = 0.1  # of each covariate at either end: all tails together are kept out of one training
Config = BaselineConfig | MixtureConfig | ModelConfig
SETTINGS = (  # of training, for every method alike, in the order in which they are tried
    {"lr": 1e-2, "weight_decay": 5e-4, "dropout": 0.5},
    {"lr": 1e-2, "weight_decay": 5e-4, "dropout": 0.2},
    {"lr": 5e-3, "weight_decay": 1e-3, "dropout": 0.2},
)
SELECTED = "stacked"  # of all networks of a seed, see `stemlib.training.stacking`
LARGEST_BATCH = {"node": 0, "link": 8192, "graph": 128}
MANY = 50_000  # instances or tens of edges, beyond which a first look trains each network once
LARGE = 200_000  # nodes of a node task: larger ones are trained by batches, and no adversary is tried
DRAWN_BATCH, FANOUT = 1024, 10  # nodes of such a batch, and neighbours drawn per node and layer


@dataclass(frozen=True)
class Effort:
    """How much is done.

    Attributes:
        hidden: width of the networks.
        epochs, patience, steps: of a training, at most; the limit on steps binds where it goes by batches.
        seeds: trainings of each method and protocol.
        candidates: settings that validation chooses from.
        draws: of every damage.
        tried: the methods.
    """

    hidden: int = 128
    epochs: int = 300
    patience: int = 50
    steps: int = 6000
    seeds: int = 5
    candidates: int = 3
    draws: int = 3
    tried: tuple[str, ...] = ("mlp", "gcn", "sage", "mixture", "routed")


QUICK = Effort(hidden=32, epochs=60, patience=15, steps=600, seeds=3, candidates=2, draws=1)
ONCE = replace(QUICK, steps=200, seeds=1, candidates=1)  # a first look at a large graph
FULL = Effort()


class Method(NamedTuple):
    """A network and how it is trained."""

    name: str
    config: Config
    train: TrainConfig


class Trained(NamedTuple):
    """The networks of one protocol and seed by name, with their validation scores."""

    drawn: Drawn
    models: dict[str, nn.Module]
    val: dict[str, float]


def quick(task: Task) -> Effort:
    """A first look: `QUICK`, or `ONCE` where a training takes minutes."""
    return ONCE if max(task.instances, task.graph.num_edges / 10) > MANY else QUICK


def is_large(task: Task) -> bool:
    """Whether a task is too large for many trainings on the whole graph."""
    return task.kind == "node" and task.graph.num_nodes > LARGE


def methods(effort: Effort) -> list[Method]:
    """Features alone, two graph networks, different filters weighted on validation, and experts chosen by a router."""
    train = TrainConfig(epochs=effort.epochs, patience=effort.patience, lipschitz=0.0, prior=True)
    plain = [Method(kind, BaselineConfig(kind, hidden=effort.hidden), train) for kind in ("mlp", "gcn", "sage")]
    routed = ModelConfig(hidden=effort.hidden, codebook="none")
    mixed = Method("mixture", MixtureConfig(hidden=max(1, effort.hidden // 2)), train)
    return [one for one in (*plain, mixed, Method("routed", routed, train)) if one.name in effort.tried]


class Trainings:
    """Every training of a report card.

    `whole` is the task's own split, or one drawn by each seed if it came without; `inside` trains on the middle of
    every covariate, so that the tails of each are new at test. What is finished is read back.

    Args:
        task: of any kind.
        folder: where trainings are kept.
        effort: how much is done.
        covariates: of all instances, see `shifted_by`.
        device: where networks are, see `stemlib.devices.device`.

    Attributes:
        drawn: what the seeds draw, by protocol.
        notes: what cannot be shifted, and why.
        overlap: of the seeds' splits, see `stemlib.audit.statistics.paired_test`.
    """

    def __init__(
        self, task: Task, folder: Path, effort: Effort, covariates: Mapping[str, Tensor], device: str = "auto"
    ) -> None:
        self.where = named_device(device)
        self.folder, self.effort, self.notes = folder, effort, []
        self.drawn: dict[str, list[Drawn]] = {"whole": [whole(task, seed) for seed in range(effort.seeds)]}
        self.overlap = 0.5 if len({one.split.hash for one in self.drawn["whole"]}) > 1 else 0.0
        kept = [None] if is_drawn(task) else list(task.splits)
        try:
            buckets = self._tails(task, covariates)
            self.drawn["inside"] = [
                Drawn(*shift_protocol(task, buckets, seed, own_split=kept[seed % len(kept)]))
                for seed in range(effort.seeds)
            ]
            if any(rare(task, one.split.test) for one in self.drawn["inside"]):
                del self.drawn["inside"]
                raise ValueError(f"outside the tails, fewer than {LEAST} test {task.kind}s have the rarer answer")
        except ValueError as error:
            self.notes.append(f"shifts were not tried: {error}")
        self.chosen: dict[str, Method] = {}
        if is_large(task):
            self.notes.append(
                f"more than {LARGE:,} nodes: trained in batches of {DRAWN_BATCH} with {FANOUT} neighbours drawn for "
                "each node and layer"
            )

    def _tails(self, task: Task, covariates: Mapping[str, Tensor]) -> Buckets:
        """The tails of every covariate as buckets, and what lies in none of them as `ID`."""
        members, first = {}, None
        met = torch.ones(task.instances, dtype=torch.bool)
        if task.kind != "graph" and not is_drawn(task):  # of these only the user's own test is met
            met = torch.zeros_like(met).index_fill_(0, next(iter(task.splits.values())).test, True)
        for name, values in covariates.items():
            tails = tail_buckets(values, TAIL)
            first = tails if first is None else first
            for side, end in (("low", "lowest"), ("high", "highest")):
                words = f"{end} {in_words(name)}"
                index = tails.members[f"OOD-{side}"]
                if tails.overlap[f"OOD-{side}"] > MOST_OVERLAP:
                    self.notes.append(f"no shift to the {words}: most {task.kind}s have the same value")
                elif task.labelled(index[met[index]]).numel() < FEWEST:
                    self.notes.append(f"no shift to the {words}: fewer than {FEWEST} {task.kind}s to test")
                elif rare(task, index[met[index]]):
                    self.notes.append(f"no shift to the {words}: fewer than {LEAST} have the rarer answer")
                else:
                    members[f"{name} {side}"] = index
        outer = torch.zeros(task.instances, dtype=torch.bool)
        for index in members.values():
            outer[index] = True
        if not members or outer.all():
            raise ValueError("no covariate has tails that can be tested")
        return Buckets(first.covariate, first.borders, {"ID": (~outer).nonzero().flatten(), **members})

    def candidates(self, method: Method, task: Task, split: Split) -> list[Method]:
        """A method with each of the settings that are tried, in batches that the task can be learnt in."""
        size, trained = LARGEST_BATCH[task.kind], split.train.numel()
        if task.graph.edge_pair is not None:  # a step that shows all pairs would hide all edges
            size = min(size, math.ceil(trained / 4))
        size = DRAWN_BATCH if is_large(task) else size
        size = 0 if size >= trained else size
        per_epoch = math.ceil(trained / size) if size else 1
        fewest = 1 if is_large(task) else 3
        epochs = min(self.effort.epochs, max(fewest, self.effort.steps // per_epoch))
        fanout = FANOUT if is_large(task) else 0
        train = change(
            method.train, batch_size=size, fanout=fanout, epochs=epochs, patience=min(self.effort.patience, epochs)
        )
        found = []
        for settings in SETTINGS[: self.effort.candidates]:
            dropout, rest = settings["dropout"], {key: settings[key] for key in ("lr", "weight_decay")}
            config = change(method.config, dropout=dropout, input_dropout=dropout)
            found.append(Method(method.name, config, change(train, **rest)))
        return found

    def run(self) -> dict[str, list[Trained]]:
        """Train what is not trained yet, and say when each is done."""
        first = self.drawn["whole"][0]
        for base in methods(self.effort):
            tried = self.candidates(base, first.task, first.split)
            self.chosen[base.name] = max(tried, key=lambda method: self._trained(method, first, 0)[1])
        return {protocol: list(self._of(protocol)) for protocol in self.drawn}

    def _of(self, protocol: str) -> Iterator[Trained]:
        for seed, drawn in enumerate(self.drawn[protocol]):
            found = {name: self._trained(method, drawn, seed) for name, method in self.chosen.items()}
            models, val = ({name: pair[place] for name, pair in found.items()} for place in (0, 1))
            if len(models) > 1:
                models[SELECTED] = stacked(list(models.values()), drawn.task, drawn.split)
                val[SELECTED] = 100 * evaluate(models[SELECTED], drawn.task, drawn.split, ["val"])["val"]
            yield Trained(drawn, models, val)

    def _trained(self, method: Method, drawn: Drawn, seed: int) -> tuple[nn.Module, float]:
        """A network and its validation score, in per cent: read back, or trained, from its last epoch if it began."""
        task, split = drawn.task, drawn.split
        settings: dict[str, Any] = {"config": asdict(method.config), "train": asdict(method.train)}
        key = run_key(settings, split.hash, task.content, self.where.type)
        folder = self.folder / f"{method.name}-{split.name}-{key}-seed-{seed}"
        if (folder / "model.json").is_file():
            return load_model(folder).to(self.where), read_settings(folder, FORMAT)["about"]["val"]
        began = time.perf_counter()
        torch.manual_seed(seed)
        model = build(method.config, task).to(self.where)
        state = folder / "training.checked"
        found = fit(model, task, split, method.train, seed, state, f"{method.name} seed {seed}")
        save_model(model, folder, {"val": 100 * found.best[0]})
        state.unlink(missing_ok=True)
        print(
            f"trained {method.name}, split {split.name}, seed {seed}: {time.perf_counter() - began:.1f} s", flush=True
        )
        return model, 100 * found.best[0]
