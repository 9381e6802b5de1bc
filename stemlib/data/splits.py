"""Which instances train, validate and test, as the reference draws them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stemlib.data.tasks import MIN_PER_CLASS, PARTS, Split

RATIOS = (0.5, 0.25)  # of a class: training, validation; the rest tests


def stratified_split(index: Tensor, labels: Tensor, seed: int, name: str | None = None) -> Split:
    """50/25/25 within every class, rounded down, the rest to test; at least one in each part.

    Reproduces the reference's draws: classes in ascending order, one permutation each from one generator,
    applied to the class's members in the order in which `index` lists them.

    Args:
        index: instances to split, `[n]`.
        labels: classes of all instances, `[M]`, or one binary label of each, `[M, 1]`.
        seed: of the permutations.
        name: of the split; `stratified-<seed>` where not given.

    Raises:
        ValueError: nothing to split, several labels per instance, a missing label, or a class with fewer than 3
            instances.
    """
    if labels.dim() == 2 and labels.size(1) == 1:
        labels = labels.squeeze(1)
    if labels.dim() != 1:
        raise ValueError(
            f"a stratified split needs one label per instance, [M] or [M, 1], got {tuple(labels.shape)}; several "
            "labels each define no classes: keep one column, or one of the task's own splits, with `own_split`"
        )
    if index.numel() == 0:
        raise ValueError("no instances to split: the bucket is empty")
    if missing := int(labels[index].isnan().sum()):
        raise ValueError(f"{missing} of {index.numel()} instances to split have no label (NaN); leave them out")
    generator = torch.Generator().manual_seed(seed)
    parts: list[list[Tensor]] = [[], [], []]
    for label in labels[index].unique().tolist():
        members = index[labels[index] == label]
        size = members.numel()
        if size < MIN_PER_CLASS:
            raise ValueError(
                f"class {label:g} has {size} instances among those to split, but needs {MIN_PER_CLASS} "
                "(one each to train, validate and test); merge or drop it"
            )
        train, val = (max(1, math.floor(size * ratio)) for ratio in RATIOS)
        shuffled = members[torch.randperm(size, generator=generator)]
        for part, chunk in zip(parts, shuffled.split([train, val, size - train - val]), strict=True):
            part.append(chunk)
    train, val, test = (torch.cat(part).sort().values for part in parts)
    return Split(name or f"stratified-{seed}", train, val, test)


def per_class_split(
    labels: Tensor, seed: int, *, per_class: int = 20, val: int = 500, name: str | None = None
) -> Split:
    """`per_class` training instances of every class, `val` for validation, all the rest to test.

    The form of Planetoid's public splits, drawn anew: with 7 classes 140/500/rest.

    Raises:
        ValueError: a class is too small, or nothing is left to test.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(labels.numel(), generator=generator)
    chosen = []
    for label in labels.unique().tolist():
        members = order[labels[order] == label]
        if members.numel() <= per_class:
            raise ValueError(f"class {label} has {members.numel()} instances; {per_class} to train leave none")
        chosen.append(members[:per_class])
    train = torch.cat(chosen)
    rest = order[~torch.isin(order, train)]
    if rest.numel() <= val:
        raise ValueError(f"{rest.numel()} instances are left after training; {val} to validate leave none to test")
    return Split(name or f"draw-{seed}", train.sort().values, rest[:val].sort().values, rest[val:].sort().values)


def within(split: Split, index: Tensor, name: str) -> Split:
    """The split's parts, narrowed to the instances `index`.

    Raises:
        ValueError: a part has none of them.
    """
    parts = {part: getattr(split, part) for part in PARTS}
    narrowed = {part: members[torch.isin(members, index)] for part, members in parts.items()}
    if empty := [part for part, members in narrowed.items() if not members.numel()]:
        raise ValueError(f"split {split.name!r} has no {' and no '.join(empty)} instances among the chosen ones")
    return Split(name, **narrowed)


def few_labels(split: Split, labels: Tensor, per_class: int, seed: int, whole_validation: bool = False) -> Split:
    """The split with `per_class` training instances of every class, and as many to validate; the test stays as it is.

    Classes with fewer keep all they have. Each of several binary labels gives `per_class` positives and as many
    negatives; a regression, whose `Task.strata` are one class, gives `per_class`. An instance chosen for one
    label trains all of them.

    Args:
        split: whose training and validation parts are thinned.
        labels: classes `[M]`, or binary labels `[M, T]` with NaN where missing; see `Task.strata`.
        per_class: how many, at least 1.
        seed: of the draw.
        whole_validation: whether all of the validation part is kept, however many labels that takes, as is common:
            on Cora fourteen times as many as the 35 to train on with five labels per class.

    Raises:
        ValueError: `per_class` below 1.
    """
    if per_class < 1:
        raise ValueError(f"per_class must be at least 1, got {per_class}")
    generator = torch.Generator().manual_seed(seed)

    def thinned(part: Tensor) -> Tensor:
        order = part[torch.randperm(part.numel(), generator=generator)]
        columns = labels[order].reshape(order.numel(), -1)
        known = [(column, column[~column.isnan()].unique()) for column in columns.T]
        return torch.cat([order[column == label][:per_class] for column, found in known for label in found]).unique()

    name, train = f"{split.name}-{per_class}-per-class", thinned(split.train)
    if whole_validation:
        return Split(f"{name}-whole-validation", train, split.val, split.test)
    return Split(name, train, thinned(split.val), split.test)
