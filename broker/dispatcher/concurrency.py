"""How many jobs may be with workers at a time, by tenant, session and backend. Pure.

Limits are data: ``tenant = 100`` for every tenant, ``"tenant:ada" = 5`` for one, the same for ``session``
and ``backend`` (the pool). All jobs of a session are on one shard, which counts them. Tenants and pools are
spread over the shards, which share their limits: see :mod:`shotbus.broker.dispatcher.places`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from shotbus.broker.config import LIMITED
from shotbus.broker.dispatcher.places import Places
from shotbus.broker.dispatcher.tallies import Tally
from shotbus.broker.machine import Emit, Now


class Concurrency:
    """Counts of one shard; shared by the queues of its pools. Without limits nothing is counted.

    Args:
        limits: jobs at a time by kind or ``kind:name``; see above.
        shard: number of the shard, from 0.
        shards: how many there are.

    """

    def __init__(self, limits: Mapping[str, int], shard: int = 0, shards: int = 1) -> None:
        self._limits = limits
        kinds = {name.partition(":")[0]: True for name in limits}
        #: Which kinds are limited at all.
        self.tenants, self.sessions, self.backends = (kind in kinds for kind in LIMITED)
        #: Whether shards have to speak about any of it.
        self.shared = shards > 1 and (self.tenants or self.backends)
        self.places = Places(shard, shards, self.most, self._offer)
        self._running: Tally[tuple[str, str, str]] = Tally()
        self._listeners: list[Callable[[str, str], None]] = []

    def __bool__(self) -> bool:
        return bool(self._limits)

    def most(self, key: str) -> int:
        """Return the limit of a ``kind:name``, over all shards; 0 for none."""
        found = self._limits.get(key)
        return self._limits.get(key.partition(":")[0], 0) if found is None else found

    def tenant_is_full(self, tenant: str) -> bool:
        """Tell whether a tenant may have no further job with a worker; who asks has one that could go."""
        return self.tenants and self._shared_is_full("tenant", tenant)

    def session_is_full(self, tenant: str, session: str) -> bool:
        """Tell whether a session may have no further job with a worker; no session is never full."""
        if not self.sessions or not session:
            return False
        most = self.most(f"session:{session}")
        return most > 0 and self._running["session", session, tenant] >= most

    def backend_is_full(self, pool: str) -> bool:
        """Tell whether a pool may have no further job with a worker; who asks has one that could go."""
        return self.backends and self._shared_is_full("backend", pool)

    def _shared_is_full(self, kind: str, name: str) -> bool:
        key = f"{kind}:{name}"
        most = self.most(key)
        if most <= 0 or self._running[kind, name, ""] < self.places.allowed(key, most):
            return False
        self.places.block(key)
        return True

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

    # --- with the other shards ---

    def hear(self, fields: Mapping[str, Any], now: Now) -> None:
        """Take what another shard said about a limit, a ``place`` record."""
        self.places.hear(fields, self._count, now)

    def _offer(self, key: str) -> None:
        kind, _, name = key.partition(":")
        if kind == "tenant":
            for told in self._listeners:
                told(name, "")

    def close(self, now: Now) -> list[Emit]:
        """End a micro-batch; returns what is to be said to other shards."""
        return self.places.close(self._count, now) if self.shared else []

    def _count(self, key: str) -> int:
        kind, _, name = key.partition(":")
        return self._running[kind, name, ""]
