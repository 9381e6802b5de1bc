"""Several processes that train one model: each sees its part of a batch, all take the same step.

With one process every function here leaves things as they are. `torchrun` starts several; see `joined`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from stemlib.model.tokens import TokenInterface


@contextmanager
def joined(device: torch.device | str) -> Iterator[None]:
    """Join the processes that `torchrun` has started, if it has: with gloo on CPUs, with NCCL on one GPU each."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield
        return
    gpu = torch.device(device).type == "cuda"
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if gpu else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def together() -> bool:
    """Whether this is one of several processes."""
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """This process's number, counted from 0."""
    return distributed.get_rank() if together() else 0


def world() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if together() else 1


def wait() -> None:
    """Wait until all processes have come here."""
    if together():
        distributed.barrier()


def total(value: Tensor) -> Tensor:
    """The sum over processes."""
    if not together():
        return value
    value = value.clone()
    distributed.all_reduce(value)
    return value


def parallel(model: nn.Module) -> nn.Module:
    """The model, wrapped so that a backward pass gives every process the mean of the gradients.

    A parameter that no process has used keeps none. Everything that `forward` returns with a gradient must enter the
    loss: otherwise the processes would wait for gradients that never come. Each process has its own buffers.
    """
    if not together():
        return model
    return DistributedDataParallel(model, forward_sync_buffers=False, find_unused_parameters=True)


@torch.no_grad()
def average_codes(tokens: TokenInterface | None) -> None:
    """Give every process the same codebooks where they follow the data by moving averages.

    The averages are linear in the data, so that their mean is what one process that saw all of it would have;
    a dead code is revived by the mean of the queries that the processes have drawn for it.
    """
    if not together() or tokens is None or tokens.kind != "ema":
        return
    for average in (tokens.use, tokens.total):
        average.copy_(total(average) / world())
    tokens.codebook.copy_(F.normalize(tokens.total, dim=-1))
