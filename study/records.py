"""One finished run, one record: what came out, and from what. It is complete or absent.

runs/<experiment>/<task>-<split>-<model>-<key>/seed-<s>/
    record.json       settings, metrics, seconds, versions, checksums; written last
    history.csv       one row per epoch
    model.*           the weights (safetensors) and their settings
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stemlib import __version__
from stemlib.files import installed_versions, write_atomically
from study.paths import DATA, ROOT, RUNS, run_folder

HOW_RESULTS_ARE_MADE = "docs/running.md has the commands that make them"
LONGEST_CSV = 5000  # rows of a kept table
KEPT = ("laptop", "paper")  # the presets whose results are kept in `data/results/`


@dataclass(frozen=True)
class Record:
    """The results of one trained model.

    Attributes:
        experiment: which experiment the run belongs to.
        task: name of the task.
        split: name of the split; `split_hash` tells it from another of that name.
        model: short name of the model.
        seed: of initialisation, noise and batches.
        settings: all settings of model and training.
        metrics: by part (`train`, `val`, `test`), and `test_best`: the best test score of any epoch, which selection
            on test would have reported. `test_filtered`, where training gives some of the test away, is the score
            without that; see `stemlib.data.leaks.filtered`.
        selection: how the reported epoch was chosen.
        best_epoch: the epoch reported.
        epochs: how many were run.
        seconds: of training.
        peak_memory_mb: of the whole process so far.
        parameters: number of trained ones.
        versions: of the packages that matter.
        data_checksum: of where the task's data came from.
        content: of every value of the task, see `stemlib.data.tasks.Task.content`.
        threads: how many PyTorch had: sums in another order differ in their bits.
        device: the one that it ran on.
        library: version of `stemlib`.
    """

    experiment: str
    task: str
    split: str
    split_hash: str
    model: str
    seed: int
    settings: dict[str, Any]
    metrics: dict[str, float]
    best_epoch: int
    epochs: int
    seconds: float
    peak_memory_mb: float
    parameters: int
    data_checksum: str
    content: str
    threads: int
    device: str = "cpu"
    library: str = __version__
    selection: str = "validation"
    versions: dict[str, str] = dataclasses.field(default_factory=lambda: installed_versions())


def write_record(folder: Path, record: Record, history: pd.DataFrame) -> None:
    """Write history, then record: the record's presence says that the run is finished."""
    with write_atomically(folder / "history.csv") as temporary:
        history.to_csv(temporary, index=False)
    with write_atomically(folder / "record.json") as temporary:
        temporary.write_text(json.dumps(dataclasses.asdict(record), indent=2))


def read_record(folder: Path) -> Record | None:
    """The record of a finished run; None where the run is not finished.

    Raises:
        ValueError: the record was damaged or written by another version.
    """
    file = folder / "record.json"
    if not file.is_file():
        return None
    try:
        return Record(**json.loads(file.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file} is not a record of this version ({error}); delete its folder") from None


def table(records: list[Record]) -> pd.DataFrame:
    """One row per record: identity, metrics (in per cent), epochs, seconds, the split's `hash`."""
    rows = [
        {name: getattr(record, name) for name in ("task", "split", "model", "seed")}
        | {name: 100 * value for name, value in record.metrics.items()}
        | {"best_epoch": record.best_epoch, "epochs": record.epochs, "seconds": record.seconds}
        | {"hash": record.split_hash}
        for record in records
    ]
    return pd.DataFrame(rows)


def save_finding(notebook: str, headline: str, figures: list[Path], records: list[Path] | None = None) -> None:
    """What a notebook found, for the closing lines of the study: `runs/findings/<notebook>.json`.

    A run with other parameters keeps it in its own folder.
    """
    finding = {
        "headline": headline,
        "figures": [os.path.relpath(path, ROOT) for path in figures],
        "records": [str(path) for path in records or []],
    }
    run = run_folder()
    path = run / "finding.json" if run else RUNS / "findings" / f"{notebook}.json"
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(finding, indent=2))


def save_run(metrics: pd.DataFrame, history: pd.DataFrame | None = None) -> None:
    """Keep a run's `metrics.json` and `history.csv`, where it has a folder of its own, as a job of a grid has.

    Args:
        metrics: one row per thing measured, such as a seed under a condition. `study.batch.jobs.collect` gives these
            rows back, with the job's parameters as further columns.
        history: one row per epoch, with the seed as a column, where the run trained something.

    Raises:
        ValueError: there is no row.
    """
    if metrics.empty:
        raise ValueError("the run has no metrics: save_run got a table without rows")
    if (folder := run_folder()) is None:
        return
    if history is not None:
        with write_atomically(folder / "history.csv") as temporary:
            history.to_csv(temporary, index=False)
    rows = metrics.astype(object).where(metrics.notna(), None).to_dict("records")  # JSON has no NaN
    with write_atomically(folder / "metrics.json") as temporary:
        temporary.write_text(json.dumps(rows, indent=1))


def save_results(frame: pd.DataFrame, name: str) -> Path:
    """Keep a table under `data/results/`, where notebooks and readers find it without running: CSV, four decimals.

    A run with other parameters keeps it in its own folder instead. A long table is kept as `<name>.parquet`: a tenth
    of the size.
    """
    long = len(frame) > LONGEST_CSV
    path = (run_folder() or DATA) / "results" / f"{name}.{'parquet' if long else 'csv'}"
    with write_atomically(path) as temporary:
        if long:
            frame.to_parquet(temporary, index=False)
        else:
            frame.to_csv(temporary, index=False, float_format="%.4f")
    path.with_suffix(".csv" if long else ".parquet").unlink(missing_ok=True)  # an earlier one, of another length
    return path


def kept_results(name: str, own: pd.DataFrame) -> pd.DataFrame:
    """A table that `save_results` kept; while there is none, a run's own, with a message."""
    try:
        return read_results(name)
    except FileNotFoundError:
        print(f"no results {name!r} are kept yet: this run's own are shown")
        return own


def read_results(name: str) -> pd.DataFrame:
    """A table that `save_results` kept.

    Raises:
        FileNotFoundError: there is none of that name.
    """
    path = DATA / "results" / f"{name}.csv"
    if path.with_suffix(".parquet").is_file():
        return pd.read_parquet(path.with_suffix(".parquet"))
    if not path.is_file():
        raise FileNotFoundError(f"no results {name!r} in {path.parent}; {HOW_RESULTS_ARE_MADE}")
    return pd.read_csv(path)


def read_all_results(name: str) -> pd.DataFrame:
    """The tables that `save_results` kept as `<name>-<any>`, by name, one below the other.

    Raises:
        FileNotFoundError: there is none.
    """
    files = {file.stem for file in (DATA / "results").glob(f"{name}-*") if file.suffix in (".csv", ".parquet")}
    if not files:
        raise FileNotFoundError(f"no results '{name}-...' in {DATA / 'results'}; {HOW_RESULTS_ARE_MADE}")
    return pd.concat([read_results(file) for file in sorted(files)], ignore_index=True)
