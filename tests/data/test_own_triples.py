from __future__ import annotations

import pandas as pd
import pytest
import torch

from stemlib.data.feature_space import FeatureSpace
from stemlib.data.graph import plain
from stemlib.data.own_triples import fixed_vectors, from_triples
from stemlib.data.public import available, data_set

COLUMNS = ["head", "relation", "tail"]


def family(people: int = 30) -> pd.DataFrame:
    """Each person likes the next two; who likes the next one also knows it."""
    rows = [(f"p{i}", "likes", f"p{(i + step) % people}") for i in range(people) for step in (1, 2)]
    rows += [(f"p{i}", "knows", f"p{(i + 1) % people}") for i in range(people)]
    return pd.DataFrame(rows, columns=COLUMNS)


def asked(task: object, part: str) -> set[tuple[str, str, str]]:
    names, (split,) = task.graph.about["entity"], task.splits.values()
    index = getattr(split, part)
    return {
        (names[head], task.class_names[label], names[tail])
        for (head, tail), label in zip(task.pairs[index].tolist(), task.labels[index].tolist(), strict=True)
    }


def test_names_are_kept_and_every_triple_stands_in_one_part() -> None:
    frame = family()
    task = from_triples(frame)
    parts = [asked(task, part) for part in ("train", "val", "test")]
    assert set().union(*parts) == set(frame.itertuples(index=False, name=None))
    assert sum(map(len, parts)) == len(frame)
    assert all(parts)
    rows = frame.loc[task.graph.about["row"]]
    assert [task.graph.about["entity"][head] for head in task.pairs[:, 0]] == rows["head"].tolist()


def test_a_drawn_split_keeps_all_triples_of_two_entities_together() -> None:
    task = from_triples(pd.concat([family(), family().rename(columns={"head": "tail", "tail": "head"})]))
    pairs = [{frozenset((head, tail)) for head, _, tail in asked(task, part)} for part in ("train", "val", "test")]
    assert not pairs[0] & pairs[1]
    assert not pairs[0] & pairs[2]
    assert not pairs[1] & pairs[2]
    assert not any("carries messages" in note for note in task.notes)
    assert any(note.startswith("180 triples have a reciprocal") for note in task.notes)


def test_messages_run_along_training_triples_and_back() -> None:
    task = from_triples(family())
    names, relations = task.graph.about["entity"], task.class_names
    edges = zip(*plain(task.graph.edge_index).tolist(), task.graph.edge_type.tolist(), strict=True)
    found = {(names[source], kind, names[target]) for source, target, kind in edges}
    train = {(head, relations.index(relation), tail) for head, relation, tail in asked(task, "train")}
    assert found == train | {(tail, relation + len(relations), head) for head, relation, tail in train}


def test_own_parts_are_honoured_and_what_is_blank_is_left_out() -> None:
    frame = family().assign(part=["train"] * 60 + ["valid"] * 10 + ["TEST"] * 15 + [None] * 5)
    task = from_triples(frame, split="part")
    assert [len(asked(task, part)) for part in ("train", "val", "test")] == [60, 10, 15]
    assert asked(task, "test") == set(frame[frame.part == "TEST"][COLUMNS].itertuples(index=False, name=None))


def test_a_split_by_time_tests_on_the_latest() -> None:
    frame = family().assign(when=pd.date_range("2020-01-01", periods=90).astype(str)[::-1])
    task = from_triples(frame, split="time", time="when")
    rows = torch.tensor(task.graph.about["row"])
    split = task.split("time")
    assert rows[split.train].min() > rows[split.val].max() > rows[split.val].min() > rows[split.test].max()
    assert [len(split.train), len(split.val), len(split.test)] == [72, 9, 9]
    assert any("training up to 2020-03-12" in note for note in task.notes)


def test_triples_that_stand_there_twice_count_once_and_are_named() -> None:
    frame = pd.concat([family(), family().iloc[[3, 5]]], ignore_index=True)
    task = from_triples(frame)
    assert task.instances == 90
    assert "2 triples repeat earlier ones and are left out: row 90, 91" in task.notes


def test_one_that_stands_in_two_parts_is_a_leak_that_is_told() -> None:
    frame = family().assign(split=["train"] * 60 + ["val"] * 15 + ["test"] * 15)
    frame = pd.concat([frame, frame.iloc[[0]].assign(split="test")], ignore_index=True)
    task = from_triples(frame)
    assert task.instances == 91
    assert any("are in training with the same label" in note and "own 6.2%" in note for note in task.notes)


def test_unseen_entities_and_relations_are_named() -> None:
    frame = family().assign(split=["train"] * 60 + ["val"] * 15 + ["test"] * 15)
    frame.loc[89, ["head", "relation"]] = ["stranger", "hates"]
    notes = from_triples(frame).notes
    assert "1 of 15 test triples have an entity that training never sees: stranger" in notes
    assert "relations that training never sees: hates, knows" in notes


def test_all_problems_are_told_with_their_rows() -> None:
    frame = family().assign(split=["train"] * 60 + ["val"] * 15 + ["test"] * 14 + ["tset"])
    frame.loc[[4, 7], "head"] = ["", None]
    frame.loc[9, "relation"] = " "
    with pytest.raises(ValueError, match="'head' is blank in row 4, 7") as refused:
        from_triples(frame)
    assert "'relation' is blank in row 9" in str(refused.value)
    assert "got 'tset' in row 89" in str(refused.value)
    with pytest.raises(ValueError, match="no column tail"):
        from_triples(family().drop(columns="tail"))
    with pytest.raises(ValueError, match="no split can be drawn"):
        from_triples(family().iloc[:2])


def test_vectors_of_names_are_the_same_in_every_graph_and_apart() -> None:
    one, other = fixed_vectors(["a", "b", "ab"], 64), fixed_vectors(["b", "c"], 64)
    assert torch.equal(one[1], other[0])
    assert (one @ one.T - torch.eye(3)).abs().max() < 0.6
    few, many = from_triples(family(20)), from_triples(family(30))
    assert torch.equal(
        few.graph.x[few.graph.about["entity"].index("p7")], many.graph.x[many.graph.about["entity"].index("p7")]
    )


def test_texts_are_encoded_together_and_those_missing_are_named() -> None:
    texts = {f"p{i}": f"person {i} of {'north' if i % 2 else 'south'}" for i in range(29)}
    task = from_triples(family(), texts=texts | {"likes": "is fond of"}, width=8)
    assert task.graph.x.shape == (30, 8)
    assert task.graph.edge_attr.shape == (4, 8)
    assert "2 names have no text and serve as their own: p29, knows" in task.notes


@pytest.mark.slow
@pytest.mark.skipif("wn18rr" not in available(), reason="the raw files of WN18RR are not here")
def test_wn18rr_as_a_user_s_own_table() -> None:
    triples, _ = data_set("wn18rr").raw()
    parts = [part for part, size in zip(("train", "valid", "test"), triples.sizes, strict=True) for _ in range(size)]
    head, tail = ([triples.entities[one] for one in end] for end in triples.pairs.T.tolist())
    relation = [triples.relations[one] for one in triples.relation.tolist()]
    task = from_triples(pd.DataFrame({"head": head, "relation": relation, "tail": tail, "split": parts}))
    split = task.split("own")
    assert (len(split.train), len(split.val), len(split.test)) == (86835, 3034, 3134)
    assert (task.graph.num_nodes, task.outputs) == (40943, 11)
    assert any("own 34.7%" in note for note in task.notes)  # of the test, as published: given away by its reciprocal


@pytest.mark.parametrize(
    "texts", [None, {name: f"person {name} of the north" for name in map("p{}".format, range(60))}]
)
def test_other_triples_get_the_features_and_relations_of_those_that_were_learnt(texts: dict[str, str] | None) -> None:
    source = from_triples(family(), texts=texts, width=8)
    space = FeatureSpace.of(source)
    other = family(60)
    met = from_triples(other[other.relation == "likes"], texts=texts, width=8, space=space)
    assert met.class_names == source.class_names == ("knows", "likes")
    assert (met.labels == 1).all()
    mine, theirs = source.graph.about["entity"], met.graph.about["entity"]
    for name in ("p0", "p7"):
        torch.testing.assert_close(met.graph.x[theirs.index(name)], source.graph.x[mine.index(name)])
    torch.testing.assert_close(met.graph.edge_attr, source.graph.edge_attr)
    space.require(met)
    with pytest.raises(ValueError, match="relations that the source does not have: hates, in row 3"):
        from_triples(other.assign(relation=["likes"] * 3 + ["hates"] + ["likes"] * 176), texts=texts, space=space)
