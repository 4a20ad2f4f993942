"""What has been tried for a job, kept with it: most jobs have none of it. Pure."""

from __future__ import annotations

from typing import Any

from shotbus.broker.dispatcher.job import Job
from shotbus.broker.dispatcher.retry import History, Verdict


def history_of(job: Job) -> History:
    """Return what has been tried for a job."""
    extras = job.extras or {}
    return History(
        attempt=job.attempt,
        failures=job.failures,
        deaths=job.deaths,
        first_failed_ms=extras.get("first_failed_ms", 0),
        unsure=extras.get("unsure", False),
        tried=extras.get("tried", {}),
    )


def remember(job: Job, history: History, verdict: Verdict, error_class: str) -> None:
    """Keep what has been tried for a job with it, and what its next attempt does otherwise."""
    job.failures, job.deaths = history.failures, history.deaths
    extras = job.extras or {}
    more: dict[str, Any] = {}
    if history.unsure or "unsure" in extras:
        more["unsure"] = history.unsure
    if verdict.overrides:
        more["overrides"] = {**extras.get("overrides", {}), **dict(verdict.overrides)}
    tried = dict(history.tried)
    job.keep(first_failed_ms=history.first_failed_ms, tried=tried, failed=error_class, **more)
