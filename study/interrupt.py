"""Ctrl-C ends a command with a word on how to go on."""

from __future__ import annotations

import sys
from collections.abc import Callable

STOPPED = 130  # the exit status that shells expect


KEPT = "Finished work is kept; the same command continues from there."
ANEW = "Nothing is kept; the same command starts again."


def interruptible(main: Callable[[], int | None], then: str = KEPT) -> int:
    """The command's exit status; after Ctrl-C, 130, with a line on what comes `then` and no traceback."""
    try:
        return main() or 0
    except KeyboardInterrupt:
        print(f"\nStopped. {then}", file=sys.stderr, flush=True)
        return STOPPED
