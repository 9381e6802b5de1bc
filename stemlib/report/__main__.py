"""The report card of a graph in a folder or file: `python -m stemlib.report my_graph/ --out report/`.

Later: `python -m stemlib.report --watch report/ new_graph/` compares a new snapshot with it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from stemlib.audit.trainings import FULL, quick
from stemlib.audit.watch import MEAN, watched
from stemlib.data.feature_space import FeatureSpace
from stemlib.data.own_files import COLUMNS, read_own
from stemlib.devices import DEVICES
from stemlib.report.card import report
from stemlib.stress.domains import met_elsewhere
from stemlib.stress.shifts import in_words

STOPPED, REFUSED, WORRIED = 130, 2, 1  # exit statuses
DRIFTED = 2  # times as many as when the report was made


def parser() -> argparse.ArgumentParser:
    """Parser of the command's options."""
    made = argparse.ArgumentParser("python -m stemlib.report", description=__doc__.splitlines()[0])
    made.add_argument("graph", help="folder or file: tables, GraphML, PyG, .mat, triples or molecules")
    made.add_argument("--out", default="report", help="folder to write (default: report)")
    made.add_argument(
        "--quick",
        action="store_true",
        help="a first look: minutes for 10,000 nodes; beyond 50,000, or 500,000 edges, each network is trained once",
    )
    made.add_argument("--meet", nargs="+", default=[], metavar="GRAPH", help="other graphs to test the models on")
    made.add_argument("--watch", metavar="OUT", help="compare the graph with the report in this folder; trains nothing")
    made.add_argument("--split", help="random, time, scaffold, or a column that says train, val or test")
    made.add_argument("--device", choices=DEVICES, default="auto", help="default: a GPU where there is one")
    made.add_argument("--regression", action="store_true", default=None, help="labels are numbers to predict")
    for name in COLUMNS:
        nargs = "+" if name == "label" else None
        made.add_argument(f"--{name}", nargs=nargs, metavar="COLUMN", help=f"what the column {name!r} is called")
    return made


def run(arguments: argparse.Namespace) -> int:
    """Read, then report or watch; the exit status."""
    names = {name: value for name in COLUMNS if (value := getattr(arguments, name)) is not None}
    names = {name: value[0] if isinstance(value, list) and len(value) == 1 else value for name, value in names.items()}
    given = names | {"split": arguments.split, "regression": arguments.regression}
    if arguments.watch:
        space = None
        if (Path(arguments.watch) / "frozen" / "features.json").is_file():
            space = FeatureSpace.load(Path(arguments.watch) / "frozen")
        own = read_own(arguments.graph, space=space, **given)
        if space is None and own.space is not None:
            print(f"{arguments.watch} keeps no feature space: the columns of {arguments.graph} are made anew")
        return _say_watched(arguments.graph, watched(arguments.watch, own.task))
    own = read_own(arguments.graph, **given)
    if not len(own.task.labelled()):
        raise ValueError(f"{arguments.graph} has no label for any {own.task.kind}: name a column with --label")
    print("\n".join(f"- {line}" for line in own.notes), flush=True)
    others = {Path(path).stem: read_own(path, space=own.space, **given).task for path in arguments.meet}
    for name, task in others.items():
        met_elsewhere(own.task, name, task)  # refused before anything is trained
    effort = quick(own.task) if arguments.quick else FULL
    about = {"others": others, "names": own.names, "read": own.notes, "space": own.space, "device": arguments.device}
    card = report(own.task, arguments.out, effort, **about)
    for answer in card.answers:
        print(f"\n{answer.question}", *answer.sentences, sep="\n  ")
    print(f"\nopen {card.folder / 'report.html'}")
    return 0


def _say_watched(graph: str, table: pd.DataFrame) -> int:
    for row in table.itertuples():
        left, known = row.end == MEAN, "not known to move the error"
        if row.alarm == row.alarm:
            known = f"look closer {'below' if left else 'from'} {row.alarm:.0%}"
        drifted = "drifted" if not left and row.now >= DRIFTED * row.share else "ok"
        side = {"low": " below", "high": " above"}.get(row.end, ":")
        now = f"then, {row.now:.0%} of that now" if left else f": {row.share:.0%} then, {row.now:.0%} now"
        where = f"{in_words(row.covariate)}{side} {row.border:.3g}{' ' * left}{now}"
        print(f"{'LOOK CLOSER' if row.worry else drifted:<12}{where} ({known})")
    worried = bool(table.worry.any())
    print(f"{graph}: " + ("the error has probably risen" if worried else "nothing that is known to move the error"))
    return WORRIED if worried else 0


def main() -> int:
    """The command; problems with the input are reported without a traceback."""
    arguments = parser().parse_args()
    try:
        return run(arguments)
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("\nStopped. Finished work is kept; the same command continues from there.", file=sys.stderr)
        return STOPPED


if __name__ == "__main__":
    sys.exit(main())
