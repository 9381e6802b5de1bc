"""Memory that is freed is not given back to the system."""

from __future__ import annotations

import platform
import resource

import pytest
import torch

from stemlib.memory import keep_freed


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's allocator")
def test_a_large_tensor_s_pages_are_there_for_the_next_one() -> None:
    keep_freed()
    keep_freed()
    faults = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(2**24).sum()  # 64 MB, 16,384 pages
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert max(faults[1:]) < 1000
