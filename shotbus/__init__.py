"""Message-bus job broker for hybrid quantum-classical work: the public facade.

Names are imported when they are first used, so that the command starts at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shotbus.producers.blocking import Client, Job, Sweep
    from shotbus.producers.client import AsyncClient
    from shotbus.producers.job import AsyncJob
    from shotbus.producers.plan import Reduction
    from shotbus.producers.result import JobFailedError, JobResult, JobTimeoutError, RefusedError
    from shotbus.producers.sweep import AsyncSweep
    from shotbus.schemas.errors import ShotbusError

_HOMES = {
    "AsyncClient": "shotbus.producers.client",
    "AsyncJob": "shotbus.producers.job",
    "AsyncSweep": "shotbus.producers.sweep",
    "Client": "shotbus.producers.blocking",
    "Job": "shotbus.producers.blocking",
    "JobFailedError": "shotbus.producers.result",
    "JobResult": "shotbus.producers.result",
    "JobTimeoutError": "shotbus.producers.result",
    "Reduction": "shotbus.producers.plan",
    "RefusedError": "shotbus.producers.result",
    "ShotbusError": "shotbus.schemas.errors",
    "Sweep": "shotbus.producers.blocking",
}

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "AsyncSweep",
    "Client",
    "Job",
    "JobFailedError",
    "JobResult",
    "JobTimeoutError",
    "Reduction",
    "RefusedError",
    "ShotbusError",
    "Sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'shotbus' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
