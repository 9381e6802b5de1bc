"""The better balance: different graph filters against rivals that are trained alike; see docs/claims.md.

The grid of stress tests (`make grid`) covers every demand. This command measures what it does not: a few labels per
class, what each ingredient contributes, and whether the network knows when it does not know.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from stemlib.presets import Preset
from stemlib.stress.shifts import instance_covariate, tail_buckets
from study.interrupt import interruptible
from study.method import Method
from study.methods import baseline, named
from study.protocols import protocol_of
from study.records import read_results, save_results
from study.router_comparison import budget, command_line
from study.stress import StressTest
from study.uncertainty import uncertainties

OURS = "selected"
SMALLER = "mixture"  # ours as well, and far cheaper
FIVE = "selected_five"  # the same networks, each trained five times
RIVALS = (
    "mlp",
    "gcn",
    "sage",
    "gat",
    "gin",
    "appnp",
    "gcnii",
    "acm",
    "mowst",
    "ensemble",
    "averaged",
    "routed",
    "stem",
)
RATE = 0.4  # of damage, as in the claims
DRAWS = 3  # of each damage
UNCERTAIN = (
    "mlp",
    "gcn",
    "sage",
    "gat",
    "appnp",
    "acm",
    "ensemble",
    "averaged",
    "mixture",
    "selected",
    "routed",
    "filters",
    "stem",
)
# What is changed in a tuned network, by name; nothing else is tuned again.
Changes = dict[str, dict[str, Any]]
TRAINED: Changes = {
    "trained plainly": {"consistency": 0.0, "edge_dropout": 0.0},
    "consistency alone": {"consistency": 1.0, "edge_dropout": 0.0},
    "consistency without who is met": {"consistency": 1.0, "edge_dropout": 0.0, "consistency_on": "held_out"},
    "consistency and DropEdge": {"consistency": 1.0, "edge_dropout": 0.3},
}
INGREDIENTS: dict[str, Changes] = {
    **dict.fromkeys(("gcn", "sage", "acm", "ensemble"), TRAINED),
    "mixture": TRAINED
    | {
        "uniform weights": {"gate": "uniform"},
        "without self": {"filters": "low mean ppr rich"},
        "without low": {"filters": "self mean ppr rich"},
        "without mean": {"filters": "self low ppr rich"},
        "without ppr": {"filters": "self low mean rich"},
        "without rich": {"filters": "self low mean ppr"},
        "five means": {"filters": "mean mean mean mean mean"},
        "every filter twice": {"filters": "self low mean ppr rich self low mean ppr rich"},
    },
    "selected": {
        "weights on the simplex": {"gate": "simplex"},
        "one network": {"rounds": 1},
        "thirty rounds": {"rounds": 30},
    },
    "filters": TRAINED
    | {
        "three means": {"expert": "mean"},
        "uniform routes": {"router": "uniform"},
        "random routes": {"router": "frozen"},
        "rounded tokens": {"codebook": "rounded"},
        "learnt tokens": {"codebook": "ema"},
        "no penalty": {"lipschitz": 0.0},
    },
}


def balance_test(
    name: str, preset: Preset, methods: Sequence[Method], seeds: Sequence[int], labels: int = 0, alike: bool = True
) -> StressTest:
    """A data set's stress test by the covariate of `shifted_by`, with every method tuned.

    Args:
        name: of the data set.
        preset: the budget.
        methods: those that are trained.
        seeds: one run each.
        labels: per class; 0 for all.
        alike: whether every method may have the same trainings, see `study.protocols.with_trainings`; otherwise all are
            trained plainly.
    """
    protocol = replace(protocol_of(name), trained_alike=alike)
    task = protocol.task(preset)
    by = shifted_by(name)
    buckets = tail_buckets(instance_covariate(task, by))
    return StressTest(task, buckets, methods, seeds, covariate=by, per_class=labels or None).tuned(protocol, preset)


def shifted_by(name: str) -> str:
    """Degree, unless nearly all have 8 (Minesweeper) or a class has none inside (Texas); the size of molecules."""
    return {"minesweeper": "homophily", "texas": "homophily", "bace": "size", "bbbp": "size"}.get(name, "degree")


def ingredients(name: str, preset: Preset, seeds: Sequence[int]) -> pd.DataFrame:
    """Scores of tuned networks, and of the same networks with one thing changed.

    Returns:
        Rows of `StressTest.scores`, with `variant`, empty for the tuned network itself.
    """
    tuned = balance_test(name, preset, named(preset, *INGREDIENTS), seeds)
    variants = [("", method) for method in tuned.methods]
    for method in tuned.methods:
        for variant, changes in INGREDIENTS[method.name].items():
            changed = method.changed(f"{method.name}, {variant}", changes)
            variants += [(variant, changed)] if changed.settings != method.settings else []
        variants += [(f"without {each.name}", without(method, each)) for each in method.members]
    test = replace(tuned, methods=[method for _, method in variants])
    of = {method.name: (method.name.split(",")[0], variant) for variant, method in variants}
    found = averaged_draws(test.scores((RATE,), DRAWS))
    bases, changes = zip(*(of[name] for name in found.method), strict=True)
    return found.assign(method=bases, variant=changes)


def without(method: Method, member: Method) -> Method:
    """A method of members without one of them."""
    left = tuple(each for each in method.members if each != member)
    return replace(method, name=f"{method.name}, without {member.name}", members=left)


def few_labels(name: str, preset: Preset, seeds: Sequence[int], labels: int) -> pd.DataFrame:
    """Scores of our methods and their rivals after a few labels per class, and of a plainly trained GCN, `plain gcn`.

    Returns:
        Rows of `StressTest.scores`, with `labels`.
    """
    test = balance_test(name, preset, named(preset, OURS, SMALLER, *RIVALS), seeds, labels)
    plain = balance_test(name, preset, [baseline(preset, "gcn", "plain gcn")], seeds, labels, alike=False)
    return averaged_draws(pd.concat([one.scores((RATE,), DRAWS) for one in (test, plain)])).assign(labels=labels)


def other_labels(name: str, labels: Sequence[int]) -> pd.DataFrame:
    """Kept rows of `few_labels` for other numbers of labels per class."""
    try:
        kept = read_results(f"17_few-{name}")
    except FileNotFoundError:
        return pd.DataFrame()
    return kept[~kept.labels.isin(labels)]


def averaged_draws(scores: pd.DataFrame) -> pd.DataFrame:
    """Rows of `StressTest.scores`, with the draws of a corruption averaged."""
    by = [name for name in scores.columns if name not in ("score", "draw")]
    return scores.groupby(by, sort=False, dropna=False).score.mean().reset_index()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = command_line("better_balance", __doc__)
    parser.add_argument("--what", choices=("few", "ingredients", "uncertainty"), required=True, help="what is measured")
    parser.add_argument("--labels", type=int, nargs="+", default=[5], help="of each class, for few (default: 5)")
    options = parser.parse_args(arguments)
    preset, seeds = budget(options), range(options.seeds)
    for name in options.names:
        if options.what == "few":
            found = pd.concat(few_labels(name, preset, seeds, labels) for labels in options.labels)
            found = pd.concat([other_labels(name, options.labels), found], ignore_index=True)
        elif options.what == "ingredients":
            found = ingredients(name, preset, seeds)
        else:
            test = balance_test(name, preset, named(preset, *UNCERTAIN), seeds)
            found = uncertainties(test, RATE)
            save_results(test.coverage().assign(task=name), f"17_coverage-{name}")
        print(f"{name}: {save_results(found, f'17_{options.what}-{name}')}", flush=True)


if __name__ == "__main__":
    sys.exit(interruptible(main))
