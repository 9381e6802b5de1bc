"""Raw files of a few lines in the formats of the public data sets, written by the tests."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import scipy.sparse


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())


def wikics(folder: Path, nodes: int = 12) -> None:
    """A ring of articles; two splits."""
    third = nodes // 3
    parts = np.arange(nodes) // third
    masks = [[(parts == (part + shift) % 2).tolist() for shift in range(2)] for part in range(2)]
    content = {
        "features": np.random.default_rng(0).normal(size=(nodes, 5)).tolist(),
        "labels": [i % 2 for i in range(nodes)],
        "links": [[(i + 1) % nodes] for i in range(nodes)],
        "train_masks": masks[0],
        "val_masks": masks[1],
        "stopping_masks": masks[1],
        "test_mask": (parts == 2).tolist(),
    }
    write(folder / "WikiCS/raw/data.json", json.dumps(content))


def arxiv(folder: Path, nodes: int = 12) -> None:
    """A chain of citations; OGB's layout under `ogbn_arxiv`, and the one with predictions under `other`."""
    source, target = np.arange(1, nodes), np.arange(nodes - 1)
    adjacency = scipy.sparse.csr_matrix((np.ones(nodes - 1), (source, target)), (nodes, nodes))
    labels = np.arange(nodes) % 3
    parts = {"train": range(nodes // 2), "valid": range(nodes // 2, nodes - 3), "test": range(nodes - 3, nodes)}
    for root in (folder / "ogbn_arxiv", folder / "other/ogbn_arxiv"):
        write(root / "raw/node-label.csv.gz", "".join(f"{label}\n" for label in labels))
        write(root / "raw/node_year.csv.gz", "".join(f"{2000 + i}\n" for i in range(nodes)))
        for part, index in parts.items():
            write(root / f"split/time/{part}.csv.gz", "".join(f"{i}\n" for i in index))
    edges = zip(source, target, strict=True)
    write(folder / "ogbn_arxiv/raw/edge.csv.gz", "".join(f"{a},{b}\n" for a, b in edges))
    vectors = np.random.default_rng(0).normal(size=(nodes, 4))
    rows = (",".join(f"{value:.3f}" for value in row) for row in vectors)
    write(folder / "ogbn_arxiv/raw/node-feat.csv.gz", "".join(f"{row}\n" for row in rows))
    predictions = [f"{label},5,7" for label in labels]
    predictions[1] = ""  # the model named nothing
    write(folder / "other/ogbn_arxiv/llm_topk_predictions.csv.gz", "".join(f"{row}\n" for row in predictions))
    scipy.sparse.save_npz(folder / "other/ogbn_arxiv/adj_full.npz", adjacency)


TRIPLES = {
    "train": [
        ("00000001", "_hypernym", "00000002"),
        ("00000003", "_hypernym", "00000002"),
        ("00000003", "_has_part", "00000004"),
        ("00000005", "_has_part", "00000001"),
    ],
    "valid": [("00000004", "_hypernym", "00000001")],
    "test": [("00000006", "_has_part", "00000002"), ("00000001", "_has_part", "00000002")],
}
GLOSSES = {
    "00000001": "dog, a domestic animal",
    "00000002": "animal, a living thing",
    "00000003": "cat, a domestic animal that purrs",
    "00000004": "tail, the end of an animal",
    "00000005": "pack, a group of dogs",
    "00000006": "paw, the foot of an animal",
}


def wordnet(folder: Path) -> None:
    for part, triples in TRIPLES.items():
        write(folder / f"WordNet18RR/raw/{part}.txt", "".join("\t".join(triple) + "\n" for triple in triples))
    texts = folder / "other/kg_text/WN18RR"
    write(texts / "entity2text.txt.gz", "".join(f"{name}\t{text}\n" for name, text in GLOSSES.items()))
    relations = (
        "also_see", "derivationally_related_form", "has_part", "hypernym", "instance_hypernym", "member_meronym",
        "member_of_domain_region", "member_of_domain_usage", "similar_to", "synset_domain_topic_of", "verb_group",
    )  # fmt: skip
    write(texts / "relation2text.txt.gz", "".join(f"_{name}\t{name.replace('_', ' ')}\n" for name in relations))


RINGS = ("c1ccccc1", "C1CCCCC1", "c1ccncc1", "C1CCNCC1", "c1ccsc1", "c1ccoc1", "C1CC1", "C1CCC1", "C1CCCC1", "C1CCOC1")
SMILES = ["CCO", "not a molecule", "CC(=O)O", "[NH4+]", *RINGS, *(f"C{ring}" for ring in RINGS[:8])]


LABELS = np.random.default_rng(0).integers(3, size=(len(SMILES), 128))  # 2: missing


def pcba(folder: Path) -> None:
    """128 labels for 22 strings; one string is no molecule."""
    lines = [",".join([*(f"PCBA-{i}" for i in range(128)), "mol_id", "smiles"])]
    for row, (smiles, labels) in enumerate(zip(SMILES, LABELS, strict=True)):
        lines.append(",".join([*("" if label == 2 else str(label) for label in labels), f"CID{row}", smiles]))
    write(folder / "MoleculeNet/pcba/raw/pcba.csv", "\n".join(lines) + "\n")


def moleculenet_values(folder: Path) -> None:
    """A value for each of 22 strings, one of which is no molecule."""
    lines = ["CMPD_CHEMBLID,exp,smiles", *(f"CHEMBL{row},{row / 7},{smiles}" for row, smiles in enumerate(SMILES))]
    write(folder / "MoleculeNet/lipo/raw/Lipophilicity.csv", "\n".join(lines) + "\n")


def chembl_activities(folder: Path) -> None:
    """Two targets; the molecule in row 3 stands in training's and in validation's part."""
    head, place = "smiles,CHEMBL1,CHEMBL2", folder / "other/chembl_5thresh"
    rows = [f"{smiles},{row / 7},{'' if row % 2 else -row}" for row, smiles in enumerate(SMILES)]
    parts = {"train": rows[:12], "valid": [rows[3], *rows[12:16]], "test": rows[16:]}
    place.joinpath("year_split").mkdir(parents=True)
    for name, lines in {"": rows, **{f"year_split/ts_{part}": lines for part, lines in parts.items()}}.items():
        file = place / (name.replace("ts_", "chembl_5thresh_ts_") or "chembl_5thresh")
        file.with_name(f"{file.name}.csv.gz").write_bytes(gzip.compress("\n".join([head, *lines]).encode()))


WRITERS = {
    "wikics": wikics,
    "ogbn-arxiv": arxiv,
    "ogbn-arxiv-predictions": arxiv,
    "wn18rr": wordnet,
    "pcba": pcba,
    "lipo": moleculenet_values,
    "chembl-activities": chembl_activities,
}
