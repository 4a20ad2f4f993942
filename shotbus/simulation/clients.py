"""The clients of a simulation: they submit, repeat, cancel, and note what they know of it. Pure.

A call that got no answer is repeated, as a careful client does; one that never got any stays unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from shotbus.broker.bus.base import BusError, Outgoing
from shotbus.broker.invariants import History, Operation
from shotbus.broker.topics import Topics
from shotbus.schemas.codec import decode, encode
from shotbus.schemas.ids import keyed_partition, partition_of
from shotbus.schemas.payload import payload_hash
from shotbus.simulation.loop import SimulatedLoop
from shotbus.simulation.network import LinkedBus
from shotbus.simulation.requests import Requests

_TRIES = 6
_RETRY_SECONDS = 0.5


class Clients:
    """Everybody who is not the broker, behind one link.

    Args:
        bus: started.
        requests: what is asked for.
        history: where it is noted.
        tell: adds a line to the story.

    """

    def __init__(
        self,
        loop: SimulatedLoop,
        bus: LinkedBus,
        topics: Topics,
        *,
        random: Random,
        requests: Requests,
        history: History,
        tell: Callable[[str, str], None],
    ) -> None:
        self._loop, self._bus, self._topics, self._random = loop, bus, topics, random
        self._requests, self._tell = requests, tell
        self.history = history

    async def submit_all(self, jobs: int, seconds: float) -> None:
        """Submit at random moments; now and then twice, with another payload, or nonsense."""
        moments = sorted(self._random.uniform(0, seconds) for _ in range(jobs))
        async with asyncio.TaskGroup() as calls:
            for moment in moments:
                await asyncio.sleep(max(0.0, moment - self._loop.time()))
                calls.create_task(self._visit())

    async def _visit(self) -> None:
        fields, random = self._requests.draw(), self._random
        if random.random() < 0.05:
            await self._submit_sweep()
        if random.random() < 0.01:
            await self._send_nonsense()
        await self.submit(fields)
        if random.random() < 0.1:
            await self.submit(fields)
        if random.random() < 0.08:
            await self._cancel(fields)

    async def submit(self, fields: dict[str, Any]) -> None:
        """Submit a job."""
        value = encode("circuit_request", fields)
        operation = self.history.invoke(
            "submit",
            fields["job_id"],
            fields["tenant"],
            self._loop.time(),
            key=fields["idempotency_key"],
            fingerprint=payload_hash(decode(value)[1]).hex(),
            raw=value,
        )
        topic, job_id = self._topics.requests(fields["priority"]), fields["job_id"]
        place = partition_of(job_id, self._topics.partitions)
        await self._publish(operation, Outgoing(topic, place, job_id.encode(), value))

    async def flood(self, jobs: int) -> None:
        """Submit many jobs of one tenant at once."""
        for _ in range(jobs):
            await self.submit(self._requests.draw_for("mallory", "bulk"))

    async def command(self, command: str, pool: str) -> None:
        """Pause, drain or resume a pool; tried until every shard has it."""
        record = self._requests.command(command, pool)
        missing = list(range(self._topics.partitions))
        while missing:
            outgoing = Outgoing(self._topics.name("control"), missing[0], None, record)
            if await self._sent(outgoing):
                missing.pop(0)
            else:
                await asyncio.sleep(_RETRY_SECONDS)

    async def _submit_sweep(self) -> None:
        declaration, sweep_id, requests = self._requests.sweep()
        operation = self.history.invoke("declare", sweep_id, requests[0]["tenant"], self._loop.time())
        partition = keyed_partition(sweep_id, self._topics.partitions)
        outgoing = Outgoing(self._topics.name("sweeps"), partition, None, declaration)
        await self._publish(operation, outgoing)
        if operation.status != "ok":
            return
        for fields in requests:
            await self.submit(fields)
            await asyncio.sleep(self._random.uniform(0, 0.2))

    async def _cancel(self, fields: dict[str, Any]) -> None:
        """Cancel a job, in a third of the cases another tenant's."""
        foreign = self._random.random() < 0.33
        await self.cancel(fields["job_id"], "mallory" if foreign else fields["tenant"])

    async def cancel(self, job_id: str, tenant: str) -> None:
        """Have a tenant cancel a job."""
        operation = self.history.invoke("cancel", job_id, tenant, self._loop.time())
        place = partition_of(job_id, self._topics.partitions)
        record = self._requests.cancel(job_id, tenant)
        await self._publish(operation, Outgoing(self._topics.name("control"), place, None, record))
        self._tell("clients", f"{tenant} cancels {job_id[:8]}")

    async def _send_nonsense(self) -> None:
        """Publish bytes that are no request: nobody is owed an answer."""
        topic = self._topics.requests("experiment")
        await self._sent(
            Outgoing(topic, self._random.randrange(self._topics.partitions), None, b"\0nonsense")
        )

    async def _publish(self, operation: Operation, record: Outgoing) -> None:
        for _ in range(_TRIES):
            if await self._sent(record):
                operation.ok(self._loop.time())
                return
            operation.unknown(self._loop.time())
            await asyncio.sleep(_RETRY_SECONDS)

    async def _sent(self, record: Outgoing) -> bool:
        try:
            await self._bus.publish([record])
        except BusError:
            return False
        return True
