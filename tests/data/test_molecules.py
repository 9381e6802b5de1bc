from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import raw_samples
import torch
from joblib import Parallel
from staged import of_kind, staged
from torch_geometric import datasets
from torch_geometric.utils import from_smiles

from stemlib.data import raw_files
from stemlib.data.batches import batches, union_of_graphs
from stemlib.data.graph import sorted_by_target
from stemlib.data.molecules import MoleculeDataSet
from stemlib.data.public import data_set, load
from stemlib.data.smiles import atom_text, bond_text, molecules, scaffold_split
from stemlib.paths import cache_folder

MOLECULES = [name for name in of_kind("graph") if isinstance(data_set(name), MoleculeDataSet)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("stemlib.cache.cache_folder", lambda: tmp_path / "cache")
    return tmp_path


@pytest.fixture
def tiny(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """22 strings with 128 labels each, in PCBA's format."""
    monkeypatch.setattr(raw_files, "listed_sums", dict)
    monkeypatch.setenv("STEMLIB_DATA", str(folder))
    raw_samples.pcba(folder)


def test_a_union_holds_the_graphs_that_pyg_makes(folder: Path) -> None:
    strings = ["CCO", "c1ccccc1", "[Na+].[Cl-]", "C[C@H](N)C(=O)O"]
    parsed = molecules(strings)
    graph = parsed.graph
    graph.x, graph.edge_attr = parsed.atoms.float(), parsed.bonds.float()
    for i, text in enumerate(strings):
        own, pyg = union_of_graphs(sorted_by_target(graph), torch.tensor([i])), from_smiles(text)
        assert torch.equal(own.x.long(), pyg.x)
        assert edge_set(own.edge_index, own.edge_attr[own.edge_type]) == edge_set(pyg.edge_index, pyg.edge_attr)


def edge_set(edge_index: torch.Tensor, attributes: torch.Tensor) -> set[tuple[int, ...]]:
    ends = edge_index.as_subclass(torch.Tensor)
    return {(*pair, *map(int, row)) for pair, row in zip(ends.T.tolist(), attributes.tolist(), strict=True)}


def test_strings_that_are_no_molecules_are_counted_and_named(tiny: None) -> None:
    task = load("pcba", width=16)
    assert task.instances == 21
    assert any("1 of 22 molecules" in note and "row 1: not a molecule" in note for note in task.notes)
    assert "not a molecule" not in task.graph.about["smiles"]


def test_no_molecule_at_all_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="none of the 2 SMILES"):
        molecules(["", "nonsense"])


def test_missing_labels_stay_missing(tiny: None) -> None:
    labels = load("pcba", width=16).labels
    assert labels.shape == (21, 128)
    written = torch.from_numpy(np.delete(raw_samples.LABELS, 1, axis=0))  # row 1 is no molecule
    assert torch.equal(labels.isnan(), written == 2)
    assert torch.equal(labels.nan_to_num(2).long(), written)


def test_features_are_tables_that_batches_spell_out(tiny: None) -> None:
    task = load("pcba", width=16)
    graph = task.graph
    assert graph.x.size(0) == len(graph.about["node_text"]) < graph.num_nodes
    (batch,) = batches(task, torch.tensor([1, 0]))  # acetic acid, ethanol
    assert batch.graph.x.shape == (4 + 3, 16)
    assert torch.equal(batch.graph.x[:4], graph.x[graph.node_type[3:7]])
    assert torch.equal(batch.labels.isnan(), task.labels[[1, 0]].isnan())


def test_types_in_words_differ() -> None:
    carbon = [6, 0, 4, 5, 3, 0, 4, 0, 0]
    assert atom_text(carbon) == (
        "Carbon atom, degree 4, hydrogens 3, hybridisation SP3, uncharged, aliphatic, outside rings"
    )
    assert "charge minus 1" in atom_text([8, 0, 1, 4, 0, 0, 4, 0, 0])
    assert atom_text([6, 1, 4, 5, 0, 1, 4, 1, 1]).endswith(
        "radical electrons 1, chirality tetrahedral_cw, aromatic, in ring"
    )
    assert bond_text([2, 3, 1]) == "double bond, conjugated, stereo e"


def test_different_types_have_different_features(tiny: None) -> None:
    graph = load("pcba", width=64).graph
    for table in (graph.x, graph.edge_attr):
        apart = torch.cdist(table, table) + torch.eye(len(table))
        assert apart.min() > 0.05


def test_molecules_are_parsed_the_same_in_parallel(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = molecules(raw_samples.SMILES)
    monkeypatch.setattr("stemlib.data.smiles.CHUNK", 3)
    monkeypatch.setattr("stemlib.data.smiles.FORMAT", -1)
    # Processes take seconds to start; what is to be shown is that chunks are put together rightly.
    monkeypatch.setattr("stemlib.data.smiles.Parallel", partial(Parallel, backend="threading"))
    parts = molecules(raw_samples.SMILES)
    assert torch.equal(whole.graph.edge_index, parts.graph.edge_index)
    assert torch.equal(whole.graph.node_type, parts.graph.node_type)
    assert torch.equal(whole.failed, parts.failed)
    assert torch.equal(whole.scaffold, parts.scaffold)


def test_scaffolds_join_what_shares_its_rings(folder: Path) -> None:
    scaffold = molecules(["c1ccccc1O", "c1ccccc1N", "CCO", "CC(=O)O", "C1CCCCC1C"]).scaffold.tolist()
    assert scaffold == [0, 0, 1, 1, 2]


def test_a_scaffold_lies_in_one_part() -> None:
    scaffold = torch.randint(60, (500,))
    split = scaffold_split(scaffold)
    parts = [split.train, split.val, split.test]
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(500))
    groups = [set(scaffold[part].tolist()) for part in parts]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]
    assert len(split.train) <= 400
    assert len(split.val) <= 50
    assert split.hash == scaffold_split(scaffold).hash


def test_frequent_scaffolds_train_and_ties_follow_the_first_molecule() -> None:
    """Ten molecules: a scaffold of 7 and three of 1; by hand."""
    split = scaffold_split(torch.tensor([3, 0, 0, 2, 0, 0, 0, 0, 1, 0]))
    assert split.train.tolist() == [1, 2, 4, 5, 6, 7, 8, 9]
    assert split.val.tolist() == [3]
    assert split.test.tolist() == [0]


@pytest.mark.parametrize("name", ["bace", "bbbp"])
def test_both_classes_are_in_every_part(name: str) -> None:
    """The other order of ties leaves one class alone in the test part of both."""
    staged(name)
    task = load(name, width=8)
    split = task.split("scaffold")
    assert all(task.labels[part].unique().numel() == 2 for part in (split.train, split.val, split.test))


@pytest.mark.parametrize("name", MOLECULES)
def test_published_tables(name: str) -> None:
    staged(name)
    entry = data_set(name)
    smiles, labels, files = entry.raw()
    assert len(smiles) == entry.statistics["rows"]
    assert labels.shape == (len(smiles), entry.statistics["tasks"])
    assert not files.unverified
    if entry.statistics["molecules"] == len(smiles):  # no string to be left out: labels can be counted here
        counts = {"labels": int(labels.isfinite().sum()), "positives": int((labels == 1).sum())}
        assert all(counts[key] == entry.statistics.get(key, counts[key]) for key in counts)


@pytest.mark.parametrize("name", [name for name in MOLECULES if "molecules" in data_set(name).statistics])
def test_published_molecules(name: str) -> None:
    staged(name)
    if name != "bace" and not list(cache_folder().glob(f"{name}-molecules-*")):
        pytest.skip(f"{name} has not been parsed yet: load it once")
    task, known = load(name, width=32), data_set(name).statistics
    counts = {"molecules": task.instances, "tasks": task.outputs}
    counts |= {"labels": int(task.labels.isfinite().sum()), "positives": int((task.labels == 1).sum())}
    assert all(counts[key] == known.get(key, counts[key]) for key in counts)
    assert bool(known["rows"] - known["molecules"]) == any("left out" in note for note in task.notes)
    split = task.split("scaffold")
    assert name not in COLUMNS or torch.equal(task.labels.flatten(), measured(name))
    assert len(split.train) / task.instances == pytest.approx(0.8, abs=0.01)


COLUMNS = {
    "esol": ("delaney-processed.csv", "measured log solubility in mols per litre"),
    "lipo": ("Lipophilicity.csv", "exp"),
}


def measured(name: str) -> torch.Tensor:
    """The column of measured values by its name in the file, where another one has predictions."""
    file, column = COLUMNS[name]
    return torch.tensor(pd.read_csv(staged(name) / file)[column].to_numpy(), dtype=torch.float)


def test_the_split_by_year_is_the_release_s_and_a_molecule_in_two_parts_trains(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_files, "listed_sums", dict)
    monkeypatch.setenv("STEMLIB_DATA", str(folder))
    raw_samples.chembl_activities(folder)
    task = load("chembl-activities", width=16)
    split = task.split("time")
    assert next(iter(task.splits)) == "time"
    strings = [[task.graph.about["smiles"][i] for i in part] for part in (split.train, split.val, split.test)]
    expected = raw_samples.SMILES[:12], raw_samples.SMILES[12:16], raw_samples.SMILES[16:]
    assert strings == [[smiles for smiles in part if smiles in task.graph.about["smiles"]] for part in expected]


def test_the_first_molecules_are_those_of_moleculenet(tmp_path: Path) -> None:
    """PyG's own class on the first rows of BACE: the same graphs, atoms, bonds and labels in the same order."""
    source = staged("bace") / "bace.csv"
    lines = source.read_text().splitlines()[:40]
    raw = tmp_path / "bace/raw"
    raw.mkdir(parents=True)
    (raw / "bace.csv").write_text("\n".join(lines) + "\n")
    pyg = datasets.MoleculeNet(str(tmp_path), "BACE")
    smiles, labels, _ = data_set("bace").raw()
    parsed = molecules(smiles[:39], "test")
    assert torch.equal(parsed.atoms[parsed.graph.node_type], torch.cat([graph.x for graph in pyg]))
    assert torch.equal(parsed.bonds[parsed.graph.edge_type], torch.cat([graph.edge_attr for graph in pyg]))
    assert torch.equal(labels[:39], torch.cat([graph.y for graph in pyg]))
