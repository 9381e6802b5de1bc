"""Memory that a step frees is kept for the next one.

By default glibc gives every tensor of over 32 MB back to the system when it is freed, and smaller ones' room at the end
of the heap. The next step gets pages anew, each of which the system fills with zeros first: on a graph of 170,000 nodes
a third of a training step's time. Other systems' allocators are left as they are.
"""

from __future__ import annotations

import ctypes
import functools
import sys

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of `mallopt`, in malloc.h
NEVER = 2**31 - 1


@functools.cache
def keep_freed() -> None:
    """From now on this process keeps what it frees. Its largest size is about the same; it does not shrink again."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(TRIM_THRESHOLD, NEVER)
        libc.mallopt(MMAP_MAX, 0)
