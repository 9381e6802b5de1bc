"""A process with all that it has started: its memory, its end, and its end when its parent is gone."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil


def _tree(pid: int) -> list[psutil.Process]:
    """The process first, then all that it has started; empty where there is no such process."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def _alive(process: psutil.Process) -> bool:
    """Whether it runs: one that has ended stays in the system's list until its parent has noticed, a zombie."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def resident_memory(pid: int) -> int:
    """Bytes that a process and all that it has started hold in memory; what two of them share counts twice.

    Not their virtual memory, of which torch maps many times what it uses.
    """
    total = 0
    for member in _tree(pid):
        with suppress(psutil.NoSuchProcess):
            total += member.memory_info().rss
    return total


def end_tree(pid: int) -> None:
    """SIGKILL to all that a process has started, and, when they are gone, to itself."""
    process, *children = _tree(pid) or [None]
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    deadline = time.monotonic() + 5
    while any(map(_alive, children)) and time.monotonic() < deadline:
        time.sleep(0.01)
    if process is not None:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def end_with_parent() -> None:
    """End this process and all that it starts when its parent is gone, however the parent ended.

    The parent must have made this process's standard input a pipe, and write nothing to it: it is closed with the
    parent.
    """

    def wait() -> None:
        os.read(sys.stdin.fileno(), 1)
        end_tree(os.getpid())

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def interrupted_after() -> Iterator[None]:
    """Keep Ctrl-C back until the block ends, for a process must not be started and then known to nobody.

    Only in the main thread. Where Ctrl-C is ignored, as in a shell's background jobs, it stays so.

    Raises:
        KeyboardInterrupt: at the block's end, where Ctrl-C came within it.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            raise KeyboardInterrupt
