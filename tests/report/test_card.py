"""The report card on tiny graphs: files, sentences, resuming, own models, and the command without the study."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import torch
from samples import graph_task, link_task, node_task
from torch import nn

import stemlib
from stemlib import read_own
from stemlib.audit import trainings
from stemlib.audit.watch import watched
from stemlib.data.built_in import mixed_graph
from stemlib.data.tasks import Task
from stemlib.report.__main__ import parser, run
from stemlib.report.card import Card, Effort, report

TINY = Effort(hidden=8, epochs=3, patience=3, steps=6, seeds=2, candidates=1, draws=1)
FILES = ["report.html", "report.json", "scores.csv", "decomposition.csv", "risk.csv", "watch.json"]


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Card:
    task, other = mixed_graph(600), mixed_graph(120, seed=1)
    names = [f"n{place}" for place in range(600)]
    return report(task, tmp_path_factory.mktemp("card"), TINY, others={"south": other}, names=names)


class Tags(HTMLParser):
    """What stands in a page: images without a word, links to elsewhere, headings."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.images, self.sources, self.headings = [], [], 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.headings += tag == "h2"
        if tag == "img":
            self.images.append(found.get("alt"))
        self.sources += [found[key] for key in ("src", "href") if key in found]


def test_the_page_stands_alone_and_every_question_has_an_answer(card: Card) -> None:
    tags = Tags((card.folder / "report.html").read_text())
    assert tags.headings == 8
    assert len(tags.images) >= 7
    assert all(tags.images)
    assert all(source.startswith("data:") for source in tags.sources)
    assert all(answer.sentences for answer in card.answers)
    assert all((card.folder / name).stat().st_size for name in FILES)
    assert json.loads((card.folder / "report.json").read_text())["effort"]["hidden"] == TINY.hidden


def test_scores_are_of_every_method_under_everything_that_is_met(card: Card) -> None:
    scores = pd.read_csv(card.folder / "scores.csv")
    assert set(scores.method) == {"mlp", "gcn", "sage", "mixture", "routed", "stacked", "majority"}
    assert {"clean", "inside", "shift", "masked", "deleted", "other graph"} == set(scores.kind)
    assert set(scores[scores.kind == "shift"].condition) >= {"degree low", "homophily high", "locality low"}
    assert scores[scores.method != "majority"].groupby("condition").method.nunique().eq(6).all()


def test_the_majority_s_score_is_the_share_of_the_most_frequent_training_class(card: Card) -> None:
    task, split = card.found.task, next(iter(card.found.task.splits.values()))
    most = task.labels[split.train].bincount().argmax()
    share = 100 * (task.labels[split.test] == most).double().mean().item()
    assert card.found.of("majority", "clean").mean() == pytest.approx(share)


def test_an_adversary_takes_as_much_and_costs_no_less_than_chance(card: Card) -> None:
    worst, chosen = card.found.worst, card.found.chosen
    assert set(worst.kind) == {"masked", "deleted"}
    for kind, rows in worst.groupby("kind"):
        assert rows.score.mean() <= card.found.of(chosen, kind, f"{kind} 0.2").mean()
    assert any("adversary" in line for answer in card.answers for line in answer.sentences)


def test_a_large_graph_is_trained_by_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainings, "LARGE", 100)
    monkeypatch.setattr(trainings, "DRAWN_BATCH", 64)
    card = report(mixed_graph(300), tmp_path, replace(TINY, seeds=1))
    assert card.found.worst.empty
    assert "in batches of 64 with 10 neighbours drawn" in " ".join(card.found.notes)
    assert set(card.found.methods) == {"mlp", "gcn", "sage", "mixture", "routed", "stacked"}
    told = [line for answer in card.answers for line in answer.sentences]
    assert sum("A single training cannot tell" in line for line in told) == 1
    assert sum("With a single training there is no interval" in line for line in told) == 1


def test_pairs_that_training_gives_away_are_scored_apart(tmp_path: Path) -> None:
    task = link_task(200)
    split, pairs, labels = next(iter(task.splits.values())), task.pairs.clone(), task.labels.clone()
    pairs[split.test[:5]], labels[split.test[:5]] = pairs[split.train[:5]], labels[split.train[:5]]
    known = replace(task, pairs=pairs, labels=labels)
    card = report(known, tmp_path, replace(TINY, seeds=1, tried=("mlp", "gcn")))
    assert not card.found.of("mlp", "filtered").empty
    assert "filtered" not in {kind for kind, *_ in card.found.met()}
    assert any("On the others it scores" in line for line in card.answers[0].sentences)


def test_losses_of_the_decomposition_add_up(card: Card) -> None:
    parts = card.found.decomposition
    assert (parts.dR - parts.dC - parts.dS - parts.dX).abs().max() < 1e-9
    assert parts.condition.nunique() > 6


def test_risk_has_every_node_by_the_user_s_name_and_the_riskiest_first(card: Card) -> None:
    risk = pd.read_csv(card.folder / "risk.csv")
    assert sorted(risk.name) == sorted(f"n{place}" for place in range(600))
    assert risk.risk.is_monotonic_decreasing
    assert set(risk.degree_tenth) <= set(range(1, 11))
    assert (risk.disagreement >= -1e-9).all()


def test_the_frozen_model_answers_as_the_risk_table_says(card: Card) -> None:
    frozen = stemlib.load(card.folder / "frozen")
    found = frozen.predict(card.found.task)["class"].to_numpy()
    told = card.found.risk.sort_index().answer.to_numpy()
    assert (found.astype(int) == told).all()


def test_what_is_finished_is_read_back_and_gives_the_same_card(card: Card, capsys: pytest.CaptureFixture[str]) -> None:
    before = (card.folder / "scores.csv").read_bytes()
    report(mixed_graph(600), card.folder, TINY, others={"south": mixed_graph(120, seed=1)})
    assert "trained mlp" not in capsys.readouterr().out
    assert (card.folder / "scores.csv").read_bytes() == before


class Two(nn.Module):
    """A model of somebody's own: two maps and a mean over in-neighbours."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, 8), nn.Linear(8, classes)

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        source, target = edge_index
        mean = torch.zeros(len(x), 8).index_add(0, target, self.first(x)[source])
        return self.second(self.first(x) + mean / target.bincount(minlength=len(x)).clamp(min=1).unsqueeze(1))


def test_a_model_that_is_brought_is_stressed_and_none_is_trained(tmp_path: Path) -> None:
    task = mixed_graph(300)
    card = report(task, tmp_path, TINY, model=Two(task.graph.x.size(1), task.outputs))
    assert card.found.methods == ["model"]
    assert {"clean", "shift", "masked", "deleted"} == set(card.found.scores.kind)
    assert not (tmp_path / "trainings").exists()
    assert "confidence" in card.found.risk
    assert "radius" not in card.found.risk


def write_tables(folder: Path, task: Task, times: float = 1.0) -> None:
    """A graph as a user has it, `edges.csv` and `nodes.csv`, its features so many `times` as large."""
    folder.mkdir()
    edges = pd.DataFrame(task.graph.edge_index.as_tensor().T.numpy(), columns=["source", "target"])
    edges.to_csv(folder / "edges.csv", index=False)
    nodes = pd.DataFrame(times * task.graph.x.numpy()).add_prefix("f")
    nodes.assign(id=range(len(nodes)), label=task.labels.numpy()).to_csv(folder / "nodes.csv", index=False)


def test_a_later_graph_is_read_as_that_of_a_model_that_is_brought(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = mixed_graph(200)
    write_tables(tmp_path / "mine", task)
    write_tables(tmp_path / "later", task, times=3.0)
    own = read_own(tmp_path / "mine")
    brought = Two(own.task.graph.x.size(1), own.task.outputs)
    said = {}
    for name, space in (("kept", own.space), ("none", None)):
        report(own.task, tmp_path / name, TINY, model=brought, space=space)
        run(parser().parse_args([str(tmp_path / "later"), "--watch", str(tmp_path / name)]))
        said[name] = capsys.readouterr().out
    assert "keeps no feature space" in said["none"]
    assert "keeps no feature space" not in said["kept"]
    later = watched(tmp_path / "kept", read_own(tmp_path / "later", space=own.space).task)
    length = later[later.covariate.str.contains("length")]
    assert length.now.max() > 2 * length.share.max()  # seen in the first graph's units alone
    assert all(f"{share:.0%} now" in said["kept"] for share in length.now)


def test_a_model_of_another_shape_is_refused_with_both(tmp_path: Path) -> None:
    task = mixed_graph(300)
    with pytest.raises(ValueError, match=r"must give \[N, 4\].* \(1, 3\)"):
        report(task, tmp_path, TINY, model=Two(task.graph.x.size(1), 3))


def test_a_regression_and_graphs_get_a_card_without_what_has_no_meaning_there(tmp_path: Path) -> None:
    task = node_task()
    numbers = replace(task, regression=True, labels=torch.randn(task.instances, 1, dtype=torch.double))
    few = replace(TINY, seeds=1, tried=("mlp", "mixture", "routed"))
    card = report(numbers, tmp_path / "numbers", few)
    assert card.found.decomposition.empty
    assert "confidence" not in card.found.risk
    assert set(card.found.worst.kind) == {"masked"}
    told = [line for answer in card.answers for line in answer.sentences]
    assert "No adversary was tried on the edges: the search needs classes." in told
    assert report(graph_task(), tmp_path / "graphs", few).found.task.kind == "graph"


def test_the_command_works_in_any_folder_without_the_study_and_watches_a_later_graph(tmp_path: Path) -> None:
    mine, here = tmp_path / "mine", tmp_path / "here"
    here.mkdir()
    (here / "study.py").write_text("raise ImportError('the study is not there')")
    write_tables(mine, mixed_graph(200))
    environment = {**os.environ, "STEMLIB_PROGRESS": "off", "PYTHONPATH": str(Path(stemlib.__file__).parents[1])}
    command = [sys.executable, "-c", COMMAND]
    subprocess.run([*command, str(mine), "--quick", "--out", "card"], cwd=here, env=environment, check=True)
    assert json.loads((here / "card" / "report.json").read_text())["chosen"]
    later = subprocess.run(
        [*command, str(mine), "--watch", "card"], cwd=here, env=environment, check=True, capture_output=True, text=True
    )
    assert "number of neighbours below" in later.stdout
    assert "incoming edges of a node: " in later.stdout
    assert "LOOK CLOSER" not in later.stdout
    wrong = subprocess.run([*command, "nothing"], cwd=here, env=environment, capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "nothing" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    if not torch.cuda.is_available():
        asked = [*command, str(mine), "--device", "cuda"]
        wrong = subprocess.run(asked, cwd=here, env=environment, capture_output=True, text=True)
        assert wrong.returncode == 2
        assert "device 'cuda' needs an NVIDIA GPU" in wrong.stderr


COMMAND = """
import sys
from dataclasses import replace
from stemlib.audit.trainings import QUICK
from stemlib.report import __main__ as command
few = replace(QUICK, epochs=2, seeds=1, candidates=1, tried=('mlp', 'gcn'))
command.quick = lambda task: few
sys.exit(command.main())
"""
