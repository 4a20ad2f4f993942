"""A shard's only writer on Kafka: a transaction per commit, under the epoch that fenced older writers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from aiokafka import errors
from aiokafka.protocol.transaction import AddPartitionsToTxnRequest, EndTxnRequest

from shotbus.broker.bus.base import BusError, CommitUnknownError, FencedError, Outgoing, TopicPartition
from shotbus.broker.bus.kafka_appender import Batch, Busy, Identity, Packer, append, recover, take_identity
from shotbus.broker.bus.kafka_errors import (
    CONCURRENT_TRANSACTIONS,
    OK,
    OPERATION_NOT_ATTEMPTED,
    bus_error,
    coordinator_moved,
    retriable,
    unknown_commit,
)
from shotbus.broker.bus.kafka_link import TRANSACTION, Link
from shotbus.broker.bus.kafka_settings import KafkaSettings
from shotbus.broker.bus.kafka_topics import Catalog

_log = logging.getLogger(__name__)


class KafkaShardWriter:
    """See :class:`~.base.ShardWriter`. Made by :meth:`KafkaBus.fence`.

    After any error but :class:`RecordTooLargeError` and :class:`UnknownTopicError` the writer is spent.
    """

    def __init__(
        self,
        shard: str,
        link: Link,
        catalog: Catalog,
        settings: KafkaSettings,
        on_close: Callable[[KafkaShardWriter], None],
    ) -> None:
        self._shard = shard
        self._link = link
        self._catalog = catalog
        self._timeout = settings.transaction_timeout_ms / 1000
        self._on_close = on_close
        self._identity = Identity(-1, -1)
        self._spent: BusError | None = None
        self._busy = False

    async def take(self) -> None:
        """Fence older writers; returns when what they left open has been aborted."""
        await self._link.start()
        self._identity = await take_identity(self._link, self._shard, int(self._timeout * 1000))

    async def commit(self, records: Sequence[Outgoing]) -> None:
        async with self._exclusive():
            await self._catalog.check(records)
            if records:
                await self._transact(self._pack(records))

    async def close(self) -> None:
        self._spent = self._spent or BusError(f"the writer of shard {self._shard!r} is closed")
        await self._link.close()
        self._on_close(self)

    @contextlib.asynccontextmanager
    async def _exclusive(self) -> AsyncIterator[None]:
        if self._busy:
            msg = f"shard {self._shard!r}: a writer belongs to one task, and another one is committing"
            raise BusError(msg)
        if self._spent is not None:
            raise type(self._spent)(*self._spent.args)
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def _pack(self, records: Sequence[Outgoing]) -> list[dict[TopicPartition, Batch]]:
        """Encode into rounds of at most one batch a partition, as the protocol wants."""
        parts: dict[TopicPartition, list[Outgoing]] = {}
        for record in records:
            parts.setdefault(TopicPartition(record.topic, record.partition), []).append(record)
        packer = Packer(self._identity, transactional=True)
        rounds: list[dict[TopicPartition, Batch]] = []
        for partition, own in parts.items():
            for number, batch in enumerate(
                packer.pack(partition, own, self._catalog.batch_bytes(partition.topic))
            ):
                if number == len(rounds):
                    rounds.append({})
                rounds[number][partition] = batch
        return rounds

    async def _transact(self, rounds: list[dict[TopicPartition, Batch]]) -> None:
        # Set before the first await: a cancelled commit has an unknown end too.
        self._spent = unknown_commit(self._shard, "interrupted")
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout):
                await self._enlist(list(rounds[0]))
                for batches in rounds:
                    await append(self._link, self._shard, batches)
                await self._decide()
        except TimeoutError as error:
            self._spent = unknown_commit(self._shard, f"no answer within {self._timeout:g} s")
            raise self._spent from error
        except BusError as error:
            self._catalog.forget({partition.topic for partition in rounds[0]})
            self._spent = self._verdict(error, time.monotonic() - began)
            raise self._spent from error
        await self._settle()
        self._spent = None

    def _verdict(self, error: BusError, seconds: float) -> BusError:
        if isinstance(error, CommitUnknownError):
            return error
        # The coordinator also raises the epoch when it aborts a transaction for its age.
        if isinstance(error, FencedError) and seconds < self._timeout:
            return FencedError(f"shard {self._shard!r}: {error}")
        return unknown_commit(self._shard, error)

    async def _enlist(self, partitions: Sequence[TopicPartition]) -> None:
        topics: dict[str, list[int]] = {}
        for partition in partitions:
            topics.setdefault(partition.topic, []).append(partition.partition)
        identity = self._identity
        request = AddPartitionsToTxnRequest(
            self._shard, identity.producer, identity.epoch, list(topics.items())
        )
        busy = Busy()
        while True:
            response = await self._coordinate(request)
            if response is not None:
                codes = {code for _, answers in response.errors for _, code in answers} - {OK}
                if not codes:
                    return
                await self._judge(codes, busy)

    async def _decide(self) -> None:
        """End the transaction. An error after a lost answer leaves the end unknown."""
        busy, lost = Busy(), False
        while True:
            response = await self._coordinate(self._end_request())
            if response is None:
                lost = True
            elif response.error_code == OK:
                return
            elif lost and not retriable(response.error_code):
                raise unknown_commit(self._shard, bus_error(response.error_code, "end"))
            else:
                await self._judge({response.error_code}, busy)

    async def _settle(self) -> None:
        """Wait until the committed transaction's markers are in every partition.

        Before they are, ``ends`` would not count what this commit wrote, and the next transaction would
        have to wait. The same question again is idempotent: "busy" until the work is complete. Whatever
        else it answers, the commit stands, and a successor's fencing waits for the markers itself.
        """
        busy = Busy()
        try:
            async with asyncio.timeout(self._timeout):
                while True:
                    response = await self._coordinate(self._end_request())
                    if response is not None and response.error_code != CONCURRENT_TRANSACTIONS:
                        return
                    await busy.wait()
        except (BusError, TimeoutError) as error:
            _log.info("shard %s: committed, markers not confirmed: %s", self._shard, error)

    def _end_request(self) -> Any:
        return EndTxnRequest(
            self._shard, self._identity.producer, self._identity.epoch, transaction_result=True
        )

    async def _coordinate(self, request: Any) -> Any:
        try:
            node = await self._link.coordinator(TRANSACTION, self._shard)
            return await self._link.call(node, request)
        except errors.KafkaError as error:
            await recover(self._link, self._shard, error)
            return None

    async def _judge(self, codes: set[int], busy: Busy) -> None:
        for code in sorted(codes):
            if not retriable(code) and code != OPERATION_NOT_ATTEMPTED:
                raise bus_error(code, "transaction")
            if coordinator_moved(code):
                self._link.forget_coordinator(TRANSACTION, self._shard)
        await busy.wait()
