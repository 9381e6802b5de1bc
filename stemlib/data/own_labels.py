"""Columns of a table as labels: classes, binary labels, numbers; what is blank, NaN or -1 is unknown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stemlib.data.feature_space import FeatureSpace
from stemlib.data.own_splits import rows_of, shown
from stemlib.data.raw_features import listed
from stemlib.data.readings import Reader
from stemlib.data.tasks import UNLABELLED

GAPS = ("NA", "N/A", "NaN", "nan", "null")  # words for a missing value, besides a blank


class Labels(NamedTuple):
    """Labels `[M]` or `[M, T]` as a `Task` has them, the classes' own names, and whether they are a regression's."""

    values: Tensor
    names: tuple[int | str, ...] = ()
    regression: bool = False


def column_labels(
    frame: pd.DataFrame, columns: Sequence[str], regression: bool | None, binary: bool, reader: Reader
) -> Labels | None:
    """The labels of a table's rows; None if they cannot be read, which is noted as a problem.

    Args:
        frame: a row for every instance.
        columns: one, or several binary labels or numbers.
        regression: whether they are numbers to predict; None: if there is a fraction among them.
        binary: whether a single column of 0 and 1 is a binary label (scored by ROC-AUC), not two classes.
        reader: takes notes and problems.
    """
    gaps = frame[list(columns)].isin(GAPS)
    if gaps.any(axis=None):
        words = shown(pd.unique(frame[list(columns)].to_numpy()[gaps.to_numpy()]))
        reader.notes.append(
            f"label {shown(columns)}: {words} means unknown, in {int(gaps.any(axis=1).sum())} rows; rename a class of "
            "that name"
        )
    table = frame[list(columns)].mask(gaps).replace(r"^\s*$", np.nan, regex=True)
    numbers = table.apply(pd.to_numeric, errors="coerce").astype(float)
    words = table.notna() & numbers.isna()
    if len(columns) == 1 and words.any(axis=None):
        return _classes(table[columns[0]].astype("string").str.strip().replace(str(UNLABELLED), pd.NA), reader)
    bad = words | numbers.abs().eq(np.inf)
    for column in table.columns[bad.any()]:
        reader.problems[f"label {column}"] = f"label {column!r} is not a finite number in {rows_of(frame, bad[column])}"
    if bad.any(axis=None):
        return None
    known = numbers.to_numpy()[numbers.notna().to_numpy()]
    if regression is None and (known != np.round(known)).any():
        regression = True
        reader.notes.append(f"label {shown(columns)}: numbers with fractions, so a regression")
    if regression:
        return Labels(torch.tensor(numbers.to_numpy()), regression=True)
    numbers = numbers.replace(UNLABELLED, np.nan)
    if (binary or len(columns) > 1) and (numbers.isna() | numbers.isin([0, 1])).all(axis=None):
        return Labels(torch.tensor(numbers.to_numpy(), dtype=torch.float32))
    if len(columns) > 1 or (known != np.round(known)).any():
        reader.problems["label"] = (
            f"labels {shown(columns)} are neither classes nor 0 and 1; to predict numbers: regression=True"
        )
        return None
    return _classes(numbers[columns[0]].astype("Int64"), reader)


def _classes(column: pd.Series, reader: Reader) -> Labels | None:
    """Classes numbered from 0 in the order of their names; those that are 0, 1, ... already keep no names."""
    code, names = pd.factorize(column, sort=True)
    if not len(names):
        reader.problems["label"] = (
            f"label {column.name!r} is blank, NaN or {UNLABELLED} in every row: nothing is labelled"
        )
        return None
    names = tuple(names.tolist())
    if names == tuple(range(len(names))):
        return Labels(torch.tensor(code).long())
    reader.notes.append(f"label {column.name!r}: {len(names)} classes, numbered from 0 in this order: {shown(names)}")
    return Labels(torch.tensor(code).long(), names)


def labels_by_space(
    name: str, value: Any, space: FeatureSpace, count: int, regression: bool, reader: Reader
) -> Tensor | None:
    """Labels as the numbers that a space has for its classes' names; unknown ones if there are no labels.

    Args:
        name: of the field, for problems.
        value: classes by their names, or labels as `Reader.labels` takes them; None for no labels.
        space: of the graph that a model was trained on.
        count: of instances.
        regression: whether they are numbers to predict.
        reader: takes problems: classes that the source does not have.
    """
    if value is None:
        return space.unknown(count, regression)
    if not space.class_names:
        return reader.labels(name, value, regression)[0]
    given = np.asarray(value)
    if given.size != len(given):
        reader.problems[name] = f"class labels `{name}` must be one column [M], got {given.shape}"
        return None
    given = pd.Series(given.reshape(-1), index=value.index if isinstance(value, pd.Series) else None)
    number = torch.from_numpy(pd.Index(space.class_names).get_indexer(given)).long()
    strange = given[(number < 0).numpy() & given.notna().to_numpy() & (given != UNLABELLED).to_numpy()]
    if len(strange):
        reader.problems[name] = (
            f"`{name}` has classes that the source lacks: {listed([str(one) for one in strange.unique()])} "
            f"({len(strange)} instances, first {strange.index[0]}); mark them {UNLABELLED} (no label) to leave them out"
        )
        return None
    return number
