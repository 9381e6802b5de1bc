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
    """Join the processes that `torchrun` has started, if it has: by gloo on CPUs, by NCCL on one GPU for each."""
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
    """This process's number, from 0 on."""
    return distributed.get_rank() if together() else 0


def world() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if together() else 1


def wait() -> None:
    """Until all processes have come here."""
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
    """The model, of whose gradients a backward pass gives every process the mean.

    A parameter that no process has used keeps none. What `forward` returns may lead back to nothing but what the loss
    is made of: else the processes would wait for gradients that never come. Buffers are every process's own.
    """
    if not together():
        return model
    return DistributedDataParallel(model, forward_sync_buffers=False, find_unused_parameters=True)


@torch.no_grad()
def average_codes(tokens: TokenInterface | None) -> None:
    """Give every process the same codebooks where they follow the data by moving averages.

    The averages are linear in the data, so that their mean is what one process would have that saw all of it;
    a dead code is revived by the mean of the queries that the processes have drawn for it.
    """
    if not together() or tokens is None or tokens.kind != "ema":
        return
    for average in (tokens.use, tokens.total):
        average.copy_(total(average) / world())
    tokens.codebook.copy_(F.normalize(tokens.total, dim=-1))
