from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse
import torch
from safetensors.torch import save_file
from samples import ring
from torch_geometric.data import Data

from stemlib.data.graph import plain
from stemlib.data.own_files import Own, read_own
from stemlib.data.public import available, data_set

NODES = 12


def nodes() -> pd.DataFrame:
    """Two classes of six; the last node has no label."""
    index = np.arange(NODES)
    frame = pd.DataFrame(
        {"id": [f"n{i}" for i in index], "label": np.where(index % 2, "cat", "dog"), "age": index + 1.0}
    )
    frame.loc[NODES - 1, "label"] = None
    return frame


def edges() -> pd.DataFrame:
    """A ring, each edge once."""
    return pd.DataFrame(
        {"source": [f"n{i}" for i in range(NODES)], "target": [f"n{(i + 1) % NODES}" for i in range(NODES)]}
    )


def written(folder: Path, nodes: pd.DataFrame | None, edges: pd.DataFrame, form: str = "csv") -> Path:
    for name, frame in {"nodes": nodes, "edges": edges}.items():
        if frame is not None:
            getattr(frame, f"to_{form}")(folder / f"{name}.{form}", index=False)
    return folder


def pairs(own: Own) -> set[tuple[str, str]]:
    """Edges by the names of their ends."""
    return {(own.names[source], own.names[target]) for source, target in plain(own.task.graph.edge_index).T.tolist()}


def refusal(path: Path, **options: object) -> str:
    with pytest.raises(ValueError, match="cannot be used") as refused:
        read_own(path, **options)
    return str(refused.value)


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
    assert "2 classes; 'dog' has 54.5%: always answering it is right that often" in own.notes


def test_other_names_of_columns_and_separators(tmp_path: Path) -> None:
    nodes().rename(columns={"id": "who", "label": "kind"}).to_csv(tmp_path / "nodes.csv", index=False, sep=";")
    edges().rename(columns={"source": "from", "target": "to"}).to_csv(tmp_path / "edges.csv", index=False, sep="\t")
    own = read_own(tmp_path, id="who", label="kind", source="from", target="to")
    assert own.names == nodes().id.tolist()
    assert own.task.outputs == 2
    with pytest.raises(ValueError, match="no column is known as lable"):
        read_own(tmp_path, lable="kind")
    lines = refusal(tmp_path, id="name", source="from")
    assert "the nodes have no column name; there are who, kind, age" in lines
    assert "the edges have no column target; there are from, to" in lines


def test_names_of_nodes_stay_as_they_are_written(tmp_path: Path) -> None:
    names = ["NA", "007", "7", "None", "1e3", "a b", *nodes().id[6:]]
    frame = nodes().assign(id=names)
    ring = pd.DataFrame({"source": names, "target": names[1:] + names[:1]})
    assert read_own(written(tmp_path, frame, ring)).names == names


def test_edges_run_one_way_where_they_are_said_to_or_some_are_reciprocated(tmp_path: Path) -> None:
    written(tmp_path, nodes(), edges())
    assert read_own(tmp_path, directed=True).task.graph.num_edges == NODES
    both = pd.concat([edges(), pd.DataFrame({"source": ["n1"], "target": ["n0"]})])
    own = read_own(written(tmp_path, nodes(), both))
    assert own.task.graph.num_edges == NODES + 1
    assert "84.6% of the edges are one-way: messages run from source to target alone" in own.notes
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
    assert "twice: n2, in nodes.csv line 5" in lines
    assert "target that is no node: 'n3', 'n5', 'z9', in edges.csv line 4, 6, 14" in lines
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
    assert any("2 classes (numbers 1, 2), numbered from 0" in note for note in own.notes)


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
    assert any("2 of the training part are drawn" in note for note in own.notes)
    assert own.task.graph.x.shape == (NODES, 1)


def test_a_split_by_time(tmp_path: Path) -> None:
    written(tmp_path, nodes().assign(year=[2003, 2001, 2002] * 4), edges())
    split = read_own(tmp_path, split="time", time="year").task.split("time")
    assert [part.tolist() for part in (split.train, split.val, split.test)] == [[1, 4, 7, 10], [2, 5, 8], [0, 3, 6, 9]]
    assert "needs a column 'time'" in refusal(tmp_path, split="time")
    written(tmp_path, nodes().assign(time=["2003", "soon"] * 6), edges())
    assert "neither number nor date in nodes.csv line 3, 5, 7" in refusal(tmp_path, split="time")


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
    assert any("made of degrees" in note for note in own.notes)
    alone = read_own(written(tmp_path / "alone", None, edges()) if (tmp_path / "alone").mkdir() is None else tmp_path)
    assert alone.names == sorted(nodes().id)
    assert not alone.task.splits


@pytest.mark.parametrize("kind", [nx.Graph, nx.DiGraph])
@pytest.mark.parametrize("form", ["graphml", "gml"])
def test_networks(tmp_path: Path, kind: type[nx.Graph], form: str) -> None:
    network = kind(edges().itertuples(index=False, name=None))
    for name, label, age in nodes().itertuples(index=False):
        network.add_node(name, age=age, **({} if pd.isna(label) else {"animal": label}))
    getattr(nx, f"write_{form}")(network, tmp_path / f"own.{form}")
    own = read_own(tmp_path / f"own.{form}", label="animal")
    there = set(edges().itertuples(index=False, name=None))
    back = {(target, source) for source, target in there}
    assert pairs(own) == there | (back if kind is nx.Graph else set())
    assert own.task.class_names == ("cat", "dog")
    assert own.task.labels[own.names.index("n11")] == -1


def arrays(graph: Data) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in graph.to_dict().items()}


@pytest.mark.parametrize("form", ["pt", "dict", "npz", "published", "safetensors", "mat"])
def test_arrays(tmp_path: Path, form: str) -> None:
    graph = ring()
    path = tmp_path / f"own.{ {'dict': 'pt', 'published': 'npz'}.get(form, form) }"
    if form in ("pt", "dict"):
        torch.save(graph if form == "pt" else graph.to_dict(), path)
    elif form == "npz":
        np.savez(path, **arrays(graph))
    elif form == "published":
        np.savez(
            path,
            node_features=graph.x.numpy(),
            edges=graph.edge_index.T.numpy(),
            node_labels=graph.y.numpy(),
            **{f"{part}_masks": graph[f"{part}_mask"][None].numpy() for part in ("train", "val", "test")},
        )
    elif form == "safetensors":
        save_file(graph.to_dict(), path)
    else:
        adjacency = scipy.sparse.coo_matrix((np.ones(12), graph.edge_index.numpy()), (12, 12))
        scipy.io.savemat(path, {"A": adjacency.tocsc(), "fea": graph.x.numpy(), "gnd": np.eye(2)[graph.y.numpy()]})
    (tmp_path / "own.json").write_text(json.dumps({"names": list("abcdefghijkl"), "class_names": ["even", "odd"]}))
    own = read_own(path)
    assert own.names == list("abcdefghijkl")
    assert own.task.class_names == ("even", "odd")
    assert pairs(own) == {*pairwise("abcdefghijkl"), ("l", "a")}
    assert torch.equal(own.task.graph.x, graph.x)
    assert own.task.labels.tolist() == graph.y.tolist()
    if form != "mat":
        assert next(iter(own.task.splits.values())).test.tolist() == [8, 9, 10, 11]
    assert "100.0% of the edges are one-way: messages run from source to target alone" in own.notes


def test_other_kinds_of_arrays(tmp_path: Path) -> None:
    graphs = [Data(x=torch.ones(2, 1), edge_index=torch.tensor([[0], [1]]), y=i % 2) for i in range(8)]
    torch.save(graphs, tmp_path / "graphs.pt")
    assert read_own(tmp_path).task.kind == "graph"
    links = ring()
    links.edge_label_index, links.edge_label = torch.stack([links.y, 1 + torch.arange(12) % 11]), links.y
    torch.save(links, tmp_path / "graphs.pt")
    assert read_own(tmp_path).task.kind == "link"
    bare = ring()
    del bare.y
    torch.save(bare, tmp_path / "graphs.pt")
    assert not read_own(tmp_path).task.splits
    timed = ring()
    timed.year = torch.arange(12).flip(0)
    torch.save(timed, tmp_path / "graphs.pt")
    assert read_own(tmp_path, split="time", time="year").task.split("time").test.max() < 3


def test_a_file_that_could_run_a_program_is_not_opened(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(2, 1), "of": Path()}, tmp_path / "own.pt")
    with pytest.raises(ValueError, match="more than tensors"):
        read_own(tmp_path)


def test_triples_with_and_without_a_head(tmp_path: Path) -> None:
    rows = [(f"p{i}", "likes" if step < 3 else "knows", f"p{(i + step) % 20}") for i in range(20) for step in (1, 3)]
    text = "\n".join("\t".join(row) for row in rows)
    for name, content in {"bare": text, "headed": f"head\trelation\ttail\n{text}"}.items():
        (tmp_path / f"{name}.tsv").write_text(content)
        own = read_own(tmp_path / f"{name}.tsv")
        assert own.task.class_names == ("knows", "likes")
        assert sorted(own.names) == sorted(f"{head} -> {tail}" for head, _, tail in rows)


def test_triples_in_three_files_with_texts(tmp_path: Path) -> None:
    for name, count in {"train": 20, "valid": 4, "test": 6}.items():
        (tmp_path / f"{name}.tsv").write_text("".join(f'p{i}\tl"ikes\tp{i + count}\n' for i in range(count)))
    (tmp_path / "texts.tsv").write_text("".join(f"p{i}\tperson number {i}\n" for i in range(30)))
    own = read_own(tmp_path)
    split = own.task.split("own")
    assert [len(split.train), len(split.val), len(split.test)] == [20, 4, 6]
    assert own.task.class_names == ('l"ikes',)
    (tmp_path / "test.tsv").write_text("p0\t\tp9\n")
    with pytest.raises(ValueError, match=r"'relation' is blank in in test.tsv line 1"):
        read_own(tmp_path)


def test_molecules(tmp_path: Path) -> None:
    strings = [ring + tail for ring in ("c1ccccc1", "C1CCCC1", "c1ccncc1", "C1CC1") for tail in ("C", "CC", "CO", "CN")]
    frame = pd.DataFrame({"smiles": [*strings, "C1("], "id": range(17), "active": [0, 1] * 8 + [1]})
    frame.to_csv(tmp_path / "molecules.csv", index=False)
    own = read_own(tmp_path)
    assert own.names == [str(i) for i in range(16)]
    assert own.task.labels.flatten().tolist() == [0, 1] * 8
    assert "the target is column 'active'" in own.notes
    assert any("molecules.csv line 18: C1(" in note for note in own.notes)


def test_what_cannot_be_told_is_asked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not there"):
        read_own(tmp_path / "none")
    with pytest.raises(ValueError, match="no file to read"):
        read_own(tmp_path)
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(ValueError, match="has columns x, y"):
        read_own(tmp_path)
    (tmp_path / "b.csv").write_text("x,y\n1,2\n")
    with pytest.raises(ValueError, match=r"has a\.csv, b\.csv"):
        read_own(tmp_path)
    (tmp_path / "c.txt").write_text("")
    with pytest.raises(ValueError, match="must be one of"):
        read_own(tmp_path / "c.txt")


@pytest.mark.slow
@pytest.mark.skipif("cora" not in available(), reason="the raw files of Cora are not here")
def test_cora_as_tables(tmp_path: Path) -> None:
    graph, _ = data_set("cora").raw()
    frame = pd.DataFrame(graph.x.int().numpy(), columns=[f"word{i}" for i in range(1433)])
    part = np.select([graph.train_mask, graph.val_mask, graph.test_mask], ["train", "val", "test"], "")
    frame = frame.assign(id=[f"paper{i}" for i in range(2708)], label=graph.y.numpy(), split=part)
    written(
        tmp_path, frame, pd.DataFrame(graph.edge_index.T.numpy(), columns=["source", "target"]).map("paper{}".format)
    )
    own = read_own(tmp_path)
    assert torch.equal(own.task.graph.x, graph.x)
    assert own.task.labels.tolist() == graph.y.tolist()
    edges = plain(own.task.graph.edge_index)
    assert {*map(tuple, edges.T.tolist())} == {*map(tuple, graph.edge_index.T.tolist())}
    assert own.task.split("own").test.tolist() == graph.test_mask.nonzero().flatten().tolist()


@pytest.mark.slow
@pytest.mark.skipif("texas" not in available(), reason="the raw files of Texas are not here")
def test_texas_as_graphml(tmp_path: Path) -> None:
    graph, _ = data_set("texas").raw()
    network = nx.DiGraph(map(tuple, graph.edge_index.T.tolist()))
    words = graph.x[:, :50].int()
    for page in range(graph.num_nodes):
        network.add_node(page, kind=int(graph.y[page]), **{f"word{i}": int(one) for i, one in enumerate(words[page])})
    nx.write_graphml(network, tmp_path / "texas.graphml")
    own = read_own(tmp_path, label="kind")
    order = torch.tensor([int(name) for name in own.names])
    edges = {(int(source), int(target)) for source, target in pairs(own)}
    assert edges == {*map(tuple, graph.edge_index.T.tolist())}
    assert torch.equal(own.task.graph.x, words[order].float())
    known = own.task.labelled()
    names = torch.tensor(own.task.class_names)
    assert torch.equal(names[own.task.labels[known]], graph.y[order][known])
    assert graph.num_nodes - len(known) == 1  # the one class of a single page counts as unknown
