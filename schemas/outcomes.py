"""How a job can end, in the words of the schemas. Pure data."""

from __future__ import annotations

#: Terminal outcomes in the order of the enum ``TerminalOutcome``; ledgers hold the index: append only.
OUTCOMES: tuple[str, ...] = (
    "succeeded",
    "succeeded_by_fallback",
    "served_from_cache",
    "failed",
    "timed_out",
    "expired",
    "superseded",
    "cancelled",
    "dead_lettered",
)
#: Those with an answer.
SUCCESSES = frozenset(OUTCOMES[:3])
#: Header of a result that came after its job had been answered: whoever waits for the answer skips it.
LATE_HEADER = ("late", b"1")
#: What a shard says of a wish about a great many jobs until it has an answer.
UNDER_WAY = "UNDER_WAY"
#: State of an event that is about a pool and of no job.
ABOUT_A_POOL = "POOL"
#: State of an event that is about a submission which was refused at the door, and of no job: the id it came
#: under may be that of another's job. It stands in the event's detail.
ABOUT_A_SUBMISSION = "SUBMISSION"
#: Sub-status of what was refused: no job, and its id may come again.
REFUSED = "REFUSED"
_CANCELLED = frozenset({"cancelled", "superseded"})


def status_of(outcome: str) -> str:
    """Return Qiskit's word for a terminal outcome, or for :data:`REFUSED`."""
    if outcome in SUCCESSES:
        return "DONE"
    return "CANCELLED" if outcome in _CANCELLED else "ERROR"
