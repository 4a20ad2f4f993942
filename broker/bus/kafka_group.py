"""A process's place in a Kafka consumer group, through a consumer that is paused and reads nothing."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, errors
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.structs import OffsetAndMetadata

from shotbus.broker.bus.base import BusError, LostCallback, ShardCallback, TopicPartition
from shotbus.broker.bus.kafka_settings import CALL_SECONDS, RETRY_SECONDS, KafkaSettings, membership_options
from shotbus.broker.bus.kafka_static import fenced, named
from shotbus.schemas.errors import ShotbusError, fail

_log = logging.getLogger(__name__)

_POLL_MS = 1_000
_JOIN_SECONDS = 30.0
_TROUBLE = (errors.KafkaError, TimeoutError, OSError)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    def __init__(self, membership: KafkaMembership) -> None:
        self._membership = membership

    async def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        del revoked  # the protocol is eager: every rebalance takes everything
        await self._membership.revoke()

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        await self._membership.assign(frozenset(partition.partition for partition in assigned))


class Callbacks(NamedTuple):
    """What a member is told through."""

    on_assigned: ShardCallback
    on_revoked: ShardCallback
    on_lost: LostCallback | None


class KafkaMembership:
    """See :class:`~.base.Membership`. Made by :meth:`KafkaBus.join`.

    A member that the library gives up (its coordination task dies) hands back what it holds and joins again.
    With ``settings.instance`` the place in the group is that instance's: who joins under its name gets what
    it held, at once and without a rebalance, and whoever had the place until then is fenced, and stays out.
    An exception in a callback is logged and raised by the next call of commit, committed or leave.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        group: str,
        topic: str,
        callbacks: Callbacks,
        on_close: Callable[[KafkaMembership], None],
    ) -> None:
        self._settings = settings
        self._group = group
        self._topic = topic
        self._on_assigned, self._on_revoked, self._on_lost = callbacks
        self._on_close = on_close
        self._held: frozenset[int] = frozenset()
        self._settled = asyncio.Event()
        self._left = False
        self._callback_error: Exception | None = None
        self._consumer: Any = None
        self._assignor: Any = None
        self._keeper: asyncio.Task[None] | None = None
        self._taken: ShotbusError | None = None

    @property
    def assigned(self) -> frozenset[int]:
        return self._held

    async def join(self) -> None:
        """Join and wait for the first assignment. Raises :class:`BusError`."""
        try:
            await self._connect()
        except BaseException as error:
            await self._disconnect()
            self._on_close(self)
            if self._taken is not None:
                raise self._taken from error
            if isinstance(error, _TROUBLE):
                msg = f"cannot join group {self._group!r}: {error!r}"
                raise BusError(msg) from error
            raise
        self._keeper = asyncio.create_task(self._keep())

    async def leave(self) -> None:
        if self._left:
            return
        await self.revoke()
        self._left = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self._disconnect(farewell=True)
        self._on_close(self)
        self._raise_callback_error()

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        offsets = {partition: OffsetAndMetadata(offset, "") for partition, offset in positions.items()}
        # The public commit() refuses partitions that are not assigned to the consumer. The broker asks
        # only for a current member and generation, which is what this call sends.
        await self._coordinate("commit", lambda coordinator: coordinator.commit_offsets(None, offsets))

    async def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        wanted = list(partitions)
        found = await self._coordinate(
            "read positions", lambda coordinator: coordinator.fetch_committed_offsets(wanted)
        )
        return {TopicPartition(*partition): position.offset for partition, position in found.items()}

    async def revoke(self) -> None:
        """Tell the owner that nothing is held any more (called by the listener)."""
        self._settled.clear()
        held, self._held = self._held, frozenset()
        if held and not self._left:
            await self._call(self._on_revoked, held)

    async def assign(self, partitions: frozenset[int]) -> None:
        """Tell the owner what it holds (called by the listener)."""
        if self._left:
            return
        # Paused before the fetcher has a position to fetch from.
        self._consumer.pause(*self._consumer.assignment())
        # aiokafka forgets to tell the sticky assignor its generation: without it the claims of a member
        # that was away count as much as the present ones.
        self._assignor.on_generation_assignment(self._consumer._coordinator.generation)  # noqa: SLF001
        self._held = partitions
        if partitions:
            await self._call(self._on_assigned, partitions)
        self._settled.set()

    async def _call(self, callback: ShardCallback, partitions: frozenset[int]) -> None:
        try:
            await callback(partitions)
        except Exception as error:  # noqa: BLE001  # the owner's code: kept, and raised by the next call
            # aiokafka would log it and forget it.
            _log.exception("group %s: the callback for partitions %s failed", self._group, sorted(partitions))
            self._callback_error = error

    async def _connect(self) -> None:
        # The assignor keeps its memory in class attributes: a class of its own for each membership.
        self._assignor = type("StickyAssignor", (StickyPartitionAssignor,), {})
        self._consumer = AIOKafkaConsumer(
            group_id=self._group,
            group_instance_id=self._settings.instance or None,
            partition_assignment_strategy=(self._assignor,),
            **membership_options(self._settings),
        )
        if self._settings.instance:
            client = self._consumer._client  # noqa: SLF001  # the one place that all its requests pass
            client.send = functools.partial(self._send, client.send)
        self._consumer.subscribe([self._topic], listener=_Listener(self))
        async with asyncio.timeout(_JOIN_SECONDS):
            await self._consumer.start()
            await self._settled.wait()

    async def _send(self, send: Callable[..., Awaitable[Any]], node: int, request: Any, **how: Any) -> Any:
        """Send for the consumer, and note when its place has been taken: for aiokafka it is any error."""
        response = await send(node, named(request, self._settings.instance), **how)
        if self._taken is None and fenced(response):
            told = f"another process has joined the group {self._group} under this name"
            self._taken = fail("SB-2006", "$.broker.instance", actual=self._settings.instance, detail=told)
        return response

    async def _disconnect(self, *, farewell: bool = False) -> None:
        """Close the consumer. A static member keeps its place, unless this is its ``farewell``."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            if farewell and consumer._coordinator is not None:  # noqa: SLF001  # see below
                # aiokafka leaves a group only as who has no instance. The member id is enough for the broker,
                # and one that was replaced means nothing to it, so nobody sends a successor away.
                consumer._coordinator._group_instance_id = None  # noqa: SLF001
            try:
                await consumer.stop()
            except _TROUBLE as error:
                _log.warning(
                    "group %s: the broker may keep this member until it times out: %r", self._group, error
                )

    async def _keep(self) -> None:
        """Poll, or the library would leave the group by itself; join again when it has given up."""
        while True:
            try:
                if self._consumer is None:
                    await self._connect()
                await self._consumer.getmany(timeout_ms=_POLL_MS)
            except Exception as error:  # noqa: BLE001  # whatever ended it, the place must be taken again
                told = "taken over" if self._taken else "lost, joining again"
                _log.warning("group %s: membership %s: %r", self._group, told, error)
                await self.revoke()
                await self._disconnect()
                if self._taken is not None:
                    if self._on_lost is not None:
                        self._on_lost(self._taken)
                    return
                await asyncio.sleep(RETRY_SECONDS)

    async def _coordinate(self, doing: str, call: Callable[[Any], Any]) -> Any:
        self._raise_callback_error()
        if self._left:
            msg = f"{doing}: this member has left group {self._group!r}"
            raise BusError(msg)
        error: Exception | None = None
        try:
            async with asyncio.timeout(CALL_SECONDS):
                while self._taken is None:
                    try:
                        return await call(self._consumer._coordinator)  # noqa: SLF001  # see commit()
                    except (errors.CommitFailedError, AttributeError) as rebalancing:
                        error = rebalancing
                    await asyncio.sleep(RETRY_SECONDS)
        except (TimeoutError, errors.KafkaError) as trouble:
            msg = f"group {self._group!r}: {doing}: {error or trouble!r}"
            raise BusError(msg) from trouble
        raise BusError(f"group {self._group!r}: {doing}: {self._taken}")

    def _raise_callback_error(self) -> None:
        error, self._callback_error = self._callback_error, None
        if error is not None:
            msg = f"a membership callback of group {self._group!r} failed: {error!r}"
            raise BusError(msg) from error
