"""What is known of a pool, in one word with its reason, and the numbers routing decides by. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from shotbus.broker.dispatcher.breaker import BreakerView, Gate


class PoolState(Enum):
    """Whether a pool takes work; the first that applies, from the top."""

    PAUSED = "paused"
    CLOSED = "closed"
    DOWN = "down"
    EMPTY = "empty"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"
    PROBING = "probing"
    BUSY = "busy"
    READY = "ready"

    __hash__ = object.__hash__


#: States in which a job that is sent there now would begin as soon as there is room.
FLOWING = frozenset({PoolState.READY, PoolState.BUSY, PoolState.PROBING})


class Standing(NamedTuple):
    """What is decided about a pool elsewhere: by people, by the clock, by its breaker, by its backlog."""

    paused: bool = False
    opens: bool = True
    busy: bool = False
    breaker: BreakerView = BreakerView(Gate.CLOSED, "", 0.0)


@dataclass(frozen=True, slots=True)
class PoolHealth:
    """A pool's state and its reason, and what its workers advertise.

    Seconds throughout; ages and waits below 0 are unknown. ``mixed``: the workers do not use the same
    calibration. ``fidelity``, ``t1_us`` and ``t2_us`` are the worst that is advertised, None unknown.
    """

    pool: str
    state: PoolState
    reason: str
    workers: int = 0
    slots: int = 0
    service_seconds: float = 0.0
    errors: float = 0.0
    provider_queue_seconds: float = -1.0
    calibration_id: str = ""
    calibration_age: float = -1.0
    mixed: bool = False
    fidelity: float | None = None
    t1_us: float | None = None
    t2_us: float | None = None

    @property
    def flows(self) -> bool:
        """Tell whether work may be sent there now."""
        return self.state in FLOWING


def view(pool: str, adverts: Sequence[Mapping[str, Any]], *, standing: Standing, now_ms: int) -> PoolHealth:
    """Return what is known of a pool.

    Args:
        pool: its name.
        adverts: advertisements of the workers that are alive; those of other pools are left out.
        standing: what is decided elsewhere.
        now_ms: wall time.

    """
    mine = [one for one in adverts if one["role"] == "worker" and one["pool"] == pool]
    able = [one for one in mine if one["state"] == "ready" and not one.get("unhealthy")]
    state, reason = _state(mine, able, standing)
    told = able or mine
    if not told:
        return PoolHealth(pool, state, reason)
    queues = [wait for one in told if (wait := one.get("provider_queue_seconds", -1.0)) >= 0]
    calibration, mixed = _calibration(told)
    newest = max((one.get("calibrated_ms", 0) for one in told), default=0)
    return PoolHealth(
        pool,
        state,
        reason,
        workers=len(able),
        slots=sum(one["slots"] for one in able),
        service_seconds=_mean(told, "service_seconds"),
        errors=_mean(told, "errors"),
        provider_queue_seconds=max(queues, default=-1.0),
        calibration_id=calibration,
        calibration_age=max(0.0, (now_ms - newest) / 1000) if newest else -1.0,
        mixed=mixed,
        fidelity=_worst(told, "fidelity"),
        t1_us=_worst(told, "t1_us"),
        t2_us=_worst(told, "t2_us"),
    )


def _state(
    mine: Sequence[Mapping[str, Any]], able: Sequence[Mapping[str, Any]], standing: Standing
) -> tuple[PoolState, str]:
    """Return the first state that applies, in the order of :class:`PoolState`."""
    breaker = standing.breaker
    ill = Counter(reason for one in mine if (reason := one.get("unhealthy", "")))
    leaving = sum(one["state"] == "draining" for one in mine)
    told = ill.most_common(1)[0][0] if ill else ""
    wait = f"{breaker.reason}, tried again in {breaker.retry_seconds:.0f} s"
    table: tuple[tuple[bool, PoolState, str], ...] = (
        (standing.paused, PoolState.PAUSED, "somebody paused it"),
        (not standing.opens, PoolState.CLOSED, "outside its opening hours"),
        (breaker.gate is Gate.OPEN, PoolState.DOWN, wait),
        (not mine, PoolState.EMPTY, "no worker serves it"),
        (not able and bool(ill), PoolState.UNHEALTHY, told),
        (not able and bool(leaving), PoolState.DRAINING, f"its {leaving} workers are leaving"),
        (not able, PoolState.EMPTY, "no worker serves it"),
        (breaker.gate is Gate.HALF_OPEN, PoolState.PROBING, "a few jobs try whether it works again"),
        (standing.busy, PoolState.BUSY, "more waits than its high mark"),
    )
    found = next(((state, reason) for applies, state, reason in table if applies), None)
    return found or (PoolState.READY, f"{told}: {sum(ill.values())} of {len(mine)} workers" if ill else "")


def _calibration(told: Sequence[Mapping[str, Any]]) -> tuple[str, bool]:
    """Return the newest calibration, and whether others are in use."""
    known = [one for one in told if one.get("calibration_id")]
    if not known:
        return "", False
    newest = max(known, key=lambda one: (one.get("calibrated_ms", 0), one["calibration_id"]))
    return newest["calibration_id"], any(one["calibration_id"] != newest["calibration_id"] for one in known)


def _mean(told: Sequence[Mapping[str, Any]], name: str) -> float:
    return sum(float(one.get(name, 0.0)) for one in told) / len(told)


def _worst(told: Sequence[Mapping[str, Any]], name: str) -> float | None:
    return min((float(one[name]) for one in told if one.get(name) is not None), default=None)
