"""SMILES to graphs: parsed by RDKit through PyTorch Geometric's `from_smiles`, in parallel, cached.

Atoms and bonds come in few types (PyG describes an atom by nine values, a bond by three), so that a million atoms
are a million small numbers and a table of some hundred rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import rdkit
import torch
import torch_geometric
from joblib import Parallel, delayed
from rdkit import Chem
from rdkit.Chem.Scaffolds.MurckoScaffold import MurckoScaffoldSmiles
from torch import Tensor
from torch_geometric.utils import from_smiles
from torch_geometric.utils.smiles import e_map, x_map

from stemlib.cache import cached, digest
from stemlib.data.graph import Graph
from stemlib.data.tasks import Split

FORMAT = 1  # of the cached graphs; raise it when they change
CHUNK = 1000  # molecules that one process takes at a time
FEW = 4  # chunks that are parsed before other processes have even started
BASE = 128  # every value of an atom or a bond is smaller
RATIOS = (0.8, 0.1)  # of the molecules: training, validation; the rest tests


@dataclass(frozen=True)
class Molecules:
    """Molecules as one disjoint union.

    Attributes:
        graph: `edge_index` `[2, E]`, `node_type` `[N]`, `edge_type` `[E]`, `batch` `[N]`, `ptr` `[G + 1]`.
        atoms: PyG's nine values of every atom type, `[A, 9]`.
        bonds: PyG's three values of every bond type, `[B, 3]`.
        rows: which of the strings each molecule is, `[G]`; strings that cannot be parsed are not among them.
        failed: which strings cannot be parsed, or have no atom.
        scaffold: the same number for molecules with the same Bemis-Murcko scaffold, `[G]`.
    """

    graph: Graph
    atoms: Tensor
    bonds: Tensor
    rows: Tensor
    failed: Tensor
    scaffold: Tensor


def molecules(smiles: Sequence[str], name: str = "molecules") -> Molecules:
    """Parse SMILES strings, some 500 a second on each core; once parsed, they are read from the cache.

    Args:
        smiles: the strings.
        name: for the cache.

    Raises:
        ValueError: no string can be parsed.
    """
    versions = {"format": FORMAT, "rdkit": rdkit.__version__, "pyg": torch_geometric.__version__}
    made_of = {"smiles": digest(list(smiles))} | versions
    stored = cached(f"{name}-molecules", made_of, lambda: _union(smiles))
    ptr = stored["atoms"]
    graph = Graph(
        edge_index=stored["edge_index"].long() + ptr[:-1].repeat_interleave(stored["bonds"]),
        node_type=stored["node_type"].long(),
        edge_type=stored["edge_type"].long(),
        batch=torch.arange(len(ptr) - 1).repeat_interleave(ptr.diff()),
        ptr=ptr,
        num_nodes=int(ptr[-1]),
    )
    atoms, bonds = _unpacked(stored["atom_keys"], 9), _unpacked(stored["bond_keys"], 3)
    return Molecules(graph, atoms, bonds, stored["rows"], stored["failed"], stored["scaffold"])


def _union(smiles: Sequence[str]) -> dict[str, Tensor]:
    """What is stored: types as small numbers, ends of bonds numbered within each molecule."""
    chunks = [list(smiles[i : i + CHUNK]) for i in range(0, len(smiles), CHUNK)]
    parsed = Parallel(n_jobs=-1 if len(chunks) > FEW else 1)(delayed(_parse)(chunk) for chunk in chunks)
    scaffolds = [scaffold for _, part in parsed for scaffold in part]
    ok = np.array([scaffold is not None for scaffold in scaffolds], dtype=bool)
    if not ok.any():
        raise ValueError(f"none of the {len(smiles)} SMILES strings can be parsed")
    joined = {key: np.concatenate([part[key] for part, _ in parsed], axis=-1) for key in parsed[0][0]}
    atom_keys, node_type = np.unique(joined["atom_keys"], return_inverse=True)
    bond_keys, edge_type = np.unique(joined["bond_keys"], return_inverse=True)
    arrays = {
        "edge_index": joined["edge_index"],
        "node_type": node_type.astype(np.int32),
        "edge_type": edge_type.astype(np.int32),
        "atoms": np.concatenate([[0], joined["atoms"][ok].cumsum()]),
        "bonds": joined["bonds"][ok],
        "atom_keys": atom_keys,
        "bond_keys": bond_keys,
        "rows": ok.nonzero()[0],
        "failed": (~ok).nonzero()[0],
        "scaffold": pd.factorize(np.array(scaffolds, dtype=object)[ok])[0],  # numbered by first appearance
    }
    return {key: torch.from_numpy(value) for key, value in arrays.items()}


def _parse(smiles: list[str]) -> tuple[dict[str, np.ndarray], list[str | None]]:
    """One chunk: packed atom and bond types, ends of bonds, sizes; and scaffolds, None for what is no molecule."""
    graphs, scaffolds = [], []
    for text in smiles:
        try:
            graph = from_smiles(text)
        except ValueError:  # an atom or a bond that PyG's description has no value for
            graph = from_smiles("")
        graphs.append(graph)
        scaffolds.append(MurckoScaffoldSmiles(text) if graph.num_nodes else None)
    arrays = {
        "atom_keys": _packed(torch.cat([graph.x for graph in graphs])),
        "bond_keys": _packed(torch.cat([graph.edge_attr for graph in graphs])),
        "edge_index": torch.cat([graph.edge_index for graph in graphs], dim=1).int().numpy(),
        "atoms": np.array([graph.num_nodes for graph in graphs]),
        "bonds": np.array([graph.num_edges for graph in graphs]),
    }
    return arrays, scaffolds


def _packed(values: Tensor) -> np.ndarray:
    """Rows of small numbers `[n, k]` as one number each, `[n]`."""
    return (values * BASE ** torch.arange(values.size(1))).sum(1).numpy()


def _unpacked(keys: Tensor, columns: int) -> Tensor:
    return keys.unsqueeze(1) // BASE ** torch.arange(columns) % BASE


def scaffold_split(scaffold: Tensor, name: str = "scaffold") -> Split:
    """80/10/10 with every scaffold in one part, the same on every call.

    Scaffolds with many molecules come first; of equally frequent ones, the one whose first molecule is later in the
    file (the custom of DeepChem and OGB: the other order leaves only one class in the test parts of BACE and BBBP).
    Each goes to training if that keeps training within 80 %, otherwise to validation within 10 %, otherwise to test.

    Args:
        scaffold: a number for every molecule, `[G]`.
        name: of the split.
    """
    total = scaffold.numel()
    room = [*(int(total * ratio) for ratio in RATIOS), total]
    _, group, size = scaffold.unique(return_inverse=True, return_counts=True)
    members = group.argsort(stable=True).split(size.tolist())
    parts = [[torch.zeros(0, dtype=torch.long)] for _ in room]
    for rows in sorted(members, key=lambda rows: (len(rows), int(rows[0])), reverse=True):
        place = next(place for place, left in enumerate(room) if len(rows) <= left)
        room[place] -= len(rows)
        parts[place].append(rows)
    return Split(name, *(torch.cat(part).sort().values for part in parts))


def atom_text(values: Sequence[int]) -> str:
    """An atom type in words, from PyG's nine values."""
    number, chirality, degree, charge, hydrogens, radical, hybridisation, aromatic, ring = (
        choices[value] for choices, value in zip(x_map.values(), values, strict=True)
    )
    element = Chem.GetPeriodicTable().GetElementName(number) if number else "unspecified"
    parts = [
        f"{element} atom",
        f"degree {degree}",
        f"hydrogens {hydrogens}",
        f"hybridisation {hybridisation}",
        f"charge {'minus' if charge < 0 else 'plus'} {abs(charge)}" if charge else "uncharged",
    ]
    if radical:
        parts.append(f"radical electrons {radical}")
    if chirality != "CHI_UNSPECIFIED":
        parts.append(f"chirality {chirality.removeprefix('CHI_').lower()}")
    return ", ".join([*parts, "aromatic" if aromatic else "aliphatic", "in ring" if ring else "outside rings"])


def bond_text(values: Sequence[int]) -> str:
    """A bond type in words, from PyG's three values."""
    kind, stereo, conjugated = (choices[value] for choices, value in zip(e_map.values(), values, strict=True))
    parts = [f"{kind.lower()} bond", "conjugated" if conjugated else "isolated"]
    if stereo != "STEREONONE":
        parts.append(f"stereo {stereo.removeprefix('STEREO').lower()}")
    return ", ".join(parts)
