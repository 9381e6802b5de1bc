"""Splits: sizes, disjointness, the reference's draws (their numbers are held in `test_parity.py`)."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import few

from stemlib.data.splits import few_labels, per_class_split, stratified_split, within
from stemlib.data.tasks import PARTS, Split


def covers(split: Split, index: torch.Tensor) -> bool:
    """Whether the parts are sorted, disjoint and together the index."""
    parts = [getattr(split, part) for part in PARTS]
    ordered = all((part.diff() > 0).all() for part in parts)
    return ordered and torch.equal(torch.cat(parts).sort().values, index.sort().values)


@few
@given(st.lists(st.integers(3, 30), min_size=1, max_size=4), st.integers(0, 1000), st.integers(0, 2**31))
def test_every_class_is_split_50_25_25(sizes: list[int], unused: int, seed: int) -> None:
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    labels = torch.cat([labels, torch.full((unused,), 99)])  # instances outside the index do not matter
    index = torch.randperm(sum(sizes), generator=torch.Generator().manual_seed(seed))
    split = stratified_split(index, labels, seed)
    assert covers(split, index)
    for label, size in enumerate(sizes):
        train, val, test = (int((labels[getattr(split, part)] == label).sum()) for part in PARTS)
        assert (train, val) == (max(1, math.floor(size / 2)), max(1, math.floor(size / 4)))
        assert test == size - train - val >= 1


def test_the_seed_decides_and_the_name_says_it() -> None:
    labels = torch.arange(40) % 2
    index = torch.arange(40)
    state = torch.get_rng_state()
    split = stratified_split(index, labels, seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert split.name == "stratified-4"
    assert stratified_split(index, labels, seed=4, name="inside").hash == split.hash
    assert stratified_split(index, labels, seed=5).hash != split.hash


def test_one_class_by_hand() -> None:
    """The permutation is applied to the members in the order of the index."""
    index = torch.tensor([9, 5, 7, 1])
    order = torch.randperm(4, generator=torch.Generator().manual_seed(0))
    shuffled = index[order].tolist()
    split = stratified_split(index, torch.zeros(10, dtype=torch.long), seed=0)
    assert split.train.tolist() == sorted(shuffled[:2])
    assert split.val.tolist() == shuffled[2:3]
    assert split.test.tolist() == shuffled[3:]


def test_one_binary_label_is_split_as_two_classes() -> None:
    classes = torch.arange(40) % 2
    labels = classes.float().unsqueeze(1)
    labels[30:] = float("nan")  # outside the index, so no matter
    index = torch.arange(30)
    assert stratified_split(index, labels, seed=3).hash == stratified_split(index, classes, seed=3).hash


@pytest.mark.parametrize(
    ("index", "labels", "message"),
    [
        ([], [0, 1], "no instances to split: the bucket is empty"),
        ([0, 1, 2, 3, 4], [0, 0, 0, 1, 1], "class 1 has 2 instances .* needs 3 .*; merge or drop it"),
        ([0, 1], [[0.0, 1.0], [1.0, 0.0]], r"one label per instance, .*, got \(2, 2\); several labels"),
        ([0, 1, 2], [[0.0], [float("nan")], [1.0]], r"1 of 3 instances to split have no label \(NaN\)"),
        ([0, 1, 2, 3, 4], [[0.0], [0.0], [0.0], [1.0], [1.0]], "class 1 has 2 instances"),
    ],
)
def test_what_cannot_be_split_is_refused(index: list[int], labels: list[object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stratified_split(torch.tensor(index, dtype=torch.long), torch.tensor(labels), seed=0)


def test_a_fixed_number_per_class_as_in_planetoid() -> None:
    labels = torch.arange(300) % 7
    split = per_class_split(labels, seed=2, per_class=20, val=50)
    assert covers(split, torch.arange(300))
    assert labels[split.train].bincount().tolist() == [20] * 7
    assert (split.name, len(split.val), len(split.test)) == ("draw-2", 50, 110)
    assert per_class_split(labels, seed=2, per_class=20, val=50, name="again").hash == split.hash
    assert per_class_split(labels, seed=3, per_class=20, val=50).hash != split.hash


def test_a_fixed_number_per_class_that_leaves_none_is_refused() -> None:
    labels = torch.tensor([0] * 10 + [1] * 5)
    with pytest.raises(ValueError, match="class 1 has 5 instances; 5 to train leave none"):
        per_class_split(labels, seed=0, per_class=5, val=1)
    with pytest.raises(ValueError, match="7 instances are left after training; 7 to validate leave none"):
        per_class_split(labels, seed=0, per_class=4, val=7)


def test_a_split_is_narrowed_part_by_part() -> None:
    split = Split("whole", torch.arange(6), torch.arange(6, 9), torch.arange(9, 12))
    narrowed = within(split, torch.tensor([10, 2, 7, 3]), "inside")
    assert (narrowed.name, narrowed.train.tolist()) == ("inside", [2, 3])
    assert (narrowed.val.tolist(), narrowed.test.tolist()) == ([7], [10])
    with pytest.raises(ValueError, match="split 'whole' has no val and no test instances among the chosen ones"):
        within(split, torch.arange(6), "inside")


def test_few_labels_are_few_to_train_and_to_validate() -> None:
    labels = torch.tensor([0] * 20 + [1] * 20 + [2] * 2 + [0, 1] * 16)
    split = Split("whole", torch.arange(42), torch.arange(42, 60), torch.arange(60, 74))
    thinned = few_labels(split, labels, 5, seed=1)
    whole = few_labels(split, labels, 5, seed=1, whole_validation=True)
    assert whole.name == "whole-5-per-class-whole-validation"
    assert torch.equal(whole.train, thinned.train)
    assert torch.equal(whole.val, split.val)
    assert torch.equal(whole.test, split.test)
    assert labels[thinned.val].bincount().tolist() == [5, 5]
    assert set(thinned.val.tolist()) < set(split.val.tolist())
    assert thinned.name == "whole-5-per-class"
    assert labels[thinned.train].bincount().tolist() == [5, 5, 2]
    assert (thinned.train.diff() > 0).all()
    assert torch.equal(thinned.test, split.test)
    assert few_labels(split, labels, 5, seed=1).hash == thinned.hash != few_labels(split, labels, 5, seed=2).hash
    assert set(few_labels(split, labels, 3, seed=1).train.tolist()) < set(thinned.train.tolist())
    with pytest.raises(ValueError, match="per_class must be at least 1, got 0"):
        few_labels(split, labels, 0, seed=1)


def test_few_of_several_binary_labels_are_known_positives_and_negatives_of_each() -> None:
    nan = float("nan")
    labels = torch.tensor([[1, 0], [0, 1], [nan, 1], [0, nan], [1, 0], [nan, nan], [0, 0], [0, 0]])
    split = Split("whole", torch.arange(6), torch.tensor([6]), torch.tensor([7]))
    for seed in range(20):
        chosen = labels[few_labels(split, labels, 1, seed).train]
        for column in chosen.T:
            assert (column == 0).any()
            assert (column == 1).any()
        assert not chosen.isnan().all(1).any()
