"""Trees of processes: their memory, and their end with their parent's."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil
import pytest

from study.batch.process_tree import end_tree, resident_memory

SLEEPS = "import time; time.sleep(60)"
PARENT = f"""
import subprocess, sys
from study.batch.process_tree import end_with_parent
end_with_parent()
print(subprocess.Popen([sys.executable, "-S", "-c", "kept = b'x' * 100_000_000; {SLEEPS}"]).pid, flush=True)
{SLEEPS}
"""


def has_ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def tree() -> tuple[subprocess.Popen, psutil.Process]:
    """A process and the one that it has started."""
    command = [sys.executable, "-c", PARENT]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return process, psutil.Process(int(process.stdout.readline()))


def test_a_closed_input_ends_the_process_and_what_it_started(tree: tuple[subprocess.Popen, psutil.Process]) -> None:
    process, child = tree
    end = time.monotonic() + 10
    while resident_memory(process.pid) < 100e6 and time.monotonic() < end:
        time.sleep(0.05)
    assert 100e6 < resident_memory(process.pid) < 300e6
    assert resident_memory(process.pid) > child.memory_info().rss
    process.stdin.close()
    assert process.wait(timeout=10) != 0
    assert has_ended(child)


def test_the_end_of_a_tree_is_the_end_of_all_its_processes(tree: tuple[subprocess.Popen, psutil.Process]) -> None:
    process, child = tree
    started = time.monotonic()
    end_tree(process.pid)
    process.wait(timeout=10)
    assert has_ended(child)
    assert time.monotonic() - started < 2, "it must not wait for a zombie"
    end_tree(process.pid)  # again: nothing
    assert resident_memory(process.pid) == 0
