"""Checked files: what is read is what was written, or it is refused; caches are made again."""

from __future__ import annotations

import pickle
import random
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import few

from stemlib import cache
from stemlib.cache import read_checked, write_checked

VALUES = {"x": torch.arange(6.0).view(2, 3), "n": torch.tensor([3])}
DAMAGES = ["cut", "empty", "longer", *range(200)]  # a number: of the draw of one bit that is flipped


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path)
    return tmp_path


def never() -> dict[str, torch.Tensor]:
    raise AssertionError("made again")


def damaged(content: bytes, how: str | int) -> bytes:
    if how == "longer":
        return content + b"\0"
    if isinstance(how, str):
        return content[: len(content) // 2 if how == "cut" else 0]
    flipped, draw = bytearray(content), random.Random(how)
    flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(flipped)


def test_what_is_stored_is_read_and_not_made_again(folder: Path) -> None:
    made = cache.cached("a", {"seed": 1}, lambda: VALUES)
    read = cache.cached("a", {"seed": 1}, never)
    assert made.keys() == read.keys()
    assert all(torch.equal(made[key], read[key]) for key in made)


def test_another_origin_is_another_file(folder: Path) -> None:
    cache.cached("a", {"seed": 1}, lambda: VALUES)
    with pytest.raises(AssertionError, match="made again"):
        cache.cached("a", {"seed": 2}, never)


def test_a_damaged_cache_is_noticed_and_made_again(folder: Path) -> None:
    cache.cached("a", {}, lambda: VALUES)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    for how in DAMAGES:
        file.write_bytes(damaged(whole, how))
        with pytest.warns(UserWarning, match=f"{file} is damaged: making it again"):
            again = cache.cached("a", {}, lambda: VALUES)
        assert torch.equal(again["x"], VALUES["x"])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            cache.cached("a", {}, never)


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.randn(40, 30))
    optimiser = torch.optim.AdamW([weight])
    weight.square().sum().backward()
    optimiser.step()
    file = tmp_path / "state"
    write_checked(file, {"weight": weight.detach(), "optimiser": optimiser.state_dict(), "losses": [0.5, 0.25]})
    whole = file.read_bytes()
    for how in DAMAGES:
        file.write_bytes(damaged(whole, how))
        with pytest.raises(ValueError, match=r"state is damaged: .*sha256; delete it to start over"):
            read_checked(file)


class Trap:
    """Unpickling it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_no_code_is_ever_unpickled(tmp_path: Path) -> None:
    mark, file = tmp_path / "unpickled", tmp_path / "state"
    torch.save(Trap(mark), file)
    torch.load(file, weights_only=False)
    assert mark.exists()  # the trap works
    mark.unlink()
    with pytest.raises(ValueError, match="is damaged"):
        read_checked(file)
    write_checked(file, Trap(mark))
    with pytest.raises(pickle.UnpicklingError):
        read_checked(file)
    assert not mark.exists()


tensors = st.builds(
    lambda shape, dtype, seed: (
        100 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    ).to(dtype),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from([torch.float, torch.double, torch.long, torch.uint8, torch.bool]),
    st.integers(0, 100),
)
values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4) | tensors
keys = st.text(max_size=3) | st.integers(-3, 3)
states = st.dictionaries(
    keys,
    st.recursive(
        values,
        lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(keys, inner, max_size=3),
    ),
)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@few
@given(states)
def test_a_nested_state_comes_back_bit_by_bit(tmp_path_factory: pytest.TempPathFactory, state: Any) -> None:
    file = tmp_path_factory.mktemp("state") / "state"
    write_checked(file, state)
    assert same(read_checked(file), state)


def test_an_optimisers_state_comes_back(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.randn(3))
    optimiser = torch.optim.AdamW([weight], lr=0.1)
    weight.square().sum().backward()
    optimiser.step()
    write_checked(tmp_path / "s", optimiser.state_dict())
    again = torch.optim.AdamW([torch.nn.Parameter(weight.detach().clone())], lr=0.5)
    again.load_state_dict(read_checked(tmp_path / "s"))
    assert again.param_groups[0]["lr"] == 0.1
    assert same(again.state_dict()["state"], optimiser.state_dict()["state"])


def test_digests_tell_shape_type_and_order_apart() -> None:
    x = torch.arange(4)
    others = [x.view(2, 2), x.float(), x.flip(0), x.int()]
    assert len({cache.digest(value) for value in [x, *others]}) == 5
    assert cache.digest({"a": 1, "b": 2}) == cache.digest({"b": 2, "a": 1})


def test_where_the_cache_cannot_be_written_to_the_tensors_come_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "no folder").write_text("")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "cache_folder", lambda: tmp_path / "no folder" / "stemlib")
        with pytest.warns(UserWarning, match="cannot write to .* a is not cached"):
            made = cache.cached("a", {"seed": 1}, lambda: VALUES)
    assert torch.equal(made["x"], VALUES["x"])
