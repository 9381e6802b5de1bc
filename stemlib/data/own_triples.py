"""A user's own triples (head, relation, tail) as a task: which relation does a pair of entities have?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stemlib.data.checks import checked
from stemlib.data.feature_source import FeatureSource
from stemlib.data.feature_space import FeatureSpace
from stemlib.data.features import TFIDF, encode_texts
from stemlib.data.graph import undirected_pairs
from stemlib.data.own_splits import column_split, drawn_split, rows_of, shown
from stemlib.data.readings import Reader
from stemlib.data.tasks import PARTS, Split, Task
from stemlib.data.triples import Triples, message_graph


def from_triples(
    frame: pd.DataFrame,
    *,
    head: str = "head",
    relation: str = "relation",
    tail: str = "tail",
    name: str = "own-triples",
    split: str | None = None,
    time: str = "time",
    texts: Mapping[str, str] | None = None,
    encoder: str = TFIDF,
    width: int = 128,
    seed: int = 0,
    space: FeatureSpace | None = None,
) -> Task:
    """Make a task from triples; messages run along training triples and their inverses only.

    Args:
        frame: a row for every triple.
        head: the column of the first entity.
        relation: the column of what is asked.
        tail: the column of the second entity.
        name: as in file names.
        split: `random`; `time`, by that column; or a column that says train, val or test. By default the column
            `split` if there is one, otherwise `random`: 80/10/10, both directions of a pair of entities in one part.
        time: the column of numbers or dates.
        texts: what entities and relations are, in words, by name; those without are known by their names. By default
            each name has a random vector that is the same in every graph.
        encoder: of the texts.
        width: of the features.
        seed: of the draw.
        space: of the triples that a model was trained on, in place of encoder and width; relations get the numbers that
            it has for their names, and others are refused.

    Returns:
        The task; `graph.about` keeps the names of entities (`entity`) and the rows of the pairs (`row`), `class_names`
        those of relations.

    Raises:
        ValueError: all problems of the table, one a line, each with its rows.
    """
    reader, columns = Reader(), [head, relation, tail]
    if missing := [column for column in columns if column not in frame]:
        raise ValueError(f"no column {shown(missing)} in the triples, only {shown(frame.columns)}")
    words = frame[columns].astype("string").apply(lambda column: column.str.strip().replace("", pd.NA))
    for column in columns:
        if (blank := words[column].isna()).any():
            reader.problems[column] = f"column {column!r} is blank in {rows_of(frame, blank)}"
    how = split or ("split" if "split" in frame else "random")
    own = how not in ("random", "time")
    # A triple in two parts is a fault not of the table but of the split: the notes on leaks report it.
    parts = frame[[how]].astype("string") if own and how in frame else words[[]]
    repeated = pd.concat([words, parts.add_prefix("part ")], axis=1).duplicated()
    if repeated.any():
        reader.notes.append(
            f"{int(repeated.sum())} triples repeat earlier ones and are left out: {rows_of(frame, repeated)}"
        )
    kept, words = frame[~repeated], words[~repeated].fillna("")
    code, entities = pd.factorize(pd.concat([words[head], words[tail]]))
    labels, relations = pd.factorize(words[relation], sort=True)
    if space is not None:
        relations = pd.Index(space.class_names)
        labels = relations.get_indexer(words[relation])
        if (strange := pd.Series(labels < 0, index=words.index)).any():
            reader.problems[relation] = (
                f"relations that the source does not have: {shown(words[relation][strange].unique())}, in "
                f"{rows_of(kept, strange)}"
            )
    pairs = torch.tensor(code).long().view(2, -1)
    everyone = torch.arange(len(kept))
    if how == "random":
        drawn = _drawn(pairs, len(entities), seed, reader)
    else:
        drawn = column_split(kept, how, time, everyone, reader)
    if reader.problems:
        raise ValueError("\n  - ".join([f"the triples of {name!r} cannot be used:", *reader.problems.values()]))
    order = torch.cat([getattr(drawn, part) for part in PARTS])
    sizes = tuple(len(getattr(drawn, part)) for part in PARTS)
    triples = Triples(
        pairs[:, order].T.contiguous(), torch.tensor(labels).long()[order], sizes, list(entities), list(relations)
    )
    x, edge_attr, source = _features(triples, texts, encoder, width, name, reader, space)
    about = {"entity": triples.entities, "row": kept.index[order.numpy()].tolist()}
    task = Task(
        name=name,
        kind="link",
        graph=replace(
            message_graph(triples, "train"), x=x, edge_attr=edge_attr, source=source, about=about, space=space
        ),
        labels=triples.relation,
        splits={drawn.name: replace(triples.split, name=drawn.name)},
        pairs=triples.pairs,
        description=f"the user's own triples {name!r}. Messages run along training triples and their inverses.",
        class_names=tuple(triples.relations),
        notes=(*reader.notes, *_remarks(triples)),
    )
    task = checked(task)
    return replace(task, checksum=task.content)


def _drawn(pairs: Tensor, entities: int, seed: int, reader: Reader) -> Split | None:
    """No two triples of the same two entities in different parts: one would give the other away."""
    _, group = undirected_pairs(pairs, entities)
    try:
        drawn = drawn_split(group, torch.arange(pairs.size(1)), seed)
    except ValueError as error:
        reader.problems["split"] = f"no split can be drawn: {error}"
        return None
    reader.notes.append(f"split {drawn.name!r} is drawn: 80/10/10, triples of the same two entities in one part")
    return drawn


def _features(
    triples: Triples,
    texts: Mapping[str, str] | None,
    encoder: str,
    width: int,
    name: str,
    reader: Reader,
    space: FeatureSpace | None,
) -> tuple[Tensor, Tensor, FeatureSource | None]:
    """Features of entities `[N, d]`, of relations and their inverses `[2 R, d]`, and their source."""
    entities, relations = triples.entities, triples.relations
    width = width if space is None else space.width
    if texts is None:
        reader.notes.append(
            "entities and relations have no texts: each name has a random vector, the same in every graph"
        )
        return (
            fixed_vectors(entities, width),
            fixed_vectors([*relations, *(f"inverse of {r}" for r in relations)], width),
            None,
        )
    if without := [one for one in (*entities, *relations) if not texts.get(one, "").strip()]:
        reader.notes.append(f"{len(without)} names have no text and serve as their own: {shown(without)}")
    words, forward = ([texts.get(one, "").strip() or one for one in some] for some in (entities, relations))
    edges = [*forward, *(f"inverse of {text}" for text in forward)]
    if space is not None:
        source = space.source(words)
        return source.encode(source.raw), space.encode_edges(edges), source
    # One call, so that entities and relations share a space.
    vectors, source = encode_texts([*words, *edges], width, encoder, name)
    return vectors[: len(words)], vectors[len(words) :], source


def fixed_vectors(names: Sequence[str], width: int) -> Tensor:
    """A random vector of length about 1 for every name, `[n, width]`: the same name has the same one everywhere."""
    rows = [np.random.default_rng(list(name.encode())).standard_normal(width, dtype=np.float32) for name in names]
    return torch.from_numpy(np.stack(rows)) / width**0.5


def _remarks(triples: Triples) -> list[str]:
    """What is worth knowing: reciprocals, pairs with several relations, names that training never sees."""
    notes, entities = [], len(triples.entities)
    directed = triples.pairs[:, 0] * entities + triples.pairs[:, 1]
    turned = triples.pairs[:, 1] * entities + triples.pairs[:, 0]
    if both := int((torch.isin(turned, directed) & (directed != turned)).sum()):
        notes.append(f"{both} triples have a reciprocal: one from their tail to their head")
    _, place, count = directed.unique(return_inverse=True, return_counts=True)
    if several := int((count[place][triples.split.test] > 1).sum()):
        notes.append(f"{several} test triples share their pair with other relations; only their own counts as right")
    seen = triples.pairs[triples.split.train]
    for part in PARTS[1:]:
        index = getattr(triples.split, part)
        unseen = ~torch.isin(triples.pairs[index], seen)
        if unseen.any():
            who = [triples.entities[one] for one in triples.pairs[index][unseen].unique().tolist()]
            notes.append(
                f"{int(unseen.any(1).sum())} of {len(index)} {part} triples have an entity that training never sees: "
                f"{shown(who)}"
            )
    unknown = set(triples.relation.tolist()) - set(triples.relation[triples.split.train].tolist())
    if unknown:
        notes.append(f"relations that training never sees: {shown(triples.relations[one] for one in sorted(unknown))}")
    return notes
