"""What an adapter says of its backend: checked, packed, and held against the runs in between. Pure.

A calibration that changes under a run makes its successful answers UNSTABLE: nobody can say which of the two
they were measured with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from typing import Any

from shotbus.broker.dispatcher.breaker import BLAMED
from shotbus.schemas.errors import Problem
from shotbus.workers.adapters.base import Adapter, BackendState, CanSense, ItemResult, error_class_of

_MAX_TEXT = 256


def state_of(adapter: Adapter) -> BackendState:
    """Return how an adapter's backend is; one that knows nothing of it, or cannot tell, says that."""
    if not isinstance(adapter, CanSense):
        return BackendState()
    try:
        return plausible(adapter.sense())
    except Exception as error:  # noqa: BLE001 (whatever it raises, the backend's state is what is not known)
        return unknown(error)


def unknown(error: BaseException) -> BackendState:
    """Return the state of a backend of which nothing can be learned."""
    return plausible(BackendState(unhealthy=f"its state cannot be told: {type(error).__name__} {error}"))


def plausible(state: BackendState) -> BackendState:
    """Return a state without what cannot be: a provider's word is input from outside."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in state.unhealthy.strip())
    queue = float(state.provider_queue_seconds)
    return replace(
        state,
        unhealthy=text[:_MAX_TEXT],
        calibrated_ms=max(0, int(state.calibrated_ms)),
        provider_queue_seconds=queue if 0 <= queue < math.inf else -1.0,
        fidelity=_within(state.fidelity, 1.0),
        t1_us=_within(state.t1_us, math.inf),
        t2_us=_within(state.t2_us, math.inf),
    )


def _within(value: float | None, most: float) -> float | None:
    return float(value) if value is not None and 0 <= value <= most and math.isfinite(value) else None


def pack_state(state: BackendState) -> dict[str, Any]:
    """Return the JSON form."""
    return asdict(state)


def unpack_state(document: Mapping[str, Any]) -> BackendState:
    """Read the JSON form."""
    return plausible(BackendState(**document))


def calibration_of(adapter: Adapter) -> str:
    """Return the calibration in use, empty where there is none or it cannot be told."""
    return state_of(adapter).calibration_id if _can_sense(type(adapter)) else ""


@cache
def _can_sense(kind: type[Adapter]) -> bool:
    """Tell whether adapters of a kind can be asked; looking takes longer than an inline run of a bundle."""
    return issubclass(kind, CanSense)


def steadied(adapter: Adapter, before: str, results: list[ItemResult]) -> list[ItemResult]:
    """Return a run's results as they count, after the calibration that was in use ``before``."""
    if not before or (after := calibration_of(adapter)) in ("", before):
        return results
    problem = Problem(
        "SB-5010", "$", limit=before, actual=after, detail="the calibration changed under the run"
    )
    return [result if result.error_class else _unstable(result, problem) for result in results]


def _unstable(result: ItemResult, problem: Problem) -> ItemResult:
    """Take an answer out of a result; what it has cost stays."""
    return replace(result, error_class=error_class_of([problem]), problems=(problem,), payload=b"")


def faults_among(results: Sequence[ItemResult]) -> int:
    """Return how many attempts failed by their backend's fault."""
    return sum(result.error_class in BLAMED for result in results)
