"""Pretrains on a tiny pool in two processes, for each of `SETTINGS`, in the folder that is named.

A script of its own, which forks after its imports. Each process leaves `<setting>/weights-<rank>.safetensors`, the
first one its checkpoint too. `resumed` is `noisy` with both processes killed on the way.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import traceback
from pathlib import Path

import torch
from killed_run import after
from pretrain_samples import config, tiny_pool
from safetensors.torch import save_file
from samples import small_model

from stemlib.model import encoder as experts
from stemlib.training import loop, processes
from stemlib.training.pretrain import pretrain
from stemlib.training.pretrain_run import Run

# `exact`: no noise and all neighbours, so that the processes' parts of a batch add up to the batch (pairs that are no
# edges are drawn by each, so there are none). `noisy`: as a run is.
SETTINGS = {
    "exact": (
        small_model(codebook="learnable"),
        config(steps=12, fanout=10_000, edge_share=1.0, edge=0.0, feature_dropout=0.0, edge_dropout=0.0),
    ),
    "noisy": (small_model(codebook="ema", dropout=0.1), config(steps=40, batch_size=60)),
}
SETTINGS["resumed"] = SETTINGS["noisy"]


def one_of_two(rank: int, port: int, folder: Path, what: str, kill_after: int | None) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if what == "exact":
        experts.gumbel_noise = torch.zeros_like  # the one source of noise that no setting turns off
    step, runs = Run.step if kill_after is None else after(kill_after, Run.step), []
    Run.step = lambda self: (runs.append(self), step(self))[1]
    loop.SECONDS_BETWEEN_STATES = -1.0
    with processes.joined("cpu"):
        pretrain(tiny_pool(), *SETTINGS[what], root=folder)
    save_file(dict(runs[-1].student.state_dict()), folder / f"weights-{rank}.safetensors")


def two(folder: Path, what: str, kill_after: int | None = None) -> list[int]:
    """Fork two processes; how they ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(2):
        children.append(os.fork())
        if children[-1] == 0:
            try:
                one_of_two(rank, port, folder, what, kill_after)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
    return [os.waitpid(child, 0)[1] for child in children]


def main(folder: Path) -> int:
    torch.set_num_threads(1)
    for what in SETTINGS:
        (folder / what).mkdir()
    assert two(folder / "resumed", "resumed", kill_after=9) == [signal.SIGKILL] * 2
    return sum(status != 0 for what in SETTINGS for status in two(folder / what, what))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
