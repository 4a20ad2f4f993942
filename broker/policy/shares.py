"""Which jobs belong to a percentage: a stable hash, the same in every process and after every restart. Pure.

A share is nested: raising the percentage only adds jobs. Each purpose hashes for itself, so that two shares
of one rule are independent of each other.
"""

from __future__ import annotations

from shotbus.broker.policy.facts import Asked
from shotbus.schemas.ids import digest

_BUCKETS = 1 << 32


def bucket(*parts: str) -> float:
    """Return where these words fall, from 0 up to 100."""
    return int.from_bytes(digest("share", *parts, size=4), "big") * 100 / _BUCKETS


def falls(percent: float, asked: Asked, *purpose: str, key: str = "job") -> bool:
    """Tell whether the job belongs to ``percent`` of all; without a session the job stands for itself."""
    if percent <= 0 or percent >= 100:
        return percent > 0
    named = {"session": asked.session, "tenant": asked.tenant}.get(key) or asked.job_id
    return bucket(*purpose, named) < percent
