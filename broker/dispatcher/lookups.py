"""Looks for earlier results of a shard's requests. Reads the store; a dead or slow one is an empty one."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shotbus.broker.bus.base import Record
from shotbus.broker.dispatcher.earlier import asks_for_earlier, read_result
from shotbus.broker.dispatcher.job import Reference
from shotbus.broker.dispatcher.keys import Targets, cache_key, history_key, placed_key
from shotbus.broker.dispatcher.messages import Forward, Recall, Submitted
from shotbus.broker.dispatcher.reuse import wants_history
from shotbus.broker.store.base import Store, StoreError
from shotbus.broker.telemetry import Metrics
from shotbus.schemas.codec import decode

# A lookup that takes longer is a miss. The first failure costs the longer time, so that a busy moment
# does not run work again; after it the shorter one, so that a dead store does not slow the dispatcher.
LOOKUP_SECONDS = 0.5
SUSPICIOUS_LOOKUP_SECONDS = 0.02
#: Earlier results that travel in one bundle may have so many bytes together.
_PRIORS_BYTES = 393_216


class Lookups:
    """Finds what was answered before.

    Args:
        store: result cache and history; may be dead.
        metrics: of this process.
        targets: what stands behind the pools.
        remembers_all: tells whether every job's result is to be kept for later.

    """

    def __init__(
        self, store: Store, metrics: Metrics, targets: Targets, remembers_all: Callable[[], bool]
    ) -> None:
        self._store, self._metrics, self._targets = store, metrics, targets
        self._remembers_all = remembers_all
        self._store_is_slow = False

    async def attach(self, events: Sequence[Submitted]) -> Sequence[Submitted]:
        """Give the requests of a micro-batch their keys and what is stored under them, in one call."""
        always = self._remembers_all()
        keyed = [self._keyed(event, always=always) for event in events]
        names = list(dict.fromkeys(name for event in keyed for name in _names(event)))
        if not names:
            return keyed
        found = dict(zip(names, await self._get(names), strict=True))
        return [_found(event, found) for event in keyed]

    def _keyed(self, event: Submitted, *, always: bool) -> Submitted:
        if event.uninspected or (event.decision is not None and event.decision.refused):
            return event
        target, request = self._targets.of(event.pool), event.request
        if event.decision is not None and event.decision.quality:
            # What was answered without the rule's gate need not pass it.
            request = {**request, "options": {**request["options"], **event.decision.quality}}
        key, history = cache_key(request, target), ""
        if always or wants_history(request, event.decision):
            history = placed_key(request, target)
        if not (key or history):
            return event
        return dataclasses.replace(event, cache_key=key, history_key=history, calibration=target.calibration)

    async def priors(self, commands: Sequence[Any]) -> Mapping[str, bytes]:
        """Return the results, as published, whose shots count for jobs that are forwarded now, by their ids.

        What the store has lost, or a bundle cannot carry, is not among them: those jobs run all their shots.
        """
        bundles = [
            [item for item in one.items if item.top_up] for one in commands if isinstance(one, Forward)
        ]
        names = list(dict.fromkeys(f"result:{item.top_up}" for items in bundles for item in items))
        if not names:
            return {}
        found = dict(zip(names, await self._get(names), strict=True))
        priors: dict[str, bytes] = {}
        for items in bundles:
            room = _PRIORS_BYTES
            for item in items:
                record = found[f"result:{item.top_up}"]
                if record is not None and len(record) <= room:
                    room -= len(record)
                    priors[item.job_id] = record
        return priors

    async def _get(self, names: Sequence[str]) -> Sequence[bytes | None]:
        """Ask the store; one that was slow or dead gets little time until it answers quickly again."""
        patience = SUSPICIOUS_LOOKUP_SECONDS if self._store_is_slow else LOOKUP_SECONDS
        try:
            async with asyncio.timeout(patience):
                found = await self._store.get_many(names)
        except (StoreError, TimeoutError):
            self._store_is_slow = True
            self._metrics.cache_failures.labels("result").inc(len(names))
            return [None] * len(names)
        self._store_is_slow = False
        return found


def recalls_of(commands: Sequence[Any], bodies: Mapping[Reference, Record]) -> Mapping[str, str]:
    """Return by job id where the store may hold an earlier result, for the jobs that look for one."""
    return {
        one.job_id: _stored(history_key(decode(bodies[one.reference].value, "circuit_request")[1]))
        for one in commands
        if isinstance(one, Recall)
    }


def _stored(history: str) -> str:
    return f"history:{history}"


def _names(event: Submitted) -> list[str]:
    """Return the keys under which something may be stored that answers a request."""
    names = [f"cache:{event.cache_key}"] if event.cache_key else []
    if event.history_key and asks_for_earlier(event.request) and "/" in event.history_key:
        names.append(_stored(event.history_key))
    return names


def _found(event: Submitted, found: Mapping[str, bytes | None]) -> Submitted:
    cached = _usable(found.get(f"cache:{event.cache_key}"), event)
    earlier = read_result(found.get(_stored(event.history_key))) if event.history_key else None
    if cached is None and earlier is None:
        return event
    return dataclasses.replace(event, cached=cached, earlier=earlier)


def _usable(raw: bytes | None, event: Submitted) -> Mapping[str, Any] | None:
    """Decode a cached result; None when there is none, it is unreadable or too old for this request."""
    cached = read_result(raw)
    if cached is None:
        return None
    oldest = event.request["max_result_age_ms"]
    age_ms = event.published_ms - cached["finished_us"] // 1000
    return cached if oldest is None or age_ms <= oldest else None
