"""The fair queue of one pool: classes by weight, tenants evenly, then the earliest due. Pure.

Start-time fair queueing on two levels (Goyal, Vin and Chen, 1996): each class and each tenant has a
virtual time that advances by cost over weight; the smallest goes next. Unlike deficit round robin it
needs no quantum, so a job's cost may span six orders of magnitude without a scan. Who leaves keeps
the virtual time reached, else a tenant with one costly job at a time would always be the newest.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from typing import Generic, Protocol, TypeVar


class Queued(Protocol):
    """What the queue needs to know of a job."""

    tenant: str
    priority: str
    cost: float
    queued: int

    @property
    def due_ms(self) -> int:
        """When it is due, wall time."""
        ...

    @property
    def order(self) -> int:
        """Order of admission."""
        ...


J = TypeVar("J", bound=Queued)
# Removed jobs may be held this often beside the waiting ones before the heaps are swept.
_SLACK = 256


class _Tenant(Generic[J]):
    __slots__ = ("heap", "virtual")

    def __init__(self, virtual: float) -> None:
        self.heap: list[tuple[int, int, int, J]] = []
        self.virtual = virtual


class _Class(Generic[J]):
    __slots__ = ("left", "most_left", "now", "tenants", "virtual", "weight")

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.virtual = 0.0
        self.now = 0.0
        self.tenants: dict[str, _Tenant[J]] = {}
        #: Virtual times of tenants that have nothing waiting, as far as they are ahead of ``now``.
        self.left: dict[str, float] = {}
        self.most_left = _SLACK

    def tenant(self, name: str) -> _Tenant[J]:
        """Return a tenant's heap, opened where the tenant left off but not in the past."""
        tenant = self.tenants.get(name)
        if tenant is None:
            tenant = self.tenants[name] = _Tenant(max(self.now, self.left.pop(name, 0.0)))
        return tenant

    def drop(self, name: str) -> None:
        """Close an empty heap; an idle class starts afresh."""
        self.left[name] = self.tenants.pop(name).virtual
        if not self.tenants:
            self.now = max(self.now, *self.left.values())
        if not self.tenants or len(self.left) > self.most_left:
            self.left = {name: virtual for name, virtual in self.left.items() if virtual > self.now}
            self.most_left = 2 * len(self.left) + _SLACK

    def sweep(self) -> None:
        """Let go of the jobs that were removed."""
        for name, tenant in list(self.tenants.items()):
            tenant.heap = [entry for entry in tenant.heap if entry[3].queued == entry[2]]
            heapq.heapify(tenant.heap)
            if not tenant.heap:
                self.drop(name)


class FairQueue(Generic[J]):
    """Waiting jobs of one pool. Removal is lazy: a job whose ``queued`` mark changed is passed over."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._classes: dict[str, _Class[J]] = {name: _Class(weight) for name, weight in weights.items()}
        self._now = 0.0
        self._mark = 0
        self._held = 0
        self.length = 0
        self.seconds = 0.0

    def push(self, job: J) -> None:
        """Add a waiting job; its ``queued`` mark is set here. A class without weight has the least."""
        entry = self._classes.get(job.priority)
        if entry is None:
            weight = min((one.weight for one in self._classes.values()), default=1.0)
            entry = self._classes[job.priority] = _Class(weight)
        if not entry.tenants:
            entry.virtual = max(entry.virtual, self._now)
        self._mark += 1
        job.queued = self._mark
        place = (job.due_ms, job.order, self._mark, job)
        heapq.heappush(entry.tenant(job.tenant).heap, place)
        self._held += 1
        self.length += 1
        self.seconds += job.cost

    def remove(self, job: J) -> None:
        """Take a waiting job out; its place in the heap is passed over later."""
        job.queued = 0
        self.length -= 1
        self.seconds = max(0.0, self.seconds - job.cost) if self.length else 0.0
        if self._held > 2 * self.length + _SLACK:
            for entry in self._classes.values():
                entry.sweep()
            self._held = self.length

    def pop(self) -> J | None:
        """Take the job whose turn it is, None when nothing waits."""
        while (entry := self._next_class()) is not None:
            job = self._pop_from(entry)
            if job is not None:
                self._now = entry.virtual
                entry.virtual += job.cost / entry.weight
                self.remove(job)
                return job
        return None

    def _next_class(self) -> _Class[J] | None:
        waiting = [entry for entry in self._classes.values() if entry.tenants]
        return min(waiting, key=lambda entry: entry.virtual) if waiting else None

    def _pop_from(self, entry: _Class[J]) -> J | None:
        """Take the next job of a class; drops tenants that have nothing left."""
        while entry.tenants:
            name = min(entry.tenants, key=lambda tenant: entry.tenants[tenant].virtual)
            tenant = entry.tenants[name]
            while tenant.heap:
                _, _, mark, job = heapq.heappop(tenant.heap)
                self._held -= 1
                if job.queued == mark:
                    # By its share of what was served, not only to the smallest tag: else an endless row of
                    # new tenants, each with one job, would all enter before whoever has been here longer.
                    entry.now = max(tenant.virtual, entry.now + job.cost / len(entry.tenants))
                    tenant.virtual += job.cost
                    if not tenant.heap:
                        entry.drop(name)
                    return job
            entry.drop(name)
        return None

    def __iter__(self) -> Iterator[J]:
        for entry in self._classes.values():
            for tenant in entry.tenants.values():
                yield from (job for _, _, mark, job in tenant.heap if job.queued == mark)
