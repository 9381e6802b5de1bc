"""Runs a tiny pretraining in the folder that is named, killed again and again at one stage after the other.

A script of its own, since SIGKILL ends a process. Prints a line per stage: its name, the signal that ended the
process, and the files that were left.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from killed_run import after, kill
from pretrain_samples import MODEL, config, tiny_pool

from stemlib import pretrain as pretraining
from stemlib.pretrain_run import Run
from stemlib.student import Student


def before_anything_is_kept() -> None:
    Run.start_tokens = kill


def in_a_step() -> None:
    Run.step = after(3, Run.step)


def between_backward_and_the_optimisers_step() -> None:
    torch.optim.AdamW.step = after(2, torch.optim.AdamW.step)


def before_the_teacher_follows() -> None:
    Student.update_teacher = after(1, Student.update_teacher)


def before_a_state_takes_its_place() -> None:
    os.replace = after(1, os.replace)


def before_the_tables() -> None:
    pretraining._finish = kill


def between_two_tables() -> None:
    finish = pretraining._finish

    def killed(*args: object) -> None:
        os.replace = after(1, os.replace)
        finish(*args)

    pretraining._finish = killed


def between_the_weights_and_their_settings() -> None:
    save = pretraining.save_pretrained

    def killed(*args: object) -> None:
        os.replace = after(1, os.replace)
        save(*args)

    pretraining.save_pretrained = killed


STAGES = (
    before_anything_is_kept,
    in_a_step,
    between_backward_and_the_optimisers_step,
    before_the_teacher_follows,
    before_a_state_takes_its_place,
    before_the_tables,
    between_two_tables,
    between_the_weights_and_their_settings,
)

if __name__ == "__main__":
    torch.set_num_threads(1)
    pretraining.RUNS, pretraining.SECONDS_BETWEEN_STATES = Path(sys.argv[1]), -1.0
    for stage in STAGES:
        child = os.fork()  # a fresh process that need not import everything again
        if child == 0:
            stage()
            pretraining.pretrain(tiny_pool(), MODEL, config(steps=12), seed=3)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        files = sorted(file.name for file in pretraining.RUNS.rglob("*") if file.is_file())
        print(stage.__name__, os.WTERMSIG(status), *files, flush=True)
