"""Edges and nodes as two tables: what each column is taken for, and every problem with the rows that have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import LocalDegreeProfile

from stemlib.data.own_labels import GAPS, Labels, column_labels
from stemlib.data.own_splits import column_split, rows_of, shown
from stemlib.data.own_triples import fixed_vectors
from stemlib.data.readings import Reader
from stemlib.data.splits import RATIOS
from stemlib.data.tasks import MIN_PER_CLASS, UNLABELLED, Split

TYPE_WIDTH = 16  # of an edge type's vector
DEGREES = ("degree", "lowest", "highest", "mean", "spread")  # of PyG's LocalDegreeProfile; the last four for neighbours
NUMBERS = 0.8  # share of numbers in a column from which its other values count as slips


class Tables(NamedTuple):
    """What two tables say; `data` has raw features in a frame `x` and no labels.

    Attributes:
        data: `x`, `edge_index` `[2, E]`, and `edge_attr` with `edge_type` where edges have types.
        ids: the nodes' names.
        labels: None if no column has any.
        split: from a column; None if one is to be drawn.
    """

    data: Data
    ids: list[str]
    labels: Labels | None
    split: Split | None


def read_tables(
    edges: pd.DataFrame,
    nodes: pd.DataFrame | None,
    names: Mapping[str, str | Sequence[str]],
    split: str | None,
    regression: bool | None,
    directed: bool | None,
    reader: Reader,
) -> Tables | None:
    """Read both tables; None if that cannot be done. `reader` has all problems and notes.

    Args:
        edges: a row for every edge.
        nodes: a row for every node; None to take the ends of edges.
        names: of the columns, see `stemlib.data.own_files.read_own`.
        split: as there.
        regression: as there.
        directed: as there.
        reader: takes notes and problems.
    """
    if nodes is None:
        ends = pd.unique(pd.concat([edges[names[end]] for end in ("source", "target") if names[end] in edges], axis=0))
        nodes = pd.DataFrame({names["id"]: sorted(ends)})
        reader.notes.append("no table of nodes: nodes are the ends of edges, and none has a label")
    given = [names["label"]] if isinstance(names["label"], str) else list(names["label"])
    _require(nodes, "nodes", [names["id"], *(given if given != ["label"] else [])], reader)
    _require(edges, "edges", [names["source"], names["target"]], reader)
    if reader.problems:
        return None
    ids = _ids(nodes, names["id"], reader)
    edge_index = _ends(edges, ids, names, reader)
    labels = None
    if _says_some(nodes, given):
        labels = column_labels(nodes, given, regression, False, reader)
    else:
        reader.notes.append(f"no labels in column {shown(given)}: models can answer, but not learn or be scored")
    how, drawn = split or ("split" if "split" in nodes else "random"), None
    if labels is not None and how != "random":
        known = labels.values != UNLABELLED if labels.values.dim() == 1 else labels.values.isfinite().any(1)
        drawn = column_split(nodes, how, names["time"], known.nonzero().flatten(), reader, RATIOS)
    elif labels is not None and labels.values.dim() == 1:
        labels = _without_rare(labels, reader)
    taken = {names["id"], *given, names["time"], "split", how}
    if names["time"] in nodes:
        reader.notes.append(f"column {names['time']!r} is not a feature: split='time' sorts by it")
    features = nodes[[column for column in nodes if column not in taken]]
    x = _features(features, ids, reader) if len(features.columns) else None
    if reader.problems:
        return None
    data = Data(edge_index=edge_index, num_nodes=len(ids)).update(_types(edges, names, reader))
    data = _both_ways(data, directed, reader)
    data.x = _degrees(data, reader) if x is None else x
    return Tables(data, ids.tolist(), labels, drawn)


def _says_some(nodes: pd.DataFrame, columns: Sequence[str]) -> bool:
    """Whether the columns exist and have at least one known value."""
    words = nodes[[column for column in columns if column in nodes]].astype("string").apply(lambda one: one.str.strip())
    return not (words.isna() | words.isin(["", *GAPS, str(UNLABELLED), str(float(UNLABELLED))])).all(axis=None)


def _require(frame: pd.DataFrame, what: str, columns: Sequence[str], reader: Reader) -> None:
    if missing := [column for column in columns if column not in frame]:
        reader.problems[what] = (
            f"the {what} have no column {shown(missing)}, only {shown(frame.columns)}: name the column to use"
        )


def _ids(nodes: pd.DataFrame, column: str, reader: Reader) -> pd.Index:
    ids = nodes[column].astype("string").str.strip().replace("", pd.NA)
    if ids.isna().any():
        reader.problems["id"] = f"the nodes' {column!r} is blank in {rows_of(nodes, ids.isna())}"
    if (twice := ids.duplicated() & ids.notna()).any():
        who = shown(ids[twice].unique())
        reader.problems["twice"] = f"nodes are repeated: {who}, in {rows_of(nodes, twice)}; keep one row of each"
    return pd.Index(ids.fillna("").astype(object))


def _ends(edges: pd.DataFrame, ids: pd.Index, names: Mapping[str, str], reader: Reader) -> Tensor:
    """Source and target as numbers, `[2, E]`."""
    places = []
    for end in ("source", "target"):
        named = edges[names[end]].astype("string").str.strip().fillna("").astype(object)
        # Where ids are repeated, which is a problem already, the first is meant.
        places.append(ids.drop_duplicates().get_indexer(named))
        strange = pd.Series(places[-1] < 0, index=edges.index)
        if strange.any():
            who = shown(repr(one) for one in named[strange].unique())
            reader.problems[end] = f"edges have a {names[end]} that is not a node: {who}, in {rows_of(edges, strange)}"
    left = [column for column in edges if column not in (names["source"], names["target"], names["type"])]
    if left:
        reader.notes.append(f"edge columns that are not read: {shown(left)}; every edge weighs the same")
    return torch.tensor(np.stack(places)).long()


def _types(edges: pd.DataFrame, names: Mapping[str, str], reader: Reader) -> dict[str, Tensor]:
    """A vector for each type of edge, the same in every graph."""
    if names["type"] not in edges:
        return {}
    code, types = pd.factorize(edges[names["type"]].astype("string").fillna("none"), sort=True)
    reader.notes.append(
        f"{len(types)} types of edges: {shown(types)}; each has a random vector, the same in every graph"
    )
    table, code = fixed_vectors(types.tolist(), TYPE_WIDTH), torch.tensor(code).long()
    # With as many types as edges, a table of types would be taken for one row per edge.
    return {"edge_attr": table[code]} if len(table) == len(code) else {"edge_attr": table, "edge_type": code}


def _both_ways(data: Data, directed: bool | None, reader: Reader) -> Data:
    """Edges that are all listed in one direction only are taken as undirected, unless they are said to be directed."""
    source, target = data.edge_index
    apart = source != target
    forth, back = source * data.num_nodes + target, target * data.num_nodes + source
    one_way = apart & ~torch.isin(back, forth)
    if not one_way.any() or directed or (directed is None and not one_way[apart].all()):
        return data
    if directed is None:
        reader.notes.append(
            f"{int(one_way.sum())} edges are listed in one direction only and are read both ways; directed=True "
            "keeps them one-way"
        )
    per_edge = "edge_type" if "edge_type" in data else "edge_attr"
    if per_edge in data:
        data[per_edge] = torch.cat([data[per_edge], data[per_edge][one_way]])
    data.edge_index = torch.cat([data.edge_index, data.edge_index[:, one_way].flip(0)], dim=1)
    return data


def _without_rare(labels: Labels, reader: Reader) -> Labels:
    """A class too small to be split counts as unknown, as if unlabelled; the others are renumbered."""
    names = labels.names or tuple(range(int(labels.values.max()) + 1))
    count = torch.bincount(labels.values[labels.values >= 0], minlength=len(names))
    rare = count < MIN_PER_CLASS
    if not rare.any() or rare.all():
        return labels
    who = [f"{names[place]} ({int(count[place])})" for place in rare.nonzero().flatten().tolist()]
    reader.notes.append(f"classes with fewer than {MIN_PER_CLASS} nodes count as unknown: {shown(who)}")
    number = (~rare).long().cumsum(0) - 1
    number = torch.cat([number.masked_fill(rare, UNLABELLED), torch.tensor([UNLABELLED])])  # the last place is for -1
    kept = tuple(name for name, small in zip(names, rare.tolist(), strict=True) if not small)
    return labels._replace(values=number[labels.values], names=kept)


def _features(features: pd.DataFrame, ids: pd.Index, reader: Reader) -> pd.DataFrame:
    """Numbers and texts by column; a node whose texts are all blank gets the words `no text`."""
    features = features.copy()
    texts = list(features.select_dtypes(exclude=["number", "bool"]))
    for column in texts.copy():
        words = features[column].astype("string").str.strip().replace("", pd.NA)
        parsed = pd.to_numeric(words, errors="coerce")
        slips = words.notna() & parsed.isna()
        if slips.any() and parsed.notna().sum() >= NUMBERS * words.notna().sum():
            reader.problems[f"column {column}"] = (
                f"column {column!r} has words among its numbers: {shown(words[slips].unique())}, in "
                f"{rows_of(features, slips)}"
            )
        if not slips.any():
            texts.remove(column)
        features[column] = words.fillna("").astype(object) if slips.any() else parsed.astype(float)
    numbers = features.drop(columns=texts)
    bad = pd.DataFrame(~np.isfinite(numbers.to_numpy(float, na_value=np.nan)), columns=numbers.columns)
    for column in bad.columns[bad.any()]:
        who = shown(ids[bad[column]])
        reader.problems[f"column {column}"] = (
            f"column {column!r} is blank, NaN or infinite for {int(bad[column].sum())} nodes: {who}; fill it, or leave "
            "the column out"
        )
    if texts:
        reader.notes.append(f"columns of text, read by the text encoder: {shown(texts)}")
        if (blank := (features[texts] == "").all(axis=1)).any():
            features.loc[blank, texts[0]] = "no text"
            reader.notes.append(f"{int(blank.sum())} nodes have no text")
    return features


def _degrees(data: Data, reader: Reader) -> pd.DataFrame:
    reader.notes.append(
        "nodes have no features; degrees are used: the node's own and its neighbours' lowest, highest, mean and spread"
    )
    bare = LocalDegreeProfile()(Data(edge_index=data.edge_index, num_nodes=data.num_nodes))
    return pd.DataFrame(bare.x.log1p().numpy(), columns=DEGREES)
