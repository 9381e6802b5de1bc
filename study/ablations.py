"""The whole model with one part off, or one setting changed: what each is worth."""

from __future__ import annotations

from typing import Any

import pandas as pd

from stemlib.presets import Preset
from study.balance import DEMANDS
from study.meta_analysis import counted
from study.method import Method
from study.methods import stem
from study.paper_tables import mean_text, over_tasks
from study.protocols import split_overlap
from study.statistics import SIGNIFICANT, against_strongest, corrected_together, in_points, paired_test

WHOLE = "stem"

# By group and name: the fields of `ModelConfig` or `TrainConfig` that change.
ABLATIONS: dict[str, dict[str, dict[str, Any]]] = {
    "parts": {
        "tokens": {"routed": "none"},
        "one-expert": {"experts": 1},
        "routed": {"codebook": "none"},
        "no-penalty": {"lipschitz": 0.0},
        "with-regulariser": {"routing": 0.1},  # the routing regulariser: the one part that the whole model lacks
        "no-parts": {"routed": "none", "codebook": "none", "lipschitz": 0.0},
    },
    "codebooks": {
        "reference-codes": {"codebook": "reference", "orthogonality": 1.0},  # the only term that moves them
        "fixed-codes": {"codebook": "reference"},
        "learnable-codes": {"codebook": "learnable", "commitment": 0.25},
        "frozen-tokens": {"freeze_tokens": True},
    },
    "experts": {f"{count}-experts": {"experts": count} for count in (2, 5, 8)},
    "codes": {f"{count}-codes": {"codes": count} for count in (8, 32, 512)},
    "heads": {f"{count}-heads": {"heads": count} for count in (1, 2, 8)},
    "temperature": {f"temperature-{value:g}": {"temperature": value} for value in (0.2, 0.5, 2.0)},
    "layers": {"1-layer": {"layers": 1}, "3-layers": {"layers": 3}},
    "penalty": {f"penalty-{value:g}": {"lipschitz": value} for value in (1e-4, 1e-2, 1e-1)},
}


def ablated(preset: Preset, *groups: str) -> list[Method]:
    """The whole model, then the variants in some groups of `ABLATIONS`.

    Raises:
        ValueError: an unknown group; the message lists the known ones.
    """
    if unknown := [group for group in groups if group not in ABLATIONS]:
        raise ValueError(f"unknown groups of ablations {unknown}; there are {', '.join(ABLATIONS)}")
    whole = stem(preset, WHOLE)
    return [whole, *(whole.changed(*item) for group in groups for item in ABLATIONS[group].items())]


def effects(balance: pd.DataFrame, task: str, whole: str = WHOLE, labels: int = 0) -> pd.DataFrame:
    """How far the whole model is ahead of each variant, in points, paired by seed.

    Args:
        balance: from `study.balance.three_way_balance`, with the whole model and its variants, which may have fewer
            seeds: only the shared ones count.
        task: the one that all were run on; with `labels` per class, 0 for all, see `split_overlap`.
        whole: the method that the others are variants of.

    Returns:
        One row per variant and demand: `variant`, `demand`, `difference` (whole minus variant), `low`, `high`, and `p`,
        corrected over all rows, with what `corrected_together` needs to correct over more. A demand that was not
        tested, such as shift on a data set without one, has no row.
    """
    long = balance.melt(["method", "seed"], DEMANDS, var_name="demand", value_name="score").dropna()
    variants = [name for name in balance.method.unique() if name != whole]
    long["overlap"] = [split_overlap(task, labels, demand) for demand in long.demand]
    ours, pairs = long[long.method == whole], []
    for name in variants:
        theirs = long[long.method == name]
        pairs.append(pd.concat([ours[ours.seed.isin(theirs.seed)], theirs]).assign(variant=name))
    table = against_strongest(pd.concat(pairs), "score", whole, ["variant", "demand"], overlap="overlap")
    return table[["variant", "demand", "difference", "low", "high", "p", "uncorrected", "error", "df"]]


def all_leads(balances: pd.DataFrame) -> pd.DataFrame:
    """`effects` on every data set, with `task`, and `p` corrected over all of them.

    Args:
        balances: see `effects`, with `task`. Not every data set needs to have every variant.
    """
    leads = pd.concat(effects(rows, task).assign(task=task) for task, rows in balances.groupby("task", sort=False))
    return corrected_together(leads.reset_index(drop=True))


def lead_table(balances: pd.DataFrame) -> pd.DataFrame:
    """`all_leads` as text: one row per variant, `+0.8 [+0.5, +1.1]` by data set and demand.

    Returns:
        Text, with a star where `p` is below 0.05; empty where a data set lacks a variant.
    """
    leads = all_leads(balances)
    numbers = leads[["difference", "low", "high", "p"]].itertuples(index=False)
    texts = leads.assign(text=[in_points(*found) + " *" * bool(p < SIGNIFICANT) for *found, p in numbers])
    wide = texts.pivot(index="variant", columns=["task", "demand"], values="text").fillna("")
    known = [name for group in ABLATIONS.values() for name in group if name in wide.index]
    return wide.loc[known, list(dict.fromkeys(zip(leads.task, leads.demand, strict=True)))]


IN_WORDS = {"fit": "in fit", "shift": "under shift", "corruption": "under damage"}


def told(leads: pd.DataFrame) -> str:
    """In two sentences: which leads are significant, and the largest and the smallest."""
    names = [
        f"`{row.variant}` {IN_WORDS[row.demand]} ({in_points(row.difference, row.low, row.high)})"
        for row in leads.itertuples()
    ]
    found = [name for name, p in zip(names, leads.p, strict=True) if p < SIGNIFICANT]
    most, least = (names[place] for place in (leads.difference.argmax(), leads.difference.argmin()))
    count = "1 is" if len(found) == 1 else f"{len(found) or 'none'} {'are' if found else 'is'}"
    which = f": {', '.join(found)}" if found else ""
    first = f"Of {len(leads)} comparisons, {count} significant after correction{which}."
    return f"{first} The extremes are {most} and {least}."


# From a GCN to the whole model, a few parts at a time; the first two steps change several things at once.
STEPS = {
    "own weights for a node's state": ("gcn", "sage"),
    "the reference's layer and head": ("sage", "dense"),
    "tokens, without experts": ("dense", "tokens"),
    "experts, without tokens": ("dense", "routed"),
    "experts, with tokens": ("tokens", "stem"),
    "tokens, with experts": ("routed", "stem"),
}


def extra_losses(demands: pd.DataFrame, demand: str) -> pd.DataFrame:
    """How many more points the second network of each of `STEPS` loses to a demand than the first, run by run.

    Args:
        demands: from `study.paper_tables.demand_scores`.
        demand: such as `deleted`; a loss is `clean` minus this.

    Returns:
        Text, one row per step whose two networks are known: on each graph that all were trained on, with the interval
        of `paired_test`; as a mean over the data sets with both, see `over_tasks`, and `of` how many.
    """
    scores = demands.pivot(index=["task", "covariate", "seed"], columns=["demand", "method"], values="score")
    lost = scores["clean"] - scores[demand]
    steps = {step: pair for step, pair in STEPS.items() if set(pair) <= set(lost)}
    more = pd.DataFrame({step: lost[second] - lost[first] for step, (first, second) in steps.items()})
    rows: dict[str, dict[tuple[str, str], str]] = {step: {} for step in steps}
    for (task, covariate), runs in more.dropna().groupby(["task", "covariate"]):
        for step in steps:
            found = paired_test(runs[step], split_overlap(task, demand=demand))
            rows[step][task, covariate] = in_points(*found[:3])
    for step in steps:
        known = counted(more[step].dropna())
        rows[step]["all", "mean"] = mean_text(over_tasks(known))
        rows[step]["all", "of"] = str(known.index.get_level_values("task").nunique())
    return pd.DataFrame.from_dict(rows, orient="index")
