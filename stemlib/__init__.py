"""STEM-GNN and the two decompositions that explain it: a routed, tokenised graph network, its theory, its rivals.

How data flows through the library; each part builds only on those listed above it::

    paths, settings, devices, memory, presets,    ground: folders, every setting, the device,
    files, cache, weights                         atomic files, cached results, safe weights
    data/        tasks on prepared graphs: public data sets, the built-in graph, a user's own; splits, features, batches
    stress/      which instances are evaluated (shifts), what is damaged (corruptions), and both as conditions
    model/       experts, routers, tokens, head: `StemGNN`, and its deployed form
    theory/      floors; coverage and selection; sensitivity and amplification; certificates (docs/theory.md)
    baselines/   what STEM-GNN is compared with
    training/    evaluation, fine-tuning, pretraining
    audit/       measures models on a graph: trained alike, stressed, taken apart; where they fail
    report/      the report card of anyone's graph: `python -m stemlib.report`

Three types carry everything: a *task* (what is to be learnt, on what, scored how), *gates* (which expert computed
it), and a *record* (what came out, from what; `study.records`).
"""

from importlib import import_module
from typing import Any

__version__ = "0.3.0"


DOORS = {
    "from_data": "stemlib.data.own_data",
    "from_triples": "stemlib.data.own_triples",
    "from_smiles": "stemlib.data.own_molecules",
    "read_own": "stemlib.data.own_files",
    "load": "stemlib.training.saved",
    "save": "stemlib.training.saved",
}


def __getattr__(name: str) -> Any:
    """Entry points for a user's own data and for saved models, imported late: they need the whole library."""
    if name in DOORS:
        return getattr(import_module(DOORS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
