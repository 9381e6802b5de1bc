"""Molecules: many binary labels or a regression for each, split by scaffold.

The reference takes its split from a column that the public raw files do not have. `scaffold` here is the usual
deterministic 80/10/10 split by Bemis-Murcko scaffold over the molecules that RDKit parses, so that numbers are
comparable in kind, not molecule by molecule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
import rdkit
import torch
from torch import Tensor
from torch_geometric import datasets
from torch_geometric.data import Data

from stemlib.data.checks import checked
from stemlib.data.feature_space import FeatureSpace
from stemlib.data.features import FORMAT, encode_texts
from stemlib.data.graph import Graph
from stemlib.data.raw_files import RawFiles, open_dataset, require
from stemlib.data.registry import DataSet
from stemlib.data.smiles import Molecules, atom_text, bond_text, molecules, scaffold_split
from stemlib.data.tasks import Kind, Split, Task

MOLECULE = "A node is an atom, an edge a bond (both directions), an instance a molecule."


class MoleculeTable(datasets.MoleculeNet):
    """A MoleculeNet file as a table: strings and labels `[M, T]` (NaN where missing), no graphs yet."""

    def process(self) -> None:
        """Read the table into `smiles` and `y`; PyG calls this once."""
        _, _, _, smiles, labels = self.names[self.name]
        frame = pd.read_csv(self.raw_paths[0], low_memory=False)
        columns = frame.iloc[:, labels if isinstance(labels, slice) else [labels]]
        strings = frame.iloc[:, smiles].fillna("").astype(str).tolist()
        y = torch.tensor(columns.to_numpy(dtype="float32"))
        self.save([Data(smiles=strings, y=y)], self.processed_paths[0])


@dataclass(frozen=True, kw_only=True)
class MoleculeDataSet(DataSet):
    """A MoleculeNet data set."""

    kind: Kind = "graph"

    def raw(self) -> tuple[list[str], Tensor, RawFiles]:
        """SMILES strings, labels `[M, T]`, and the files."""
        table, files = open_dataset(MoleculeTable, self.name, folder=self.folder, source=self.source)
        return table.smiles, table.y, files

    def load(self, width: int | None, encoder: str, message_edges: str) -> Task:
        """See `DataSet.load`."""
        smiles, labels, files = self.raw()
        parsed = molecules(smiles, self.name)
        return self._task(
            featured(parsed, smiles, width, encoder, self.name),
            labels[parsed.rows],
            self.splits(parsed, smiles),
            f"{MOLECULE} {self.description} Features: PyG's description of atoms and bonds in words, encoded by "
            f"{encoder}.",
            [files.checksum, width, encoder, FORMAT, rdkit.__version__],
            notes=files.notes + unparsed(parsed, smiles),
        )

    def splits(self, parsed: Molecules, smiles: list[str]) -> dict[str, Split]:
        """By name; the first is the protocol's."""
        return {"scaffold": scaffold_split(parsed.scaffold)}


def featured(
    parsed: Molecules, smiles: list[str], width: int | None, encoder: str, name: str, space: FeatureSpace | None = None
) -> Graph:
    """The union of molecules with feature tables: `x` `[A, d]` by `node_type`, `edge_attr` `[B, d]` by `edge_type`.

    Its `about` has the molecules' strings as `smiles` and the types in words. A `space` replaces width and encoder.
    """
    atoms = [atom_text(row) for row in parsed.atoms.tolist()]
    bonds = [bond_text(row) for row in parsed.bonds.tolist()]
    if space is None:
        vectors, source = encode_texts(atoms + bonds, width, encoder, name)
        x, edge_attr = vectors[: len(atoms)], vectors[len(atoms) :]
    else:
        source = space.source(atoms)
        x, edge_attr = source.encode(source.raw), space.encode_edges(bonds or ["none"])[: len(bonds)]
    about = {"node_text": atoms, "edge_text": bonds}
    about["smiles"] = [smiles[row] for row in parsed.rows.tolist()]
    return replace(
        parsed.graph,
        x=x,
        edge_attr=edge_attr,
        scaffold=parsed.scaffold,
        space=space,
        edge_steps=() if space is None else space.edge_steps,
        source=None if source is None else source.of(parsed.graph.node_type),
        about=about,
    )


def unlabelled_molecules(smiles: Sequence[str], space: FeatureSpace, regression: bool = False) -> Task:
    """Molecules for a model that was trained on others, with features made in the space of those others.

    Raises:
        ValueError: strings that RDKit cannot parse, by row.
    """
    parsed = molecules(smiles)
    if notes := unparsed(parsed, list(smiles)):
        raise ValueError(f"{notes[0]}; give only the others")
    graph = featured(parsed, list(smiles), None, "", "molecules", space)
    labels = space.unknown(len(parsed.rows), regression)
    return checked(Task("molecules", "graph", graph, labels, {}, regression=regression, class_names=space.own_names))


def unparsed(parsed: Molecules, smiles: list[str]) -> tuple[str, ...]:
    """A note that counts and names the molecules left out."""
    failed = parsed.failed.tolist()
    count = f"{len(failed)} of {len(smiles)} molecules are left out, as RDKit {rdkit.__version__} cannot parse them"
    named = "; ".join(f"row {row}: {smiles[row]}" for row in failed)
    return (f"{count}: {named}",) if failed else ()


@dataclass(frozen=True, kw_only=True)
class ChEMBLActivities(MoleculeDataSet):
    """Measured activities of molecules on many protein targets, with the release's split by year as `time`."""

    def files(self) -> RawFiles:
        """All activities, then those of the parts of the split."""
        parts = [f"year_split/chembl_5thresh_ts_{part}.csv.gz" for part in ("train", "valid", "test")]
        return require([f"{self.folder}/{name}" for name in ("chembl_5thresh.csv.gz", *parts)], self.source)

    def raw(self) -> tuple[list[str], Tensor, RawFiles]:
        """The strings, their values `[M, T]` (NaN where missing), and the files."""
        files = self.files()
        table = pd.read_csv(next(iter(files.paths.values())))
        return table["smiles"].tolist(), torch.tensor(table.drop(columns="smiles").to_numpy(dtype="float32")), files

    def splits(self, parsed: Molecules, smiles: list[str]) -> dict[str, Split]:
        """The release's own parts by year, as `time`, and the others of a `MoleculeDataSet`."""
        _, *paths = self.files().paths.values()
        parts = [pd.read_csv(path, usecols=["smiles"]).assign(part=number) for number, path in enumerate(paths)]
        # One molecule is in two parts of the release: the first, training's, keeps it.
        part_of = pd.concat(parts).drop_duplicates("smiles").set_index("smiles")["part"]
        number = torch.tensor(part_of[[smiles[row] for row in parsed.rows.tolist()]].to_numpy())
        by_time = Split("time", *((number == part).nonzero().squeeze(1) for part in range(len(parts))))
        return {"time": by_time} | super().splits(parsed, smiles)


@dataclass(frozen=True, kw_only=True)
class ChEMBL(DataSet):
    """Molecules without labels, for pretraining.

    Attributes:
        count: how many, drawn with seed 0; None for all.
    """

    kind: Kind = "graph"
    count: int | None = None

    def load(self, width: int | None, encoder: str, message_edges: str) -> Task:
        """See `DataSet.load`."""
        files = require([f"{self.folder}/chembl_smiles.tsv.gz"], self.source)
        (path,) = files.paths.values()
        frame = pd.read_csv(path, sep="\t", usecols=["smiles"])
        if self.count is not None:
            frame = frame.sample(self.count, random_state=0).sort_index()
        smiles = frame["smiles"].tolist()
        parsed = molecules(smiles, self.name)
        return self._task(
            featured(parsed, smiles, width, encoder, self.name),
            torch.full((parsed.rows.numel(), 1), torch.nan),
            {},
            f"{MOLECULE} {self.description}",
            [files.checksum, self.count, width, encoder, FORMAT, rdkit.__version__],
            notes=files.notes + unparsed(parsed, smiles),
        )
