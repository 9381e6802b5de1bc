"""A page for every public data set: the catalogue's words, the kept card and distributions, first results."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from stemlib.data.public import DATA_SETS, data_set
from study import figures
from study.cards import DEGREE_BINS, HOMOPHILY_BINS
from study.first_results import METHODS, kept_runs
from study.protocols import FILTERED
from study.records import read_results

KINDS = {"node": "nodes", "link": "links (triples)", "graph": "graphs (molecules)"}
IN_PER_CENT = (
    "isolated",
    "twins",
    "answered",
    "validated",
    "joined",
    "largest class",
    "smallest class",
    "positive",
    "known",
)
EXPLAINED = {
    "edges": "edges, directed",
    "twins": "test nodes with a twin in training",
    "answered": "test triples that training answers",
    "validated": "validation triples that training answers",
    "joined": "test pairs that training joins",
}


def data_set_pages() -> dict[str, str | bytes]:
    """The pages with their figures and their index, by file name."""
    cards = read_results("02_cards").set_index("task")
    bins, runs = read_results("02_distributions"), kept_runs()
    pages: dict[str, str | bytes] = {}
    for name in DATA_SETS:
        rows = bins[bins.task == name]
        if drawn := not rows.empty:
            pages[f"data_sets/{name}.svg"] = distribution_figure(rows)
        card = cards.loc[name] if name in cards.index else None
        forms = (name, f"{name}{FILTERED}", f"{name}-all", f"{name}-all{FILTERED}")
        pages[f"data_sets/{name}.md"] = page(name, card, runs[runs.task.isin(forms)], drawn)
    return pages | {"data_sets/index.md": index()}


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown."""
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in (head, ["---"] * len(head), *rows))


def page(name: str, card: pd.Series | None, runs: pd.DataFrame, drawn: bool) -> str:
    """One data set in Markdown.

    Args:
        name: of the data set.
        card: its row of `study.cards.card`; None if it was never counted.
        runs: its rows of `study.first_results.kept_runs`.
        drawn: whether there is a figure of its distributions.
    """
    entry = data_set(name)
    parts = [f"# {name}", entry.description]
    if entry.remark:
        parts.append(f":::{{warning}}\n{entry.remark}\n:::")
    parts.append(f'```python\nfrom stemlib.data.public import load\n\ntask = load("{name}")\n```')
    source = re.sub(r"https?://[^\s,;]+", r"<\g<0>>", entry.source).replace("*", r"\*")
    facts = {"learnt": KINDS[entry.kind], "kind of graph": entry.domain, "related data sets": family(name)}
    facts |= {"source": source, "licence": entry.licence}
    parts.append("\n".join(f"- **{key}**: {value}" for key, value in facts.items()))
    if card is not None:
        counted = [
            (EXPLAINED.get(key, key) + (", %" if key in IN_PER_CENT else ""), told(value))
            for key, value in card.drop("kind").items()
            if pd.notna(value)
        ]
        parts += ["## What it counts", table(["quantity", "value"], counted)]
    if drawn:
        parts += ["## How its nodes differ", f"![Shares of the nodes of {name} by degree and homophily]({name}.svg)"]
    if not runs.empty:
        parts += ["## First results", results(runs)]
        parts.append("Four methods from scratch, tuned on validation; [chapter 02](../notebooks/02_data_sets.ipynb).")
    return "\n\n".join(parts) + "\n"


def told(value: object) -> str:
    """A value of a card: counts whole, shares with three digits, words as they are."""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3g}"


def family(name: str) -> str:
    """Links to the data sets that share nodes, molecules or makers."""
    wanted = DATA_SETS[name].family
    related = [other for other, entry in DATA_SETS.items() if wanted and entry.family == wanted and other != name]
    return ", ".join(f"[{other}]({other}.md)" for other in related) or "none"


def results(runs: pd.DataFrame) -> str:
    """Mean and standard deviation of test scores by task, splits and method, in Markdown."""
    found = runs.groupby(["task", "splits", "metric", "model"], sort=False).test.agg(["mean", "std", "count"])
    rows = []
    for (task, splits, metric), part in found.groupby(level=[0, 1, 2], sort=False):
        by_method = part.droplevel([0, 1, 2]).reindex(METHODS)
        scores = [f"{row.mean_:.1f} ± {row.std_:.1f}" for row in by_method.add_suffix("_").itertuples()]
        rows.append([task, splits, int(by_method["count"].max()), metric, *scores])
    return table(["task", "splits", "runs", "metric", *METHODS], rows)


def distribution_figure(bins: pd.DataFrame) -> bytes:
    """Shares of nodes by degree and by homophily, SVG; the same numbers give the same file."""
    figures.use_style()
    quantities = list(bins.groupby("quantity", sort=False))
    figure, axes = figures.panels(len(quantities), height=2.4, squeeze=False)
    for axis, (quantity, rows) in zip(axes.flat, quantities, strict=True):
        edges = DEGREE_BINS if quantity == "degree" else HOMOPHILY_BINS
        place = np.searchsorted(edges, rows.low - 1e-3)  # the kept table is rounded
        axis.bar(place, rows.share, width=1, align="edge", color=figures.PALETTE["blue"], edgecolor="white")
        marks = range(0, len(edges) - 1, 3 if quantity == "degree" else 5)
        axis.set_xticks(marks, [f"{edges[mark]:g}" for mark in marks])
        axis.set(xlabel=quantity, ylabel="share of nodes, %")
    written = io.BytesIO()
    with plt.rc_context({"svg.hashsalt": "book"}):
        figure.savefig(written, format="svg", metadata={"Date": None})
    plt.close(figure)
    return written.getvalue()


def index() -> str:
    """The list of all data sets."""
    rows = [(f"[{name}]({name}.md)", KINDS[entry.kind], entry.domain) for name, entry in DATA_SETS.items()]
    tree = "\n".join(["```{toctree}", ":hidden:", "", *DATA_SETS, "```"])
    return "\n\n".join(["# The data sets", table(["data set", "what is learnt", "kind of graph"], rows), tree]) + "\n"
