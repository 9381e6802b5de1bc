"""What to watch once a model is frozen: covariates whose drift moves its error, and a later graph set against them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import ttest_ind
from torch import Tensor

from stemlib.audit.statistics import paired_test
from stemlib.data.graph import node_features
from stemlib.data.tasks import Task, read_out
from stemlib.files import write_atomically
from stemlib.stress.shifts import covariates, instance_covariate
from stemlib.training.saved import WATCHED

ENDS = {"low": 0.2, "high": 0.8}  # the fifth at either end
POINT = 0.01  # by which the error may rise before it is reported
LEVEL = 0.05
FEWEST = 10  # instances in an end, and outside of it
FILE = "watch.json"
DROP = {"features": "share of features that are 0", "length": "length of the features"}
LEFT = {"deleted": "incoming edges of a node", "masked": "features of a node that are not 0"}  # what damage takes away
MEAN = "mean"  # end of a row about a whole graph


def covariate_table(task: Task) -> pd.DataFrame:
    """What may drift, by instance, and means the same in another graph: covariates, share of zero features, length."""
    found = {name: instance_covariate(task, name) for name in covariates(task) if name in WATCHED}
    x = node_features(task.graph)
    found |= {
        DROP["features"]: _of_instances(task, (x == 0).float().mean(1)),
        DROP["length"]: _of_instances(task, torch.linalg.vector_norm(x, dim=1)),
    }
    return pd.DataFrame({name: values.double().numpy() for name, values in found.items()})


def _of_instances(task: Task, values: Tensor) -> Tensor:
    instances = None if task.kind == "graph" else task.select(torch.arange(task.instances))
    return read_out(values.unsqueeze(1), task.graph, instances, task.kind).squeeze(1)


def watch_list(task: Task, risk: pd.DataFrame) -> pd.DataFrame:
    """Every end of every covariate: where it begins, and how much larger the error is there.

    Args:
        task: that the model was trained on.
        risk: of `stemlib.audit.risk.risk_table`; errors count only outside training.

    Returns:
        By `covariate` and `end`: `border`, `share` of all instances beyond it, the `rise` of the error there over that
        of the others with its interval `low` to `high` (Welch's t at 95 %, corrected for all rows by Bonferroni), and
        `alarm`: the share from which on the whole error is a point higher; NaN where it does not rise reliably, or too
        little for any share.
        An end is left out if its border separates nothing, or if fewer than `FEWEST` errors are known on either side.
    """
    values, risk = covariate_table(task), risk.sort_index()
    seen = risk.part.isin(["val", "test"]).to_numpy() & risk.wrong.notna().to_numpy()
    errors, rows = risk.wrong.astype(float).to_numpy(), []
    unit = 1.0 if not task.regression else max(float(np.nanstd(errors[seen])), 1e-12)
    for name, column in values.items():
        for end, quantile in ENDS.items():
            border = float(np.quantile(column, quantile))
            beyond = _beyond(column.to_numpy(), border, end)
            if min((seen & beyond).sum(), (seen & ~beyond).sum()) >= FEWEST:
                inside, outside = errors[seen & beyond] / unit, errors[seen & ~beyond] / unit
                about = {"covariate": name, "end": end, "border": border, "share": float(beyond.mean())}
                rows.append(about | {"rise": float(inside.mean() - outside.mean()), "values": (inside, outside)})
    for row in rows:
        inside, outside = row.pop("values")
        reach = (np.nan, np.nan)
        if inside.std() + outside.std() > 0:
            found = ttest_ind(inside, outside, equal_var=False).confidence_interval(1 - LEVEL / len(rows))
            reach = (float(found.low), float(found.high))
        row |= {"low": reach[0], "high": reach[1]}
        alarm = row["share"] + POINT / row["rise"] if reach[0] > 0 else np.nan
        row["alarm"] = alarm if alarm < 1 else np.nan  # not even if all were there
    return pd.DataFrame(rows, columns=["covariate", "end", "border", "share", "rise", "low", "high", "alarm"])


def left(task: Task) -> dict[str, float]:
    """What damage takes away, as means over the nodes: edges; features too, unless made from other columns."""
    graph, found = task.graph, {"deleted": task.graph.num_edges / task.graph.num_nodes}
    if graph.source is None:
        found["masked"] = float((node_features(graph) != 0).float().sum(1).mean())
    return {damage: mean for damage, mean in found.items() if mean > 0}


def damage_list(task: Task, scores: pd.DataFrame, chosen: str, overlap: float) -> pd.DataFrame:
    """For every damage, the lowest rate that costs a point, reliably if there are several trainings.

    Args:
        task: that the model was trained on.
        scores: of `stemlib.audit.measure.score_table`.
        chosen: the method that is frozen.
        overlap: of the seeds' splits, see `stemlib.audit.statistics.paired_test`.

    Returns:
        Rows as `watch_list` has them, `end` being `mean`: `border` the mean over the nodes of what damage takes away,
        `share` 1, `alarm` the share that is left at that rate, `rise` the loss there (1 is 100 points), with its
        interval (NaN for a single training); all NaN where no rate costs a point.
    """
    rows, mine = [], scores[scores.method == chosen]
    clean = mine[mine.kind == "clean"].groupby("seed").score.mean()
    for damage, mean in left(task).items():
        row = {"covariate": LEFT[damage], "end": MEAN, "border": mean, "share": 1.0}
        row |= dict.fromkeys(("rise", "low", "high", "alarm"), np.nan)
        for rate, met in mine[mine.kind == damage].groupby("rate"):
            loss = (clean - met.groupby("seed").score.mean()) / 100
            low, high = paired_test(loss, overlap)[1:3] if len(loss) > 1 else (np.nan, np.nan)
            if loss.mean() >= POINT and not low <= 0:  # of a single training there is no interval
                row |= {"rise": loss.mean(), "low": low, "high": high, "alarm": 1 - rate}
                break
        rows.append(row)
    return pd.DataFrame(rows)


def _beyond(values: np.ndarray, border: float, end: str) -> np.ndarray:
    return values < border if end == "low" else values > border


def write_watch(folder: Path, task: Task, found: pd.DataFrame) -> None:
    """Keep what a later graph is compared with: rows of `watch_list` and `damage_list`."""
    rows = found.astype(object).where(found.notna(), None).to_dict("records")  # JSON has no NaN
    content = {"kind": task.kind, "regression": task.regression, "rows": rows}
    with write_atomically(folder / FILE) as temporary:
        temporary.write_text(json.dumps(content, indent=2))


def watched(folder: str | Path, task: Task) -> pd.DataFrame:
    """A later graph compared with that of a report: the share at each end then and now, and whether to worry.

    Args:
        folder: of the report.
        task: the later graph; its labels are not read.

    Returns:
        The rows of `watch_list` with `now`, the share beyond the border; `expected`, by how much the error rises if it
        depends on this alone; and `worry`, whether `now` is above `alarm`. In the rows of `damage_list`, `now` is
        the share that is left, `worry` whether it is below `alarm`, and `expected` the loss there if so, else 0.

    Raises:
        FileNotFoundError: no report is there.
        ValueError: it is of another kind of task, or a covariate is missing.
    """
    file = Path(folder) / FILE
    if not file.is_file():
        raise FileNotFoundError(f"no report in {folder}: {FILE} is missing; make one: python -m stemlib.report")
    content: dict[str, Any] = json.loads(file.read_text())
    if content["kind"] != task.kind:
        raise ValueError(f"the report in {folder} is of a {content['kind']} task; {task.name!r} is a {task.kind} task")
    values, means, rows = covariate_table(task), left(task), []
    means = {LEFT[damage]: mean for damage, mean in means.items()}
    for kept in content["rows"]:
        row = {name: np.nan if value is None else value for name, value in kept.items()}
        if row["end"] == MEAN:
            now = means.get(row["covariate"], 0.0) / row["border"]
            worry = now < row["alarm"]  # never below NaN
            rows.append(row | {"now": now, "expected": row["rise"] if worry else 0.0, "worry": worry})
            continue
        if row["covariate"] not in values:
            raise ValueError(f"{task.name!r} has no covariate {row['covariate']!r}, which the report in {folder} has")
        now = float(_beyond(values[row["covariate"]].to_numpy(), row["border"], row["end"]).mean())
        worry = row["alarm"] == row["alarm"] and now > row["alarm"]
        rows.append(row | {"now": now, "expected": (now - row["share"]) * row["rise"], "worry": worry})
    return pd.DataFrame(rows, columns=[*content["rows"][0], "now", "expected", "worry"] if rows else ["worry"])
