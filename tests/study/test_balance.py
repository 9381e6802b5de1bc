"""The three demands read as one balance, and clean scores on the splits that a task has."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch
from run_samples import method
from samples import node_task

from stemlib.data.tasks import Split
from study.balance import clean_scores, leader, leads, leads_in_words, not_dominated, shared_balance, three_way_balance


def test_the_balance_is_fit_the_worst_bucket_and_the_mean_over_corruptions() -> None:
    rows = [
        ("clean", 0.0, 90.0), ("shift", 0.0, 70.0), ("shift", 0.0, 60.0), ("masked", 0.2, 80.0), ("deleted", 0.2, 50.0),
        ("shift, masked", 0.2, 1.0),
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["kind", "rate", "score"])
    stress = pd.concat(
        frame.assign(method=name, seed=seed, score=frame.score + bonus)
        for name, seed, bonus in (("b", 0, 0), ("b", 1, 1), ("a", 0, 2))
    )
    assert three_way_balance(stress).values.tolist() == [
        ["b", 0, 90.0, 60.0, 65.0],
        ["b", 1, 91.0, 61.0, 66.0],
        ["a", 0, 92.0, 62.0, 67.0],
    ]


def test_leads_are_taken_seed_by_seed_and_told_where_all_seeds_agree() -> None:
    rows = [("a", 0, 3.0, 1.0, 5.0), ("a", 1, 4.0, 2.0, 3.0), ("b", 0, 1.0, 2.0, 4.0), ("b", 1, 2.0, 5.0, 4.0)]
    balance = pd.DataFrame(rows, columns=["method", "seed", "fit", "shift", "corruption"])
    found = leads(balance, "a", ["b"])
    assert found.loc["b"].values.tolist() == [[2.0, -1.0, 1.0], [2.0, -3.0, -1.0]]
    told = "`a` is ahead in every seed on fit (+2.0). `a` is behind in every seed on shift (-2.0)."
    assert leads_in_words(found, "a") == f"- Against `b`: {told} Seeds disagree on corruption."
    assert leader(balance) == "No method"
    assert leader(balance[balance.method == "b"]) == "b"
    assert leads_in_words(leads(balance, "a", []), "a") == ""


def test_every_task_weighs_alike_and_methods_count_that_were_met_wherever_ours_was() -> None:
    def rows(task: str, covariate: str, method: str, score: float, seeds: int) -> pd.DataFrame:
        kinds = {"kind": ["clean", "shift", "masked"], "score": [score, score - 1, score - 2]}
        frame = pd.DataFrame(kinds).assign(task=task, covariate=covariate, method=method)
        return pd.concat(frame.assign(seed=seed) for seed in range(seeds))

    stress = pd.concat(
        [rows("one", covariate, name, 80.0, 4) for covariate in ("degree", "homophily") for name in ("stem", "gcn")]
        + [rows("two", "degree", name, 60.0, 2) for name in ("stem", "gcn", "mlp")]
        + [rows("one", "degree", "mlp", 50.0, 4), rows("three", "degree", "gcn", 1.0, 2)]
    )
    found = shared_balance(stress)
    assert found.values.tolist() == [
        ["one", "stem", 80.0, 79.0, 78.0], ["one", "gcn", 80.0, 79.0, 78.0],
        ["two", "stem", 60.0, 59.0, 58.0], ["two", "gcn", 60.0, 59.0, 58.0],
    ]  # fmt: skip
    assert shared_balance(stress[stress.method != "stem"]).empty


def test_clean_scores_are_of_the_public_split_and_of_half_of_the_labels(runs: Path) -> None:
    task = node_task()
    plain = clean_scores("t", task, [method()], [0, 1])
    assert plain.split.tolist() == ["50-25-25"] * 2
    parts = torch.arange(80).split([20, 20, 40])
    table = clean_scores("t", task.with_split(Split("public", *parts)), [method("a"), method("b")], [0, 1])
    assert table.groupby("split").size().to_dict() == {"public": 4, "50-25-25": 4}
    assert table[["model", "seed"]].drop_duplicates().values.tolist() == [["a", 0], ["b", 0], ["a", 1], ["b", 1]]
    assert table.test.between(0, 100).all()


def test_a_method_is_dominated_by_one_that_is_nowhere_worse_and_somewhere_better() -> None:
    rows = {"best fit": (9, 1), "best shift": (1, 9), "between": (5, 5), "worse": (5, 4), "equal": (5, 5)}
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["fit", "shift"])
    kept = not_dominated(frame, ["fit", "shift"])
    assert kept.index[kept].tolist() == ["best fit", "best shift", "between", "equal"]
    assert not_dominated(frame, ["fit"]).sum() == 1
