"""A user's own molecules as a task: labels, or numbers, of SMILES strings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import torch
from rdkit.Chem import CanonSmiles
from torch import Tensor

from stemlib.data.checks import checked
from stemlib.data.feature_space import FeatureSpace
from stemlib.data.features import TFIDF
from stemlib.data.molecules import MOLECULE, featured
from stemlib.data.own_labels import Labels, column_labels, labels_by_space
from stemlib.data.own_splits import column_split, drawn_split, ordered_split, rows_of, shown
from stemlib.data.readings import Reader
from stemlib.data.smiles import Molecules, molecules, scaffold_split
from stemlib.data.tasks import Split, Task, split_problems


def from_smiles(
    frame: pd.DataFrame,
    *,
    target: str | Sequence[str],
    smiles: str = "smiles",
    name: str = "own-molecules",
    split: str | None = None,
    time: str = "time",
    regression: bool | None = None,
    encoder: str = TFIDF,
    width: int = 128,
    seed: int = 0,
    space: FeatureSpace | None = None,
) -> Task:
    """Make a task from molecules; strings that RDKit cannot parse are left out and named by row.

    Args:
        frame: a row for every molecule.
        target: the column, or columns, of labels: 0 and 1, classes, or numbers; blank where unknown.
        smiles: the column of strings.
        name: as in file names.
        split: `scaffold`, `random` (copies of a molecule in one part), `time` (by that column), or a column that says
            train, val or test. By default the column `split` if there is one, otherwise `scaffold`. If a part of
            the scaffold split cannot be scored, as in a series of close relatives, the rarest scaffolds test instead;
            if that does not help either, the split is random.
        time: the column of numbers or dates.
        regression: whether targets are numbers to predict; by default those with fractions are.
        encoder: of the words for atoms and bonds.
        width: of the features.
        seed: of a random split.
        space: of the molecules that a model was trained on, in place of encoder and width; classes get the numbers that
            it has for their names, and the target may be missing (then there is no split).

    Returns:
        The task; `graph.about` keeps the strings (`smiles`) and the rows (`row`) of the molecules that were read.

    Raises:
        ValueError: all problems of the table, one a line, each with its rows.
    """
    reader, targets = Reader(), [target] if isinstance(target, str) else list(target)
    needed = [smiles] if space is not None else [smiles, *targets]
    if missing := [column for column in needed if column not in frame]:
        raise ValueError(f"no column {shown(missing)} in the molecules, only {shown(frame.columns)}")
    strings = frame[smiles].astype("string").fillna("").str.strip().tolist()
    parsed = molecules(strings, name)
    if len(parsed.failed):
        rows = [f"{frame.index[row]}: {strings[row] or 'blank'}" for row in parsed.failed.tolist()]
        reader.notes.append(
            f"{len(rows)} of {len(strings)} molecules are left out, as RDKit cannot parse them: "
            f"{frame.index.name or 'row'} {'; '.join(rows)}"
        )
    kept = frame.iloc[parsed.rows.numpy()]
    same = _same([strings[row] for row in parsed.rows.tolist()])
    labels = _labels(kept, targets, regression, space, reader)
    splits = {}
    if labels is not None:
        graph = featured(parsed, strings, width, encoder, name, space)
        task = Task(
            name=name,
            kind="graph",
            graph=replace(graph, about={**graph.about, "row": kept.index.tolist()}),
            labels=labels.values,
            splits={},
            description=f"{MOLECULE} The user's own molecules {name!r}.",
            regression=labels.regression,
            class_names=labels.names,
        )
        how = split or ("split" if "split" in frame else "scaffold")
        if space is not None and not len(task.labelled()):
            drawn = None
        elif how in ("scaffold", "random"):
            drawn = _drawn(task, parsed, same, how, seed, reader)
        else:
            drawn = column_split(kept, how, time, task.labelled(), reader)
        splits = {} if drawn is None else {drawn.name: drawn}
    if reader.problems:
        raise ValueError("\n  - ".join([f"the molecules of {name!r} cannot be used:", *reader.problems.values()]))
    notes = (*reader.notes, *_repeats(kept, same, *splits.values()))
    task = checked(replace(task, splits=splits, notes=notes))
    return replace(task, checksum=task.content)


def _labels(
    kept: pd.DataFrame, targets: Sequence[str], regression: bool | None, space: FeatureSpace | None, reader: Reader
) -> Labels | None:
    """Labels of the columns; with a space, numbered as its classes are, and unknown if a column is missing."""
    there = set(targets) <= set(kept)
    if space is None or (there and not space.class_names):
        return column_labels(kept, targets, regression, True, reader)
    value = kept[targets[0]] if there else None
    values = labels_by_space(f"label {targets[0]}", value, space, len(kept), bool(regression), reader)
    return None if values is None else Labels(values, space.own_names, bool(regression))


def _same(strings: Sequence[str]) -> Tensor:
    """A number for each string, the same for the same molecule, `[G]`."""
    return torch.tensor(pd.factorize(pd.Series([CanonSmiles(one) for one in strings]))[0]).long()


def _drawn(task: Task, parsed: Molecules, same: Tensor, how: str, seed: int, reader: Reader) -> Split | None:
    """The first split whose parts can all be scored: by scaffold, with the rarest scaffolds to test, or at random."""
    known = task.labelled()
    _, place, count = parsed.scaffold.unique(return_inverse=True, return_counts=True)
    rarity = torch.unique(torch.stack([-count[place], parsed.scaffold]), dim=1, return_inverse=True)[1]
    makers = {
        "scaffold": lambda: _of(scaffold_split(parsed.scaffold[known]), known),
        "rare-scaffolds": lambda: ordered_split(rarity, known, "rare-scaffolds"),
        "random": lambda: drawn_split(same, known, seed),
    }
    for name in makers if how == "scaffold" else ["random"]:
        try:
            found = makers[name]()
            trouble = split_problems(task, found)
        except ValueError as error:
            trouble = [str(error)]
        if not trouble:
            reader.notes.append(f"split {found.name!r} is drawn: 80/10/10")
            return found
        reader.notes.append(f"no split by {name}: {trouble[0]}")
    reader.problems["split"] = f"no split can be drawn: {trouble[0]}"
    return None


def _of(split: Split, index: Tensor) -> Split:
    """A split of the positions in `index` as a split of the instances there."""
    return Split(split.name, index[split.train], index[split.val], index[split.test])


def _repeats(kept: pd.DataFrame, same: Tensor, *splits: Split) -> list[str]:
    """A note on molecules that occur more than once."""
    again = pd.Series(same.numpy()).duplicated()
    if not again.any():
        return []
    shared = max((torch.isin(same[one.test], same[one.train]).double().mean().item() for one in splits), default=0)
    leak = f"; {shared:.1%} of the test are also in training" if shared else ""
    return [f"{int(again.sum())} molecules repeat earlier ones; all are kept: {rows_of(kept, again)}{leak}"]
