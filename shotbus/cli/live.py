"""How the pools are right now, for whoever asks what a decision would be. Reads the bus, starts nothing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shotbus.broker.bus.base import BusError
from shotbus.broker.config import Config
from shotbus.broker.connect import Address, open_bus, parse_url, topics_for
from shotbus.broker.policy.facts import PoolView
from shotbus.broker.store.base import StoreError
from shotbus.broker.urls import public_url
from shotbus.cli.common import Options, log_to_stderr, run_async
from shotbus.schemas.errors import ShotbusError

_LOOK_SECONDS = 3.0
_SILENT_SECONDS = 5.0
Advert = Mapping[str, Any]


def live_views(options: Options) -> tuple[dict[str, PoolView], str, bool]:
    """Return the pools as they are, in words where that comes from, and whether they were asked.

    Without a broker that runs, or one that can be reached, they are taken to be idle.
    """
    address = parse_url(options.url)
    if address.untouched:
        return _idle(options, f"nothing runs in {address.directory}")
    log_to_stderr()
    try:
        adverts = run_async(_adverts(address, options.config))
        if any(advert["role"] == "dispatcher" for advert in adverts):
            views = run_async(_views(options, adverts))
            return views, f"pools as {public_url(options.url)} tells them now", True
    except (BusError, StoreError, ShotbusError, TimeoutError, OSError) as error:
        return _idle(options, f"{public_url(options.url)} cannot be asked ({error or 'no answer'})")
    return _idle(options, f"no dispatcher runs on {public_url(options.url)}")


def _idle(options: Options, why: str) -> tuple[dict[str, PoolView], str, bool]:
    idle = PoolView(wait=(0.0, 0.0, 0.0))
    return (
        dict.fromkeys(options.config.pools, idle),
        f"{why}: every pool is taken to be ready and idle",
        False,
    )


async def _adverts(address: Address, config: Config) -> list[Advert]:
    """Return the advertisements that are young enough."""
    import asyncio

    from shotbus.broker.pools import PoolsTail

    found: dict[bytes, tuple[Advert, float]] = {}

    def learn(key: bytes, fields: Advert | None, heard: float) -> None:
        found.pop(key, None)
        if fields is not None:
            found[key] = fields, heard

    bus = open_bus(address, config, client_id="shotbus-policy")
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            await bus.start()
            await PoolsTail(bus, topics_for(address, config), learn).catch_up()
    finally:
        await bus.close()
    now = time.monotonic()
    return [fields for fields, heard in found.values() if now - heard < _SILENT_SECONDS]


async def _views(options: Options, adverts: Sequence[Advert]) -> dict[str, PoolView]:
    words = await _words(options, options.config.pools)
    now_ms = time.time_ns() // 1_000_000
    return {pool: view_of(pool, words.get(pool, ""), adverts, now_ms=now_ms) for pool in options.config.pools}


async def _words(options: Options, pools: Iterable[str]) -> dict[str, str]:
    """Return what the dispatchers say each pool is; nothing of one about which they are silent."""
    from shotbus.cli.jobs import connect
    from shotbus.producers.result import JobTimeoutError

    words = {}
    async with connect(options) as client:
        for pool in pools:
            try:
                words[pool] = (await client.pool_state(pool)).word
            except JobTimeoutError:
                break
    return words


def view_of(pool: str, word: str, adverts: Sequence[Advert], *, now_ms: int) -> PoolView:
    """Return a pool's view from its workers' and the dispatchers' advertisements.

    The wait is the work that waits over the slots that serve, from half to twice of it, besides what the
    provider says; the dispatchers' own estimate for a job that waits is better than that.
    """
    workers = [one for one in adverts if one["role"] == "worker" and one["pool"] == pool]
    serving = [one for one in workers if one["state"] == "ready" and not one.get("unhealthy")]
    slots = sum(one["slots"] for one in serving)
    backlog = sum(one["backlog"].get(pool, 0.0) for one in adverts if one["role"] == "dispatcher")
    provider = max((one.get("provider_queue_seconds", 0.0) for one in serving), default=0.0)
    wait = backlog / slots + max(0.0, provider) if slots else None
    calibrated = [one["calibrated_ms"] for one in serving if one.get("calibrated_ms")]
    return PoolView(
        state=_state(word, workers, serving),
        wait=None if wait is None else (wait / 2, wait, wait * 2),
        calibration_age_seconds=max(0.0, (now_ms - min(calibrated)) / 1000) if calibrated else None,
        fidelity=_least(serving, "fidelity"),
        t1_us=_least(serving, "t1_us"),
        t2_us=_least(serving, "t2_us"),
    )


def _state(word: str, workers: Sequence[Advert], serving: Sequence[Advert]) -> str:
    if word in ("paused", "draining"):
        return word
    if serving:
        return "ready"
    return "draining" if any(one["state"] == "draining" for one in workers) else "unserved"


def _least(serving: Sequence[Advert], name: str) -> float | None:
    return min((one[name] for one in serving if one.get(name)), default=None)
