"""Tables of nodes and edges: their columns, labels, splits and texts, and every problem by its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from own_samples import NODES, edges, nodes, pairs, refusal, written

from stemlib.data.graph import plain
from stemlib.data.own_files import read_own


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_tables_give_names_labels_edges_and_features(tmp_path: Path, form: str) -> None:
    own = read_own(written(tmp_path, nodes(), edges(), form))
    there = set(edges().itertuples(index=False, name=None))
    assert pairs(own) == there | {(target, source) for source, target in there}
    assert own.names == nodes().id.tolist()
    assert own.task.class_names == ("cat", "dog")
    assert own.task.labels.tolist() == [1, 0] * 5 + [1, -1]
    age = own.task.graph.x.squeeze(1)
    torch.testing.assert_close(age, torch.tensor((nodes().age - 6.5) / nodes().age.std(ddof=0)).float())
    assert "1 of 12 nodes have no label: answered, not learnt or scored" in own.notes
    assert "2 classes; always answering 'dog' is right 54.5% of the time" in own.notes


def test_other_names_of_columns_and_separators(tmp_path: Path) -> None:
    nodes().rename(columns={"id": "who", "label": "kind"}).to_csv(tmp_path / "nodes.csv", index=False, sep=";")
    edges().rename(columns={"source": "from", "target": "to"}).to_csv(tmp_path / "edges.csv", index=False, sep="\t")
    own = read_own(tmp_path, id="who", label="kind", source="from", target="to")
    assert own.names == nodes().id.tolist()
    assert own.task.outputs == 2
    with pytest.raises(ValueError, match="unknown column lable; there are source"):
        read_own(tmp_path, lable="kind")
    lines = refusal(tmp_path, id="name", source="from")
    assert "the nodes have no column name, only who, kind, age" in lines
    assert "the edges have no column target, only from, to" in lines


def test_names_of_nodes_stay_as_they_are_written(tmp_path: Path) -> None:
    names = ["NA", "007", "7", "None", "1e3", "a b", *nodes().id[6:]]
    frame = nodes().assign(id=names)
    ring = pd.DataFrame({"source": names, "target": names[1:] + names[:1]})
    assert read_own(written(tmp_path, frame, ring)).names == names


def test_words_for_nothing_among_labels_are_told(tmp_path: Path) -> None:
    frame = nodes().assign(label=["EU", "NA", "EU"] * 4)
    own = read_own(written(tmp_path, frame, edges()))
    assert own.task.class_names == ("EU",)
    assert own.task.labels.tolist() == [0, -1, 0] * 4
    assert "label label: NA means unknown, in 4 rows; rename a class of that name" in own.notes
    without = read_own(written(tmp_path, frame.assign(label="NA"), edges()))
    assert any("models can answer, but not learn" in note for note in without.notes)
    numbers = read_own(written(tmp_path, frame.assign(label=[0.5, "null", 2] * 4), edges()))
    assert numbers.task.regression
    assert numbers.task.labels.isnan().sum() == 4


def test_edges_run_one_way_where_they_are_said_to_or_some_are_reciprocated(tmp_path: Path) -> None:
    written(tmp_path, nodes(), edges())
    assert read_own(tmp_path, directed=True).task.graph.num_edges == NODES
    both = pd.concat([edges(), pd.DataFrame({"source": ["n1"], "target": ["n0"]})])
    own = read_own(written(tmp_path, nodes(), both))
    assert own.task.graph.num_edges == NODES + 1
    assert "84.6% of the edges are one-way: messages run only from source to target" in own.notes
    assert read_own(tmp_path, directed=False).task.graph.num_edges == 2 * NODES


def test_types_of_edges_have_vectors_that_do_not_depend_on_the_graph(tmp_path: Path) -> None:
    own = read_own(written(tmp_path, nodes(), edges().assign(type=["a", "b", "c"] * 4, weight=2.0)))
    graph = own.task.graph
    assert graph.edge_attr.shape == (3, 16)
    place = {pair: kind for *pair, kind in zip(*plain(graph.edge_index).tolist(), graph.edge_type.tolist(), strict=True)
             for pair in [tuple(pair)]}  # fmt: skip
    assert all(place[source, target] == place[target, source] for source, target in place)
    assert place[1, 2] == 1
    assert any("not read: weight" in note for note in own.notes)
    fewer = read_own(written(tmp_path, nodes(), edges().assign(type=["c", "b"] * 6)))
    assert torch.equal(fewer.task.graph.edge_attr, graph.edge_attr[1:])


def test_as_many_types_as_edges_are_features_of_edges(tmp_path: Path) -> None:
    own = read_own(written(tmp_path, nodes(), edges().assign(type=range(NODES))), directed=True)
    assert own.task.graph.edge_type is None
    assert own.task.graph.edge_attr.shape == (NODES, 16)


def test_every_problem_is_told_at_once_with_its_rows_and_nodes(tmp_path: Path) -> None:
    frame = nodes().astype({"age": object}).assign(size=1.5)
    frame.loc[3, "id"], frame.loc[5, "id"] = "n2", None
    frame.loc[4, "age"], frame.loc[[6, 7], "size"] = "old", [np.nan, np.inf]
    strange = pd.concat([edges(), pd.DataFrame({"source": ["n0"], "target": ["z9"]})])
    lines = refusal(written(tmp_path, frame.assign(split=["train"] * 11 + ["tests"]), strange))
    assert "'id' is blank in nodes.csv line 7" in lines
    assert "nodes are repeated: n2, in nodes.csv line 5" in lines
    assert "target that is not a node: 'n3', 'n5', 'z9', in edges.csv line 4, 6, 14" in lines
    assert "'age' has words among its numbers: old, in nodes.csv line 6" in lines
    assert "'size' is blank, NaN or infinite for 2 nodes: n6, n7" in lines


def test_lines_are_counted_over_blank_ones(tmp_path: Path) -> None:
    written(tmp_path, nodes(), edges())
    lines = (tmp_path / "edges.csv").read_text().splitlines()
    (tmp_path / "edges.csv").write_text("\n".join([lines[0], "", *lines[1:], "n0,z"]))
    assert "'z', in edges.csv line 15" in refusal(tmp_path)


@pytest.mark.parametrize("unknown", ["", "NaN", "-1", " "])
def test_unknown_labels_are_written_in_four_ways(tmp_path: Path, unknown: str) -> None:
    frame = nodes().assign(label=[unknown, *(str(1 + i % 2) for i in range(1, NODES))])
    own = read_own(written(tmp_path, frame, edges()))
    assert own.task.labels.tolist() == [-1, *(i % 2 for i in range(1, NODES))]
    assert own.task.class_names == (1, 2)
    assert any("2 classes, numbered from 0 in this order: 1, 2" in note for note in own.notes)


def test_fractions_are_numbers_to_predict(tmp_path: Path) -> None:
    own = read_own(written(tmp_path, nodes().assign(label=np.arange(NODES) / 4), edges()))
    assert own.task.regression
    assert own.task.labels.flatten().tolist() == (np.arange(NODES) / 4).tolist()
    whole = nodes().assign(label=np.arange(NODES) - 1)
    assert read_own(written(tmp_path, whole, edges()), regression=True).task.labels[0] == -1


def test_several_labels(tmp_path: Path) -> None:
    frame = nodes().assign(label=[0, 1] * 6, other=[0, 0, 1] * 4)
    own = read_own(written(tmp_path, frame, edges()), label=["label", "other"])
    assert own.task.metric == "roc_auc"
    assert own.task.labels.T.tolist() == [[0, 1] * 6, [0, 0, 1] * 4]
    assert own.task.graph.x.shape == (NODES, 1)


def test_classes_too_small_to_split_are_unknown(tmp_path: Path) -> None:
    own = read_own(written(tmp_path, nodes().assign(label=["b", "z", "a"] + ["a", "b"] * 4 + ["a"]), edges()))
    assert own.task.class_names == ("a", "b")
    assert own.task.labels[:4].tolist() == [1, -1, 0, 0]
    assert "classes with fewer than 3 nodes count as unknown: z (1)" in own.notes


def test_own_splits_are_honoured_and_only_the_labelled_stand_in_them(tmp_path: Path) -> None:
    written(tmp_path, nodes().assign(split=["train"] * 6 + ["valid"] * 2 + ["", "test", "test", "test"]), edges())
    own = read_own(tmp_path)
    split = own.task.split("own")
    assert [split.train.tolist(), split.val.tolist(), split.test.tolist()] == [[0, 1, 2, 3, 4, 5], [6, 7], [9, 10]]
    assert list(read_own(tmp_path, split="random").task.splits) == ["stratified-0"]
    written(tmp_path, nodes().assign(part=["train"] * 8 + ["test"] * 4), edges())
    own = read_own(tmp_path, split="part")
    assert len(own.task.split("own").val) == 2
    assert any("2 training rows are drawn" in note for note in own.notes)
    assert own.task.graph.x.shape == (NODES, 1)


def test_a_split_by_time(tmp_path: Path) -> None:
    written(tmp_path, nodes().assign(year=[2003, 2001, 2002] * 4), edges())
    split = read_own(tmp_path, split="time", time="year").task.split("time")
    assert [part.tolist() for part in (split.train, split.val, split.test)] == [[1, 4, 7, 10], [2, 5, 8], [0, 3, 6, 9]]
    assert "needs a column 'time'" in refusal(tmp_path, split="time")
    written(tmp_path, nodes().assign(time=["2003", "soon"] * 6), edges())
    assert "no number or date in nodes.csv line 3, 5, 7" in refusal(tmp_path, split="time")


def test_texts_are_encoded_and_a_second_graph_in_the_same_space(tmp_path: Path) -> None:
    frame = nodes().assign(title=["red cat", "blue dog", "green bird"] * 4)
    own = read_own(written(tmp_path, frame, edges()), width=4)
    assert any("read by the text encoder: title" in note for note in own.notes)
    frame = frame.iloc[::-1].assign(label=None)
    other = read_own(written(tmp_path, frame, edges()), space=own.space)
    torch.testing.assert_close(other.task.graph.x, own.task.graph.x.flip(0))
    assert not other.task.splits
    with pytest.raises(ValueError, match=r"missing: 'title'; added: 'headline'"):
        read_own(written(tmp_path, frame.rename(columns={"title": "headline"}), edges()), space=own.space)


def test_classes_of_a_second_graph_get_the_first_one_s_numbers(tmp_path: Path) -> None:
    own = read_own(written(tmp_path, nodes(), edges()))
    frame = nodes().assign(label=["dog"] * 8 + [None] * 4)
    other = read_own(written(tmp_path, frame, edges()), space=own.space, split="random")
    assert other.task.labels.tolist() == [1] * 8 + [-1] * 4
    assert other.task.class_names == ("cat", "dog")
    with pytest.raises(ValueError, match="cow"):
        read_own(written(tmp_path, nodes().replace("cat", "cow"), edges()), space=own.space)


def test_without_features_they_are_made_of_degrees(tmp_path: Path) -> None:
    own = read_own(written(tmp_path, nodes()[["id", "label"]], edges().iloc[1:]), directed=False)
    assert own.task.graph.x.shape == (NODES, 5)
    assert torch.equal(own.task.graph.x[0], own.task.graph.x[1])  # the path's two ends
    assert any("degrees are used" in note for note in own.notes)
    alone = read_own(written(tmp_path / "alone", None, edges()) if (tmp_path / "alone").mkdir() is None else tmp_path)
    assert alone.names == sorted(nodes().id)
    assert not alone.task.splits
