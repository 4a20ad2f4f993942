"""What Qiskit Runtime gives back, checked like a stranger's word: a job's state, and outcomes. Pure numpy.

Outcomes are taken as the packed arrays that they come in; no string is made of any of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

from shotbus.workers.adapters.entries import Entries
from shotbus.workers.adapters.ibm_errors import cancelled, failure
from shotbus.workers.adapters.increments import added
from shotbus.workers.adapters.samples import counted
from shotbus.workers.providers.base import Expected, ImplausibleError, JobView

#: The register that all circuits on the wire have.
REGISTER = "c"
_STATUSES = {
    "INITIALIZING": "queued",
    "VALIDATING": "queued",
    "QUEUED": "queued",
    "RUNNING": "running",
    "DONE": "done",
    "ERROR": "failed",
    "CANCELLED": "cancelled",
}


def view_of(job: Any, digest: str, *, by_us: bool) -> JobView:
    """Return a job as the SDK tells it. Raises ImplausibleError for a state that is not known.

    ``by_us``: an end before its time is one that was asked for.
    """
    told = job.status()
    status = _STATUSES.get(str(getattr(told, "name", told)))
    if status is None:
        raise ImplausibleError("a job's state has no name that is known")
    why = None
    if status == "failed":
        why = failure(str(job.error_message() or ""))
    elif status == "cancelled":
        why = cancelled(by_us=by_us)
    return JobView(str(job.job_id()), status, why, digest=digest)


def times_of(metrics: Mapping[str, Any]) -> tuple[int, int]:
    """Return when a job began to run and when it had, wall time in milliseconds; 0 is not told."""
    told = metrics.get("timestamps") or {}
    return _milliseconds(told.get("running")), _milliseconds(told.get("finished"))


def seconds_of(metrics: Mapping[str, Any]) -> float:
    """Return what a job took of the QPU; negative while the service is still counting."""
    usage = metrics.get("usage") or {}
    seconds = usage.get("qpu_charge_time_seconds")
    if usage.get("status", "pending") == "pending" or not isinstance(seconds, int | float):
        return -1.0
    return float(seconds) if 0 <= seconds < math.inf else -1.0


def _milliseconds(written: Any) -> int:
    try:
        return round(datetime.fromisoformat(str(written)).timestamp() * 1e3)
    except ValueError:
        return 0


def read_samples(result: Any, expected: Expected) -> tuple[Entries, ...]:
    """Return the outcomes of each program, all its runs added up. Raises ImplausibleError."""
    runs = len(expected.shots)
    if len(result) != len(expected.bits) * runs:
        raise ImplausibleError(f"{len(result)} results, not {len(expected.bits) * runs}")
    read = []
    for number, bits in enumerate(expected.bits):
        pubs = [result[number * runs + run] for run in range(runs)]
        shots = zip(pubs, expected.shots, strict=True)
        read.append(added(_entries(pub, bits, expected.rows, wanted) for pub, wanted in shots))
    return tuple(read)


def _entries(pub: Any, bits: int, rows: int, shots: int) -> Entries:
    samples = getattr(pub.data, REGISTER, None)
    if samples is None or samples.num_bits != bits:
        raise ImplausibleError(f"outcomes are not {bits} bits wide")
    packed = np.asarray(samples.array, dtype=np.uint8)
    width = max(1, -(-bits // 8))
    if packed.size != rows * shots * width:
        raise ImplausibleError(f"not {rows} rows of {shots} shots")
    packed = packed.reshape(rows, shots, width)
    if bits % 8 and (packed[:, :, 0] >> (bits % 8)).any():
        raise ImplausibleError(f"an outcome is no number of {bits} bits")
    # The SDK has the most significant byte first, we have it last.
    return counted(packed[:, :, ::-1])
