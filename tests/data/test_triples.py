from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import raw_samples
import torch
from staged import staged

from stemlib.data import raw_files
from stemlib.data.public import data_set, load
from stemlib.data.tasks import Task
from stemlib.data.triples import message_graph


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A knowledge graph of seven triples in WN18RR's files."""
    monkeypatch.setattr(raw_files, "listed_sums", dict)
    monkeypatch.setattr("stemlib.cache.cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setenv("STEMLIB_DATA", str(tmp_path))
    raw_samples.wordnet(tmp_path)


def edges(task: Task) -> set[tuple[int, int, int]]:
    """(source, target, type) of every message edge."""
    index = task.graph.edge_index.as_subclass(torch.Tensor)
    return set(zip(*index.tolist(), task.graph.edge_type.tolist(), strict=True))


def asked(task: Task, part: str) -> set[tuple[int, int, int]]:
    """(head, tail, relation) of the triples of a part."""
    index = getattr(task.split("given"), part)
    return set(zip(*task.pairs[index].T.tolist(), task.labels[index].tolist(), strict=True))


def inverse(triples: set[tuple[int, int, int]], relations: int) -> set[tuple[int, int, int]]:
    return {(tail, head, relation + relations) for head, tail, relation in triples}


def test_pairs_are_the_triples_in_order(tiny: None) -> None:
    task = load("wn18rr", width=8)
    by_text = dict(map(reversed, raw_samples.GLOSSES.items()))
    names = [by_text[text] for text in task.graph.about["node_text"]]
    for part, raw in (("train", "train"), ("val", "valid"), ("test", "test")):
        triples = {
            (names[head], "_" + task.graph.about["relation_text"][relation].replace(" ", "_"), names[tail])
            for head, tail, relation in asked(task, part)
        }
        assert triples == set(raw_samples.TRIPLES[raw])


def test_messages_run_along_training_triples_and_their_inverses_only(tiny: None) -> None:
    task = load("wn18rr", width=8)
    train = asked(task, "train")
    assert edges(task) == train | inverse(train, 11)


def test_all_edges_are_the_reference_s_leak(tiny: None) -> None:
    task = load("wn18rr", width=8, message_edges="all")
    triples = asked(task, "train") | asked(task, "val") | asked(task, "test")
    assert edges(task) == triples | inverse(triples, 11)


def test_entities_and_relations_share_one_width(tiny: None) -> None:
    task = load("wn18rr", width=8)
    assert task.graph.x.shape == (6, 8)
    assert task.graph.edge_attr.shape == (22, 8)
    assert not torch.equal(task.graph.edge_attr[:11], task.graph.edge_attr[11:])


def test_ambiguous_test_pairs_are_noted(tiny: None) -> None:
    """One of the two test pairs is a training pair with another relation."""
    assert any("50.0% of the test pairs" in note for note in load("wn18rr", width=8).notes)


def test_the_checksum_knows_every_option(tiny: None) -> None:
    options = [{"width": 8}, {"width": 9}, {"width": 8, "message_edges": "all"}]
    assert len({load("wn18rr", **option).checksum for option in options}) == 3


def test_plain_text_files_do_as_well(tiny: None, tmp_path: Path) -> None:
    packed = load("wn18rr", width=8)
    for file in (tmp_path / "other/kg_text/WN18RR").glob("*.gz"):
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    assert torch.equal(load("wn18rr", width=8).graph.x, packed.graph.x)


def test_an_entity_without_a_text_is_named(tiny: None, tmp_path: Path) -> None:
    raw_samples.write(tmp_path / "other/kg_text/WN18RR/entity2text.txt.gz", "00000001\tdog\n")
    with pytest.raises(ValueError, match="no text for 5 identifiers: 00000003"):
        load("wn18rr", width=8)


@pytest.mark.parametrize("name", ["wn18rr", "fb15k237"])
def test_published_counts(name: str) -> None:
    staged(name)
    triples, files = data_set(name).raw()
    counts = {"entities": len(triples.entities), "relations": len(triples.relations)}
    counts |= dict(zip(("train", "val", "test"), triples.sizes, strict=True))
    assert counts == data_set(name).statistics
    assert not files.unverified
    assert len(set(triples.entities)) == len(triples.entities)
    assert int(triples.pairs.max()) == len(triples.entities) - 1


@pytest.mark.parametrize("name", ["wn18rr", "fb15k237"])
def test_identifiers_belong_to_the_numbers(name: str) -> None:
    """The triples spelt out are the lines of the raw files."""
    staged(name)
    triples, files = data_set(name).raw()
    spelt = {
        (triples.entities[head], triples.relations[relation], triples.entities[tail])
        for (head, tail), relation in zip(triples.pairs.tolist(), triples.relation.tolist(), strict=True)
    }
    parts = [path for path in files.paths.values() if path.suffix == ".txt"]
    lines = {tuple(line.split("\t")) for path in parts for line in path.read_text().splitlines()}
    assert spelt == lines


def test_no_question_of_fb15k237_stands_on_a_message_edge() -> None:
    staged("fb15k237")
    triples, _ = data_set("fb15k237").raw()
    count = len(triples.entities)
    index = message_graph(triples, "train").edge_index
    messages = index[0] * count + index[1]
    questions = triples.pairs[triples.split.test]
    assert not torch.isin(questions[:, 0] * count + questions[:, 1], messages).any()
