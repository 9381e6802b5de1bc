from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from stemlib import files as cache

VALUES = {"x": torch.arange(6.0).view(2, 3), "n": torch.tensor([3])}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path)
    return tmp_path


def never() -> dict[str, torch.Tensor]:
    raise AssertionError("made again")


def test_what_is_stored_is_read_and_not_made_again(folder: Path) -> None:
    made = cache.cached("a", {"seed": 1}, lambda: VALUES)
    read = cache.cached("a", {"seed": 1}, never)
    assert made.keys() == read.keys()
    assert all(torch.equal(made[key], read[key]) for key in made)


def test_another_origin_is_another_file(folder: Path) -> None:
    cache.cached("a", {"seed": 1}, lambda: VALUES)
    with pytest.raises(AssertionError, match="made again"):
        cache.cached("a", {"seed": 2}, never)


@pytest.mark.parametrize("damage", ["cut", "empty", "one bit"])
def test_a_damaged_file_is_noticed_and_made_again(folder: Path, damage: str) -> None:
    cache.cached("a", {}, lambda: VALUES)
    (file,) = folder.iterdir()
    content = bytearray(file.read_bytes())
    if damage == "one bit":
        content[-1] ^= 1
    file.write_bytes(content[: {"cut": len(content) // 2, "empty": 0}.get(damage)])
    with pytest.warns(UserWarning, match="damaged"):
        again = cache.cached("a", {}, lambda: VALUES)
    assert torch.equal(again["x"], VALUES["x"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.cached("a", {}, never)


def test_digests_tell_shape_type_and_order_apart() -> None:
    x = torch.arange(4)
    others = [x.view(2, 2), x.float(), x.flip(0), x.int()]
    assert len({cache.digest(value) for value in [x, *others]}) == 5
    assert cache.digest({"a": 1, "b": 2}) == cache.digest({"b": 2, "a": 1})
