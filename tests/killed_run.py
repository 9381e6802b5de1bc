"""Runs `run_samples.NOISY` in the folder that is named, killed again and again at one stage after the other.

A script of its own, since SIGKILL ends a process. Prints a line per stage: its name, the signal that ended the
process, and the files that were left.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from run_samples import NOISY
from samples import link_task

from stemlib import finetune


def kill(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def after(calls: int, function: Callable) -> Callable:
    """The function, for so many calls; the next one kills."""
    left = iter(range(calls))
    return lambda *args: kill() if next(left, None) is None else function(*args)


def in_an_epoch() -> None:
    finetune.train_epoch = after(4, finetune.train_epoch)


def before_a_state_takes_its_place() -> None:
    os.replace = after(2, os.replace)


def in_an_evaluation() -> None:
    finetune.answer = after(3, finetune.answer)


def before_the_weights() -> None:
    finetune.save_model = kill


def between_the_weights_and_their_settings() -> None:
    def killed(*args: object) -> None:
        os.replace = after(1, os.replace)
        save_model(*args)

    save_model, finetune.save_model = finetune.save_model, killed


def before_the_record() -> None:
    finetune.write_record = kill


def between_the_history_and_the_record() -> None:
    def killed(*args: object) -> None:
        os.replace = after(1, os.replace)
        write_record(*args)

    write_record, finetune.write_record = finetune.write_record, killed


STAGES = (
    in_an_epoch,
    before_a_state_takes_its_place,
    in_an_evaluation,
    before_the_weights,
    between_the_weights_and_their_settings,
    before_the_record,
    between_the_history_and_the_record,
)

if __name__ == "__main__":
    torch.set_num_threads(1)
    finetune.RUNS, finetune.SECONDS_BETWEEN_STATES = Path(sys.argv[1]), -1.0
    for stage in STAGES:
        child = os.fork()  # a fresh process that need not import everything again
        if child == 0:
            stage()
            finetune.run("t", link_task(), "random", NOISY, 3)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        files = sorted(file.name for file in finetune.RUNS.rglob("*") if file.is_file())
        print(stage.__name__, os.WTERMSIG(status), *files, flush=True)
