"""Splits of a user's own table: by a column that names the parts, by time, or by a draw of whole groups."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
import torch
from torch import Tensor

from stemlib.data.readings import Reader
from stemlib.data.tasks import PARTS, Split

RATIOS = (0.8, 0.1)  # to train, to validate; the rest tests
WORDS = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "dev": 1, "test": 2, "testing": 2}
SHOWN = 5
VALIDATION = 0.2  # share of the training part, if there is no validation part


def shown(items: Iterable[object]) -> str:
    """The first few of many, and how many there are."""
    items = list(items)
    more = f", ... ({len(items)} in all)" if len(items) > SHOWN else ""
    return ", ".join(map(str, items[:SHOWN])) + more


def rows_of(frame: pd.DataFrame | pd.Series, mask: pd.Series) -> str:
    """The rows where `mask` is true, as the name of the index (a file's lines, say), unless empty, and its values."""
    name = "row" if frame.index.name is None else frame.index.name
    return f"{name} {shown(frame.index[mask.to_numpy()])}".strip()


def ordered_split(order: Tensor, index: Tensor, name: str, ratios: tuple[float, float] = RATIOS) -> Split:
    """The instances `index` in ascending order of `order`: the first train, the last test; no part is empty.

    Args:
        order: a number for every instance, `[M]`; instances of the same number stay together.
        index: instances to split, sorted, `[n]`.
        name: of the split.
        ratios: shares to train and validate; equal numbers may make them smaller, and few different ones larger.

    Raises:
        ValueError: fewer than three different numbers.
    """
    values, place, count = order[index].unique(return_inverse=True, return_counts=True)
    if len(values) < len(PARTS):
        raise ValueError(f"split {name!r} needs {len(PARTS)} different values, one for each part; got {len(values)}")
    done = count.cumsum(0).double() / len(index)
    first = int((done <= ratios[0]).sum().clamp(1, len(values) - 2))
    second = int((done <= sum(ratios)).sum().clamp(first + 1, len(values) - 1))
    part = (place >= first).long() + (place >= second).long()
    return Split(name, *(index[part == number] for number in range(len(PARTS))))


def drawn_split(group: Tensor, index: Tensor, seed: int, ratios: tuple[float, float] = RATIOS) -> Split:
    """Whole groups at random: instances with the same number in `group` `[M]` stay together; as `ordered_split`."""
    order = torch.randperm(int(group.max()) + 1, generator=torch.Generator().manual_seed(seed))
    return ordered_split(order[group], index, f"random-{seed}", ratios)


def column_split(
    frame: pd.DataFrame, how: str, time: str, index: Tensor, reader: Reader, ratios: tuple[float, float] = RATIOS
) -> Split | None:
    """The split that a column of the table gives; None if it gives none, which is noted as a problem.

    Args:
        frame: a row for every instance.
        how: `time`, or the name of a column with the words train, val (or valid, validation, dev) and test; blank rows
            are left out.
        time: the column of numbers or dates that `time` sorts by; the oldest train.
        index: instances that have a label, sorted; others are left out.
        reader: takes notes and problems.
        ratios: of a split by time.
    """
    column = time if how == "time" else how
    if column not in frame:
        reader.problems["split"] = f"split={how!r} needs a column {column!r}; there are {shown(frame.columns)}"
        return None
    if how != "time":
        return _named_parts(frame[column], index, reader)
    found = frame[column]
    moment = pd.to_numeric(found, errors="coerce")
    if moment.isna().all():
        moment = pd.to_datetime(found, errors="coerce")
    wrong = moment.isna() & torch.isin(torch.arange(len(frame)), index).numpy()
    if wrong.any():
        reader.problems["split"] = f"column {column!r} has no number or date in {rows_of(frame, wrong)}"
        return None
    try:
        split = ordered_split(torch.tensor(moment.rank(method="dense").to_numpy()), index, "time", ratios)
    except ValueError as error:
        reader.problems["split"] = f"column {column!r}: {error}"
        return None
    ends = [found.iloc[getattr(split, part).numpy()[moment.iloc[getattr(split, part)].argmax()]] for part in PARTS]
    reader.notes.append(
        f"split by {column!r}: training up to {ends[0]}, validation up to {ends[1]}, test up to {ends[2]}"
    )
    return split


def _named_parts(column: pd.Series, index: Tensor, reader: Reader) -> Split | None:
    words = column.astype("string").str.strip().str.lower().replace("", pd.NA)
    number = words.map(WORDS)
    if (wrong := words.notna() & number.isna()).any():
        strange = ", ".join(map(repr, words[wrong].unique()[:3]))
        reader.problems["split"] = (
            f"column {column.name!r} must say train, val, test or nothing, got {strange} in {rows_of(column, wrong)}"
        )
        return None
    part = torch.tensor(number.fillna(-1).astype(int).to_numpy())
    unlabelled = int((part >= 0).sum() - (part[index] >= 0).sum())
    if unlabelled:
        reader.notes.append(f"{unlabelled} rows of the split {column.name!r} have no label and are left out")
    train, val, test = (index[part[index] == number] for number in range(len(PARTS)))
    if not len(val) and len(train) > 1:
        size = max(1, round(VALIDATION * len(train)))
        chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
        train, val = train[chosen[size:]].sort().values, train[chosen[:size]].sort().values
        reader.notes.append(f"column {column.name!r} names no validation part: {size} training rows are drawn for it")
    reader.notes.append(
        f"split by {column.name!r}: {len(train)} to train, {len(val)} to validate, {len(test)} to test, "
        f"{len(column) - len(train) - len(val) - len(test)} left out"
    )
    return Split("own", train, val, test)
