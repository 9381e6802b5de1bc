"""Memory that is freed is not given back to the system."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch

from stemlib.memory import keep_freed

PAGES = 2**14  # of 4 kB, 64 MB: larger than what glibc keeps by itself


def resident() -> int:
    """Pages of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's allocator")
def test_a_large_tensor_s_pages_stay_when_it_is_freed() -> None:
    keep_freed()
    keep_freed()
    large = torch.ones(PAGES * 1024)
    with_it = resident()
    del large
    assert resident() > with_it - PAGES // 2
