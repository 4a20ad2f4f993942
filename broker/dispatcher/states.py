"""The table of a job's phases; the diagram in the docs is generated from it. Pure.

A phase is what the dispatcher distinguishes; users see Qiskit's word and a finer ``sub_status``.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Phase(Enum):
    """Where a job is."""

    VALIDATING = "validating"
    AWAITING_REVIEW = "awaiting_review"
    FALLING_BACK = "falling_back"
    SCHEDULED = "scheduled"
    DEFERRED = "deferred"
    SHARING = "sharing"
    WAITING = "waiting"
    FORWARDED = "forwarded"
    RUNNING = "running"
    CANCELLING = "cancelling"
    RETRYING = "retrying"
    RECONCILING = "reconciling"
    LOOKING_UP = "looking_up"
    DONE = "done"
    ERROR = "error"
    CANCELLED = "cancelled"
    REFUSED = "refused"

    # Members are single objects; Enum's own hash is a Python function, called for every look at a table.
    __hash__ = object.__hash__


class Cause(Enum):
    """What moves a job."""

    VALIDATE = "validate"
    ACCEPT = "accept"
    ACCEPT_LATER = "accept_later"
    DEFER = "defer"
    SHARE = "share"
    REVIEW = "review"
    APPROVE = "approve"
    REFUSE = "refuse"
    DUE = "due"
    CHANGE = "change"
    REROUTE = "reroute"
    ALONE = "alone"
    FORWARD = "forward"
    START = "start"
    SUCCEED = "succeed"
    FAIL = "fail"
    RETRY = "retry"
    RECONCILE = "reconcile"
    LOOK_UP = "look_up"
    RECALL = "recall"
    FALL_BACK = "fall_back"
    EXPIRE = "expire"
    REVOKE = "revoke"
    CANCEL = "cancel"
    SUPERSEDE = "supersede"
    CACHE_HIT = "cache_hit"

    __hash__ = object.__hash__


class Words(NamedTuple):
    """What users see of a phase."""

    status: str
    sub_status: str


WORDS: dict[Phase, Words] = {
    Phase.VALIDATING: Words("VALIDATING", ""),
    Phase.AWAITING_REVIEW: Words("QUEUED", "AWAITING_REVIEW"),
    Phase.FALLING_BACK: Words("QUEUED", "FALLING_BACK"),
    Phase.SCHEDULED: Words("QUEUED", "SCHEDULED"),
    Phase.DEFERRED: Words("QUEUED", "DEFERRED"),
    Phase.SHARING: Words("QUEUED", "SHARING"),
    Phase.WAITING: Words("QUEUED", "WAITING_FOR_SLOT"),
    Phase.FORWARDED: Words("QUEUED", "FORWARDED"),
    Phase.RUNNING: Words("RUNNING", "EXECUTING"),
    Phase.CANCELLING: Words("RUNNING", "CANCELLING"),
    Phase.RETRYING: Words("QUEUED", "RETRYING"),
    Phase.RECONCILING: Words("RUNNING", "RECONCILING"),
    Phase.LOOKING_UP: Words("RUNNING", "LOOKING_UP"),
    Phase.DONE: Words("DONE", ""),
    Phase.ERROR: Words("ERROR", ""),
    Phase.CANCELLED: Words("CANCELLED", ""),
    Phase.REFUSED: Words("ERROR", "REFUSED"),
}

TERMINAL = frozenset({Phase.DONE, Phase.ERROR, Phase.CANCELLED, Phase.REFUSED})
WITH_A_WORKER = frozenset({Phase.FORWARDED, Phase.RUNNING, Phase.CANCELLING, Phase.LOOKING_UP})
WITH_A_TIMER = frozenset({Phase.SCHEDULED, Phase.DEFERRED, Phase.RETRYING, Phase.RECONCILING})
#: In no queue, bundle or timer: an answer from elsewhere moves them.
ASIDE = frozenset({Phase.VALIDATING, Phase.AWAITING_REVIEW, Phase.FALLING_BACK, Phase.SHARING})
#: A worker has nothing of them; they can be changed and ended at once.
AT_HAND = frozenset({Phase.SCHEDULED, Phase.DEFERRED, Phase.WAITING, Phase.RETRYING}) | ASIDE

_ENTRIES: dict[Cause, Phase] = {
    Cause.ACCEPT: Phase.WAITING,
    Cause.ACCEPT_LATER: Phase.SCHEDULED,
    Cause.DEFER: Phase.DEFERRED,
    Cause.SHARE: Phase.SHARING,
    Cause.REVIEW: Phase.AWAITING_REVIEW,
    Cause.RECALL: Phase.FALLING_BACK,
    Cause.CACHE_HIT: Phase.DONE,
    Cause.FALL_BACK: Phase.DONE,
    Cause.CANCEL: Phase.CANCELLED,
}
_ENDS_AT_HAND: dict[Cause, Phase] = {
    Cause.EXPIRE: Phase.ERROR,
    Cause.CANCEL: Phase.CANCELLED,
    Cause.SUPERSEDE: Phase.CANCELLED,
    Cause.FALL_BACK: Phase.DONE,
    Cause.FAIL: Phase.ERROR,
}
_STEPS: dict[Cause, Phase] = {
    Cause.REROUTE: Phase.WAITING,
    Cause.DEFER: Phase.DEFERRED,
    Cause.RECALL: Phase.FALLING_BACK,
    Cause.REVIEW: Phase.AWAITING_REVIEW,
}
_REPORTS: dict[Cause, Phase] = {
    Cause.SUCCEED: Phase.DONE,
    Cause.FAIL: Phase.ERROR,
    Cause.RETRY: Phase.RETRYING,
    Cause.RECONCILE: Phase.RECONCILING,
    Cause.FALL_BACK: Phase.DONE,
    **_STEPS,
    Cause.CANCEL: Phase.CANCELLED,
    Cause.SUPERSEDE: Phase.CANCELLED,
}

#: (phase, cause) -> phase. ``None`` is the job before its acceptance. What is not here cannot happen.
TABLE: dict[tuple[Phase | None, Cause], Phase] = {
    (None, Cause.VALIDATE): Phase.VALIDATING,
    # Its circuit is known; now its budget is asked for.
    (Phase.VALIDATING, Cause.VALIDATE): Phase.VALIDATING,
    **{(None, cause): phase for cause, phase in _ENTRIES.items()},
    **{(Phase.VALIDATING, cause): phase for cause, phase in _ENTRIES.items()},
    (Phase.VALIDATING, Cause.REFUSE): Phase.REFUSED,
    (Phase.AWAITING_REVIEW, Cause.APPROVE): Phase.WAITING,
    **{
        (phase, cause): target
        for phase in (Phase.AWAITING_REVIEW, Phase.FALLING_BACK, Phase.WAITING, Phase.RETRYING)
        for cause, target in _STEPS.items()
    },
    # Their deadline has come: an earlier result may still answer them.
    **{
        (phase, Cause.RECALL): Phase.FALLING_BACK
        for phase in (Phase.SCHEDULED, Phase.DEFERRED, Phase.SHARING)
    },
    (Phase.SCHEDULED, Cause.DUE): Phase.WAITING,
    (Phase.SCHEDULED, Cause.DEFER): Phase.DEFERRED,
    (Phase.DEFERRED, Cause.DEFER): Phase.DEFERRED,
    (Phase.DEFERRED, Cause.DUE): Phase.WAITING,
    (Phase.RETRYING, Cause.DUE): Phase.WAITING,
    (Phase.SHARING, Cause.ALONE): Phase.WAITING,
    (Phase.SHARING, Cause.CACHE_HIT): Phase.DONE,
    (Phase.WAITING, Cause.FORWARD): Phase.FORWARDED,
    **{(phase, Cause.CHANGE): phase for phase in Phase if phase in AT_HAND},
    **{(phase, cause): end for phase in Phase if phase in AT_HAND for cause, end in _ENDS_AT_HAND.items()},
    (Phase.FORWARDED, Cause.START): Phase.RUNNING,
    (Phase.FORWARDED, Cause.EXPIRE): Phase.ERROR,
    # Its worker had claimed it, and not begun it.
    (Phase.RUNNING, Cause.EXPIRE): Phase.ERROR,
    **{(Phase.FORWARDED, cause): phase for cause, phase in _REPORTS.items()},
    **{(Phase.RUNNING, cause): phase for cause, phase in _REPORTS.items()},
    (Phase.FORWARDED, Cause.REVOKE): Phase.CANCELLING,
    (Phase.RUNNING, Cause.REVOKE): Phase.CANCELLING,
    (Phase.CANCELLING, Cause.SUCCEED): Phase.DONE,
    (Phase.CANCELLING, Cause.FAIL): Phase.ERROR,
    (Phase.CANCELLING, Cause.CANCEL): Phase.CANCELLED,
    (Phase.CANCELLING, Cause.RECONCILE): Phase.RECONCILING,
    # Called off while nobody knows what became of it: the wish is kept until somebody does.
    (Phase.RECONCILING, Cause.REVOKE): Phase.RECONCILING,
    (Phase.LOOKING_UP, Cause.REVOKE): Phase.LOOKING_UP,
    (Phase.RECONCILING, Cause.LOOK_UP): Phase.LOOKING_UP,
    (Phase.RECONCILING, Cause.FALL_BACK): Phase.DONE,
    (Phase.RECONCILING, Cause.CANCEL): Phase.CANCELLED,
    (Phase.LOOKING_UP, Cause.SUCCEED): Phase.DONE,
    (Phase.LOOKING_UP, Cause.FAIL): Phase.ERROR,
    (Phase.LOOKING_UP, Cause.RECONCILE): Phase.RECONCILING,
    (Phase.LOOKING_UP, Cause.RETRY): Phase.RETRYING,
    (Phase.LOOKING_UP, Cause.CANCEL): Phase.CANCELLED,
    (Phase.LOOKING_UP, Cause.FALL_BACK): Phase.DONE,
    (Phase.LOOKING_UP, Cause.REROUTE): Phase.WAITING,
    (Phase.LOOKING_UP, Cause.DEFER): Phase.DEFERRED,
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
    """Return the table as a Mermaid state diagram; moves between the same two phases share an arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (source, cause), target in TABLE.items():
        arrows.setdefault((source.value if source else "[*]", target.value), []).append(cause.value)
    lines = ["stateDiagram-v2"]
    lines += [
        f"    {source} --> {target}: {', '.join(causes)}" for (source, target), causes in arrows.items()
    ]
    lines += [f"    {phase.value} --> [*]" for phase in Phase if phase in TERMINAL]
    return "\n".join(lines) + "\n"
