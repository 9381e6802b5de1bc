"""Jobs and their kernels as forks of one process that has imported what chapters import, which takes five seconds.

`python -m study.batch.warm SOCKET` is that process. With arguments after the socket, it asks that process for a job and
waits for its end. Jupyter asks in the same way for the kernel, which the job has already forked as its own child. Linux
only: elsewhere a fork of a process that has loaded so much is not safe, and every job imports for itself.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from multiprocessing.connection import Client, Connection, Listener
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any

CAN_FORK = sys.platform == "linux"

# What most chapters import, and what PyTorch's optimisers and the kernel import when they are first used.
IMPORTED = ("ipykernel.kernelapp", "torch._dynamo", "study.exercises", "study.first_results", "study.stress_figures")
LONGEST = 90  # of an address; a kernel's are up to twelve characters longer, and sockets allow 107
END_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


def ask(address: str, arguments: list[str]) -> int:
    """Have the listening process do the work, with this one's streams, folder and environment; the exit status."""
    with Client(address, "AF_UNIX") as there, suppress(EOFError):  # a process that was killed says nothing
        there.send_bytes(json.dumps([arguments, os.getcwd(), dict(os.environ)]).encode())
        for stream in (sys.stdout, sys.stderr):
            send_handle(there, stream.fileno(), None)
        return int(there.recv_bytes())
    return 1


def fork(work: Callable[[], None]) -> int:
    """Start a process that works, never returns, and ends with this one; its number."""
    if child := os.fork():
        return child
    try:
        ctypes.CDLL(None).prctl(END_WITH_PARENT, signal.SIGKILL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        work()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(1)


def answer(asked: Connection, work: Callable[[list[str]], object]) -> None:
    """Work in this process as the asking one would, and send it the exit status."""
    arguments, folder, environment = json.loads(asked.recv_bytes())
    for stream in (1, 2):
        os.dup2(recv_handle(asked), stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    status = 0
    try:
        work(arguments)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        status = 1
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    asked.send_bytes(str(status).encode())
    os._exit(status)


def run_job(address: str, arguments: list[str]) -> None:
    """Fork a kernel, which waits at an address until it is asked to begin with a connection file; run a job with it."""
    from ipykernel.kernelapp import launch_new_instance
    from jupyter_client.manager import AsyncKernelManager

    from study.batch.jobs import main

    class WaitingKernel(AsyncKernelManager):
        """The process that Jupyter starts only asks the kernel to begin."""

        def __init__(self, **options: Any) -> None:
            # Sockets in files: kernels that start at the same moment may choose the same port.
            super().__init__(transport="ipc", ip=address, **options)

        def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
            return [sys.executable, "-m", "study.batch.warm", address, self.connection_file]

    with Listener(address, "AF_UNIX") as listener:
        fork(lambda: answer(listener.accept(), lambda file: launch_new_instance(["-f", *file])))
        main(arguments, kernel_manager_class=WaitingKernel)


def main(address: str) -> None:
    """Import, then fork a job for every request, for ever."""
    ctypes.CDLL(None).prctl(END_WITH_PARENT, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the runner
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the jobs' ends
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"  # a kernel sets it before it imports
    with Listener(address, "AF_UNIX", backlog=16) as listener:
        from study.batch.jobs import library_fingerprint

        library_fingerprint()  # of what is imported now, however long the batch runs
        for module in IMPORTED:
            import_module(module)
        gc.freeze()
        while True:
            asked = listener.accept()
            fork(lambda asked=asked: answer(asked, partial(run_job, f"{address}-{os.getpid()}")))
            asked.close()


if __name__ == "__main__":
    address, *arguments = sys.argv[1:]
    sys.exit(ask(address, arguments) if arguments else main(address))
