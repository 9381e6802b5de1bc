"""Head-room: gates over paths where the right one is known, the oracle and its null by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from routed_samples import random_model, random_task, without_returns
from run_samples import TINY
from samples import link_task, node_task
from torch import Tensor

from stemlib.model.encoder import path_gates
from stemlib.presets import PRESETS, change
from stemlib.theory.paths import all_paths, path_losses
from study.headroom import _label_homophily, confidences, forced, headroom, main, measured, of_classes, summary
from study.path_gates import Gate, fit, luck
from study.protocols import ON_BUILT_IN, protocol_of

NODES = 600


def two_experts() -> dict[str, Tensor]:
    """One expert is right where a number is positive, the other elsewhere; both are as sure of all they say."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (NODES,), generator=generator)
    sign, noise = torch.randn(2, NODES, generator=generator, dtype=torch.double)
    right = torch.stack([sign > 0, sign <= 0], dim=1)
    answer = torch.where(right, labels.unsqueeze(1), 1 - labels.unsqueeze(1))
    sure = torch.tensor([0.9, 0.85], dtype=torch.double).view(1, 2, 1)
    paths = torch.where(torch.nn.functional.one_hot(answer, 2) == 1, sure, 1 - sure).log()
    order = torch.randperm(NODES, generator=generator)
    train, val, clean, low = order.split(NODES // 4)
    return {
        "paths": paths,
        "labels": labels,
        "inputs": {"sign": sign.sign().unsqueeze(1), "noise": noise.unsqueeze(1)},
        "parts": {"train": train, "validation": val},
        "met": {"clean": clean, "OOD-low": low},
        "others": {"as trained": paths[:, 1]},
    }


@pytest.fixture(scope="module")
def known() -> pd.DataFrame:
    return table(two_experts())


def table(case: dict) -> pd.DataFrame:
    return pd.DataFrame(headroom(**case)).assign(task="drawn", method="routed", seed=0)


def test_a_gate_gets_all_where_it_reads_what_matters_and_nothing_elsewhere(known: pd.DataFrame) -> None:
    assert set(known[known.input == "sign"].fitted) == {"train", "validation", "held out"}
    assert (known[known.input == "sign"].score == 100).all()
    shares = summary(known).query("task == 'drawn'")
    shares = shares.set_index(["condition", "gate", "input", "fitted", "measure"]).share
    of_sign, of_noise = (shares.xs(name, level="input").xs("ce", level="measure") for name in ("sign", "noise"))
    assert (of_sign > 0.95).all()
    assert (of_sign <= 1).all()
    assert (of_noise.abs() < 0.05).all()
    assert (shares.xs("oracle", level="gate") == 1).all()
    assert (shares.xs("uniform", level="gate") == 0).all()


def test_oracle_uniform_and_other_networks_by_hand(known: pd.DataFrame) -> None:
    case = two_experts()
    rows = known.query("condition == 'clean'").set_index("gate")
    index = case["met"]["clean"]
    positive = (case["inputs"]["sign"][index, 0] > 0).double()
    assert rows.score["oracle"] == 100
    logs = torch.tensor([0.9, 0.85, 0.525, 0.475]).log()
    assert rows.ce["oracle"] == pytest.approx(-(positive * logs[0] + (1 - positive) * logs[1]).mean().item())
    assert rows.score["uniform"] == pytest.approx(100 * positive.mean().item())  # it follows the surer one
    assert rows.ce["uniform"] == pytest.approx(-(positive * logs[2] + (1 - positive) * logs[3]).mean().item())
    assert rows.score["as trained"] == pytest.approx(100 * (1 - positive.mean().item()))


def test_held_out_gates_have_not_seen_whom_they_answer_for(monkeypatch: pytest.MonkeyPatch) -> None:
    case = two_experts() | {"inputs": {"number": torch.arange(NODES).double().unsqueeze(1)}}
    uses = []

    def spied(x: Tensor, truth: Tensor, *_: int) -> Gate:
        def gate(rows: Tensor) -> Tensor:
            uses.append([set(part.flatten().tolist()) for part in (x, rows)])
            return torch.zeros(len(rows), truth.size(1)).double().log_softmax(-1)

        return gate

    monkeypatch.setattr("study.headroom.validated", spied)
    table(case)
    train, val = (set(case["parts"][part].tolist()) for part in ("train", "validation"))
    met = set(torch.cat(list(case["met"].values())).tolist())
    held_out = [use for use in uses if use[0] and use[0] not in (train, val)]
    assert len(held_out) == 4  # two halves, a linear gate and a network
    for fitted, asked in held_out:
        assert fitted == val | met - asked
        assert asked < met
    assert set.union(*(asked for _, asked in held_out)) == met


def test_the_same_call_gives_the_same_bits(known: pd.DataFrame) -> None:
    torch.rand(1)  # other draws beside it do not matter
    pd.testing.assert_frame_equal(table(two_experts()), known, check_exact=True)


def test_an_infinite_decay_leaves_one_weight_per_path() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 3, generator=generator, dtype=torch.double)
    truth = torch.randn(50, 4, generator=generator, dtype=torch.double).log_softmax(-1)
    weights = fit(x, truth, 8, float("inf"))(x)
    assert torch.equal(weights, weights[:1].expand(50, 4))
    best = -(weights + truth).logsumexp(-1).mean()
    for path in range(4):  # no weight could be moved: the risk is convex in the weights
        moved = 0.999 * weights.exp() + 0.001 * torch.eye(4)[path]
        assert -(moved.log() + truth).logsumexp(-1).mean() > best - 1e-5
    strong, weak = (fit(x, truth, 0, strength)(x).std(0).sum() for strength in (10.0, 0.01))
    assert strong < 0.1 * weak


def test_luck_is_the_mean_over_permutations_within_classes() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    for values in (torch.rand(7, 3, generator=generator), torch.randint(2, (7, 3), generator=generator).double()):
        total, draws = 0.0, 20000
        for group in labels.unique():
            own = values[labels == group]
            order = torch.rand(draws, *own.shape, generator=generator).argsort(1)
            total += own.expand(draws, -1, -1).gather(1, order).amax(-1).sum(1).mean().item()
        assert luck(values, labels) == pytest.approx(total / 7, abs=0.01)
    assert luck(values[:, :1], labels) == pytest.approx(values[:, 0].double().mean().item())


def test_paths_are_those_of_the_coverage() -> None:
    task = without_returns(random_task("node"))
    model = random_model(task)
    paths, states = forced(model, task)
    known = path_losses(model, task, torch.arange(task.instances)).forced["ce"]
    at = task.labels.view(-1, 1, 1).expand(-1, paths.size(1), 1)
    torch.testing.assert_close(-paths.gather(-1, at).squeeze(-1), known)
    one = path_gates(all_paths(3, 2)[5].tolist(), task.instances, 3, task.graph.x)
    with torch.no_grad():
        mixed = model.encode(task.graph)
        whole = model.encode(task.graph, [one[0], None])
    assert len(states) == len(mixed.inputs)
    assert torch.equal(states[1], mixed.inputs[1])
    assert not torch.equal(states[1], whole.inputs[1])


def test_confidences_by_hand() -> None:
    paths = torch.tensor([[[0.5, 0.5], [0.1, 0.9]]], dtype=torch.double).log()
    entropy = torch.special.entr(torch.tensor([[0.5, 0.5], [0.1, 0.9], [0.3, 0.7]], dtype=torch.double)).sum(1)
    sure = torch.tensor([0.5, 0.9]).log()  # all together say the second
    expected = [*sure, *entropy[:2], *sure, entropy[2] - entropy[:2].mean()]
    torch.testing.assert_close(confidences(paths)[0], torch.tensor(expected, dtype=torch.double))
    same = torch.tensor([[[0.3, 0.7]] * 2], dtype=torch.double).log()
    assert confidences(same)[0, -1] == pytest.approx(0, abs=1e-12)


def test_label_homophily_and_binary_labels() -> None:
    task = node_task()
    found = _label_homophily(task, task.labels)
    ends = task.graph.edge_index
    for node in range(10):
        others = {int(a) for a, b in ends.T.tolist() if b == node} | {int(b) for a, b in ends.T.tolist() if a == node}
        alike = [float(task.labels[other] == task.labels[node]) for other in others - {node}]
        assert found[node] == pytest.approx(sum(alike) / max(1, len(alike)))
    torch.testing.assert_close(of_classes(torch.tensor([[0.7]]))[0, 1].exp(), torch.tensor(0.7).double().sigmoid())


def test_the_whole_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("study.trained.RUNS", tmp_path)
    monkeypatch.setattr("study.path_gates.STRENGTHS", (float("inf"), 0.1))
    monkeypatch.setattr("study.headroom.GATES", {"linear": 0})
    tiny = change(PRESETS["smoke"], hidden=8, epochs=2, nodes=300)
    protocol = replace(ON_BUILT_IN, candidates=protocol_of("built-in").candidates[:1])
    found = measured("built-in", tiny, protocol, [0, 1])
    assert set(found.method) == {"routed", "filters"}
    assert set(found.condition) == {"clean", "OOD-low", "OOD-high"}
    assert found[["score", "ce"]].notna().all(axis=None)
    wide = found.pivot_table(index=["method", "seed", "condition"], columns="gate", values="ce", aggfunc="min")
    assert (wide.drop(columns=["oracle", "luck", "as trained"]).min(axis=1) >= wide.oracle - 1e-4).all()
    shares = summary(found)
    assert set(shares.task) == {found.task[0], "all"}
    own = shares[(shares.task != "all") & (shares.measure == "ce")]
    assert (own.low <= own.share).all()


def test_links_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr("study.protocols.Protocol.task", lambda *_: link_task())
    with pytest.raises(ValueError, match="wn18rr is a link task: head-room is measured on nodes"):
        measured("wn18rr", TINY, protocol_of("wn18rr"), [0])
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "how much of the oracle's head-room gates get" in " ".join(capsys.readouterr().out.split()).lower()
