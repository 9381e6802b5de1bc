"""The protocols: for every data set, equal for all methods, chosen on validation."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from run_samples import TINY
from samples import node_task

from stemlib.data.public import DATA_SETS
from stemlib.data.tasks import Task
from stemlib.presets import PRESETS, Preset, change
from stemlib.stress.conditions import shift_protocol
from stemlib.stress.shifts import instance_covariate, tail_buckets
from study import protocols
from study.method import Method
from study.methods import named
from study.protocols import (
    CANDIDATES,
    PROTOCOLS,
    STEPS,
    TRAININGS,
    Protocol,
    best,
    protocol_of,
    split_overlap,
    with_trainings,
)
from study.records import read_results


def test_every_labelled_data_set_has_a_protocol_on_splits_that_it_has() -> None:
    assert set(PROTOCOLS) == {name for name in DATA_SETS if name not in ("chembl", "chembl-10k")}
    published = read_results("splits").groupby("task").split.agg(set)
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        if name in published:  # what is not staged has no published splits
            assert {split for split, _ in protocol.runs} <= published[name]
        assert len(set(protocol.runs)) == len(protocol.runs) >= 3
        assert (protocol.width is None) == (DATA_SETS[name].kind == "node" and "coauthor" not in name)
    for name in ("cora", "pubmed"):
        assert [run for run in PROTOCOLS[name].runs if run[0] != "public"] == [
            (f"draw-{seed}", seed) for seed in range(10)
        ]


def test_every_method_may_have_the_same_trainings() -> None:
    task, methods = node_task(), named(TINY, "gcn", "mixture", "stem", "dropedge")
    numbers = replace(task, labels=torch.randn(80, 1), regression=True)
    for method in methods:
        own = method.train.edge_dropout  # of `dropedge`, whose meaning it is
        found = with_trainings(method, task)
        assert found[0] == method
        assert len(set(found)) == len(found)
        expected = {(0.0, 0.0), *TRAININGS} if not own else {(own, 0.0), (own, 1.0)}
        assert {(one.train.edge_dropout, one.train.consistency) for one in found} == expected
        assert {one.train.consistency for one in with_trainings(method, numbers)} == {0.0}
    assert "consistency" not in methods[0].tuned
    assert methods[0].changed("gcn", {"consistency": 1.0}).tuned["consistency"] == 1


def test_seeds_that_draw_their_split_share_half_a_test_instance_per_training_instance() -> None:
    task = node_task()
    _, split, _ = shift_protocol(task, tail_buckets(instance_covariate(task, "degree")), seed=0)
    assert split.test.numel() / split.train.numel() == pytest.approx(split_overlap("cora"), abs=0.05)
    assert split_overlap("built-in") == split_overlap("cora")
    assert split_overlap("wn18rr") == split_overlap("hiv") == split_overlap("cora", labels=5) == 0


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_all_methods_have_the_same_candidates_within_the_budget(protocol: Protocol) -> None:
    for preset in PRESETS.values():
        candidates = [protocol.methods(base, preset) for base in named(preset, "mlp", "gcn", "sage", "stem")]
        for settings, methods in zip(protocol.candidates, zip(*candidates, strict=True), strict=True):
            (train,) = {method.train for method in methods}
            assert (train.lr, train.weight_decay) == settings[:2]
            assert train.lipschitz == 1e-3 * (settings.penalised and protocol.penalty)
            for name in ("epochs", "patience"):
                whole = getattr(preset, name)
                limit = min(getattr(protocol, name), whole) if preset.limited else whole
                assert getattr(train, name) == limit
            assert {method.model.dropout for method in methods} == {settings.dropout}
            assert {method.model.input_dropout for method in methods} == {settings.dropout}


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_every_data_set_has_a_choice_and_the_patience_to_make_it(protocol: Protocol) -> None:
    assert len(protocol.candidates) > 1
    in_batches = protocol.batch_size > 0 or protocol.name.startswith("ogbn")
    assert protocol.patience >= min(15 if in_batches else 50, protocol.epochs)
    if protocol.name not in ("wn18rr", "fb15k237") and not protocol.name.startswith("ogbn"):  # an epoch is a few steps
        assert min(settings.lr for settings in protocol.candidates) == 5e-4


def test_where_the_penalty_is_asked_for_all_candidates_have_it() -> None:
    (stem,) = named(PRESETS["laptop"], "stem")
    every = PROTOCOLS["cora"].penalised.methods(
        replace(stem, train=change(stem.train, lipschitz=0.1)), PRESETS["laptop"]
    )
    assert {method.train.lipschitz for method in every} == {0.1}
    assert len(every) == len(CANDIDATES)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_few_labels_in_batches_have_their_steps(preset: Preset) -> None:
    molecules = PROTOCOLS["hiv"]
    for few in (6, 20, 300, 100_000):
        protocol = molecules.for_few(few, preset)
        train, *_ = [method.train for method in protocol.methods(*named(preset, "gcn"), preset)]
        steps = train.epochs * -(-few // train.batch_size)
        assert train.passes * steps >= STEPS
        assert (train.passes - 1) * steps < STEPS
    assert PROTOCOLS["cora"].for_few(6, preset) == PROTOCOLS["cora"]  # a step shows it all, and epochs are many


def test_the_paper_preset_has_the_reference_s_sizes_on_large_data_sets_too() -> None:
    candidates = PROTOCOLS["hiv"].methods(*named(PRESETS["paper"], "gcn"), PRESETS["paper"])
    assert {(method.train.epochs, method.train.patience) for method in candidates} == {(1000, 200)}
    assert [PROTOCOLS[name].width_in(PRESETS["paper"]) for name in ("hiv", "cora")] == [768, None]
    assert [PROTOCOLS[name].width_in(PRESETS["laptop"]) for name in ("hiv", "cora")] == [128, None]


def test_validation_alone_chooses_among_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def run(experiment: str, task: Task, split: str, method: Method, seed: int) -> SimpleNamespace:
        seen.append((experiment, split, seed))
        place = next(i for i, c in enumerate(CANDIDATES) if c[:2] == (method.train.lr, method.train.weight_decay))
        return SimpleNamespace(
            metrics={"val": (0.5, 0.7, 0.7, 0.6, 0.1)[place], "test": (0.9, 0.1, 0.8, 0.8, 0.8)[place]}
        )

    monkeypatch.setattr(protocols, "run", run)
    (gcn,) = named(TINY, "gcn")
    candidates = PROTOCOLS["cora"].methods(gcn, TINY)
    chosen = best("e", node_task(), "random", candidates, 3)
    assert chosen is candidates[1]
    assert set(seen) == {("e", "random", 3)}
    seen.clear()
    assert best("e", node_task(), "random", candidates[:1], 3) is candidates[0]
    assert not seen


def test_the_built_in_graph_has_a_protocol_in_the_preset_s_size() -> None:
    how = protocol_of("built-in")
    assert how.task(TINY).instances == TINY.nodes
    assert set(split for split, _ in how.runs) <= set(how.task(TINY).splits)
    assert protocol_of("cora") is PROTOCOLS["cora"]
    with pytest.raises(ValueError, match="no protocol for 'corra'; there are built-in, cora, "):
        protocol_of("corra")
