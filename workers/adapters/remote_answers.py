"""A provider's word about a job, checked like a stranger's: identity, status, bill, counts. Pure.

Whatever does not fit is :class:`ImplausibleError`; nothing else is raised, whatever the document says, and no
count passes that the request does not account for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from shotbus.schemas.errors import Problem
from shotbus.workers.adapters.entries import Entries, read_entries
from shotbus.workers.adapters.increments import added
from shotbus.workers.adapters.remote_errors import ended
from shotbus.workers.providers.base import Expected, ImplausibleError, JobView

STATUSES = ("queued", "running", "done", "failed", "cancelled")
#: Ids go into paths of requests.
_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_OUTCOME = re.compile(r"0x[0-9a-f]{1,4096}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MOST_COUNT = 2**31 - 1


def read_job(document: Any, token: str) -> JobView:
    """Return the job that an answer is about, which must be the one with this token."""
    job = _object(_object(document, "answer").get("job"), "job")
    if job.get("token") != token:
        raise ImplausibleError("it is about another job")
    name, status = job.get("id"), job.get("status")
    if not isinstance(name, str) or not _ID.fullmatch(name):
        raise ImplausibleError("job without an id")
    if status not in STATUSES:
        raise ImplausibleError("job without a status")
    bill, calibration = _object(job.get("bill"), "bill"), _object(job.get("calibration"), "calibration")
    return JobView(
        name,
        status,
        _failure(status, job),
        _amount(bill.get("cost"), "cost"),
        _amount(bill.get("backend_seconds"), "backend seconds"),
        _queued(job),
        (_digest(calibration.get("begin")), _digest(calibration.get("end"))),
        _digest(job.get("digest")),
    )


def _failure(status: str, job: dict[str, Any]) -> Problem | None:
    if status not in ("failed", "cancelled"):
        return None
    return ended(status, "account" if job.get("by") == "account" else "provider", job.get("error"))


def read_result(document: Any, token: str, name: str, expected: Expected) -> list[Entries]:
    """Return the outcomes of each program, all runs of a row added up."""
    told = _object(document, "answer")
    if told.get("token") != token or told.get("id") != name:
        raise ImplausibleError("the result is of another job")
    programs = _list(told.get("results"), len(expected.bits), "programs")
    return [
        _read_program(_list(rows, expected.rows, "rows"), bits, expected.shots)
        for rows, bits in zip(programs, expected.bits, strict=True)
    ]


def _read_program(rows: Sequence[Any], bits: int, shots: tuple[int, ...]) -> Entries:
    tables = [_list(runs, len(shots), "runs") for runs in rows]
    for runs in tables:
        for table, wanted in zip(runs, shots, strict=True):
            _check_counts(table, bits, wanted)
    return added(read_entries([runs[k] for runs in tables], bits) for k in range(len(shots)))


def _check_counts(table: Any, bits: int, shots: int) -> None:
    if not isinstance(table, dict):
        raise ImplausibleError("counts are no table")
    total, seen = 0, set()
    for outcome, count in table.items():
        if not _OUTCOME.fullmatch(outcome) or int(outcome, 16) >> bits:
            raise ImplausibleError(f"an outcome is no number of {bits} bits")
        # bool is an int in Python, not here.
        if type(count) is not int or not 0 < count <= _MOST_COUNT:
            raise ImplausibleError("a count is no positive whole number")
        seen.add(int(outcome, 16))
        total += count
    if len(seen) != len(table):
        raise ImplausibleError("an outcome is there twice")
    if total != shots:
        raise ImplausibleError(f"counts add up to {total}, not to {shots} shots")


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ImplausibleError(f"{name} is no object")
    return value


def _list(value: Any, length: int, name: str) -> list[Any]:
    if not isinstance(value, list) or len(value) != length:
        raise ImplausibleError(f"not {length} {name}")
    return value


def _amount(value: Any, name: str) -> float:
    try:
        plausible = type(value) in (int, float) and value >= 0 and math.isfinite(value)
    except OverflowError:
        plausible = False
    if not plausible:
        raise ImplausibleError(f"{name} is no amount")
    return float(value)


def _digest(value: Any) -> str:
    """Return a SHA-256; anything else says nothing."""
    return value if isinstance(value, str) and _DIGEST.fullmatch(value) else ""


def _queued(job: dict[str, Any]) -> float:
    created, started = job.get("created_ms"), job.get("started_ms")
    if type(created) is not int or type(started) is not int or not 0 < created <= started < 2**60:
        return 0.0
    return (started - created) / 1000
