"""A connection pool to one Kafka cluster with leaders and coordinators looked up, over aiokafka's client."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from aiokafka import errors
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.conn import collect_hosts, create_conn

from shotbus.broker.bus.base import BusError, TopicPartition, UnknownTopicError
from shotbus.broker.bus.kafka_settings import (
    CALL_SECONDS,
    RETRY_SECONDS,
    KafkaSettings,
    client_options,
    connection_options,
)

GROUP = CoordinationType.GROUP
TRANSACTION = CoordinationType.TRANSACTION

# A topic that was just created may be unknown to other brokers for a moment.
_UNKNOWN_TOPIC_GRACE_SECONDS = 0.5
# How long a start that is given up may take to get to where its connection can be closed.
_LAST_SECONDS = 0.5
UNREACHABLE = (errors.KafkaError, OSError, TimeoutError)


T = TypeVar("T")


class _RedactSasl(logging.Filter):
    """aiokafka logs whole requests at DEBUG, a PLAIN password among them."""

    def filter(self, record: logging.LogRecord) -> bool:
        args = record.args if isinstance(record.args, tuple) else ()
        return not any(type(arg).__name__.startswith("SaslAuthenticate") for arg in args)


_REDACT = _RedactSasl()
# Where nobody has configured logging, Python prints warnings bare on standard error; what they say is in
# our exceptions. A process that has configured it gets them all the same.
_UNHEARD = logging.NullHandler()


class Link:
    """Sends requests to a cluster. One per reader and per writer: a long poll blocks its connection."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._client: Any = None
        self._closed = False
        self._starting = asyncio.Lock()
        self._coordinators: dict[tuple[int, str], int] = {}

    async def start(self) -> None:
        """Connect once; later calls do nothing. Raises :class:`BusError` that says what to check."""
        async with self._starting:
            if self._closed:
                raise BusError("this connection to Kafka was closed")
            if self._client is not None:
                return
            logging.getLogger("aiokafka.conn").addFilter(_REDACT)
            logging.getLogger("aiokafka").addHandler(_UNHEARD)
            self._client = await self._connected()

    async def _connected(self) -> Any:
        """Return a client that knows brokers: a cluster that comes back may have none for a moment."""
        deadline = time.monotonic() + CALL_SECONDS
        while True:
            client = await self._bootstrapped()
            if client.cluster.brokers():
                return client
            await client.close()
            if time.monotonic() > deadline:
                raise BusError(await _diagnosis(self._settings))
            await asyncio.sleep(RETRY_SECONDS)

    async def _bootstrapped(self) -> Any:
        client = AIOKafkaClient(**client_options(self._settings))
        connecting = asyncio.ensure_future(client.bootstrap())
        try:
            await asyncio.shield(connecting)
        except UNREACHABLE as error:
            await client.close()
            raise BusError(await _diagnosis(self._settings)) from error
        except asyncio.CancelledError:
            # Cancelled midway it would leave a connection behind that nobody else knows of.
            await asyncio.wait([connecting], timeout=_LAST_SECONDS)
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
            await client.close()
            raise
        return client

    async def close(self) -> None:
        """Close every connection, for good."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    @property
    def _open(self) -> Any:
        if self._client is None:
            raise BusError("the Kafka bus is not started, or closed")
        return self._client

    async def call(self, node: int, request: Any, *, lane: int = 0) -> Any:
        """Send ``request`` and return the response. Lanes are separate connections to a node.

        Raises aiokafka's KafkaError when the node cannot be reached.
        """
        return await self._open.send(node, request, group=lane)

    def any_node(self) -> int:
        """Return some node of the cluster."""
        node: int | None = self._open.get_random_node()
        if node is None:
            raise errors.NoBrokersAvailable
        return node

    def controller(self) -> int:
        """Return the node that takes administrative requests."""
        controller = self._open.cluster.controller
        return self.any_node() if controller is None else int(controller.nodeId)

    def leader(self, partition: TopicPartition) -> int | None:
        """Return the node that leads ``partition`` as far as known."""
        leader = self._open.cluster.leader_for_partition(partition)
        return None if leader in (None, -1) else int(leader)

    def knows(self, partition: TopicPartition) -> bool:
        """Whether the last metadata listed ``partition``."""
        return partition.partition in (self._open.cluster.partitions_for_topic(partition.topic) or ())

    async def refresh(self, topics: Iterable[str]) -> None:
        """Fetch metadata that covers ``topics``."""
        for topic in topics:
            self._open.add_topic(topic)
        await self._open.force_metadata_update()

    async def leaders(
        self, partitions: Iterable[TopicPartition], *, created: bool = False
    ) -> dict[int, list[TopicPartition]]:
        """Group partitions by leader, waiting for elections. Raises :class:`UnknownTopicError`.

        ``created``: they were made a moment ago, so a busy cluster that does not know them yet will.
        """
        wanted = list(partitions)
        began = time.monotonic()
        while True:
            missing = [partition for partition in wanted if self.leader(partition) is None]
            if not missing:
                break
            await self.refresh({partition.topic for partition in missing})
            grace = CALL_SECONDS if created else _UNKNOWN_TOPIC_GRACE_SECONDS
            self._check_patience(missing, time.monotonic() - began, grace)
            if any(self.leader(partition) is None for partition in missing):
                await asyncio.sleep(RETRY_SECONDS)
        grouped: dict[int, list[TopicPartition]] = {}
        for partition in wanted:
            leader = self.leader(partition)
            assert leader is not None, partition
            grouped.setdefault(leader, []).append(partition)
        return grouped

    def _check_patience(self, missing: list[TopicPartition], waited: float, grace: float) -> None:
        unknown = [partition for partition in missing if not self.knows(partition)]
        if unknown and waited > grace:
            msg = f"{unknown[0].topic}/{unknown[0].partition} does not exist"
            raise UnknownTopicError(msg)
        if waited > CALL_SECONDS:
            msg = f"{missing[0].topic}/{missing[0].partition} has no leader; is a broker down?"
            raise BusError(msg)

    async def persist(self, doing: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """Repeat ``attempt`` while it raises retriable Kafka errors; then :class:`BusError`."""
        deadline = time.monotonic() + CALL_SECONDS
        while True:
            try:
                return await attempt()
            except errors.KafkaError as error:
                if not error.retriable or time.monotonic() > deadline:
                    msg = f"{doing}: {error!r}"
                    raise BusError(msg) from error
            await asyncio.sleep(RETRY_SECONDS)

    async def coordinator(self, kind: int, key: str) -> int:
        """Return the node that coordinates a group or a transactional id."""
        node = self._coordinators.get((kind, key))
        if node is None:
            node = int(await self._open.coordinator_lookup(kind, key))
            self._coordinators[kind, key] = node
        return node

    def forget_coordinator(self, kind: int, key: str) -> None:
        """Look the coordinator up again next time."""
        self._coordinators.pop((kind, key), None)


async def _diagnosis(settings: KafkaSettings) -> str:
    """Say why no bootstrap address answered: the library logs the reason and raises a summary."""
    reasons = []
    for host, port, _ in collect_hosts(settings.bootstrap, randomize=False):
        try:
            connection = await create_conn(host, port, **connection_options(settings))
        except errors.SaslAuthenticationFailed:
            return f"Kafka at {host}:{port} refused {settings.identity}: check the user name and password"
        except errors.UnsupportedSaslMechanismError as error:
            return f"Kafka at {host}:{port} refused {settings.identity}: {error}"
        except (*UNREACHABLE, ValueError) as error:
            reasons.append(f"{host}:{port}: {error or type(error).__name__}")
        else:
            await connection.close()
            reasons.append(f"{host}:{port}: connected, but it named no broker that takes requests")
    what = f"cannot reach Kafka as {settings.identity}; check address, protocol and TLS files"
    return f"{what}: {'; '.join(reasons)}"
