"""Calls and errors of the last seconds by tenant, from which a circuit breaker judges. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

_SLICES = 10
# Tenants beyond these are counted as one in a slice: anyone may invent names.
_MOST_TENANTS = 64
_OTHERS = ""


class Share(NamedTuple):
    """Shares of a tenant's attempts that failed: by the backend's own word, and suspiciously."""

    certain: float
    suspect: float


class Count:
    """Calls of one tenant."""

    __slots__ = ("calls", "certain", "suspect")

    def __init__(self) -> None:
        self.calls = self.certain = self.suspect = 0.0

    def add(self, calls: float, certain: float, suspect: float) -> None:
        self.calls += calls
        self.certain += certain
        self.suspect += suspect


class ErrorWindow:
    """Calls and failures by tenant over the last seconds, in ten slices."""

    __slots__ = ("_slices", "_width")

    def __init__(self, seconds: float) -> None:
        self._width = seconds / _SLICES
        self._slices: dict[int, dict[str, Count]] = {}

    def add(self, tenant: str, share: Share, seen: float) -> None:
        """Count one call."""
        current = int(seen / self._width)
        tenants = self._slices.get(current)
        if tenants is None:
            self._forget(current)
            tenants = self._slices[current] = {}
        if tenant not in tenants and len(tenants) >= _MOST_TENANTS:
            tenant = _OTHERS
        tenants.setdefault(tenant, Count()).add(1, *share)

    def rate(self, seen: float) -> tuple[float, float]:
        """Return (calls, share of errors averaged over tenants)."""
        return rate_of([self], seen)

    def add_to(self, sums: dict[str, Count], seen: float) -> None:
        """Add what there is of each tenant."""
        self._forget(int(seen / self._width))
        for tenants in self._slices.values():
            for tenant, one in tenants.items():
                sums.setdefault(tenant, Count()).add(one.calls, one.certain, one.suspect)

    def clear(self) -> None:
        """Forget everything."""
        self._slices.clear()

    def _forget(self, current: int) -> None:
        for old in [number for number in self._slices if number <= current - _SLICES]:
            del self._slices[old]


def rate_of(windows: Iterable[ErrorWindow], seen: float) -> tuple[float, float]:
    """Return (calls, share of errors averaged over tenants) of several windows together."""
    sums: dict[str, Count] = {}
    for window in windows:
        window.add_to(sums, seen)
    if not sums:
        return 0.0, 0.0
    believed = sum(one.suspect > 0 for one in sums.values()) > 1
    rates = [(one.certain + (one.suspect if believed else 0.0)) / one.calls for one in sums.values()]
    return sum(one.calls for one in sums.values()), sum(rates) / len(rates)
