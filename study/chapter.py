"""What a chapter does first: it checks its parameters and settles where its figures and tables go.

The committed figures and tables come from a run with the notebook's own parameters, or with `refresh`. Every other run
has a folder of its own, `runs/<chapter>/<what differs>/`, or the one that `STEMLIB_RUN` names.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from stemlib.data.built_in import BUILT_IN
from stemlib.data.public import DATA_SETS
from stemlib.presets import PRESETS
from study import paths
from study.ablations import ABLATIONS
from study.computing import choose, chosen
from study.methods import METHODS
from study.notebooks import parameters, told
from study.protocols import PROTOCOLS
from study.router_comparison import choices

INJECTED = "# Parameters\n"  # how papermill begins the cell that it adds
NODES_ONLY = ("00_start_here", "03_coverage_vs_selection", "04_sensitivity_vs_amplification")
CLASSES_ONLY = ("07_degree_shift", "08_homophily_shift", "09_feature_masking", "10_edge_deletion")
SEEDS = "0 for the preset's, or at least 2 (a difference needs pairs)"
_OUTSIDE = os.environ.get(paths.RUN)  # a job's folder


def begin(name: str, given: Mapping[str, Any]) -> None:
    """Check a chapter's parameters; say where its files go, unless they are the committed ones.

    Args:
        name: of the chapter, such as `07_degree_shift`.
        given: the notebook's variables, `globals()`.

    Raises:
        ValueError: everything that is wrong with the parameters, one problem per line, with what is allowed.
    """
    pd.set_option("display.max_colwidth", None)  # never cut an interval short
    known = parameters(paths.NOTEBOOKS / f"{name}.ipynb")
    values = {key: given.get(key, default) for key, (_, default) in known.items()}
    unknown = sorted(_injected(given) - known.keys())
    problems = [f"there is no parameter {key}; there are {', '.join(known)}" for key in unknown]
    for key, (kind, _) in known.items():
        if type(values[key]) is not kind:
            problems.append(f"{key} must be of type {kind.__name__}, got {values[key]!r}")
        elif (problem := CHECKS[key](values[key])) or (key == "dataset" and (problem := _unserved(name, values[key]))):
            problems.append(f"{key}: {problem}")
    if problems:
        raise ValueError("\n  - ".join([f"{name} cannot run with these parameters:", *problems]))
    # A GPU sums in another order: the committed files come from CPUs.
    other = {key: value for key, value in values.items() if value != known[key][1]}
    other |= {"device": chosen().type} if chosen().type != "cpu" and "device" in known else {}
    refresh = other.pop("refresh", False)
    own = other or not os.access(paths.FIGURES, os.W_OK)
    folder = _OUTSIDE or (paths.RUNS / name / (told(other) or "default") if own else "")
    os.environ[paths.RUN] = "" if refresh else str(folder)
    if folder and not refresh:
        print(f"figures and tables of this run go to {folder}")


def _injected(given: Mapping[str, Any]) -> set[str]:
    """The names that papermill's cell sets, for which Python does not check whether anything reads them."""
    cells = [cell for cell in given.get("In", ()) if cell.startswith(INJECTED)]
    lines = [line for cell in cells for line in ast.parse(cell).body if isinstance(line, ast.Assign)]
    return {target.id for line in lines for target in line.targets if isinstance(target, ast.Name)}


def _unserved(chapter: str, dataset: str) -> str | None:
    """Why a chapter cannot run on a data set; None if it can."""
    entry = DATA_SETS.get(dataset)
    if chapter in NODES_ONLY and entry and entry.kind != "node":
        served = [name for name in PROTOCOLS if DATA_SETS[name].kind == "node"]
        return f"{dataset} is a {entry.kind} task; this chapter is about nodes: {BUILT_IN}, {', '.join(served)}"
    if chapter in CLASSES_ONLY and entry and entry.regression:
        return f"{dataset} is a regression; this chapter decomposes the risk of classes. Chapters 06 and 11 take it"
    return None


def _words(allowed: Iterable[str], several: bool = True, between: str | None = None) -> Callable[[str], str | None]:
    """A check that a value is one of some words, or several of them, separated by spaces or by `between`."""

    def check(value: str) -> str | None:
        words = [word.strip() for word in value.split(between) if word.strip()] if several else [value]
        if wrong := [word for word in words if word not in allowed]:
            return f"unknown {', '.join(wrong)}; there are {', '.join(allowed)}"
        if not words or len(set(words)) < len(words):
            return "name at least one, and each once"
        return None

    return check


def _at_least(low: int) -> Callable[[int], str | None]:
    return lambda value: f"must be at least {low}, got {value}" if value < low else None


def _device(name: str) -> str | None:
    try:
        choose(name)
    except ValueError as error:
        return str(error)
    return None


CHECKS: dict[str, Callable[[Any], str | None]] = {
    "preset": _words(PRESETS, several=False),
    "dataset": _words((BUILT_IN, *PROTOCOLS), several=False),
    "datasets": _words(("available", BUILT_IN, *DATA_SETS)),
    "methods": _words(METHODS),
    "groups": _words(ABLATIONS),
    "choices": _words(choices(), between=";"),
    "covariate": _words(("degree", "homophily", "concentration", "size", "scaffold"), several=False),
    "seeds": lambda value: None if value == 0 or value > 1 else f"{SEEDS}, got {value}",
    "seed": _at_least(0),
    "draws": _at_least(1),
    "epochs": _at_least(0),
    "repeats": _at_least(1),
    "device": _device,
    "path": lambda value: f"there is no {value}" if value and not Path(value).exists() else None,
    "worst": lambda value: None,
    "refresh": lambda value: None,
}


def say(claim: str, holds: Any) -> None:
    """Print a claim and whether it holds everywhere, or that it was not checked, if nothing that it is about ran.

    Args:
        claim: in words.
        holds: a truth value, or an array or series of them, one for each place where it could fail.
    """
    every = [bool(one) for one in (holds if hasattr(holds, "__iter__") else [holds])]
    print(f"{claim}: {all(every) if every else 'not checked: nothing that it is about ran'}")
