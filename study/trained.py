"""Runs that are kept: a method is trained on a task's split with a seed, recorded, and read back ever after."""

from __future__ import annotations

import json
import resource
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from stemlib.cache import run_key
from stemlib.data.leaks import filtered
from stemlib.data.tasks import Split, Task, standardised
from stemlib.files import held
from stemlib.training.evaluation import evaluate
from stemlib.training.finetune import fit
from stemlib.training.stacking import stacked
from study.computing import chosen
from study.families import load_model, save_model
from study.method import Method
from study.paths import RUNS
from study.records import Record, read_record, write_record
from study.rivals.encoders import start_from_encoder

APART = 100  # between the seeds of one network that is trained several times on a split


def run_folder(experiment: str, task: Task, split: Split, method: Method, seed: int) -> Path:
    """Where the run's record is or will be."""
    method = method.at(seed)
    key = run_key(method.identity, split.hash, task.content, chosen().type)
    return RUNS / experiment / f"{task.name}-{split.name}-{method.name}-{key}" / f"seed-{seed}"


def run(experiment: str, task: Task, split_name: str, method: Method, seed: int) -> Record:
    """Train and record one model, or return the record if the run is finished already.

    After a kill at any moment, a second call continues: from the last training state, or from the finished weights,
    never from half a record. A run that another process is working on is waited for.
    """
    split, method = task.split(split_name), method.at(seed)
    given, task = task, standardised(task, split)
    folder = run_folder(experiment, task, split, method, seed)
    if (record := read_record(folder)) is not None:
        require_same(record, method, folder)
        return record
    with held(folder):
        try:
            return read_record(folder) or _trained(experiment, given, split, method, seed, folder)
        except KeyboardInterrupt:
            print(
                f"stopped; the training state is kept in {folder}, and the same call continues from there", flush=True
            )
            raise


def require_same(record: Record, method: Method, folder: Path) -> None:
    """Refuse a finished run with other settings: its key only says what differed from the defaults of its time.

    Raises:
        ValueError: a default has changed since, with the settings and both values.
    """
    now = json.loads(json.dumps(method.settings))
    others = [
        f"{part}.{name} was {value}, is {now[part][name]}"
        for part in ("model", "train", "pretext")
        for name, value in record.settings.get(part, {}).items()
        if name in now.get(part, {}) and now[part][name] != value
    ]
    if others:
        raise ValueError(f"{folder} was trained with other defaults ({'; '.join(others)}); delete it to train again")


def _trained(experiment: str, given: Task, split: Split, method: Method, seed: int, folder: Path) -> Record:
    """Train and write model and record into the run's folder, from its last training state if there is one."""
    torch.manual_seed(seed)
    task = standardised(given, split)
    if method.members:
        runs = [(experiment, given, split.name, each, seed) for each in method.members]
        others = [seed + APART * turn for turn in range(1, method.model.repeats)]
        models = [trained_model(*one) for one in runs]

        def again(place: int) -> list[nn.Module]:
            repeated = [(*runs[place][:-1], other) for other in others]
            runs.extend(repeated)
            return [trained_model(*one) for one in repeated]

        model = stacked(models, task, split, method.model, again)
        records = [run(*one) for one in runs]
        seconds = sum(record.seconds for record in records)
        best_epoch, epochs = (max(getattr(record, name) for record in records) for name in ("best_epoch", "epochs"))
        history = pd.DataFrame({"weight": model.gate.tolist(), "temperature": model.temperature.tolist()})
        best_on_test = evaluate(model, task, split, ["test"])["test"]
    else:
        model = method.build(task)
        before = 0.0
        if method.pretext is not None:
            before = start_from_encoder(model, task, method.pretext, seed, RUNS / "encoders")
        state_file, name = folder / "training.checked", f"{task.name} {method.name} seed {seed}"
        progress = fit(model, task, split, method.train, seed, state_file, name)
        seconds, best_epoch, epochs = before + progress.seconds, progress.best_epoch, progress.epoch
        history, best_on_test = pd.DataFrame(progress.history), progress.test_best
    metrics = evaluate(model, task, split, precision=method.train.precision) | {"test_best": best_on_test}
    left = filtered(task, split.train, split.test)
    if 0 < left.numel() < split.test.numel():
        found = evaluate(model, task, replace(split, test=left), ["test"], method.train.precision)
        metrics["test_filtered"] = found["test"]
    record = Record(
        experiment=experiment,
        task=task.name,
        split=split.name,
        split_hash=split.hash,
        model=method.name,
        seed=seed,
        settings=method.settings,
        metrics=metrics,
        best_epoch=best_epoch,
        epochs=epochs,
        seconds=seconds,
        peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        parameters=sum(value.numel() for value in model.parameters() if value.requires_grad),
        data_checksum=task.checksum,
        content=task.content,
        threads=torch.get_num_threads(),
        device=chosen().type,
    )
    save_model(model, folder)
    write_record(folder, record, history)
    (folder / "training.checked").unlink(missing_ok=True)
    return record


def trained_model(experiment: str, task: Task, split_name: str, method: Method, seed: int) -> nn.Module:
    """The model of a finished run, trained first if necessary."""
    run(experiment, task, split_name, method, seed)
    split = task.split(split_name)
    return load_model(run_folder(experiment, standardised(task, split), split, method, seed))
