"""Memory of a dispatcher with many waiting jobs, and how long it takes to have them back. Does I/O.

Only the dispatcher runs: nobody serves the pool, so every job waits. Requests are built one by one as
``submit()`` builds them, but published in batches and without handles, which keeps this short.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from shotbus.benchmarks.figures import Figure, Report, Target
from shotbus.benchmarks.place import TINY, Place, begin, cluster, connected
from shotbus.benchmarks.usage import resident_bytes
from shotbus.broker.pools import PoolsTail
from shotbus.deploy.cluster import Cluster, Role
from shotbus.producers.client import AsyncClient
from shotbus.producers.request import Wishes, question_of
from shotbus.schemas.codec import encode

TARGET_MIB = 400.0
_BATCH = 500
_LOOK_SECONDS = 0.1
_PATIENCE_SECONDS = 600.0


async def measure(place: Place, *, jobs: int) -> Report:
    """Fill one dispatcher with ``jobs`` waiting jobs, weigh it, restart it."""
    with cluster(place) as roles:
        first = _start(place, roles, "dispatcher-1")
        async with connected(place) as client:
            base = resident_bytes(first.process.pid)
            began = time.perf_counter()
            await _fill(client, jobs)
            await _until_waiting(client, first, jobs)
            filled = time.perf_counter() - began
            full = resident_bytes(first.process.pid)
            peak = resident_bytes(first.process.pid, "VmHWM")
            await asyncio.to_thread(first.stop)
            began = time.perf_counter()
            second = begin(roles, place, "dispatcher-2", "dispatcher")
            await asyncio.to_thread(roles.wait, "dispatcher-2")
            await _until_waiting(client, second, jobs)
            restored = time.perf_counter() - began
            after = resident_bytes(second.process.pid)
    return _report(
        place, jobs, base=base, full=full, peak=peak, after=after, filled=filled, restored=restored
    )


def _start(place: Place, roles: Cluster, name: str) -> Role:
    role = begin(roles, place, name, "dispatcher")
    roles.wait(name)
    return role


def _report(
    place: Place, jobs: int, *, base: int, full: int, peak: int, after: int, filled: float, restored: float
) -> Report:
    name, mib = f"memory {place.name}", 1 << 20
    most = max(full, after) / mib
    told = f"{full / mib:.0f} MiB filled (peak {peak / mib:.0f}), {after / mib:.0f} MiB restored"
    return Report(
        [
            Figure(name, "dispatcher, nothing waiting", base / mib, "MiB"),
            Figure(
                name,
                f"dispatcher, {jobs:,} jobs waiting",
                most,
                "MiB",
                target=Target("below", TARGET_MIB),
                noise=told,
            ),
            Figure(name, "a waiting job", (full - base) / jobs, "bytes"),
            Figure(name, "submit and admit them", jobs / filled, "1/s"),
            Figure(name, "restart until all wait again", restored, "s"),
        ],
        [f"{name}: the restart includes starting the process; the end is seen within half a second"],
    )


async def _fill(client: AsyncClient, jobs: int) -> None:
    """Publish ``jobs`` requests for the pool that nobody serves."""
    session = client.session
    wishes = Wishes(principal="bench", backend="noop", intent="benchmark")
    question = question_of(TINY, None, shots=1, observables=None, precision=None)
    await session.send_circuit(question.program)
    for start in range(0, jobs, _BATCH):
        records = []
        for _ in range(min(_BATCH, jobs - start)):
            fields = client.build(question, wishes)
            value = encode("circuit_request", fields)
            records.append(session.request(fields, value, session.traceparent()))
        await session.bus.publish(records)


async def _until_waiting(client: AsyncClient, role: Role, jobs: int) -> None:
    """Return when the dispatcher advertises that all of them wait. Raises TimeoutError."""
    session = client.session
    each = session.config.pools["noop"].seconds_per_point
    waiting: dict[bytes, float] = {}

    def learn(key: bytes, fields: Mapping[str, Any] | None, heard: float) -> None:
        del heard
        if key.startswith(b"d/") and f"-{role.process.pid}-".encode() in key and fields is not None:
            waiting[key] = fields["backlog"].get("noop", 0.0) / each

    tail = asyncio.create_task(PoolsTail(session.bus, session.topics, learn).run())
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            # The advertisement comes every half second whether or not anything happened.
            while sum(waiting.values()) < jobs - 0.5:
                await asyncio.sleep(_LOOK_SECONDS)
    finally:
        tail.cancel()
        await asyncio.gather(tail, return_exceptions=True)
