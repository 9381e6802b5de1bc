from __future__ import annotations

import hashlib
import pickle
import re
import shutil
from pathlib import Path

import pytest
import raw_samples
import torch
from staged import staged
from torch_geometric import datasets

from stemlib.data import raw_files
from stemlib.data.public import DATA_SETS, data_set, load
from stemlib.paths import data_folder


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder that STEMLIB_DATA names."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("STEMLIB_DATA", str(folder))
    return folder


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """STEMLIB_DATA unset, and an empty cache."""
    monkeypatch.delenv("STEMLIB_DATA", raising=False)
    monkeypatch.setattr("stemlib.paths.cache_folder", lambda: tmp_path)
    return tmp_path / "raw"


def list_sums(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let the files under `folder` be the published ones."""
    files = (path for path in folder.rglob("*") if path.is_file())
    sums = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    monkeypatch.setattr(raw_files, "listed_sums", lambda: sums)


def test_the_list_of_checksums_is_well_formed() -> None:
    sums = raw_files.listed_sums()
    assert len(sums) > 80
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in sums.values())
    assert {f"Planetoid/Cora/raw/ind.cora.{part}" for part in ("x", "graph", "test.index")} <= sums.keys()


def test_every_pickle_is_listed() -> None:
    """Planetoid's raw files are the ones that are unpickled."""
    for name in ("Cora", "CiteSeer", "PubMed"):
        parts = ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index")
        listed = raw_files.listed_sums()
        assert all(f"Planetoid/{name}/raw/ind.{name.lower()}.{part}" in listed for part in parts)


@pytest.mark.parametrize("name", [name for name in DATA_SETS if not name.startswith("ogbn")])  # these lie among others
def test_every_staged_raw_file_has_its_checksum_on_file(name: str) -> None:
    folder = staged(name)
    files = [str(path.relative_to(data_folder())) for path in folder.rglob("*") if path.is_file()]
    assert files
    assert set(files) <= raw_files.listed_sums().keys()


def test_missing_files_are_named_with_source_and_variable(data: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        load("cora")
    for text in ("ind.cora.allx", "ind.cora.graph", "kimiyoung/planetoid", "STEMLIB_DATA", str(data)):
        assert text in str(error.value)


def test_offline_the_failed_download_is_told(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(self: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(datasets.Planetoid, "download", offline)
    with pytest.raises(FileNotFoundError, match=r"STEMLIB_DATA is not set.*ind\.cora\.x.*no route to host") as error:
        load("cora")
    assert isinstance(error.value.__cause__, OSError)


def test_a_download_is_kept_once_and_not_repeated(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def download(self: datasets.WikiCS) -> None:
        calls.append(1)
        raw_samples.wikics(Path(self.raw_dir).parents[1])
        source = Path(self.raw_dir).parents[1] / "WikiCS/raw/data.json"
        shutil.copy(source, self.raw_dir)

    monkeypatch.setattr(datasets.WikiCS, "download", download)
    first, second = load("wikics", width=None), load("wikics", width=None)
    assert len(calls) == 1
    assert torch.equal(first.graph.x, second.graph.x)
    assert [path.name for path in (own_folder / "WikiCS/raw").iterdir()] == ["data.json"]
    assert any("not verified" in note for note in first.notes)


def test_a_damaged_download_is_refused_and_not_kept(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(self: datasets.Planetoid) -> None:
        for name in self.raw_file_names:
            (Path(self.raw_dir) / name).write_text("half a file")

    monkeypatch.setattr(datasets.Planetoid, "download", download)
    with pytest.raises(ValueError, match="damaged, cut or replaced"):
        load("cora")
    assert not list(own_folder.rglob("ind.*"))


class Bomb:
    """Unpickling it leaves a trace."""

    trace: Path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return Path.write_text, (self.trace, "unpickled")


def test_nothing_is_unpickled_before_its_checksum(data: Path, tmp_path: Path) -> None:
    Bomb.trace = tmp_path / "trace"
    folder = data / "Planetoid/Cora/raw"
    folder.mkdir(parents=True)
    for part in ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index"):
        (folder / f"ind.cora.{part}").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match=r"ind\.cora\.x .*sha256") as error:
        load("cora")
    assert str(error.value).count("\n  - ") == 8
    assert not Bomb.trace.exists()
    pickle.loads((folder / "ind.cora.x").read_bytes())
    assert Bomb.trace.exists()  # the bomb works


@pytest.mark.parametrize("name", ["wikics", "ogbn-arxiv", "ogbn-arxiv-predictions", "wn18rr", "pcba"])
@pytest.mark.parametrize("damage", ["cut", "altered"])
def test_cut_and_altered_files_are_refused(name: str, damage: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw_samples.WRITERS[name](data)
    list_sums(monkeypatch, data)
    folder = data / data_set(name).folder
    file = next(path for path in sorted(folder.rglob("*")) if path.is_file())
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content if damage == "altered" else content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"damaged.*\n.*{re.escape(file.name)}"):
        load(name)


@pytest.mark.parametrize("name", ["wikics", "ogbn-arxiv", "ogbn-arxiv-predictions"])
def test_an_unlisted_file_that_cannot_be_read_is_refused_by_name(
    name: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_files, "listed_sums", dict)
    raw_samples.WRITERS[name](data)
    folder = data / data_set(name).folder
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match=f"{data_set(name).folder}.* cannot be read"):
        load(name)


def test_the_data_folder_is_only_read(data: Path) -> None:
    raw_samples.wikics(data)
    before = sorted(path for path in data.rglob("*"))
    load("wikics", width=None)
    assert sorted(path for path in data.rglob("*")) == before
