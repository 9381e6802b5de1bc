"""Steps that are the same every time: recorded on a GPU once, and started as a whole from then on.

A step on a small graph is some 140 kernels of a few microseconds each. A CPU takes longer to start them than a GPU
takes to compute them. A CUDA graph holds them all, with the addresses they use, and is started at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from functools import cache

import torch
from torch import Tensor

WARM = 3  # ordinary calls before a recording, as PyTorch asks for
Action = Callable[[], Tensor]


class Replays:
    """Actions by name, each called in the ordinary way `WARM` times, then recorded and replayed.

    A branch that Python takes while an action is recorded is taken in every replay. So an action's tensors have to be
    the same in every call, and what changes has to lie in them. Noise is drawn anew, as in ordinary calls. An action
    that waits for the GPU, because a shape or a number depends on what was computed, cannot be recorded: it is
    called as before.

    Args:
        where: the device; on a CPU every action is simply called.
        same: whether the caller's actions are the same every time.
    """

    def __init__(self, where: torch.device, same: bool) -> None:
        self.used = same and recordable(where)
        self._calls: dict[Hashable, int] = {}
        self._replayed: dict[Hashable, Action] = {}
        self._ordinary: set[Hashable] = set()

    def __call__(self, name: Hashable, action: Action) -> Tensor:
        """The action's result. The next call of a recorded action overwrites it."""
        if not self.used or name in self._ordinary:
            return action()
        if name in self._replayed:
            return self._replayed[name]()
        calls = self._calls[name] = self._calls.get(name, 0) + 1
        if calls < WARM:
            return beside(action)
        if calls == WARM:
            result, waits = watched(action)
            if waits:
                self._ordinary.add(name)
            return result
        self._replayed[name] = recorded(action)
        return self._replayed[name]()


def recordable(where: torch.device) -> bool:
    """Whether work on a device can be recorded."""
    return where.type == "cuda"


@cache
def side_stream() -> torch.cuda.Stream:
    """One stream for all, because the allocator reuses memory only on the stream that had it."""
    return torch.cuda.Stream()


def beside(action: Action) -> Tensor:
    """Call an action on another stream, where its backward pass leaves nothing that a recording would wait for."""
    stream = side_stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        result = action()
    torch.cuda.current_stream().wait_stream(stream)
    return result


def watched(action: Action) -> tuple[Tensor, bool]:
    """What `beside` gives, and whether the CPU waited for the GPU meanwhile."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            result = beside(action)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    torch.cuda.empty_cache()  # of the side stream: no other can use it
    return result, any("called a synchronizing" in str(each.message) for each in found)


def recorded(action: Action) -> Action:
    """Record an action without running it; calling the result runs it."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = action()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay
