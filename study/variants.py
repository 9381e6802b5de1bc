"""Variants of the usual pretraining, by name: one change each, but for the reference's own settings.

The reference weighs edge reconstruction by 0.01, so that nothing asks an embedding where its node lies in the graph,
and hides a fifth of the features, so that the others give them away without a look at the neighbours. The smoke and
laptop presets weigh edges 500 times as much and hide three columns in five. `study.transfer` measures the effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from stemlib.presets import ModelConfig, Preset, change
from stemlib.training.journal import LOSSES
from stemlib.training.pool import Pool
from stemlib.training.pretrain import pretrain
from study import computing
from study.paths import RUNS
from study.pool import WEIGHTS

SHARE = 4  # a variant has one in this many of the preset's steps
LAST = 10  # batches of a data set over which its losses at the end are averaged


@dataclass(frozen=True)
class Variant:
    """A way to pretrain.

    Attributes:
        about: what differs from the usual way, in words.
        model: changes of `ModelConfig`.
        config: changes of `PretrainConfig`.
        pool: all data sets; those that the reference has; only the one that is fine-tuned on later; or all others that
            have nothing in common with it, see `related`.
        after: another variant, from whose checkpoint this one continues with a quarter of its steps.
    """

    about: str
    model: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    pool: Literal["all", "reference", "own", "others"] = "all"
    after: str | None = None


REFERENCE = {"edge": 0.01, "feature_dropout": 0.2}

VARIANTS = {
    "usual": Variant("nothing"),
    "reference": Variant(
        "weights, views, schedule and codebook as the reference has them; routes not regularised",
        {"codebook": "reference"},
        REFERENCE | {"schedule": "reference", "routing": 0.0},
    ),
    "reference-weights": Variant("edges weigh 0.01 and a fifth of the features is hidden", config=REFERENCE),
    "weak-edges": Variant("edges weigh 0.01", config={"edge": 0.01}),
    "mild-view": Variant("a fifth of the features is hidden", config={"feature_dropout": 0.2}),
    "reference-schedule": Variant("the rate swings, as the reference's does", config={"schedule": "reference"}),
    "reference-codebook": Variant("codes move by orthogonality alone, as the reference's", {"codebook": "reference"}),
    "learnable-codebook": Variant("codes move by the commitment's gradient", {"codebook": "learnable"}),
    "free-routes": Variant("routes are not regularised", config={"routing": 0.0}),
    "reference-pool": Variant("the pool has the reference's kinds of data alone", pool="reference"),
    "own": Variant("the pool is the data set alone that is fine-tuned later", pool="own"),
    "others": Variant("the pool lacks the data set that is fine-tuned later, and what is related to it", pool="others"),
    "adapted": Variant("goes on after the usual one, on the data set alone", pool="own", after="usual"),
}


def variant(name: str) -> Variant:
    """The variant of that name.

    Raises:
        ValueError: unknown; the message lists the known ones.
    """
    if name not in VARIANTS:
        raise ValueError(f"unknown variant {name!r}; there are {', '.join(VARIANTS)}")
    return VARIANTS[name]


def pretrained_variant(name: str, pool: Pool, preset: Preset, task: str | None = None, seed: int = 0) -> Path:
    """Pretrain a variant with a part of the preset's steps, or find it finished.

    Args:
        name: of the variant.
        pool: the whole one.
        preset: the budget.
        task: the data set that is fine-tuned on later, for the variants whose pool depends on it.
        seed: of the run.

    Raises:
        ValueError: an unknown variant; or one whose pool depends on a task that is not in the pool.
    """
    chosen, start = variant(name), None
    if chosen.pool in ("own", "others") and task not in pool.names:
        raise ValueError(f"variant {name!r} is of one data set of the pool ({', '.join(pool.names)}), got {task!r}")
    if chosen.after is not None:
        start = pretrained_variant(chosen.after, pool, preset, task, seed)
    names = set(pool.names)
    parts = {"all": names, "reference": names & WEIGHTS.keys(), "own": {task}, "others": names - related(pool, task)}
    part = Pool(member for member in pool.members if member.task.name in parts[chosen.pool])
    model = change(ModelConfig(hidden=preset.hidden, codes=min(128, preset.hidden)), **chosen.model)
    whole = preset.pretrain(**chosen.config)
    length = "steps" if whole.steps else "epochs"
    share = SHARE if start is None else SHARE**2
    config = change(whole, **{length: max(1, getattr(whole, length) // share)})
    where = computing.chosen()
    return pretrain(part, model, config, seed, device=where, start=start, root=RUNS / "pretraining")


def related(pool: Pool, task: str | None) -> set[str]:
    """The data set itself and what shares instances with it: the other form of a graph, and for molecules all sets."""
    kinds = {member.task.name: member.task.kind for member in pool.members}
    molecules = {name for name, kind in kinds.items() if kind == "graph"}
    pairs = ({"cora", "cora-ml"}, {"ogbn-arxiv", "ogbn-arxiv-predictions"}, molecules)
    return {task}.union(*(group for group in pairs if task in group))


def in_numbers(folder: Path, task: str) -> dict[str, float]:
    """A finished run in a few numbers, from the tables that it left.

    Args:
        folder: of the run.
        task: the data set whose losses are asked for.

    Returns:
        Every objective, unweighted, as the mean over the data set's last `LAST` batches (none if the pool lacks it); in
        the last window of steps, the heads' mean `perplexity` and number of `dead` codes; and the `largest share` of
        the gates that an expert has, over all layers and data sets, each when it was last shown.
    """
    losses, tokens, experts = (pd.read_csv(folder / f"{name}.csv") for name in ("losses", "tokens", "experts"))
    end = losses[losses.data_set == task].tail(LAST)
    objectives = {name: float(end[name].mean()) for name in LOSSES if name in end and end[name].notna().any()}
    last = tokens[tokens.step == tokens.step.max()]
    usage = {name: float(last[name].mean()) for name in ("perplexity", "dead")} if len(last) else {}
    share = experts.groupby(["data_set", "layer"]).largest.last().max()
    return objectives | usage | {"largest share": float(share)}
