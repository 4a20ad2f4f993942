"""Timeouts of the stages of an attempt, as data: how long each may take and what overrunning means. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from shotbus.broker.config import TimeoutsConfig


class Overrun(NamedTuple):
    """``error_class`` of an attempt whose stage took too long; ``key`` names the limit in ``[timeouts]``."""

    error_class: str
    key: str


#: stage -> what its overrun is. What happens after the call that submits leaves the provider with the job, so
#: its overrun says nothing about the job's end.
OVERRUNS: Mapping[str, Overrun] = {
    "compile": Overrun("TIMEOUT", "compile"),
    "provider-submit": Overrun("UNKNOWN_OUTCOME", "submit"),
    "provider-queue": Overrun("UNKNOWN_OUTCOME", "provider_queue"),
    "execute": Overrun("TIMEOUT", "execute"),
    "retrieve": Overrun("UNKNOWN_OUTCOME", "retrieve"),
}


def limit_of(stage: str, limits: TimeoutsConfig) -> float:
    """Return how long a stage may take, seconds; 0 is no limit of its own."""
    overrun = OVERRUNS.get(stage)
    return float(getattr(limits, overrun.key)) if overrun else 0.0


def overrun(stage: str, seconds: float, limits: TimeoutsConfig) -> str:
    """Return the error class of an attempt that has been in a stage for so long; empty while it may be."""
    limit = limit_of(stage, limits)
    return OVERRUNS[stage].error_class if 0 < limit < seconds else ""


def left(stage: str, seconds: float, limits: TimeoutsConfig, *, whole: float) -> float:
    """Return the seconds a stage has left: of its own limit and of the ``whole`` that the attempt has."""
    limit = limit_of(stage, limits)
    return max(0.0, min(whole, limit - seconds) if limit else whole)
