"""A client's connection: bus, store, inbox, and the few records a client writes. I/O through them."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shotbus.broker.bus.base import Outgoing, Record, TopicPartition
from shotbus.broker.bus.scan import scan
from shotbus.broker.config import Config
from shotbus.broker.connect import open_bus, open_store, parse_url, topics_for
from shotbus.broker.store.base import StoreError
from shotbus.broker.store.reading import read_documents
from shotbus.broker.tracing import new_trace, parse_traceparent
from shotbus.producers.embedded import EmbeddedBroker, is_running
from shotbus.producers.inbox import Inbox
from shotbus.producers.program import Program
from shotbus.producers.templates import TemplateRegister
from shotbus.schemas.codec import encode
from shotbus.schemas.ids import keyed_partition, partition_of
from shotbus.schemas.outcomes import LATE_HEADER

# A circuit topic keeps texts for 30 days; a long-lived client sends them again after half of that.
_RESEND_SECONDS = 15 * 86_400


class Session:
    """Everything under a client.

    Args:
        url: see :mod:`shotbus.broker.connect`; None or ``sqlite://`` starts a broker on a temporary
            directory that goes with the client.
        config: classes, limits, security.

    """

    def __init__(self, url: str | None, config: Config) -> None:
        self._temporary: Path | None = None
        if url in (None, "sqlite://"):
            self._temporary = Path(tempfile.mkdtemp(prefix="shotbus-"))
            url = f"sqlite:///{self._temporary}"
        self.url = url or ""
        self.address = parse_url(self.url)
        self.config = config
        self.topics = topics_for(self.address, config)
        self.bus = open_bus(self.address, config, client_id="shotbus-client")
        self.store = open_store(self.address, config)
        self.inbox = Inbox(self.bus, self.topics)
        self._templates = TemplateRegister(self.bus, self.topics)
        self._broker = EmbeddedBroker(self.address.directory, config) if self.address.directory else None
        self._started = False
        self._pools: set[str] = set()
        self._sent: dict[tuple[str, str, str], float] = {}
        self._declared: dict[str, tuple[str, str]] = {}
        self._unanswered = 0
        self._answered_at: float | None = None
        self._sending: dict[tuple[str, str, str], asyncio.Task[list[int]]] = {}

    async def start(self) -> None:
        """Start an embedded broker where that is asked for, connect, listen."""
        if self._broker:
            await self._broker.start()
        await self.bus.start()
        await self.store.start()
        if not self.address.embedded:
            await self.bus.create_topics(self.topics.specs(self.config.pools))
        await self.inbox.start()
        self._started = True

    def _will_start_broker(self) -> bool:
        directory = self.address.directory
        return directory is not None and not is_running(directory)

    async def close(self) -> None:
        """Close everything; a broker that this session started stops, a temporary directory goes."""
        await self.inbox.close()
        await self.bus.close()
        await self.store.close()
        if self._broker:
            await self._broker.close()
        if self._temporary:
            await asyncio.to_thread(shutil.rmtree, self._temporary, ignore_errors=True)

    def think_seconds(self, now: float) -> float:
        """Return a loop's think time: since the last answer, when nothing else is under way; else 0.

        ``now`` is of ``time.perf_counter()``.
        """
        if self._unanswered or self._answered_at is None:
            return 0.0
        return max(0.0, now - self._answered_at)

    def asked(self) -> None:
        """Count a submission that was published."""
        self._unanswered += 1

    def answered(self) -> None:
        """Count the answer to one of this session's submissions."""
        self._unanswered -= 1
        self._answered_at = time.perf_counter()

    async def send_circuit(self, program: Program, family: str = "", version: str = "") -> None:
        """Publish a circuit's text with its declared family unless this session did; durable on return.

        Raises ShotbusError (SB-1223) for a template whose name means another circuit on this bus.
        """
        if program.template:
            await self._templates.claim(program)
        name = program.circuit_id
        if not (family or version):
            # Who declares none must not take away what this session declared of the same text before.
            family, version = self._declared.get(name, ("", ""))
        self._declared[name] = family, version
        key = (name, family, version)
        if time.monotonic() - self._sent.get(key, -_RESEND_SECONDS) < _RESEND_SECONDS:
            return
        task = self._sending.get(key)
        if task is None:
            record = self._circuit(program, family, version)
            task = self._sending[key] = asyncio.create_task(self.bus.publish([record]))
        try:
            await asyncio.shield(task)
            self._sent[key] = time.monotonic()
        finally:
            self._sending.pop(key, None)

    def _circuit(self, program: Program, family: str, version: str) -> Outgoing:
        fields = {
            "circuit_id": program.circuit_id,
            "language": program.facts.language,
            "text": program.text,
            "family": family,
            "family_version": version,
        }
        partition = keyed_partition(program.circuit_id, self.topics.partitions)
        key = program.circuit_id.encode()
        return Outgoing(self.topics.name("circuits"), partition, key, encode("circuit", fields))

    def request(self, fields: Mapping[str, Any], value: bytes, traceparent: str) -> Outgoing:
        """Return the record of an encoded request."""
        job_id: str = fields["job_id"]
        headers = (
            ("traceparent", traceparent.encode()),
            ("job-id", job_id.encode()),
            ("tenant", fields["tenant"].encode()),
            ("priority", fields["priority"].encode()),
        )
        partition = partition_of(job_id, self.topics.partitions)
        topic = self.topics.requests(fields["priority"])
        return Outgoing(topic, partition, job_id.encode(), value, headers)

    def traceparent(self, given: str = "") -> str:
        """Begin a trace, or a new span of the trace of a ``traceparent`` header that was given."""
        context = parse_traceparent(given)
        return context.child(os.urandom(8)).header() if context else new_trace(os.urandom(24)).header()

    async def has_pool(self, pool: str) -> bool:
        """Tell whether a pool is configured here or has a topic on this bus.

        Before :meth:`start` nobody can be asked: then a pool that is not configured here exists only where
        a broker runs that may know more.
        """
        if pool in self.config.pools or pool in self._pools:
            return True
        return pool in await self.pools() if self._started else not self._will_start_broker()

    async def pools(self) -> set[str]:
        """Return the pools that are configured here or, once started, have a topic on this bus."""
        if not self._started:
            return set(self.config.pools)
        prefix = self.topics.work("")
        self._pools = {
            name.removeprefix(prefix) for name in await self.bus.topics() if name.startswith(prefix)
        }
        return self._pools | set(self.config.pools)

    async def read_model(self, key: str) -> bytes | None:
        """Return a read model from the store; a dead store has none."""
        try:
            return (await read_documents(self.store, [key]))[0]
        except StoreError:
            return None

    async def find_result(self, job_id: str, since_ms: int) -> Record | None:
        """Find a finished job's result on the bus, from a little before ``since_ms`` (wall time)."""
        places = self._places("results")
        starts = {place: await self.bus.offset_at(place, since_ms - 5_000) for place in places}
        found = await self._scan(starts, job_id)
        return next((one for one in found if one.value is not None and _is_answer(one)), None)

    async def find_reduction(self, sweep_id: str) -> Record | None:
        """Find a sweep's newest reduction on the bus."""
        number = keyed_partition(sweep_id, self.topics.partitions)
        place = self._places("reductions")[number]
        found = await self._scan(await self.bus.begins([place]), sweep_id)
        return found[-1] if found else None

    def _places(self, topic: str) -> list[TopicPartition]:
        name = self.topics.name(topic)
        return [TopicPartition(name, number) for number in range(self.topics.partitions)]

    async def _scan(self, starts: Mapping[TopicPartition, int], key: str) -> list[Record]:
        """Return the records of a key from the given offsets to the present ends."""
        wanted = key.encode()
        return [record async for batch in scan(self.bus, starts) for record in batch if record.key == wanted]


def _is_answer(record: Record) -> bool:
    from shotbus.schemas.codec import identify

    return LATE_HEADER not in record.headers and identify(record.value).name == "circuit_result"
