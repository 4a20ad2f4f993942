"""Retry is a decision: error class and history in, what to do next out. A table, and pure.

Jitter is full-range between half and all of the backoff and follows from (job, attempt), so that a
restored shard decides the same.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from shotbus.broker.config import RetryConfig
from shotbus.schemas.ids import digest

# Enough doublings for any cap; more would overflow a float.
_STEEPEST = 64


class Remedy(Enum):
    """What is done about a class of failures."""

    NEVER = "never"
    BACK_OFF = "back off"
    HONOUR_RETRY_AFTER = "honour retry-after"
    COUNT_DEATHS = "count deaths"
    ONCE = "once"


class Verdict(NamedTuple):
    """``delay_ms`` None means the job ends, with ``outcome``."""

    delay_ms: int | None
    outcome: str = ""
    charged: bool = True
    death: bool = False


#: error class -> remedy. An unknown class is treated as INTERNAL.
REMEDIES: dict[str, Remedy] = {
    "INVALID": Remedy.NEVER,
    "CONSTRAINT": Remedy.NEVER,
    "TRANSIENT": Remedy.BACK_OFF,
    "INTERNAL": Remedy.BACK_OFF,
    "THROTTLED": Remedy.HONOUR_RETRY_AFTER,
    "CRASHED": Remedy.COUNT_DEATHS,
    "LOST": Remedy.COUNT_DEATHS,
    "NOT_STARTED": Remedy.HONOUR_RETRY_AFTER,
    "TIMEOUT": Remedy.ONCE,
}


def decide(
    error_class: str,
    *,
    job: str,
    attempt: int,
    failures: int,
    deaths: int,
    retry_after_ms: int,
    policy: RetryConfig,
) -> Verdict:
    """Return what to do after a failed attempt.

    Args:
        error_class: as the worker or the dispatcher classified it.
        job: job id, source of the jitter.
        attempt: number of the attempt that failed, from 1.
        failures: charged failures before this one.
        deaths: workers this job has killed or lost before this one.
        retry_after_ms: what the provider asked for.
        policy: limits.

    """
    remedy = REMEDIES.get(error_class, Remedy.BACK_OFF)
    wait = _backoff_ms(job, attempt, failures, policy)
    if remedy is Remedy.NEVER:
        return Verdict(None, "failed")
    if remedy is Remedy.HONOUR_RETRY_AFTER:
        return Verdict(max(retry_after_ms, wait), charged=False)
    if remedy is Remedy.COUNT_DEATHS:
        last = deaths + 1 >= policy.max_deaths
        return Verdict(None if last else wait, "dead_lettered" if last else "", death=True)
    if remedy is Remedy.ONCE:
        return Verdict(wait) if failures == 0 else Verdict(None, "timed_out")
    last = failures + 1 >= policy.max_attempts
    return Verdict(None if last else wait, "dead_lettered" if last else "")


def _backoff_ms(job: str, attempt: int, failures: int, policy: RetryConfig) -> int:
    ceiling = min(policy.cap, policy.base * policy.factor ** min(failures, _STEEPEST))
    share = int.from_bytes(digest("jitter", job, str(attempt), size=4), "little") / 2**32
    return int(1000 * ceiling * (0.5 + 0.5 * share))
