"""What Braket says of a task, checked like a stranger's word: its token, state and place. Pure.

Whatever does not fit is :class:`ImplausibleError`; nothing else is raised, whatever is said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from shotbus.workers.adapters.braket_errors import cancelled, failure
from shotbus.workers.providers.base import ImplausibleError, JobView

STATUSES: Mapping[str, str] = {
    "CREATED": "queued",
    "QUEUED": "queued",
    "RUNNING": "running",
    # It may still be done.
    "CANCELLING": "running",
    "COMPLETED": "done",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
}
#: Tags that a task is found by again.
TOKEN, DIGEST = "shotbus-token", "shotbus-digest"
_ARN = re.compile(r"arn:aws[a-z-]*:braket:[a-z0-9-]*:[0-9]*:quantum-task/[A-Za-z0-9-]{1,100}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_POSITION = re.compile(r">?\d{1,9}")


class Task(NamedTuple):
    """A task: as a job, where its result is put, when it was made and when it ended, wall time in ms."""

    view: JobView
    bucket: str
    folder: str
    created_ms: int
    ended_ms: int


def read_task(told: Mapping[str, Any], token: str, *, by_us: bool) -> Task:
    """Return the task that an answer is about, which must be the one with this token.

    ``by_us``: an end before its time is one that was asked for.
    """
    tags, arn, status = told.get("tags"), told.get("quantumTaskArn"), STATUSES.get(str(told.get("status")))
    if not isinstance(tags, Mapping) or tags.get(TOKEN) != token:
        raise ImplausibleError("it is about another task")
    if not isinstance(arn, str) or not _ARN.fullmatch(arn):
        raise ImplausibleError("task without an ARN")
    if status is None:
        raise ImplausibleError("a task's state has no name that is known")
    why = None
    if status == "failed":
        why = failure(str(told.get("failureReason") or ""))
    elif status == "cancelled":
        why = cancelled(by_us=by_us)
    created_ms, ended_ms = _milliseconds(told.get("createdAt")), _milliseconds(told.get("endedAt"))
    digest = str(tags.get(DIGEST, ""))
    # It does not tell when a task began: from its creation to its end counts as waiting.
    waited = (ended_ms - created_ms) / 1e3 if 0 < created_ms <= ended_ms else 0.0
    digest = digest if _DIGEST.fullmatch(digest) else ""
    note = _place(told.get("queueInfo")) if status == "queued" else ""
    view = JobView(arn, status, why, queue_seconds=waited, digest=digest, note=note)
    return Task(
        view, str(told.get("outputS3Bucket")), str(told.get("outputS3Directory")), created_ms, ended_ms
    )


def _place(told: Any) -> str:
    """Say which place a task has in the device's queue, empty where it is not told."""
    place = str(told.get("position")) if isinstance(told, Mapping) else ""
    return f"place {place} in the device's queue" if _POSITION.fullmatch(place) else ""


def _milliseconds(told: Any) -> int:
    return round(told.timestamp() * 1e3) if isinstance(told, datetime) else 0
