"""One file or folder: networks, arrays, triples, molecules, and public data sets as a user has them."""

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
from own_samples import edges, nodes, pairs, written
from safetensors.torch import save_file
from samples import ring
from torch_geometric.data import Data

from stemlib.data.graph import plain
from stemlib.data.own_files import read_own
from stemlib.data.public import available, data_set


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
    assert "100.0% of the edges are one-way: messages run only from source to target" in own.notes


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


def test_a_first_line_that_may_be_titles_is_pointed_out(tmp_path: Path) -> None:
    rows = [(f"p{i}", "likes" if step < 3 else "knows", f"p{(i + step) % 20}") for i in range(20) for step in (1, 3)]
    text = "\n".join("\t".join(row) for row in [("subject", "predicate", "object"), *rows])
    (tmp_path / "own.tsv").write_text(text)
    told = [note for note in read_own(tmp_path / "own.tsv").notes if "titles" in note]
    assert len(told) == 1
    assert "own.tsv line 1 is read as a triple, but none of subject, predicate, object occurs again" in told[0]
    named = read_own(tmp_path / "own.tsv", head="subject", relation="predicate", tail="object")
    assert named.task.class_names == ("knows", "likes")
    assert not any("titles" in note for note in named.notes)


def test_triples_in_three_files_with_texts(tmp_path: Path) -> None:
    for name, count in {"train": 20, "valid": 4, "test": 6}.items():
        (tmp_path / f"{name}.tsv").write_text("".join(f'p{i}\tl"ikes\tp{i + count}\n' for i in range(count)))
    (tmp_path / "texts.tsv").write_text("".join(f"p{i}\tperson number {i}\n" for i in range(30)))
    own = read_own(tmp_path)
    split = own.task.split("own")
    assert [len(split.train), len(split.val), len(split.test)] == [20, 4, 6]
    assert own.task.class_names == ('l"ikes',)
    (tmp_path / "test.tsv").write_text("p0\t\tp9\n")
    with pytest.raises(ValueError, match=r"'relation' is blank in test.tsv line 1"):
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
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
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
    with pytest.raises(ValueError, match="known file types are"):
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
