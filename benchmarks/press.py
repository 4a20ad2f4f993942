"""Prints requests fast: one is built as ``submit()`` does, the rest are copies with their own ids. Does I/O.

Publishes straight on the bus, without handles: a million requests take well under a minute.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass

from shotbus.benchmarks.place import TINY
from shotbus.broker.bus.base import Outgoing
from shotbus.producers.client import AsyncClient
from shotbus.producers.request import Wishes, question_of
from shotbus.producers.result import JobTimeoutError
from shotbus.schemas.codec import encode
from shotbus.schemas.ids import job_id as make_job_id
from shotbus.schemas.payload import payload_hash

_BATCH = 1_000
_LOOK_SECONDS = 0.1
_PATIENCE_SECONDS = 1_800.0


@dataclass(frozen=True, slots=True)
class Kind:
    """What a set of requests has in common; ``seconds`` is what a pool of sleepers takes for a point."""

    pool: str
    priority: str = "bulk"
    tenant: str = "default"
    seconds: float = 0.0
    points: int = 1


class Press:
    """Prints requests of one kind.

    Args:
        client: a connected one.
        kind: what they ask for.

    """

    def __init__(self, client: AsyncClient, kind: Kind) -> None:
        self._client, self._kind = client, kind
        self._question = question_of(TINY, None, shots=1, observables=None, precision=None)
        self._wishes = Wishes(
            principal="bench",
            backend=kind.pool,
            priority=kind.priority,
            tenant=kind.tenant,
            intent="benchmark",
            options={"seconds": repr(kind.seconds)} if kind.seconds else {},
        )

    async def send_circuit(self) -> None:
        """Publish the circuit that the requests name."""
        await self._client.session.send_circuit(self._question.program)

    def records(self, count: int) -> list[Outgoing]:
        """Return ``count`` records, submitted now."""
        fields = self._client.build(self._question, self._wishes)
        # More points than bindings: no pool that is measured with these looks at them.
        fields["points"] = self._kind.points
        fields["payload_hash"] = payload_hash(fields)
        head, mark, tail = encode("circuit_request", fields).partition(fields["job_id"].encode())
        assert mark, "an id is written as it is"
        session, tenant = self._client.session, self._kind.tenant
        trace = session.traceparent()
        records = []
        for _ in range(count):
            name = make_job_id(tenant, entropy=os.urandom(12))
            known = {"job_id": name, "tenant": tenant, "priority": self._kind.priority}
            records.append(session.request(known, head + name.encode() + tail, trace))
        return records


async def fill(client: AsyncClient, wanted: Mapping[Kind, int]) -> None:
    """Publish so many requests of each kind, evenly mixed; durable on return."""
    presses = {kind: Press(client, kind) for kind in wanted}
    for press in presses.values():
        await press.send_circuit()
    rounds = -(-sum(wanted.values()) // _BATCH)
    for turn in range(rounds):
        records = [
            record
            for kind, count in wanted.items()
            for record in presses[kind].records(count * (turn + 1) // rounds - count * turn // rounds)
        ]
        await client.session.bus.publish(records)


async def until_waiting(client: AsyncClient, pool: str, jobs: int) -> None:
    """Return when the shards say that so many jobs wait for a pool. Raises TimeoutError."""
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while await _waiting(client, pool) < jobs:
            await asyncio.sleep(_LOOK_SECONDS)


async def _waiting(client: AsyncClient, pool: str) -> int:
    try:
        return (await client.pool_state(pool)).jobs
    except JobTimeoutError:
        # A shard under so much load may answer late; whoever asks has a limit of its own.
        return 0
