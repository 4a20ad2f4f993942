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
#: State of an event that is about a pool and of no job.
ABOUT_A_POOL = "POOL"
_CANCELLED = frozenset({"cancelled", "superseded"})


def status_of(outcome: str) -> str:
    """Return Qiskit's word for a terminal outcome."""
    if outcome in SUCCESSES:
        return "DONE"
    return "CANCELLED" if outcome in _CANCELLED else "ERROR"
