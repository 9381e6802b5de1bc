"""Raw features in whatever form people have them, as numbers and texts by column; problems are reported by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from torch import Tensor

from stemlib.data.feature_source import CLOSE

SHOWN = 5  # names in a message


class Raw(NamedTuple):
    """Features of `n` rows.

    Attributes:
        numbers: `[n, F]` in 32 bits; None if there are only texts.
        columns: names of the columns of `numbers`; empty where they have none.
        texts: one for each row, joined from all columns of texts; None if there are none.
        names: of these columns; `("",)` for texts without a name.
    """

    numbers: scipy.sparse.csr_matrix | None
    columns: tuple[str, ...] = ()
    texts: list[str] | None = None
    names: tuple[str, ...] = ()


def read_raw(value: Any, of: str = "node") -> Raw:
    """Read a dense or sparse table, a DataFrame of numbers and texts, or a sequence of texts; messages name `of`.

    Raises:
        ValueError: another form; NaN, infinity or a blank text, by row and column.
    """
    if isinstance(value, pd.DataFrame):
        return _of_frame(value, of)
    if isinstance(value, Sequence | np.ndarray | pd.Series) and len(value) and all(isinstance(x, str) for x in value):
        return Raw(None, texts=_whole(list(value), of), names=("",))
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        if value.layout != torch.strided:
            value = value.to_sparse_coo().coalesce()
            shape, (indices, values) = tuple(value.shape), (value.indices().numpy(), value.values().numpy())
            value = scipy.sparse.coo_matrix((values, indices), shape=shape)
    rows = value if scipy.sparse.issparse(value) else np.asarray(value)
    if rows.ndim != 2 or rows.dtype.kind not in "biuf":
        raise ValueError(
            f"raw features must be a table of numbers [n, F], a DataFrame, or a list of texts; got "
            f"{type(value).__name__} of {rows.dtype} {tuple(rows.shape)}"
        )
    return Raw(_finite(scipy.sparse.csr_matrix(rows, dtype=np.float32), (), of))


def _of_frame(frame: pd.DataFrame, of: str) -> Raw:
    numbers = frame.select_dtypes(["number", "bool"])
    texts = frame.drop(columns=numbers.columns)
    words = texts.fillna("")
    if odd := [str(name) for name in words if not all(isinstance(one, str) for one in words[name])]:
        raise ValueError(f"columns that are neither numbers nor texts: {listed(odd)}; convert them")
    columns, names = (tuple(map(str, part.columns)) for part in (numbers, texts))
    rows = scipy.sparse.csr_matrix(numbers.to_numpy(np.float32, na_value=np.nan)) if columns else None
    joined = _whole(words.agg(", ".join, axis=1).tolist(), of) if names else None
    return Raw(None if rows is None else _finite(rows, columns, of), columns, joined, names)


def _whole(texts: list[str], of: str) -> list[str]:
    if blank := [row for row, text in enumerate(texts) if not text.strip(" ,")]:
        raise ValueError(f"{len(blank)} {of}s have no text, first {of} {blank[0]}; give them one, or leave them out")
    return texts


def _finite(rows: scipy.sparse.csr_matrix, columns: Sequence[str], of: str) -> scipy.sparse.csr_matrix:
    if not np.isfinite(rows.data).all():
        found = rows.tocoo()
        bad = ~np.isfinite(found.data)
        row, column = found.row[bad][0], found.col[bad][0]
        named = f"column {column}" + (f" ({columns[column]!r})" if columns else "")
        raise ValueError(
            f"{int(bad.sum())} values are NaN or infinite, first at {of} {row}, {named}; impute them as before "
            f"training, or leave these {of}s out"
        )
    return rows


def require_columns(raw: Raw, numbers: int, columns: tuple[str, ...], texts: tuple[str, ...]) -> None:
    """Refuse raw features whose columns are not those that a space was fitted on.

    Raises:
        ValueError: columns that are missing, added, in another order or of another number.
    """
    here, there = (*raw.columns, *raw.names), (*columns, *texts)
    width = 0 if raw.numbers is None else raw.numbers.shape[1]
    problems = []
    if raw.columns or columns or raw.names != texts:
        if bool(raw.columns) != bool(columns) and width and numbers:
            problems.append(
                f"no column names: the source's are {listed(columns)}; give a DataFrame"
                if columns
                else "the source's columns have no names; give an array in the same order"
            )
        else:
            missing = [name for name in there if name not in here]
            added = [name for name in here if name not in there]
            problems += [f"missing: {listed(missing)}"] * bool(missing) + [f"added: {listed(added)}"] * bool(added)
            if not problems and here != there:
                place = next(place for place, pair in enumerate(zip(here, there, strict=True)) if pair[0] != pair[1])
                problems.append(f"another order: {here[place]!r} is where the source has {there[place]!r}")
    elif width != numbers:
        problems.append(f"{width} columns, but the source has {numbers}")
    if problems:
        raise ValueError(f"columns differ from those that the space was fitted on; {'; '.join(problems)}")


def off_length(rows: scipy.sparse.csr_matrix) -> np.ndarray:
    """Which rows `[n]` have a length that is neither 0 nor 1."""
    length = np.sqrt(np.asarray(rows.multiply(rows).sum(1)).ravel())
    return (np.abs(length - 1) > CLOSE) & (length > CLOSE)


def of_length_one(rows: scipy.sparse.csr_matrix) -> bool:
    """Whether all nonzero rows have length one, as rows of counted words do; never so for a single column."""
    return rows.shape[1] > 1 and rows.nnz > 0 and not off_length(rows).any()


def require_length_one(rows: scipy.sparse.csr_matrix) -> None:
    """Refuse rows whose length is neither 0 nor 1, for a source that has no such rows.

    Raises:
        ValueError: how many, and the first of them.
    """
    if (off := off_length(rows)).any():
        raise ValueError(
            f"{int(off.sum())} rows have a length other than 1, first row {int(off.argmax())}; the source's all "
            "have length 1: scale these with torch.nn.functional.normalize"
        )


def listed(names: Sequence[str]) -> str:
    """The first few names."""
    shown = ", ".join(repr(name) if name else "texts" for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
