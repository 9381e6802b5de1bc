"""Where a network runs: on the CPU or on a GPU.

Tasks, splits and results stay on the CPU. A network stays where it was put (`model.to(device)`); its inputs are moved
to it batch by batch, and its outputs are moved back. So the library is used in the same way on every device.
"""

from __future__ import annotations

import os
from itertools import chain

import torch
from torch import nn

DEVICES = ("auto", "cpu", "cuda")


def device(name: str = "auto") -> torch.device:
    """A device by name: `cpu`, `cuda`, or `auto` for a GPU if there is one.

    A GPU is asked for kernels that give the same bits every time. PyTorch warns by name of any that has no such form.

    Raises:
        ValueError: an unknown name, or a GPU where there is none.
    """
    if name not in DEVICES:
        raise ValueError(f"unknown device {name!r}; there are {', '.join(DEVICES)}")
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        found = "no GPU was found" if torch.version.cuda else f"PyTorch {torch.__version__} was built without CUDA"
        raise ValueError(f"device 'cuda' needs an NVIDIA GPU and a CUDA build of PyTorch, but {found}; use 'cpu'")
    if name == "cpu" or not there:
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product runs
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device("cuda", torch.cuda.current_device())


def device_of(model: nn.Module) -> torch.device:
    """The device that a network is on; the CPU for one without weights."""
    return next(chain(model.parameters(), model.buffers()), torch.empty(0)).device


def generators(where: torch.device) -> dict[str, torch.Generator]:
    """PyTorch's own generators of the noise on a device, by the names under which their states are saved."""
    here = {"noise": torch.default_generator}
    return here | ({"gpu_noise": torch.cuda.default_generators[where.index]} if where.type == "cuda" else {})
