"""Grid files: which notebook runs with which parameters.

    preset: smoke
    runs:
      - notebook: 07_degree_shift
        parameters:
          dataset: [cora, wn18rr]     # a list is multiplied out with the entry's other lists: four runs
          methods: [gcn, stem]
          seeds: 3

Everything is checked against the notebooks' `parameters` cells before anything runs.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import yaml

from stemlib.files import write_atomically
from stemlib.presets import PRESETS
from study import paths
from study.batch.notebook_run import Job, code_cells, parameter_types, unknown_parameters
from study.batch.study import StudyError, find_notebooks

TYPES = {"str": str, "int": int, "float": float, "bool": bool}
LONGEST_NAME = 150  # of a run's folder; file systems end at 255
PLAIN = r"[A-Za-z0-9_. -]*"  # text that a folder's name can tell whole, with a plus for a space
Literal = str | int | float | bool | None


class GridError(Exception):
    """A grid file asks for what does not exist; the message holds every such place."""


def read_grid(file: str | Path) -> list[Job]:
    """The runs of a grid file, in its order.

    Raises:
        GridError: with all that is wrong: no such file or no YAML, unknown keys, notebooks or parameters, values
            of another type than the notebook's, runs that occur twice.
    """
    try:
        content = yaml.safe_load(Path(file).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise GridError(f"{file} cannot be read: {error}") from error
    if problems := list(_wrong_keys("the grid", content, {"preset": str, "runs": list})):
        raise GridError(f"{file}: " + "\n".join(problems))
    if content["preset"] not in PRESETS:
        problems.append(f"no preset {content['preset']!r}; there are {', '.join(PRESETS)}")
    jobs: list[Job] = []
    for number, entry in enumerate(content["runs"], start=1):
        where = f"entry {number}"
        if wrong := list(_wrong_keys(where, entry, {"notebook": str, "parameters": dict})):
            problems += wrong
            continue
        try:
            (notebook,) = find_notebooks([entry["notebook"]])
        except StudyError as error:
            problems.append(f"{where}: {error}")
            continue
        choices, wrong = _choices(notebook, content["preset"], entry["parameters"])
        problems += [f"{where}: {problem}" for problem in wrong]
        jobs += [] if wrong else _multiplied_out(notebook, choices)
    counts = Counter(run_name(job) for job in jobs)
    problems += [f"{name} occurs {count} times" for name, count in counts.items() if count > 1]
    if not jobs and not problems:
        problems.append("runs is empty")
    if problems:
        raise GridError(f"{file}: " + "\n".join(problems))
    return jobs


def _wrong_keys(where: str, given: Any, known: dict[str, type]) -> Iterator[str]:
    """What is wrong with a mapping that must have exactly the known keys, with values of these types."""
    keys = ", ".join(known)
    if not isinstance(given, dict):
        yield f"{where} must be a mapping with the keys {keys}; got {given!r}"
        return
    if unknown := [str(key) for key in given if key not in known]:
        yield f"{where} has no key {', '.join(unknown)}; its keys: {keys}"
    for key, kind in known.items():
        if not isinstance(given.get(key), kind):
            yield f"{where}: {key} must be a {kind.__name__}, got {given.get(key)!r}"


def _choices(notebook: Path, preset: str, given: dict[str, Any]) -> tuple[dict[str, list[Literal]], list[str]]:
    """The values of every parameter, in the notebook's types; and what is wrong with them."""
    known = parameter_types(notebook)
    problems = ["preset is not given here but at the top of the file"] if "preset" in given else []
    given = {str(name): value for name, value in given.items()} | {"preset": preset}
    if unknown := unknown_parameters(notebook, set(given), known):
        problems.append(unknown)
    choices = {}
    for name, value in given.items():
        choices[name] = [
            # 1 and 1.0 are the same run
            float(item) if known.get(name) == "float" and type(item) is int else item
            for item in (value if isinstance(value, list) else [value])
        ]
        kind = TYPES.get(known.get(name, ""))
        allowed = (kind,) if kind else (str, int, float, bool, type(None))
        if wrong := [item for item in choices[name] if type(item) not in allowed]:
            got = ", ".join(f"{item!r} ({type(item).__name__})" for item in wrong)
            hint = "; YAML wants 1.0e-3 for 1e-3" if kind is float else "; quote text" if kind is str else ""
            problems.append(f"{notebook.stem}: {name} is of type {known.get(name)}, got {got}{hint}")
        if not choices[name]:
            problems.append(f"{notebook.stem}: {name} is an empty list, which makes no run")
    return choices, problems


def _multiplied_out(notebook: Path, choices: dict[str, list[Literal]]) -> list[Job]:
    """One run for every combination."""
    combinations = [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]
    return [
        Job(notebook, parameters, run_folder(notebook, parameters), outputs=("metrics.json",))
        for parameters in combinations
    ]


def run_folder(notebook: Path, parameters: dict[str, Literal]) -> Path:
    """`runs/<notebook>/<name>`, where the name tells the parameters: `preset=smoke@dataset=cora@methods=gcn+stem`.

    Preset first, then by name, so that the order in a file does not matter; a plus stands for a space. Where a text
    has other characters than letters, digits and `_.-`, or the name is long, a part of the SHA-256 keeps it unique.
    """
    ordered = {name: parameters[name] for name in sorted(parameters, key=lambda name: (name != "preset", name))}
    texts = {name: str(value).replace(" ", "+") for name, value in ordered.items()}
    name = "@".join(  # no comma: Snakemake sends a rule's wildcards to a cluster's jobs as a list with commas
        f"{key}={re.sub('[^A-Za-z0-9_.+-]', '_', text)}" for key, text in texts.items()
    )
    values = [value for value in ordered.values() if isinstance(value, str)]
    if len(name) > LONGEST_NAME or not all(re.fullmatch(PLAIN, value) for value in values):
        digest = hashlib.sha256(json.dumps(ordered).encode()).hexdigest()[:8]
        name = f"{name[:LONGEST_NAME]}-{digest}"
    return paths.RUNS / notebook.stem / name


def run_name(job: Job) -> str:
    """`<notebook>/<folder's name>`, which a command line tells a run by."""
    return f"{job.folder.parent.name}/{job.folder.name}"


def shard(jobs: list[Job], number: int, count: int) -> list[Job]:
    """Part `number` (from 1 on) of `count` disjoint parts that differ by one run at most.

    The runs are dealt out in the order of their names' SHA-256, so that no part gets all runs of one method or
    data set, and the same runs are parted alike everywhere.

    Raises:
        GridError: there is no such part.
    """
    if not 1 <= number <= count:
        raise GridError(f"there is no shard {number} of {count}: it must be 1/{count} to {count}/{count}")
    dealt = sorted(jobs, key=lambda job: hashlib.sha256(run_name(job).encode()).hexdigest())
    mine = {run_name(job) for job in dealt[number - 1 :: count]}
    return [job for job in jobs if run_name(job) in mine]


def write_code(notebook: Path) -> Path:
    """Keep the notebook's code cells alone as `runs/<notebook>/code.ipynb`, written anew only when they change.

    Its time of change, unlike the notebook's, says since when the runs of before are out of date.
    """
    path = paths.RUNS / notebook.stem / "code.ipynb"
    sources = code_cells(notebook)
    if not path.exists() or code_cells(path) != sources:
        cells = [nbformat.v4.new_code_cell(source, id=f"cell-{i}") for i, source in enumerate(sources)]
        with write_atomically(path) as temporary:
            nbformat.write(nbformat.v4.new_notebook(cells=cells), temporary)
    return path
