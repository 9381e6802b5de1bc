"""Runs a tiny pretraining in the folder that is named, killed again and again at one stage after the other.

A script of its own, since SIGKILL ends a process; `kills.left_behind` reads what it prints.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from kills import after, die_at_every_stage, kill, second_file_of
from pretrain_samples import MODEL, config, tiny_pool

from stemlib.training import loop
from stemlib.training import pretrain as pretraining
from stemlib.training.pretrain import pretrain
from stemlib.training.pretrain_run import Run
from stemlib.training.student import Student


def before_anything_is_kept() -> None:
    Student.start_tokens = kill


def in_a_step() -> None:
    Run.step = after(3, Run.step)


def between_backward_and_the_optimisers_step() -> None:
    torch.optim.AdamW.step = after(2, torch.optim.AdamW.step)


def before_the_teacher_follows() -> None:
    Student.update_teacher = after(2, Student.update_teacher)  # the first call is the copy


def before_a_state_takes_its_place() -> None:
    os.replace = after(1, os.replace)


def before_the_tables() -> None:
    pretraining._finish = kill


def between_two_tables() -> None:
    second_file_of(pretraining, "_finish")


def between_the_weights_and_their_settings() -> None:
    second_file_of(pretraining, "save_pretrained")


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
    loop.SECONDS_BETWEEN_STATES = -1.0
    root = Path(sys.argv[1])
    die_at_every_stage(STAGES, lambda: pretrain(tiny_pool(), MODEL, config(steps=12), seed=3, root=root), root)
