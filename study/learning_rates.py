"""Does the best learning rate move with the number of experts, or with the width?

    python -m study.learning_rates cora chameleon

The question of "muP to MSSP", for the network with experts and without tokens (`routed`): every learning rate is tried
with every number of experts at the first width, and with every width at three experts; other settings are as validation
chose. The results are kept as `16_rates-<name>.csv` in `data/results/`. Finished runs are read back.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import pandas as pd

from stemlib.data.built_in import BUILT_IN
from stemlib.presets import PRESETS, Preset, change
from study.computing import add_device
from study.interrupt import interruptible
from study.protocols import PROTOCOLS, Protocol, protocol_of
from study.records import save_results
from study.router_comparison import EXPERIMENT, shifted
from study.trained import run

RATES = (5e-4, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2)
SIZES = (*((experts, 64) for experts in (1, 3, 6, 12)), (3, 32), (3, 128))  # experts, width


def rates(name: str, preset: Preset, protocol: Protocol, seeds: Sequence[int]) -> pd.DataFrame:
    """Validation and test score in per cent of every size and learning rate, seed by seed, inside the `ID` bucket."""
    task, rows = protocol.task(preset), []
    test = shifted(task, change(preset, hidden=SIZES[0][1]), protocol, seeds, ["uniform"])
    base = test.methods[0]
    for seed in seeds:
        inside, split, _ = test.drawn(seed)
        for experts, width in SIZES:
            for rate in RATES:
                method = base.changed(f"experts-{experts}", {"experts": experts, "hidden": width, "lr": rate})
                found = run(EXPERIMENT, inside, split.name, method, seed).metrics
                about = {"task": name, "seed": seed, "experts": experts, "width": width, "lr": rate}
                rows.append(about | {part: 100 * found[part] for part in ("val", "test")})
    return pd.DataFrame(rows).round({"val": 3, "test": 3})


def best_rates(frame: pd.DataFrame) -> pd.DataFrame:
    """The rate with the best mean validation score over seeds, by size (`width`, `experts`) and data set."""
    means = frame.groupby(["width", "experts", "task", "lr"]).val.mean().reset_index()
    best = means.loc[means.groupby(["width", "experts", "task"]).val.idxmax()]
    return best.pivot(index=["width", "experts"], columns="task", values="lr")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m study.learning_rates", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="+", choices=[BUILT_IN, *PROTOCOLS], metavar="NAME", help="of data sets")
    parser.add_argument("--preset", choices=list(PRESETS), default="laptop", help="the budget (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each (default: %(default)s)")
    add_device(parser)
    options = parser.parse_args(arguments)
    for name in options.names:
        found = rates(name, PRESETS[options.preset], protocol_of(name), range(options.seeds))
        print(f"{name}: {save_results(found, f'16_rates-{name}')}", flush=True)


if __name__ == "__main__":
    sys.exit(interruptible(main))
