"""How many predictions each certificate covers, by the number of missing edges or masked features.

    python -m study.certificates cora chameleon

One run of each method. Per budget, the share of test instances whose decision survived a random damage of exactly that
size (`kept`) and for which a radius explains this afterwards (`explained`); the share that the a-priori certificate
covers; and the share that the smoothed classifier's covers, beside its accuracy. Statements 3.6, 3.9, 3.13 and 3.14.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import torch
from torch import Tensor, nn

from stemlib.data.graph import Graph, plain, undirected_pairs
from stemlib.data.tasks import Task
from stemlib.model.stem import StemGNN
from stemlib.presets import PRESETS, Preset
from stemlib.theory.a_priori import Budget, a_priori
from stemlib.theory.certificates import DecisionCertificate
from stemlib.theory.routing import evaluating
from stemlib.theory.smoothing import Smoothed, smoothed
from stemlib.theory.token_stability import compare_head, read
from stemlib.training.evaluation import evaluation_batches, predict
from study import figures
from study.computing import add_device
from study.interrupt import interruptible
from study.methods import named
from study.protocols import PROTOCOLS, Protocol, protocol_of
from study.records import KEPT, save_results
from study.trained import trained_model

EXPERIMENT = "certificates"
METHODS_ASKED = ("stem", "routed", "gcn")
BUDGETS = {"deleted": (1, 2, 5), "masked": (1, 5, 20)}
FORMS = {"deleted": ("deleted",), "masked": ("masked", "masked own")}  # of the a-priori certificate
RATES = {"deleted": 0.5, "masked": 0.85}  # of smoothing: large enough for the largest budget, see `certified_radius`
DRAWS = 500
INSTANCES = 300  # of the test part, drawn once


def damaged(graph: Graph, damage: str, budget: int, node: int, seed: int) -> Graph:
    """The graph with `budget` of a node's own edges deleted or own features masked; all of them, if it has fewer."""
    generator = torch.Generator().manual_seed(seed)
    if damage == "masked":
        x, own = graph.x.clone(), graph.x[node].nonzero().flatten()
        x[node, own[torch.randperm(own.numel(), generator=generator)[:budget]]] = 0
        return replace(graph, x=x)
    pairs, pair_of_edge = undirected_pairs(plain(graph.edge_index), graph.num_nodes)
    own = ((pairs // graph.num_nodes == node) | (pairs % graph.num_nodes == node)).nonzero().flatten()
    lost = own[torch.randperm(own.numel(), generator=generator)[:budget]]
    return graph.without_edges(torch.isin(pair_of_edge, lost))


def afterwards(model: StemGNN, task: Task, index: Tensor, damage: str, budget: int, seed: int) -> dict[str, float]:
    """Shares of instances whose decision one random damage did not change, and for which a radius explains it."""
    certificate, fields = DecisionCertificate(model.head, binary=False), []
    with evaluating(model):
        for node in index.split(1):
            met = task.with_graph(damaged(task.graph, damage, budget, node.item(), seed + node.item()))
            ends = []
            for each in (task, met):
                (batch,) = evaluation_batches(model, each, node)(None)
                ends.append(read(model, model.embed(batch.graph, batch.instances)))
            fields.append(compare_head(certificate, *ends))
    explained = torch.cat([found["input_change"] < found["radius"] for found in fields])
    kept = torch.cat([found["same_decision"] for found in fields])
    return {"explained": explained.double().mean().item(), "kept": kept.double().mean().item()}


def smoothed_together(
    models: Mapping[str, nn.Module], task: Task, index: Tensor, damage: str, draws: int, seed: int
) -> dict[str, Smoothed]:
    """The smoothed classifiers of several networks, from the same copies of the input."""

    def decide(met: Task) -> Tensor:
        return torch.cat([predict(model, met, index).argmax(-1) for model in models.values()])

    found = smoothed(decide, task, damage, RATES[damage], draws, seed, task.outputs)
    parts = zip(*(part.split(index.numel()) for part in (found.classes, found.share, found.radius)), strict=True)
    return {name: Smoothed(*part) for name, part in zip(models, parts, strict=True)}


def covered(
    models: Mapping[str, nn.Module], task: Task, index: Tensor, draws: int = DRAWS, seed: int = 0
) -> Iterator[dict[str, Any]]:
    """The rows of `certificates`, for some trained networks on some instances of a task."""
    labels = task.labels[index]

    def accuracy(classes: Tensor) -> float:
        return 100 * (classes == labels).double().mean().item()

    own = {name: accuracy(predict(model, task, index).argmax(-1)) for name, model in models.items()}
    for damage, budgets in BUDGETS.items():
        about = {"damage": damage, "instances": index.numel()}
        for name, found in smoothed_together(models, task, index, damage, draws, seed).items():
            row = {"method": name, "certificate": "smoothing", "rate": RATES[damage], **about}
            row |= {"accuracy": accuracy(found.classes), "network": own[name]}
            for budget in budgets:
                yield row | {"budget": budget, "share": 100 * found.covered(budget).double().mean().item()}
        for name, model in models.items():
            row = {"method": name, "accuracy": own[name], "network": own[name], **about}
            for budget in budgets if isinstance(model, StemGNN) else ():
                for certificate, share in afterwards(model, task, index, damage, budget, seed).items():
                    yield row | {"certificate": certificate, "budget": budget, "share": 100 * share}
                for form in FORMS[damage]:
                    share = a_priori(model, task, index, Budget(form, budget)).double().mean().item()
                    certificate = "a priori, own row" if form == "masked own" else "a priori"
                    yield row | {"certificate": certificate, "budget": budget, "share": 100 * share}


def certificates(protocol: Protocol, preset: Preset, draws: int = DRAWS, instances: int = INSTANCES) -> pd.DataFrame:
    """The share of the test instances that is covered, for each of `METHODS_ASKED` on the first run of a data set.

    Args:
        protocol: of a data set of nodes; the first of its candidate settings is taken.
        preset: the budget of training.
        draws: of smoothing.
        instances: at most.

    Returns:
        Rows with `task`, `method`, `certificate`, `damage`, `budget` (undirected edges, or features), `share` (of the
        instances, in per cent), `accuracy` (of what is certified: the network, or the smoothed classifier, whose
        abstaining counts as wrong), `network` (the network's accuracy), `rate` (of smoothing) and `instances`.
    """
    (split, seed), task = protocol.runs[0], protocol.task(preset)
    methods = [protocol.methods(method, preset)[0] for method in named(preset, *METHODS_ASKED)]
    models = {each.name: trained_model(EXPERIMENT, task, split, each, seed) for each in methods}
    test = task.split(split).test
    index = test[torch.randperm(test.numel(), generator=torch.Generator().manual_seed(seed))[:instances]]
    return pd.DataFrame(covered(models, task, index, draws, seed)).assign(task=task.name)


def told(rows: pd.DataFrame) -> pd.DataFrame:
    """The covered shares in per cent, a column per damage and budget."""
    rows = rows.set_index(["task", "certificate", "method", "damage", "budget"])
    return rows.share.unstack(["damage", "budget"], sort=False).round(1)


def draw(rows: pd.DataFrame) -> Path:
    """`figures/certificates.png`: the share that three kinds cover, by budget, with a panel per data set and damage."""
    styles = {"smoothing": "-", "explained": ":", "a priori": "--"}
    rows = rows[rows.certificate.isin(styles)]
    places = list(rows.groupby(["task", "damage"], sort=False))
    figure, axes = figures.panels(2, -(-len(places) // 2), squeeze=False, sharey=True)
    for axis, ((task, damage), some) in zip(axes.flat, places, strict=False):
        for (method, certificate), line in some.groupby(["method", "certificate"], sort=False):
            look = {"color": figures.COLOURS[method], "linestyle": styles[certificate], "marker": "o", "ms": 4}
            axis.plot(line.budget, line.share, **look)
        things = "edges deleted" if damage == "deleted" else "features masked"
        axis.set(title=task, xlabel=things, ylim=(-2, 102), xscale="log")
        axis.set_xticks(BUDGETS[damage], labels=BUDGETS[damage])
        axis.minorticks_off()
    figure.supylabel("predictions covered, %", fontsize="medium")
    lines = [plt.Line2D([], [], color=figures.COLOURS[name], label=name) for name in rows.method.unique()]
    lines += [plt.Line2D([], [], color="black", linestyle=style, label=name) for name, style in styles.items()]
    figure.legend(handles=lines, ncols=6, loc="outside lower center")
    saved = figures.save(figure, EXPERIMENT)
    plt.close(figure)
    return saved


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m study.certificates", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="+", choices=PROTOCOLS, metavar="NAME", help=", ".join(PROTOCOLS))
    parser.add_argument("--draws", type=int, default=DRAWS, help="copies that vote (default: %(default)s)")
    parser.add_argument("--preset", choices=KEPT, default="laptop", help="the budget (default: %(default)s)")
    add_device(parser)
    options = parser.parse_args(arguments)
    figures.use_style()
    found = [certificates(protocol_of(name), PRESETS[options.preset], options.draws) for name in options.names]
    rows = pd.concat(found, ignore_index=True)
    print(f"{told(rows).to_string()}\n{save_results(rows, EXPERIMENT)}\n{draw(rows)}", flush=True)


if __name__ == "__main__":
    sys.exit(interruptible(main))
