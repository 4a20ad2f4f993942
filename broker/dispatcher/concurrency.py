"""How many jobs may be with workers at a time, by tenant, session and backend. Pure.

Limits are data: ``tenant = 100`` for every tenant, ``"tenant:ada" = 5`` for one, the same for ``session``
and ``backend`` (the pool). All jobs of a session are on one shard, so its limit is exact. Tenants and pools
are spread over the shards: each shard has its part of their limit and at least one, so that with fewer
than one job a shard the sum is the number of shards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from shotbus.broker.config import LIMITED
from shotbus.broker.dispatcher.tallies import Tally


class Concurrency:
    """Counts of one shard; shared by the queues of its pools. Without limits nothing is counted.

    Args:
        limits: jobs at a time by kind or ``kind:name``; see above.
        shard: number of the shard, from 0.
        shards: how many there are.

    """

    def __init__(self, limits: Mapping[str, int], shard: int = 0, shards: int = 1) -> None:
        self._limits = {
            name: most if name.partition(":")[0] == "session" else _part(most, shard, shards)
            for name, most in limits.items()
        }
        kinds = {name.partition(":")[0]: True for name in limits}
        #: Which kinds are limited at all.
        self.tenants, self.sessions, self.backends = (kind in kinds for kind in LIMITED)
        self._running: Tally[tuple[str, str, str]] = Tally()
        self._listeners: list[Callable[[str, str], None]] = []

    def __bool__(self) -> bool:
        return bool(self._limits)

    def tenant_is_full(self, tenant: str) -> bool:
        """Tell whether a tenant may have no further job with a worker."""
        return self.tenants and self._is_full("tenant", tenant, "")

    def session_is_full(self, tenant: str, session: str) -> bool:
        """Tell whether a session may have no further job with a worker; no session is never full."""
        return self.sessions and session != "" and self._is_full("session", session, tenant)

    def backend_is_full(self, pool: str) -> bool:
        """Tell whether a pool may have no further job with a worker."""
        return self.backends and self._is_full("backend", pool, "")

    def _is_full(self, kind: str, name: str, owner: str) -> bool:
        most = self._limits.get(f"{kind}:{name}", self._limits.get(kind, 0))
        return most > 0 and self._running[kind, name, owner] >= most

    def _places(self, tenant: str, session: str, pool: str) -> list[tuple[str, str, str]]:
        """Return what a job counts for: only what is limited."""
        places = []
        if self.tenants:
            places.append(("tenant", tenant, ""))
        if self.backends:
            places.append(("backend", pool, ""))
        if self.sessions and session:
            places.append(("session", session, tenant))
        return places

    def take(self, tenant: str, session: str, pool: str) -> None:
        """Count a job that goes to a worker, or one that a restored shard finds there."""
        for place in self._places(tenant, session, pool):
            self._running.add(place)

    def give(self, tenant: str, session: str, pool: str) -> None:
        """Count a job out that no worker has any more. Raises KeyError for one too many."""
        places = self._places(tenant, session, pool)
        for place in places:
            self._running.discard(place)
        if places:
            for told in self._listeners:
                told(tenant, session)

    def listen(self, freed: Callable[[str, str], None]) -> None:
        """Have ``freed(tenant, session)`` called whenever a job was given back."""
        self._listeners.append(freed)


def _part(most: int, shard: int, shards: int) -> int:
    """Return a shard's part; the first ones have what is left over."""
    return max(1, most // shards + (shard < most % shards))
