"""The table of a job's phases; the diagram in the docs is generated from it. Pure.

A phase is what the dispatcher distinguishes; users see Qiskit's word and a finer ``sub_status``.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Phase(Enum):
    """Where a job is."""

    SCHEDULED = "scheduled"
    WAITING = "waiting"
    FORWARDED = "forwarded"
    RUNNING = "running"
    RETRYING = "retrying"
    DONE = "done"
    ERROR = "error"
    CANCELLED = "cancelled"

    # Members are single objects; Enum's own hash is a Python function, called for every look at a table.
    __hash__ = object.__hash__


class Cause(Enum):
    """What moves a job."""

    ACCEPT = "accept"
    ACCEPT_LATER = "accept_later"
    DUE = "due"
    FORWARD = "forward"
    START = "start"
    SUCCEED = "succeed"
    FAIL = "fail"
    RETRY = "retry"
    EXPIRE = "expire"
    CANCEL = "cancel"
    CACHE_HIT = "cache_hit"

    __hash__ = object.__hash__


class Words(NamedTuple):
    """What users see of a phase."""

    status: str
    sub_status: str


WORDS: dict[Phase, Words] = {
    Phase.SCHEDULED: Words("QUEUED", "SCHEDULED"),
    Phase.WAITING: Words("QUEUED", "WAITING_FOR_SLOT"),
    Phase.FORWARDED: Words("QUEUED", "FORWARDED"),
    Phase.RUNNING: Words("RUNNING", "EXECUTING"),
    Phase.RETRYING: Words("QUEUED", "RETRYING"),
    Phase.DONE: Words("DONE", ""),
    Phase.ERROR: Words("ERROR", ""),
    Phase.CANCELLED: Words("CANCELLED", ""),
}

TERMINAL = frozenset({Phase.DONE, Phase.ERROR, Phase.CANCELLED})
WITH_A_WORKER = frozenset({Phase.FORWARDED, Phase.RUNNING})
WITH_A_TIMER = frozenset({Phase.SCHEDULED, Phase.RETRYING})

#: (phase, cause) -> phase. ``None`` is the job before its acceptance. What is not here cannot happen.
TABLE: dict[tuple[Phase | None, Cause], Phase] = {
    (None, Cause.ACCEPT): Phase.WAITING,
    (None, Cause.ACCEPT_LATER): Phase.SCHEDULED,
    (None, Cause.CACHE_HIT): Phase.DONE,
    (None, Cause.CANCEL): Phase.CANCELLED,
    (Phase.SCHEDULED, Cause.DUE): Phase.WAITING,
    (Phase.SCHEDULED, Cause.EXPIRE): Phase.ERROR,
    (Phase.SCHEDULED, Cause.CANCEL): Phase.CANCELLED,
    (Phase.WAITING, Cause.FORWARD): Phase.FORWARDED,
    (Phase.WAITING, Cause.EXPIRE): Phase.ERROR,
    (Phase.WAITING, Cause.CANCEL): Phase.CANCELLED,
    (Phase.FORWARDED, Cause.START): Phase.RUNNING,
    (Phase.FORWARDED, Cause.SUCCEED): Phase.DONE,
    (Phase.FORWARDED, Cause.FAIL): Phase.ERROR,
    (Phase.FORWARDED, Cause.RETRY): Phase.RETRYING,
    (Phase.FORWARDED, Cause.CANCEL): Phase.CANCELLED,
    (Phase.RUNNING, Cause.SUCCEED): Phase.DONE,
    (Phase.RUNNING, Cause.FAIL): Phase.ERROR,
    (Phase.RUNNING, Cause.RETRY): Phase.RETRYING,
    (Phase.RUNNING, Cause.CANCEL): Phase.CANCELLED,
    (Phase.RETRYING, Cause.DUE): Phase.WAITING,
    (Phase.RETRYING, Cause.EXPIRE): Phase.ERROR,
    (Phase.RETRYING, Cause.CANCEL): Phase.CANCELLED,
}


class IllegalTransitionError(ValueError):
    """A defect: the table has no such move."""


def next_phase(phase: Phase | None, cause: Cause) -> Phase:
    """Return where ``cause`` leads. Raises IllegalTransitionError for a move outside the table."""
    try:
        return TABLE[phase, cause]
    except KeyError:
        raise IllegalTransitionError(f"{phase} does not move by {cause}") from None


def mermaid() -> str:
    """Return the table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2"]
    for (source, cause), target in TABLE.items():
        start = source.value if source else "[*]"
        lines.append(f"    {start} --> {target.value}: {cause.value}")
    lines += [f"    {phase.value} --> [*]" for phase in Phase if phase in TERMINAL]
    return "\n".join(lines) + "\n"
