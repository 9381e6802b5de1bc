"""What a grid's finished runs have measured, kept as a table in `data/results/`."""

from __future__ import annotations

import warnings

import pandas as pd

from study.batch.jobs import collect
from study.records import read_results, save_results

RUN = ["task", "covariate", "method"]  # what one run of the grid measures, over all of its seeds
# A notebook's parameters, dropped because rows say the rest; `epochs` (0: the protocol's) is kept.
PARAMETERS = ["run", "finished", "preset", "dataset", "methods", "groups", "seeds", "draws"]


def refreshed(notebook: str, name: str, preset: str) -> pd.DataFrame:
    """The kept rows, with the preset's finished runs in place of older ones; saved again if there are any.

    Args:
        notebook: whose runs, such as `11_three_way_balance`.
        name: of the kept table, such as `stress`.
        preset: of the runs.

    Returns:
        Rows with `task`, `covariate`, `method`, `seed`, `epochs` and what was measured. Of several runs of a method the
        last one counts: the whole model is in every group of ablations.

    Raises:
        FileNotFoundError: no run is finished and none is kept.
    """
    try:
        runs = collect(notebook)
    except FileNotFoundError:
        return read_results(name)
    fresh = runs[runs.preset == preset]
    fresh = fresh.assign(epochs=fresh["epochs"].fillna(0).astype(int) if "epochs" in fresh else 0)
    fresh = fresh.sort_values(["finished", "run"], kind="stable")
    last = fresh.groupby(RUN).run.transform("last")
    fresh = fresh[fresh.run == last].drop(columns=PARAMETERS, errors="ignore")
    if fresh.empty:
        warnings.warn(f"no finished run of {notebook} has the preset {preset}: kept rows are read", stacklevel=2)
        return read_results(name)
    try:
        kept = read_results(name)
    except FileNotFoundError:
        rows = fresh
    else:
        older = pd.MultiIndex.from_frame(kept[RUN]).isin(pd.MultiIndex.from_frame(fresh[RUN]))
        rows = pd.concat([kept[~older], fresh], ignore_index=True)
    rows = rows.sort_values([*RUN, "seed"], kind="stable", ignore_index=True)
    save_results(rows, name)
    return rows
