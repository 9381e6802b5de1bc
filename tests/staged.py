"""Skips what needs public data that is not at hand."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from stemlib.data.public import DATA_SETS, data_set
from stemlib.data.tasks import Kind
from stemlib.paths import data_folder
from study.paths import DATA


def of_kind(kind: Kind) -> list[str]:
    """The names of the public data sets of one kind."""
    return [name for name, entry in DATA_SETS.items() if entry.kind == kind]


def staged(name: str) -> Path:
    """The raw folder of a data set; skips the test where it is not there, and never downloads."""
    folder = data_folder() / data_set(name).folder
    if not os.environ.get("STEMLIB_DATA"):
        pytest.skip(f"{name}: STEMLIB_DATA is not set")
    if not folder.is_dir():
        pytest.skip(f"{name}: {data_set(name).folder} is not in the folder that STEMLIB_DATA names")
    return folder


def published_splits(name: str) -> dict[str, str]:
    """The hashes of a data set's splits as `data/results/splits.csv` publishes them."""
    with (DATA / "results/splits.csv").open() as file:
        return {row["split"]: row["hash"] for row in csv.DictReader(file) if row["task"] == name}
