"""Runs `run_samples.NOISY` in the folder that is named, killed again and again at one stage after the other.

A script of its own, since SIGKILL ends a process; `kills.left_behind` reads what it prints.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from kills import after, die_at_every_stage, kill, second_file_of
from run_samples import NOISY
from samples import link_task

from stemlib.training import finetune, loop
from study import trained


def in_an_epoch() -> None:
    finetune.train_epoch = after(4, finetune.train_epoch)


def before_a_state_takes_its_place() -> None:
    os.replace = after(2, os.replace)


def in_an_evaluation() -> None:
    finetune.answers_there = after(3, finetune.answers_there)


def before_the_weights() -> None:
    trained.save_model = kill


def between_the_weights_and_their_settings() -> None:
    second_file_of(trained, "save_model")


def before_the_record() -> None:
    trained.write_record = kill


def between_the_history_and_the_record() -> None:
    second_file_of(trained, "write_record")


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
    trained.RUNS, loop.SECONDS_BETWEEN_STATES = Path(sys.argv[1]), -1.0
    die_at_every_stage(STAGES, lambda: trained.run("t", link_task(), "random", NOISY, 3), trained.RUNS)
