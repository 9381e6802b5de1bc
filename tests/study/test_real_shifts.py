"""Real shifts: nothing of a target is in what is learnt, and the tables hold what they say."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch
from run_samples import METHODS, TINY
from torch_geometric.data import Data

from stemlib.data.graph import plain
from stemlib.data.tasks import Task
from stemlib.presets import PRESETS
from study.methods import METHODS as KNOWN
from study.protocols import CANDIDATES, Protocol
from study.real_data import of_countries, of_molecules, of_universities, structure
from study.real_shifts import COMPARED, SHIFTS, compared, main

KINDS = ("course", "faculty", "student")
PROTOCOL = Protocol("", (), candidates=CANDIDATES[:1], epochs=3)
MOLECULES = ["CCO", "CCN", "c1ccccc1O", "CC(=O)O", "CCCl", "CCCBr", "C1CCCCC1", "CC#N", "CCOC", "CNC", "CCS", "OCC(O)C"]


def pages(name: str, garbage: bool = False) -> pd.DataFrame:
    """Twelve pages of three categories whose words tell them apart."""
    rows = []
    for node in range(12):
        kind = KINDS[node % 3]
        text = "entirely other words" if garbage else f"{kind} {kind} of {name} page {node} read me"
        links = "0" if garbage else f"{(node + 1) % 12} {(node + 5) % 12}"
        rows.append({"node": node, "category": kind, "links": links if node else np.nan, "text": text})
    return pd.DataFrame(rows)


def ladder(nodes: int) -> Data:
    graph = nx.circular_ladder_graph(nodes // 2)
    graph.add_edges_from((0, node) for node in range(2, nodes, 3))
    edges = torch.tensor(list(graph.edges)).T
    return Data(edge_index=edges, y=torch.arange(nodes) % 4, num_nodes=nodes)


def same(one: Task, other: Task) -> bool:
    return one.content == other.content and torch.equal(plain(one.graph.edge_index), plain(other.graph.edge_index))


def test_a_university_that_is_met_changes_nothing_that_is_learnt(runs: Path) -> None:
    every = {name: pages(name) for name in ("one", "two", "three", "four")}
    shift = of_universities(every, "four")
    poisoned = of_universities(every | {"four": pages("four", garbage=True)}, "four")
    assert same(shift.source, poisoned.source)
    assert shift.targets["four"].content != poisoned.targets["four"].content
    assert shift.source.instances == 36
    assert shift.source.class_names == KINDS
    assert shift.source.graph.num_edges == 3 * 22
    assert shift.targets["four"].labels.tolist() == [0, 1, 2] * 4
    assert shift.targets["four"].graph.x.shape == (12, shift.source.graph.x.size(1))
    for one in (shift, poisoned):
        compared(one, PROTOCOL, TINY, METHODS[:1], [0])
    assert len(list(runs.glob("real_shifts/*/seed-0"))) == 3  # the three trainings of the first: the second found them


def test_the_table_has_a_row_for_every_target_method_and_seed(runs: Path) -> None:
    graphs = {"small": ladder(24), "middle": ladder(32), "large": ladder(40)}
    shift = of_countries(graphs, "middle")
    found = compared(shift, PROTOCOL, TINY, METHODS, [3, 4])
    assert found.columns.tolist() == ["task", "target", "method", "seed", "score", "clean", "val"]
    assert found.groupby(["target", "method"]).size().eq(2).all()
    assert set(found.target) == {"small", "large"}
    assert found[["score", "clean", "val"]].stack().between(0, 100).all()
    assert found.groupby(["method", "seed"]).clean.nunique().eq(1).all()
    trained = sorted(runs.glob("real_shifts/*/seed-*"))
    again = compared(shift, PROTOCOL, TINY, METHODS, [3, 4])
    assert sorted(runs.glob("real_shifts/*/seed-*")) == trained  # read back
    pd.testing.assert_frame_equal(found, again)


def test_a_country_s_features_are_its_own_and_scaled_by_the_source() -> None:
    graphs = {"small": ladder(24), "large": ladder(40)}
    shift = of_countries(graphs, "large")
    assert shift.source.graph.x.mean(0).abs().max() < 1e-5
    other = of_countries(graphs | {"small": ladder(30)}, "large")
    assert same(shift.source, other.source)
    table = structure(graphs["small"])
    assert len(table) == 24
    assert table["rank of degree"].between(0, 1).all()
    assert table.degree.argmax() == 0
    line = structure(Data(edge_index=torch.tensor([[0, 1], [1, 2]]), num_nodes=3))
    assert line.degree.tolist() == pytest.approx(np.log([2, 3, 2]))
    assert line.clustering.tolist() == [0, 0, 0]
    assert line["rank of pagerank"].tolist() == pytest.approx([0.5, 1, 0.5])


def test_molecules_are_read_in_the_source_s_words() -> None:
    labels = torch.arange(12.0).remainder(2)[:, None]
    shift = of_molecules("some", (MOLECULES, labels), {"test": (["CCI", "CCO"], labels[:2])}, width=16)
    other = of_molecules("some", (MOLECULES, labels), {"test": (["[Fe]", "CCO"], labels[:2])}, width=16)
    assert same(shift.source, other.source)
    (met,) = shift.targets.values()
    assert met.instances == 2
    ethanol = met.graph.x[met.graph.node_type[met.graph.ptr[1] :]]
    home = shift.source.graph
    torch.testing.assert_close(ethanol, home.x[home.node_type[: home.ptr[1]]])
    assert list(shift.source.splits) == ["stratified-0"]


def test_the_command_keeps_a_table(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {}
    monkeypatch.setattr("study.real_shifts.save_results", lambda frame, name: kept.update({name: frame}))
    shift = of_countries({"small": ladder(24), "large": ladder(32)}, "large")
    monkeypatch.setitem(SHIFTS, "airports", (lambda: iter([shift]), PROTOCOL))
    monkeypatch.setitem(PRESETS, "laptop", TINY)
    main(["airports", "--methods", "mlp", "gcn", "--seeds", "2"])
    (name,) = kept
    assert name == "17_real-airports"
    assert len(kept[name]) == 4
    assert set(COMPARED) <= set(KNOWN)
    with pytest.raises(SystemExit):
        main(["atlantis"])
