"""Which jobs of which bundles nobody wants any more: remembered for a while, told to whom it concerns. Pure.

A revocation may overtake its bundle, so it is kept for as long as a bundle can lie on the bus. One that was
forgotten costs a run whose report the dispatcher fences, never a wrong answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from shotbus.workers.adapters.base import ItemResult
from shotbus.workers.running import ASKING

_MOST_BUNDLES = 10_000


@dataclass(slots=True)
class _Known:
    jobs: set[str] = field(default_factory=set)
    until: float = 0.0


class Revoked:
    """The revocations of one pool.

    Args:
        seconds: how long one is remembered.
        most: how many bundles are; the one that was heard of longest ago goes first.

    """

    def __init__(self, seconds: float, most: int = _MOST_BUNDLES) -> None:
        self._seconds, self._most = seconds, most
        self._known: dict[str, _Known] = {}
        self._watched: dict[str, tuple[Sequence[Mapping[str, Any]], Callable[[], object]]] = {}
        self._told: dict[str, Callable[[Sequence[str]], object]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def learn(self, bundle_id: str, jobs: Sequence[str], now: float) -> None:
        """Take a revocation, heard at ``now`` (monotonic seconds); may be repeated.

        Whoever watches the bundle is called when none of its jobs is wanted any more, or is told each time.
        """
        known = self._known.pop(bundle_id, None) or _Known()
        known.jobs.update(jobs)
        known.until = now + self._seconds
        # Put in again at the end: the first one is always that which ends first.
        self._known[bundle_id] = known
        while len(self._known) > self._most or next(iter(self._known.values())).until <= now:
            del self._known[next(iter(self._known))]
        items, call = self._watched.get(bundle_id, ((), None))
        if call is not None and all(item["job_id"] in known.jobs for item in items):
            del self._watched[bundle_id]
            call()
        if (tell := self._told.get(bundle_id)) is not None:
            tell(jobs)

    def part(self, bundle: Mapping[str, Any]) -> tuple[Sequence[Any], Sequence[Any]]:
        """Part a bundle's items into those that are wanted and those that are not.

        A look-up is always wanted: it spends nothing, and somebody has to know.
        """
        items: Sequence[Any] = bundle["items"]
        known = self._known.get(bundle["bundle_id"])
        if known is None or bundle["purpose"] in ASKING:
            return items, ()
        wanted = [item for item in items if item["job_id"] not in known.jobs]
        return wanted, [item for item in items if item["job_id"] in known.jobs]

    @contextmanager
    def watching(self, bundle: Mapping[str, Any], call: Callable[[], object]) -> Iterator[None]:
        """Have ``call`` called, at most once, when nobody wants any job of ``bundle`` any more."""
        name = bundle["bundle_id"]
        if bundle["purpose"] not in ASKING:
            self._watched[name] = (bundle["items"], call)
        try:
            yield
        finally:
            self._watched.pop(name, None)

    @contextmanager
    def telling(self, bundle: Mapping[str, Any], tell: Callable[[Sequence[str]], object]) -> Iterator[None]:
        """Have ``tell`` called with the jobs of ``bundle`` that are revoked meanwhile, each time."""
        name = bundle["bundle_id"]
        if bundle["purpose"] not in ASKING:
            self._told[name] = tell
        try:
            yield
        finally:
            self._told.pop(name, None)


def revoked_among(results: Iterable[ItemResult]) -> int:
    """Return how many attempts came to nothing because they were called off in time."""
    return sum(result.error_class == "REVOKED" for result in results)
