from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from rdkit import Chem

from stemlib.data.feature_space import FeatureSpace
from stemlib.data.own_molecules import from_smiles
from stemlib.data.public import available, data_set

RINGS = [
    "c1ccccc1",
    "C1CCCCC1",
    "c1ccncc1",
    "C1CCNCC1",
    "c1ccoc1",
    "C1CCCC1",
    "c1ccsc1",
    "C1CC1",
    "C1CCC1",
    "c1ccc2ccccc2c1",
]
TAILS = ["C", "CC", "CCO", "CCN"]


def table() -> pd.DataFrame:
    """Forty molecules of ten scaffolds; whether there is an oxygen or nitrogen in the tail."""
    strings = [ring + tail for ring, tail in product(RINGS, TAILS)]
    return pd.DataFrame(
        {"smiles": strings, "active": [0, 0, 1, 1] * len(RINGS), "size": np.linspace(0, 1, len(strings))}
    )


def test_a_binary_label_by_scaffold() -> None:
    task = from_smiles(table(), target="active")
    assert (task.kind, task.metric, task.instances) == ("graph", "roc_auc", 40)
    (split,) = task.splits.values()
    scaffold = task.graph.scaffold
    parts = [set(scaffold[index].tolist()) for index in (split.train, split.val, split.test)]
    assert all(parts)
    assert sum(map(len, parts)) == len(RINGS)
    assert task.graph.about["smiles"][5] == "C1CCCCC1CC"


def test_rows_that_cannot_be_parsed_are_named_and_names_stay_with_their_molecules() -> None:
    frame = table().set_index(pd.Index(range(100, 140), name="line"))
    frame.loc[[103, 120], "smiles"] = ["C1CC(", None]
    task = from_smiles(frame, target="active")
    assert task.notes[0].endswith("line 103: C1CC(; 120: blank")
    rows = task.graph.about["row"]
    assert rows == [line for line in range(100, 140) if line not in (103, 120)]
    assert task.labels.squeeze(1).tolist() == frame.loc[rows, "active"].tolist()


def test_close_relatives_are_split_by_their_rarest_scaffolds() -> None:
    frame = pd.DataFrame({"smiles": ["c1ccccc1" + "C" * length for length in range(1, 91)]})
    frame = pd.concat([frame, pd.DataFrame({"smiles": [ring + tail for ring in RINGS[1:6] for tail in TAILS[:2]]})])
    task = from_smiles(frame.assign(value=np.linspace(0, 1, 100)), target="value")
    split = task.split("rare-scaffolds")
    assert min(map(len, (split.train, split.val, split.test))) > 0
    scaffold = task.graph.scaffold
    assert not set(scaffold[split.test].tolist()) & set(scaffold[split.train].tolist())
    assert any(note.startswith("no split by scaffold") for note in task.notes)


def test_one_scaffold_alone_is_split_at_random() -> None:
    frame = pd.DataFrame({"smiles": ["c1ccccc1" + "C" * length for length in range(1, 41)], "value": np.arange(40) / 7})
    task = from_smiles(frame, target="value", seed=3)
    assert [len(getattr(task.split("random-3"), part)) for part in ("train", "val", "test")] == [32, 4, 4]
    again = from_smiles(frame, target="value", seed=3)
    assert again.split("random-3").hash == task.split("random-3").hash


def test_the_same_molecule_is_in_one_part_and_counted() -> None:
    def from_its_end(text: str) -> str:
        molecule = Chem.MolFromSmiles(text)
        return Chem.MolToSmiles(molecule, rootedAtAtom=molecule.GetNumAtoms() - 1)

    frame = pd.concat([table(), table().assign(smiles=lambda own: own.smiles.map(from_its_end))])
    assert frame.smiles.nunique() == 80
    task = from_smiles(frame.reset_index(drop=True), target="active", split="random")
    split = task.split("random-0")
    part = torch.zeros(80)
    part[split.val], part[split.test] = 1, 2
    assert torch.equal(part[:40], part[40:])
    assert any(note.startswith("40 molecules repeat earlier ones") and "in training" not in note for note in task.notes)


def test_blank_labels_are_unknown_and_kinds_are_told_apart() -> None:
    frame = table().astype({"active": object})
    frame.loc[[0, 9], "active"] = [None, ""]
    task = from_smiles(frame, target=["active"], split="random")
    assert task.labels.isnan().flatten().nonzero().flatten().tolist() == [0, 9]
    assert 0 not in torch.cat([task.split("random-0").train, task.split("random-0").test])
    numbers = from_smiles(frame, target=["size"], split="random")
    assert (numbers.metric, numbers.labels.dtype) == ("r2", torch.double)
    words = from_smiles(frame.assign(kind=["a", "b"] * 20), target="kind", split="random")
    assert (words.metric, words.class_names) == ("accuracy", ("a", "b"))


def test_wrong_tables_are_told_with_their_rows() -> None:
    with pytest.raises(ValueError, match="no column activity"):
        from_smiles(table(), target="activity")
    frame = table().astype({"active": object, "size": object})
    frame.loc[4, "size"] = "large"
    with pytest.raises(ValueError, match="'size' is not a finite number in row 4"):
        from_smiles(frame, target=["active", "size"])
    frame = table().assign(split=["train"] * 30 + ["val"] * 9 + ["later"])
    with pytest.raises(ValueError, match="got 'later' in row 39"):
        from_smiles(frame, target="active")


@pytest.mark.slow
@pytest.mark.skipif("hiv" not in available(), reason="the raw files of HIV are not here")
def test_hiv_as_a_user_s_own_table() -> None:
    strings, labels, _ = data_set("hiv").raw()
    frame = pd.DataFrame({"smiles": strings[:1000], "active": labels[:1000, 0].numpy()})
    task = from_smiles(frame, target="active")
    assert task.notes[0].startswith("2 of 1000 molecules are left out")
    assert "row 137" in task.notes[0]
    assert [len(getattr(task.split("scaffold"), part)) for part in ("train", "val", "test")] == [798, 99, 101]
    assert task.labels.sum() == labels[:1000, 0].sum()


def test_other_molecules_get_the_features_and_classes_of_those_that_were_learnt() -> None:
    learnt = table().assign(kind=[*"aabb" * 10])
    source = from_smiles(learnt, target="kind")
    space = FeatureSpace.of(source)
    some = learnt.iloc[5:20]
    anew, met = (from_smiles(some, target="kind", space=one) for one in (None, space))
    graph, atoms = source.graph, torch.isin(source.graph.batch, torch.arange(5, 20))
    expected = graph.x[graph.node_type[atoms]]
    torch.testing.assert_close(met.graph.x[met.graph.node_type], expected)
    assert not torch.allclose(anew.graph.x[anew.graph.node_type], expected, atol=1e-3)
    assert met.class_names == ("a", "b")
    assert met.labels.tolist() == source.labels[5:20].tolist()
    assert from_smiles(some.assign(kind="b"), target="kind", space=space, split="random").labels.tolist() == [1] * 15
    with pytest.raises(ValueError, match=r"classes that the source lacks: 'c' \(15 instances, first 5"):
        from_smiles(some.assign(kind="c"), target="kind", space=space)


def test_molecules_without_a_label_can_be_asked_about_once_others_were_learnt() -> None:
    space = FeatureSpace.of(from_smiles(table(), target="active"))
    met = from_smiles(table()[["smiles"]], target="active", space=space)
    assert met.splits == {}
    assert met.labels.shape == (40, 1)
    assert met.labels.isnan().all()
    with pytest.raises(ValueError, match="no column active"):
        from_smiles(table()[["smiles"]], target="active")
