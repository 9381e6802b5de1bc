"""Users' values in the library's own form: arrays, sparse tables and tensors of any type.

A `Reader` notes what it changed (`notes`) and what it cannot use (`problems`), so that all of it is reported at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from stemlib.data.tasks import UNLABELLED

NUMBERS = "biuf"  # as NumPy's kinds
EXACT = 2.0**53  # beyond it floats skip whole numbers
DENSE_LIMIT = 2**31  # entries of a sparse table that is made dense: 8 GiB


@dataclass
class Reader:
    """Reads values by their names; one that cannot be read becomes None and a problem.

    Attributes:
        problems: what cannot be used, by name, each with what to do.
        notes: what was changed on the way.
    """

    problems: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def numbers(self, name: str, value: Any) -> Tensor | None:
        """Any array of real numbers as a dense tensor of its own, on the CPU, without gradient."""
        if value is None:
            return None
        try:
            shape = getattr(value, "shape", ())
            if (scipy.sparse.issparse(value) or getattr(value, "layout", torch.strided) != torch.strided) and (
                np.prod(shape, dtype=float) > DENSE_LIMIT
            ):
                raise TypeError(f"sparse of {tuple(shape)}, too large to be made dense; reduce it first")
            if scipy.sparse.issparse(value):
                value = value.toarray()
            if not isinstance(value, Tensor):
                value = np.array(value)
                if value.dtype.kind not in NUMBERS:
                    raise TypeError(f"an array of {value.dtype}")
                value = torch.from_numpy(value)
            if value.is_complex() or value.is_quantized or value.is_meta or value.is_nested:
                raise TypeError(f"{value.dtype} on {value.device}")
            return value.detach().to_dense().cpu().clone(memory_format=torch.contiguous_format)
        except (TypeError, ValueError, RuntimeError, AttributeError) as error:
            kind = type(value).__name__
            self.problems[name] = f"`{name}` must be an array of real numbers, got {kind} ({error}); encode it first"
            return None

    def table(self, name: str, value: Any) -> Tensor | None:
        """Features `[n, d]` in float32; `[n]` is one column."""
        if (found := self.numbers(name, value)) is None:
            return None
        if found.dim() == 1:
            self.notes.append(f"`{name}` [{len(found)}] read as one column")
            found = found.unsqueeze(1)
        if found.dim() != 2:
            self.problems[name] = f"`{name}` must be a table [n, d], got {tuple(found.shape)}; flatten the rest"
            return None
        table = found.float()
        if found.dtype != table.dtype:
            self.notes.append(f"`{name}` converted from {found.dtype} to float32")
            if found.is_floating_point() and (found.isfinite() & table.isinf()).any():
                self.problems[name] = f"`{name}` has numbers beyond float32's range; scale it"
        return table

    def whole(self, name: str, value: Any) -> Tensor | None:
        """Whole numbers as int64, of any shape."""
        if (found := self.numbers(name, value)) is None or found.dtype == torch.long:
            return found
        if found.dtype == torch.bool:
            self.problems[name] = f"`{name}` must be whole numbers, got a mask; use .nonzero()"
            return None
        if found.is_floating_point() and not ((found == found.round()) & (found.abs() < EXACT)).all():
            self.problems[name] = f"`{name}` must be whole numbers, got {found.dtype} with fractions, NaN or infinity"
            return None
        if found.numel():
            self.notes.append(f"`{name}` converted from {found.dtype} to int64")
        return found.long()

    def pairs(self, name: str, value: Any) -> Tensor | None:
        """Pairs of nodes `[2, E]` as int64; `[E, 2]` is transposed."""
        if (found := self.whole(name, value)) is None:
            return None
        if found.dim() == 2 and found.size(0) != 2 and found.size(1) == 2:
            self.notes.append(f"`{name}` {list(found.shape)} transposed to [2, {len(found)}]")
            found = found.T
        if found.dim() != 2 or found.size(0) != 2:
            self.problems[name] = (
                f"`{name}` must be a long tensor [2, E] (source, target), got {tuple(found.shape)}; for no edges use "
                "shape [2, 0]"
            )
            return None
        return found.contiguous()

    def mask(self, name: str, value: Any, instances: int) -> Tensor | None:
        """A mask `[instances]` or `[instances, S]`; zeros and ones count as one, too."""
        if (found := self.numbers(name, value)) is None:
            return None
        if found.dim() not in (1, 2) or found.size(0) != instances or (found.dim() == 2 and not found.size(1)):
            shape = f"[{instances}] or [{instances}, S]"
            self.problems[name] = f"`{name}` must be {shape}, a row for every instance, got {tuple(found.shape)}"
            return None
        if found.dtype != torch.bool:
            if not ((found == 0) | (found == 1)).all():
                self.problems[name] = f"`{name}` must be boolean, got {found.dtype} with numbers other than 0 and 1"
                return None
            self.notes.append(f"`{name}` read as a mask from {found.dtype}")
        return found.bool()

    def labels(self, name: str, value: Any, regression: bool) -> tuple[Tensor | None, tuple[int | str, ...]]:
        """Labels as a `Task` has them, and the classes' own names, in the order of the numbers that stand for them.

        Whole numbers or strings `[M]` or `[M, 1]` are classes, with -1 (or NaN among floats) for none; floats of 0, 1
        and NaN are binary labels, `[M]` a single one; a `regression` has numbers.
        """
        if value is None:
            self.problems[name] = f"no labels: `{name}` is missing"
            return None, ()
        array = np.asarray(value, dtype=object) if isinstance(value, list | tuple) else value
        if isinstance(array, np.ndarray) and array.size and all(isinstance(one, str) for one in array.flat):
            if array.ndim == 0 or array.size != len(array):
                self.problems[name] = f"labels `{name}` that are names must be one column [M], got {array.shape}"
                return None, ()
            names, number = np.unique(array.astype(str), return_inverse=True)
            self.notes.append(f"`{name}`: {len(names)} class names, numbered from 0 in alphabetical order")
            return torch.from_numpy(number.reshape(-1)).long(), tuple(names.tolist())
        if (found := self.numbers(name, value)) is None:
            return None, ()
        if found.dim() not in (1, 2) or found.numel() == 0:
            self.problems[name] = (
                f"labels `{name}` must be classes [M], or binary labels or numbers [M, T], got {tuple(found.shape)}"
            )
            return None, ()
        if regression:
            if (found.double().abs() > torch.finfo(torch.float32).max).any() and not found.isinf().any():
                self.problems[name] = f"`{name}` has numbers beyond float32's range; give them in another unit"
            return found.double().reshape(len(found), -1), ()
        if found.is_floating_point():
            known = found[~found.isnan()]
            if ((known == 0) | (known == 1)).all() or (found.dim() == 2 and found.size(1) > 1):
                return found.float().reshape(len(found), -1), ()
            if not (known == known.round()).all() or known.isinf().any():
                self.problems[name] = (
                    f"labels `{name}` are neither classes (whole numbers) nor binary labels (0, 1, NaN where missing); "
                    "to predict numbers: `regression=True`"
                )
                return None, ()
            self.notes.append(f"`{name}` read as classes from {found.dtype}; any NaN as unlabelled")
            found = found.nan_to_num(UNLABELLED)
        if found.dim() == 2 and found.size(1) > 1:
            self.problems[name] = (
                f"`{name}` {list(found.shape)} of {found.dtype}: several binary labels must be floats (0, 1, NaN), "
                ".float(); classes must be one column: .argmax(1) where each row has one 1"
            )
            return None, ()
        return self._classes(name, found.long().reshape(-1))

    def names(self, value: Any) -> tuple[int | str, ...]:
        """Names of the classes among labels, in order: 0, 1, ... if they have no others; none for other labels."""
        found, names = (None, ()) if value is None else self.labels("y", value, regression=False)
        if found is None or found.dim() == 2:
            return ()
        return names or tuple(range(int(found.max()) + 1))

    def _classes(self, name: str, labels: Tensor) -> tuple[Tensor | None, tuple[int | str, ...]]:
        if int(labels.min()) < UNLABELLED:
            self.problems[name] = (
                f"class labels `{name}` go down to {int(labels.min())}; -1 means no label, classes are 0, 1, ..."
            )
            return None, ()
        unlabelled, ids = labels == UNLABELLED, labels[labels != UNLABELLED].unique()
        if not ids.numel():
            self.problems[name] = f"labels `{name}` are all {UNLABELLED}: nothing is labelled"
            return None, ()
        if unlabelled.any():
            self.notes.append(f"{int(unlabelled.sum())} of {len(labels)} instances are unlabelled")
        if int(ids[-1]) + 1 == len(ids):
            return labels, ()
        shown = ", ".join(map(str, ids[:5].tolist())) + (", ..." if len(ids) > 5 else "")
        self.notes.append(f"`{name}`: classes {shown} renumbered from 0 to {len(ids) - 1}; see `Task.class_names`")
        return torch.searchsorted(ids, labels).masked_fill(unlabelled, UNLABELLED), tuple(ids.tolist())
