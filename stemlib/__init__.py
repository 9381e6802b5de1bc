"""STEM-GNN and the two decompositions that explain it: a routed, tokenised graph network, its theory, its rivals.

The way of the data through the library, each room reading only what stands before it::

    paths, settings, devices, memory, presets,    ground: folders, every setting, where is computed,
    files, weights                                whole files, safe weights
    data/        tasks on prepared graphs: public data sets, the built-in graph, a user's own; splits, features, batches
    stress/      who is evaluated (shifts), what is damaged (corruptions), and both as conditions
    model/       experts, routers, tokens, head: `StemGNN`, and its deployed form
    theory/      floors; coverage and selection; sensitivity and amplification; certificates (docs/theory.md)
    baselines/   what STEM-GNN is compared with
    training/    evaluation, fine-tuning, pretraining

Three types carry everything: a *task* (what is to be learnt, on what, scored how), *gates* (who computed it), and a
*record* (what came out, from what; `study.records`).
"""

from importlib import import_module
from typing import Any

__version__ = "0.3.0"


def __getattr__(name: str) -> Any:
    """`stemlib.load` and `stemlib.save`, of `stemlib.training.saved`: looked up late, for it needs all the rest."""
    if name in ("load", "save"):
        return getattr(import_module("stemlib.training.saved"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
