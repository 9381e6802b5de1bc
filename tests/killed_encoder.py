"""Trains an encoder without labels in the folder that is named, killed again and again at one stage after the other.

A script of its own, since SIGKILL ends a process; `kills.left_behind` reads what it prints.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from kills import after, die_at_every_stage, kill, second_file_of
from samples import node_task

from stemlib.training import loop
from study.rivals import encoders as self_supervised_run
from study.rivals.encoders import EncoderRun, train_encoder
from study.rivals.self_supervised import Bootstrap
from study.rivals.settings import BGRLConfig, ProbeConfig

# Every kind of state: weights, batch norm's statistics, a slow target, Adam's moments, a rate that changes.
ENCODER, PRETEXT = ProbeConfig(hidden=8, norm="batch"), BGRLConfig(steps=10, predictor=6, lr=1e-2)


def in_a_step() -> None:
    EncoderRun.step = after(3, EncoderRun.step)


def before_the_target_follows() -> None:
    Bootstrap.follow = after(1, Bootstrap.follow)


def before_a_state_takes_its_place() -> None:
    os.replace = after(1, os.replace)


def before_the_weights() -> None:
    self_supervised_run.write_weights = kill


def between_the_weights_and_their_settings() -> None:
    second_file_of(self_supervised_run, "write_weights")


STAGES = (
    in_a_step,
    before_the_target_follows,
    before_a_state_takes_its_place,
    before_the_weights,
    between_the_weights_and_their_settings,
)

if __name__ == "__main__":
    torch.set_num_threads(1)
    loop.SECONDS_BETWEEN_STATES = -1.0
    root = Path(sys.argv[1])
    die_at_every_stage(STAGES, lambda: train_encoder(node_task(), ENCODER, PRETEXT, 3, root), root)
