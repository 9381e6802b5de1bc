"""How much of the oracle's head-room gates get: does the router lack input or training, or is nothing there?

    python -m study.headroom cora chameleon --seeds 10 --width 64

A trained routed network is frozen, and its `K^L` forced paths (Statement 2.5, scope `node`) are treated as that many
networks, whose answers gates over paths mix for each node, `log sum_p g_ip softmax(z_ip)`. A gate is the softmax of a
linear map or a small network of what it reads (`_inputs_of`). It is fitted

- on `train`: nodes whose labels the experts have seen;
- on `validation`;
- on `held out`: validation and one half of all tested nodes, answering for the other half: this is what held-out labels
  could show about where to send which node, an upper bound that no deployment reaches.

It keeps `16_headroom-<name>.csv` in `data/results/`; networks that `study.router_comparison` trained are read back.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
import torch
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold
from torch import Tensor
from torch_geometric.utils import remove_self_loops, scatter, to_undirected

from stemlib.data.batches import batches
from stemlib.data.graph import node_features, plain
from stemlib.data.scores import score
from stemlib.data.tasks import Task
from stemlib.devices import device_of
from stemlib.model.folded import folded_classifier
from stemlib.model.routers.descriptors import descriptors
from stemlib.model.stem import StemGNN
from stemlib.presets import Preset
from stemlib.theory.forcing import forceable, path_ends
from stemlib.theory.routing import evaluating
from stemlib.training.evaluation import predict
from study.interrupt import interruptible
from study.meta_analysis import over_data_sets
from study.path_gates import luck, validated
from study.protocols import Protocol, protocol_of, split_overlap
from study.records import save_results
from study.router_comparison import budget, command_line, shifted
from study.statistics import paired_test

COMPONENTS = 64  # principal ones of the features
GATES = {"linear": 0, "network": 32}  # hidden units
GATE = ["method", "condition", "gate", "input", "fitted"]  # what names a row, beside data set and seed
UNKNOWABLE = "all, label homophily"  # what no deployment knows: a gate that reads it is fitted on held-out labels only


def forced(model: StemGNN, task: Task) -> tuple[Tensor, list[Tensor]]:
    """Log-probabilities `[N, P, C]` of every node on every path, and what the routers read, `[N, d_l]` per layer."""
    with evaluating(model):
        classify, logits = folded_classifier(model), []
        (batch,) = batches(task, torch.arange(task.instances))
        batch = batch.to(device_of(model))
        encoding = model.encode(batch.graph)
        for part in forceable(model, batch, encoding, "node"):
            ends = torch.cat(list(path_ends(model.encoder, part)), dim=1)[part.instances]
            logits.append(classify(ends.flatten(0, 1)).unflatten(0, ends.shape[:2]))
    features = node_features(batch.graph).to_dense().double().cpu().numpy()
    main = PCA(min(COMPONENTS, *features.shape), random_state=0).fit_transform(features)
    states = [state.double().cpu() for state in encoding.inputs[1:]]
    return of_classes(torch.cat(logits).cpu()), [torch.from_numpy(main), *states]


def of_classes(logits: Tensor) -> Tensor:
    """Log-probabilities `[..., C]` in float64; one logit of a binary label makes two."""
    logits = logits.double()
    return (
        torch.cat([torch.zeros_like(logits), logits], -1).log_softmax(-1)
        if logits.size(-1) == 1
        else logits.log_softmax(-1)
    )


def _label_homophily(task: Task, labels: Tensor) -> Tensor:
    """Share of a node's undirected neighbours of its own class, `[N]`; 0 without any."""
    ends, _ = remove_self_loops(to_undirected(plain(task.graph.edge_index), num_nodes=len(labels)))
    alike = (labels[ends[0]] == labels[ends[1]]).double()
    return scatter(alike, ends[0], dim_size=len(labels), reduce="mean")


def confidences(paths: Tensor) -> Tensor:
    """How sure paths are and how they disagree, `[N, 3 P + 1]`, from their log-probabilities `[N, P, C]`.

    Every path's log-probability of its own answer, its entropy, and its log-probability of the joint answer; and by how
    much the joint entropy exceeds the mean one.
    """
    together = paths.logsumexp(1) - math.log(paths.size(1))
    answer = together.argmax(-1).view(-1, 1, 1).expand(-1, paths.size(1), 1)
    entropy = torch.special.entr(paths.exp()).sum(-1)
    disagreement = torch.special.entr(together.exp()).sum(-1, keepdim=True) - entropy.mean(1, keepdim=True)
    return torch.cat([paths.amax(-1), entropy, paths.gather(-1, answer).squeeze(-1), disagreement], dim=1)


def _inputs_of(task: Task, labels: Tensor, paths: Tensor, states: Sequence[Tensor]) -> dict[str, Tensor]:
    """What gates read about every node, `[N, D]` by name.

    `state`: what the built-in routers read, the features by their `COMPONENTS` leading principal components;
    `descriptors`: what deployment can measure; `confidence`: see `confidences`; `all` of them; and `UNKNOWABLE`.
    """
    known = {
        "state": torch.cat(list(states), dim=1),
        "descriptors": descriptors(task.graph).double().cpu(),
        "confidence": confidences(paths),
    }
    everything = torch.cat(list(known.values()), dim=1)
    return known | {"all": everything, UNKNOWABLE: torch.column_stack([everything, _label_homophily(task, labels)])}


def headroom(
    paths: Tensor,
    labels: Tensor,
    inputs: dict[str, Tensor],
    parts: dict[str, Tensor],
    met: dict[str, Tensor],
    others: dict[str, Tensor],
    seed: int = 0,
) -> Iterator[dict[str, Any]]:
    """Every gate over the same paths, condition by condition.

    Args:
        paths: log-probabilities `[N, P, C]`.
        labels: classes `[N]`.
        inputs: what gates read, `[N, D]` by name.
        parts: the nodes of `train` and `validation`.
        met: the nodes of each condition; no node twice.
        others: answers `[N, C]` of other networks by name, as log-probabilities.
        seed: of halves and folds.

    Yields:
        `condition`, `gate`, `input`, `fitted`, `score` (accuracy in per cent) and `ce`. Among the gates are `uniform`,
        the `best path` of validation, the `oracle` (each node's best path in either measure) and `luck`, what the
        oracle would have if paths had nothing in common.
    """
    truth = paths.gather(-1, labels.clamp(min=0).view(-1, 1, 1).expand(-1, paths.size(1), 1)).squeeze(-1)
    everyone = torch.cat(list(met.values()))
    answers = {(name, "", ""): answer for name, answer in others.items()}
    answers["uniform", "", ""] = paths.logsumexp(1) - math.log(paths.size(1))
    answers["best path", "", "validation"] = paths[:, truth[parts["validation"]].mean(0).argmax()]
    halves = [everyone[rows] for _, rows in KFold(2, shuffle=True, random_state=seed).split(everyone)]
    first, second = (torch.cat([parts["validation"], half]) for half in halves)
    fits = {fitted: [(index, everyone)] for fitted, index in parts.items()}
    fits["held out"] = [(first, halves[1]), (second, halves[0])]
    for name, x in ({"nothing": labels.new_zeros(len(labels), 0).double()} | inputs).items():
        for gate, hidden in GATES.items() if name != "nothing" else [("one weight per path", 0)]:
            for fitted, uses in fits.items() if name != UNKNOWABLE else [("held out", fits["held out"])]:
                answers[gate, name, fitted] = mixed = torch.full_like(paths[:, 0], float("nan"))
                for index, asked in uses:
                    weights = validated(x[index], truth[index], hidden, seed)(x[asked])
                    mixed[asked] = (weights.unsqueeze(-1) + paths[asked]).logsumexp(1)
    for condition, index in met.items():
        known, right = labels[index], (paths[index].argmax(-1) == labels[index].unsqueeze(1)).double()
        found = {key: (score(one[index], known), -one[index, known].mean().item()) for key, one in answers.items()}
        found["oracle", "", ""] = right.amax(1).mean().item(), -truth[index].amax(1).mean().item()
        found["luck", "", ""] = luck(right, known), -luck(truth[index], known)
        for (gate, name, fitted), (accuracy, ce) in found.items():
            about = {"condition": condition, "gate": gate, "input": name, "fitted": fitted}
            yield about | {"score": 100 * accuracy, "ce": ce}


def measured(name: str, preset: Preset, protocol: Protocol, seeds: Sequence[int]) -> pd.DataFrame:
    """`headroom` of three means and of different filters (`method`), seed by seed, on a data set of nodes.

    Raises:
        ValueError: a task of links or graphs, whose paths are not one node's, or of several labels or of numbers.
    """
    task = protocol.task(preset)
    if task.kind != "node" or task.regression or (task.labels.dim() == 2 and task.outputs > 1):
        what = f"a {task.kind} task" if task.kind != "node" else "not of one label each"
        raise ValueError(f"{name} is {what}: head-room is measured on nodes of one class each")
    rows = []
    for seed, method, model, conditions in shifted(task, preset, protocol, seeds, ["filters"]).routed():
        met = {each.name: each.index for each in conditions}
        split = conditions[0].task.split(f"inside-{seed}")
        parts = {"train": split.train, "validation": split.val}
        labels = task.labels if task.labels.dim() == 1 else task.labels.squeeze(1).nan_to_num(nan=-1).long()
        paths, states = forced(model, task)
        others = {"as trained": of_classes(predict(model, task))}
        found = headroom(paths, labels, _inputs_of(task, labels, paths, states), parts, met, others, seed)
        rows += [{"task": task.name, "method": method, "seed": seed} | row for row in found]
    return pd.DataFrame(rows).round(4)


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """The share of the oracle's head-room that gates get, `(gate - uniform) / (oracle - uniform)`.

    Args:
        frame: rows of `measured`, of any number of data sets, with either measure or both.

    Returns:
        One row per network (`method`), condition, gate, `measure` (`score` or `ce`) and `task`: each data set, and
        `all`, the random-effects mean over them (`study.meta_analysis`). `room`: oracle less uniform, in the measure's
        unit. `share`: a ratio of mean differences over seeds, with its 95 % interval `low` to `high` (Student's t of
        the seeds' residuals) and standard `error`; NaN for one seed, or for fewer than five data sets.
    """
    measures = [name for name in ("score", "ce") if name in frame]
    long = frame.fillna({"input": "", "fitted": ""}).melt([*GATE, "task", "seed"], measures, "measure")
    run = pd.MultiIndex.from_frame(long[["method", "condition", "measure", "task", "seed"]])
    values = pd.Series(long.value.to_numpy(), run)
    uniform, oracle = (values[(long.gate == gate).to_numpy()].reindex(run) for gate in ("uniform", "oracle"))
    long = long.assign(gain=(values - uniform).to_numpy(), room=(oracle - uniform).to_numpy())
    rows = []
    for key, runs in long.groupby([*GATE, "measure"], sort=False):
        about = dict(zip([*GATE, "measure"], key, strict=True))
        found = pd.DataFrame({task: _share(task, own) for task, own in runs.groupby("task", sort=False)}).T
        mean = over_data_sets(found.share, found.error)
        found.loc["all"] = pd.Series(mean._asdict() | {"share": mean.difference, "room": found.room.mean()})
        rows.append(found.rename_axis("task").reset_index().assign(**about))
    return pd.concat(rows, ignore_index=True)[[*GATE, "measure", "task", "room", "share", "low", "high", "error"]]


def _share(task: str, runs: pd.DataFrame) -> dict[str, float]:
    """One gate's share on one data set, from `gain` and `room` of every seed: a ratio of means, tested by residuals."""
    room = runs.room.mean() or float("nan")
    share = runs.gain.mean() / room
    each = share + (runs.gain - share * runs.room) / room
    if len(runs) < 2 or room != room:
        return {"room": room, "share": share} | dict.fromkeys(["low", "high", "error"], float("nan"))
    demand = "clean" if (runs.condition == "clean").all() else "shift"
    test = paired_test(each, split_overlap(task, demand=demand))
    return {"room": room, "share": share, "low": test.low, "high": test.high, "error": test.error}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    options = command_line("headroom", __doc__).parse_args(arguments)
    for name in options.names:
        rows = measured(name, budget(options), protocol_of(name), range(options.seeds))
        print(f"{name}: {save_results(rows, f'16_headroom-{name}')}", flush=True)


if __name__ == "__main__":
    sys.exit(interruptible(main))
