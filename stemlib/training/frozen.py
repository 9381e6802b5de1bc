"""A trained model with all that is needed to ask it about another graph: answers by name, and refusals by name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import Batch

from stemlib.data import batches
from stemlib.data.checks import require_finite
from stemlib.data.containers import one_data
from stemlib.data.feature_space import FeatureSpace
from stemlib.data.molecules import unlabelled_molecules
from stemlib.data.own_data import LABELS, MASKS, from_data
from stemlib.data.own_splits import shown
from stemlib.data.tasks import UNLABELLED, Task, read_out
from stemlib.model.network import Network, Output, require_fit
from stemlib.model.stem import StemGNN
from stemlib.stress.shifts import instance_covariate
from stemlib.theory.certificates import DecisionCertificate
from stemlib.training.evaluation import evaluation_batches, finite, hops
from stemlib.training.families import save_model

Asked = Tensor | Sequence[int] | Sequence[tuple[str, str]] | None  # which instances: numbers [M], or pairs [M, 2]
AT_ONCE = 2**16  # instances per pass of a model that reads a few hops around them


@dataclass(frozen=True)
class Frozen:
    """A trained model with all that is needed to ask it about another graph.

    Attributes:
        model: in evaluation mode.
        space: what its features were made with, and its classes' names.
        about: `kind`, `regression`, `name`, `checksum` and `content` of its task, `ranges` of covariates in training
            (quantiles 0, 5, 50, 95 and 100 %), `metrics`, `versions`.
    """

    model: Network
    space: FeatureSpace
    about: dict[str, Any]

    def task(self, data: Any, instances: Asked = None) -> Task:
        """Another graph as the model reads it; labels are neither needed nor read.

        Args:
            data: what `from_data` takes, with raw features, and for links the pairs `edge_label_index`; SMILES strings;
                or a `Task` whose features were made with `space`.
            instances: pairs of nodes `[M, 2]`, or of entities' names, instead of `edge_label_index` or of the task's
                own; otherwise not read.

        Raises:
            ValueError: features that do not fit, or are not finite, by name; another kind of task than the model's;
                unknown entities.
        """
        if isinstance(data, Task):
            self.space.require(data)
            require_finite(data.graph)
            require_fit(self.model, data)
            return data if _numbers(instances) else _asking(data, instances)
        kind, notes, regression = self.model.kind, [], self.about["regression"]
        if kind == "graph" and isinstance(data, Sequence) and data and all(isinstance(one, str) for one in data):
            return unlabelled_molecules(data, self.space, regression)
        data = one_data(data, kind, notes)
        for name in (*LABELS.values(), *MASKS):
            data[name] = None
        if not _numbers(instances):
            _require_links(kind, instances, "this model")
            if not isinstance(instances, Tensor):
                raise ValueError("nodes of raw data have no names here: give pairs of their numbers, a tensor [M, 2]")
            data.edge_label_index = instances.T
        if kind == "graph" and data.get("batch") is None:
            data = Batch.from_data_list([data])
        task = from_data(data, kind=kind, name="graph", space=self.space, splits={}, regression=regression)
        require_fit(self.model, task)
        return replace(task, notes=(*notes, *task.notes))

    def predict(self, data: Any, instances: Asked = None) -> pd.DataFrame:
        """What the model says of some instances (default: all), one row each.

        Args:
            data: see `task`.
            instances: numbers of nodes, graphs or pairs `[M]`; or, for a model of links, pairs `[M, 2]` of nodes, or of
                entities' names if the task is of triples.

        Returns:
            `instance` (and `source`, `target` of links); `class`, by its name, and `confidence`, the probability that
            the model gives it; or `value`, in its own unit; with several outputs, a numbered column for each.
            `radius`: how far the head's input can move before the class changes, where there is a head. `notes`: in
            which respect an instance lies outside what training met.

        Raises:
            ValueError: see `task`; instances that do not exist.
            FloatingPointError: the model computes NaN or infinity.
        """
        return self._frame(data, instances, explained=False)

    def explain(self, data: Any, instances: Asked = None) -> pd.DataFrame:
        """`predict`, and what computed it: the gates `gate_<layer>_<expert>`, or each mixed network's own answer."""
        return self._frame(data, instances, explained=True)

    def save(self, folder: str | Path) -> None:
        """Write the folder that `load` reads."""
        self.space.save(folder)
        save_model(self.model, folder, self.about | {"features": features_sha256(folder)})

    def _frame(self, data: Any, instances: Asked, explained: bool) -> pd.DataFrame:
        task = self.task(data, instances)
        everyone = instances is None or not _numbers(instances)
        index = torch.arange(task.instances) if everyone else torch.as_tensor(instances).long()
        if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < task.instances:
            raise ValueError(f"asked for instances {int(index.min())}..{int(index.max())}; there are {task.instances}")
        columns: dict[str, Any] = {"instance": index.numpy()}
        if task.kind == "link":
            columns |= dict(zip(("source", "target"), task.pairs[index].numpy().T, strict=True))
        with torch.no_grad():
            found = [self._columns(task, *shown, explained) for shown in self._outputs(task, index)]
        columns |= {name: np.concatenate([one[name] for one in found]) for name in (found[0] if found else ())}
        return pd.DataFrame(columns | {"notes": self._outside(task, index)})

    def _outputs(self, task: Task, index: Tensor) -> Iterator[tuple[batches.Batch, Output]]:
        size = AT_ONCE if hops(self.model, task) else max(1, index.numel())
        for some in index.split(size) if index.numel() else ():
            for batch in evaluation_batches(self.model, task, some)(None):
                output = self.model(batch.graph, batch.instances)
                finite(output.embedding, task.name)
                finite(output.logits, task.name)
                yield batch, output

    def _columns(self, task: Task, batch: batches.Batch, output: Output, explained: bool) -> dict[str, np.ndarray]:
        columns = self._said(output.logits, "")
        stem = isinstance(self.model, StemGNN)
        if stem and not self.about["regression"]:
            inputs = output.embedding if output.tokens is None else output.tokens.codes
            certificate = DecisionCertificate(self.model.head, binary=not self.space.class_names)
            columns["radius"] = certificate.radii(inputs, output.logits).cpu().numpy()
        if explained and stem:
            for layer, gates in enumerate(output.encoding.gates, 1):
                mean = read_out(gates, batch.graph, batch.instances, task.kind).cpu().numpy()
                columns |= {f"gate_{layer}_{expert}": gate for expert, gate in enumerate(mean.T, 1)}
        if explained and output.parts is not None:
            names = getattr(self.model, "names", [""] * output.parts.size(1))
            for number, (name, part) in enumerate(zip(names, output.parts.unbind(1), strict=True), 1):
                columns |= self._said(part, f"_{number}_{name}")
        return columns

    def _said(self, logits: Tensor, suffix: str) -> dict[str, np.ndarray]:
        """The answers of logits `[M, outputs]`."""
        if names := self.space.class_names:
            confidence, best = logits.softmax(-1).max(-1)
            known = np.asarray([*names, *range(len(names), logits.size(1))], dtype=object)
            return {f"class{suffix}": known[best.cpu().numpy()], f"confidence{suffix}": confidence.cpu().numpy()}
        each = [""] if logits.size(1) == 1 else [f"_{place}" for place in range(logits.size(1))]
        if self.about["regression"]:
            values = self.model.in_own_unit(logits).cpu().numpy().T
            return {f"value{suffix}{name}": value for name, value in zip(each, values, strict=True)}
        columns = {}
        for name, logit in zip(each, logits.T, strict=True):
            columns[f"class{suffix}{name}"] = (logit > 0).cpu().numpy()
            columns[f"confidence{suffix}{name}"] = logit.abs().sigmoid().cpu().numpy()
        return columns

    def _outside(self, task: Task, index: Tensor) -> np.ndarray:
        """For each instance, which covariates lie outside training's ranges."""
        notes = np.full(index.numel(), "", dtype=object)
        for name, (low, *_, high) in self.about["ranges"].items():
            values = instance_covariate(task, name)[index].numpy()
            for outside, side in ((values < low, "below"), (values > high, "above")):
                told = [
                    f"{name} {value:.3g} is {side} training's {low:.3g} to {high:.3g}; " for value in values[outside]
                ]
                notes[outside] += np.array(told, dtype=object)
        return np.array([note.removesuffix("; ") for note in notes], dtype=object)


def _numbers(instances: Asked) -> bool:
    """Whether instances are named by their numbers `[M]`, or not at all."""
    return instances is None or np.ndim(instances) == 1


def _asking(task: Task, pairs: Asked) -> Task:
    """A link task with other pairs `[M, 2]`, by nodes' numbers or entities' names, and without labels."""
    _require_links(task.kind, pairs, repr(task.name))
    found = pairs if isinstance(pairs, Tensor) else _named(task, pairs)
    if found.numel() and not 0 <= int(found.min()) <= int(found.max()) < task.graph.num_nodes:
        raise ValueError(f"pairs name nodes {int(found.min())}..{int(found.max())}; there are {task.graph.num_nodes}")
    return replace(task, pairs=found.long(), labels=torch.full((len(found),), UNLABELLED), splits={})


def _require_links(kind: str, pairs: Asked, who: str) -> None:
    if kind != "link" or np.ndim(pairs) != 2 or np.shape(pairs)[1] != 2:
        raise ValueError(
            f"{who} is of a {kind} task: name instances by their numbers [M], or links by pairs [M, 2]; "
            f"got shape {tuple(np.shape(pairs))}"
        )


def _named(task: Task, pairs: Sequence[tuple[str, str]]) -> Tensor:
    names = task.graph.about.get("entity")
    if names is None:
        raise ValueError(f"the nodes of {task.name!r} have no names: give pairs of their numbers [M, 2]")
    number = {name: place for place, name in enumerate(names)}
    if unknown := sorted({name for pair in pairs for name in pair} - number.keys()):
        raise ValueError(f"entities that {task.name!r} does not have: {shown(unknown)}")
    return torch.tensor([[number[name] for name in pair] for pair in pairs])


def features_sha256(folder: str | Path) -> str:
    """sha256 of a folder's feature space, which identifies what its model reads."""
    return hashlib.sha256((Path(folder) / "features.json").read_bytes()).hexdigest()
