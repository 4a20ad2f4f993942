"""Compiling ahead: what a slot does while there is nothing to run. Talks to child processes.

A worker begins with the templates of its configuration; then it takes what dispatchers send. A bundle with
purpose ``compile`` is no claim on anything: it has no lease and gets no answer, and whatever happens to it is
only counted. So it may be dropped at any time: on the way out, when it is late, when there is much of it.
Each circuit is a run of its own, and whatever is to be run meanwhile goes before the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from shotbus.broker.children.process import ChildDiedError, ChildTimeoutError
from shotbus.broker.dispatcher.bundles import COMPILE
from shotbus.schemas.codec import encode
from shotbus.workers.hand import Hand
from shotbus.workers.process import Child, Fetch, RunReport
from shotbus.workers.settings import Prepared, WorkerCounters, WorkerSettings

_log = structlog.get_logger(__name__)
# Work that comes meanwhile may have to wait so long: what takes longer is compiled when it runs.
_MOST_SECONDS = 60.0
# Of what no job is about yet.
_NOBODY = "0" * 32


class Ahead:
    """What one worker compiles ahead."""

    def __init__(
        self, settings: WorkerSettings, hand: Hand, fetch: Fetch, counters: WorkerCounters, *, able: bool
    ) -> None:
        self._settings = settings
        self._hand = hand
        self._fetch = fetch
        self._own = {one.circuit_id: one.circuit for one in settings.templates}
        self._counters = counters
        self._able = able
        self._running: set[asyncio.Task[RunReport]] = set()

    def prepare(self, now_ms: int) -> None:
        """Put the pool's templates behind everything that is to be run; how many is its operator's wish."""
        for one in self._settings.templates if self._able else ():
            self._hand.put_ahead(self._bundle(one, now_ms), always=True)

    def take(self, bundle: Mapping[str, Any], now_ms: int) -> None:
        """Put what a bundle wants compiled behind everything that is to be run."""
        wanted = bundle["items"] if self._able and bundle["start_by_ms"] >= now_ms else ()
        kept = sum(self._hand.put_ahead(encode("work_bundle", {**bundle, "items": [one]})) for one in wanted)
        self._counters.ahead_dropped += len(bundle["items"]) - kept

    async def compile(self, child: Child, record: bytes) -> None:
        """Have a child compile one circuit. Never raises for what the child does."""
        starts = child.starts
        running = asyncio.create_task(self._ask(child, record))
        self._running.add(running)
        try:
            await asyncio.wait({running})
        finally:
            # On the way out the compilation ends too, and its process with it.
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            self._running.discard(running)
            self._counters.children_started += child.starts - starts
        self._count(running)

    def stop(self) -> None:
        """End what is being compiled: nobody waits for it."""
        for running in self._running:
            running.cancel()

    async def _ask(self, child: Child, record: bytes) -> RunReport:
        limit = self._settings.timeouts.compile or _MOST_SECONDS
        head = {"worker": self._settings.worker, "lease_id": ""}
        return await child.run(head, record, self._find, seconds=min(_MOST_SECONDS, limit))

    async def _find(self, names: Sequence[str]) -> Mapping[str, bytes | None]:
        """Return circuits; nobody may have sent a template yet."""
        found: dict[str, bytes | None] = {name: self._own.get(name) for name in names}
        missing = [name for name, record in found.items() if record is None]
        return {**found, **await self._fetch(missing)} if missing else found

    def _bundle(self, one: Prepared, now_ms: int) -> bytes:
        item = {"job_id": _NOBODY, "attempt": 1, "seed": 0, "traceparent": "", "request": one.request}
        fields = {
            "bundle_id": "",
            "pool": self._settings.pool,
            "shard": 0,
            "start_by_ms": now_ms,
            "lease_ms": 0,
            "sent_us": now_ms * 1000,
            "items": [item],
            "purpose": COMPILE,
        }
        return encode("work_bundle", fields)

    def _count(self, ran: asyncio.Task[RunReport]) -> None:
        error = None if ran.cancelled() else ran.exception()
        if ran.cancelled() or error is not None:
            self._counters.ahead_failed += 1
            self._counters.children_crashed += isinstance(error, ChildDiedError)
            self._counters.children_timed_out += isinstance(error, ChildTimeoutError)
            _log.warning("not compiled ahead", error=repr(error) if error else "the worker stops")
        else:
            failures = ran.result().failures
            self._counters.ahead_failed += failures
            self._counters.ahead_compiled += 1 - failures
