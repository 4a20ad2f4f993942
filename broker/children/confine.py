"""What a child process may see and take: environment, memory, time, threads, life. Changes this process.

Circuits come from strangers and run through large native libraries. A child gets no secrets, cannot take
the host's memory, leaves no core dump, and never outlives the process that started it.
"""

from __future__ import annotations

import ctypes
import math
import os
import resource
import signal
import sys
from collections.abc import Collection, Mapping
from typing import BinaryIO

#: The only variables handed down; everything else, secrets included, stays with the parent.
_ALLOWED = (
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LD_LIBRARY_PATH",
    "PATH",
    "PYTHONPATH",
    "TMPDIR",
    "TZ",
    "VIRTUAL_ENV",
)
#: One thread a child (parallelism is the pool's), and nothing that varies from host to host.
_FIXED = {
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "QISKIT_PARALLEL": "FALSE",
    "QISKIT_SETTINGS": os.devnull,
    "RAYON_NUM_THREADS": "1",
}
_PR_SET_PDEATHSIG = 1


class OrphanedError(Exception):
    """The parent was gone before its child was ready."""


def child_environment(environment: Mapping[str, str], also: Collection[str] = ()) -> dict[str, str]:
    """Return the environment for a child of a process with ``environment``.

    ``also``: variables that it needs besides, such as the one that holds its provider's credential.
    """
    kept = {name: environment[name] for name in (*_ALLOWED, *also) if name in environment}
    return {**kept, **_FIXED}


def confine(*, memory_bytes: int, parent: int) -> None:
    """Bound this process.

    Args:
        memory_bytes: cap of the address space; SDKs map well over a gigabyte before they use any.
        parent: id of the parent. This process is killed when it dies.

    Raises:
        OrphanedError: the parent died before this call.

    """
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Ctrl-C in a terminal reaches the whole group; the parent decides when its children end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The signal is only sent for deaths after the call above: look once more.
    if os.getppid() != parent:
        raise OrphanedError(f"process {parent} is gone")


def allow_cpu(seconds: float) -> None:
    """Let this process use ``seconds`` more of processor time, rounded up to a whole one; then it is killed.

    The parent's clock comes first; this one still holds when the parent is stopped.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    limit = math.ceil(used.ru_utime + used.ru_stime + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))


def private_streams() -> tuple[BinaryIO, BinaryIO]:
    """Move the frames off descriptors 0 and 1, so that neither C nor Python code can disturb them."""
    reading, writing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return reading, writing
