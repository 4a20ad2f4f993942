"""What is done about each class of failures, as data: a ladder of rungs, climbed failure by failure. Pure.

A job that fails stands on the first rung of its class that has not been used up and is possible now; past
the last one it ends. Rungs that cost nothing (waiting, asking) are bounded by time, the others by count.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Action(Enum):
    """What happens to a job whose attempt failed."""

    RETRY = "retry"
    REROUTE = "reroute"
    LOOKUP = "lookup"
    FALL_BACK = "fall_back"
    END = "end"

    __hash__ = object.__hash__


class Wait(Enum):
    """How long before the next attempt."""

    NONE = "none"
    BACK_OFF = "back off"
    RETRY_AFTER = "what the provider asked for, at least the backoff"
    BREAKER = "until the pool may be tried again, at least the backoff"
    ASK_LATER = "the later, the more often it was asked"

    __hash__ = object.__hash__


class Rung(NamedTuple):
    """One remedy; ``times`` 0 is as often as the limits of attempts, deaths and time allow."""

    action: Action
    times: int = 0
    wait: Wait = Wait.BACK_OFF
    charged: bool = True
    overrides: tuple[tuple[str, str], ...] = ()


class Ladder(NamedTuple):
    """The rungs of a class, and the outcome of a job for which none is left.

    ``death``: each such failure may have been a worker that the job killed. ``unsure``: the provider may
    have accepted the job, so it is looked up before anything else happens. ``remedied``: before its rungs
    come the targeted remedies of :mod:`shotbus.broker.dispatcher.remedies`.
    """

    rungs: tuple[Rung, ...]
    outcome: str
    death: bool = False
    unsure: bool = False
    remedied: bool = False


_AGAIN = Rung(Action.RETRY)
_ONCE_MORE = Rung(Action.RETRY, 1)
_ELSEWHERE = Rung(Action.REROUTE, 1, Wait.NONE)
_CHAIN = Rung(Action.FALL_BACK, 0, Wait.NONE)
_PATIENT = Rung(Action.RETRY, 0, Wait.RETRY_AFTER, charged=False)
# Pools are few, but a reload may rename them for ever.
_MOST_POOLS = 16

#: error class -> ladder. An unknown class is treated as INTERNAL.
LADDERS: dict[str, Ladder] = {
    "INVALID": Ladder((), "failed"),
    "TRANSIENT": Ladder((_AGAIN, _CHAIN), "dead_lettered"),
    "INTERNAL": Ladder((_AGAIN, _CHAIN), "dead_lettered"),
    # The provider proved that it never had the job.
    "NOT_ACCEPTED": Ladder((_AGAIN, _CHAIN), "dead_lettered"),
    "THROTTLED": Ladder((_PATIENT, _CHAIN), "dead_lettered"),
    "NOT_STARTED": Ladder((_PATIENT, _CHAIN), "dead_lettered"),
    # A worker left it out for a wish that is not this job's any more.
    "REVOKED": Ladder((_PATIENT,), "dead_lettered"),
    "BACKEND_DOWN": Ladder(
        (
            Rung(Action.REROUTE, _MOST_POOLS, Wait.NONE, charged=False),
            _CHAIN,
            Rung(Action.RETRY, 0, Wait.BREAKER, charged=False),
        ),
        "dead_lettered",
    ),
    "CONSTRAINT": Ladder((_ELSEWHERE, _CHAIN), "failed", remedied=True),
    "TIMEOUT": Ladder((_ONCE_MORE, _ELSEWHERE, _CHAIN), "timed_out"),
    "CRASHED": Ladder((_AGAIN,), "dead_lettered", death=True),
    "LOST": Ladder((_AGAIN,), "dead_lettered", death=True),
    "POISON": Ladder((), "dead_lettered", death=True),
    "UNKNOWN_OUTCOME": Ladder(
        (Rung(Action.LOOKUP, 0, Wait.ASK_LATER, charged=False), _CHAIN), "dead_lettered", unsure=True
    ),
    "UNSTABLE": Ladder(
        (Rung(Action.RETRY, 1, overrides=(("recompile", "true"),)), _ELSEWHERE, _CHAIN), "failed"
    ),
    "CANCELLED_BY_PROVIDER": Ladder((_ONCE_MORE, _ELSEWHERE, _CHAIN), "dead_lettered"),
}
#: Class of an attempt that was not begun, its deadline having passed in its worker's hand. It has no ladder:
#: it ends the job as the deadline does. Of a job without one it is a word like any other unknown one.
EXPIRED = "EXPIRED"
#: Classes after which a paid pool may have the job all the same.
UNSURE_WHEN_PAID = frozenset({"LOST", "CRASHED", "TIMEOUT", "UNKNOWN_OUTCOME"})
