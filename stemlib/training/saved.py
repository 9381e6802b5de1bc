"""A model as one self-contained folder: weights, feature space, names of classes, what it was trained on.

Example:
    >>> save(model, "frozen/", task)  # doctest: +SKIP
    >>> stemlib.load("frozen/").predict(Data(x=raw, edge_index=edges))  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

import stemlib.training.stacking  # noqa: F401  so that a stack's family is known
from stemlib.data.feature_space import FeatureSpace
from stemlib.data.tasks import Split, Task
from stemlib.files import installed_versions
from stemlib.model.network import Network, require_fit
from stemlib.stress.shifts import covariates, instance_covariate
from stemlib.training.families import FORMAT, load_model
from stemlib.training.frozen import Frozen, features_sha256
from stemlib.weights import read_settings

WATCHED = ("degree", "homophily", "size")  # covariates whose values mean the same in another graph
RANGE = (0.0, 0.05, 0.5, 0.95, 1.0)  # quantiles


def freeze(
    model: Network,
    task: Task,
    space: FeatureSpace | None = None,
    split: Split | None = None,
    metrics: Mapping[str, float] | None = None,
) -> Frozen:
    """A trained model with all that is needed to ask it about another graph.

    Args:
        model: of any family.
        task: that it was trained on.
        space: what the task's features were made with; None for what the task says about them.
        split: whose training part gives the covariates' ranges; None for all instances.
        metrics: its scores, kept as they are.

    Raises:
        ValueError: a task that does not fit the model, or whose features the space did not make.
    """
    require_fit(model, task)
    space = FeatureSpace.of(task) if space is None else space.for_labels(task)
    space.require(task)
    index = torch.arange(task.instances) if split is None else split.train
    ranges = {
        name: np.quantile(instance_covariate(task, name)[index].double().numpy(), RANGE).tolist()
        for name in covariates(task)
        if name in WATCHED
    }
    about = {
        "name": task.name,
        "kind": task.kind,
        "regression": task.regression,
        "checksum": task.checksum,
        "content": task.content,
        "ranges": ranges,
        "metrics": dict(metrics or {}),
        "versions": installed_versions(),
    }
    return Frozen(model.eval(), space, about)


def save(
    model: Network,
    folder: str | Path,
    task: Task,
    space: FeatureSpace | None = None,
    split: Split | None = None,
    metrics: Mapping[str, float] | None = None,
) -> None:
    """Write a trained model as one folder, which `load` reads; see `freeze`."""
    freeze(model, task, space, split, metrics).save(folder)


def load(folder: str | Path) -> Frozen:
    """The model that `save` wrote, on the CPU.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is truncated, altered, or that of another program or model.
    """
    model, settings = load_model(folder), read_settings(folder, FORMAT)
    if "about" not in settings:
        raise ValueError(f"{folder} holds only weights, without the features they read; save it with stemlib.save")
    about = settings["about"]
    space = FeatureSpace.load(folder)
    if about.pop("features") != features_sha256(folder):
        raise ValueError(f"the features in {folder} are another model's; save the model again")
    return Frozen(model, space, about)
