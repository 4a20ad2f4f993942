"""A worker of one pool: takes bundles against its credits, runs them, reports. Bus, store, processes.

Lease first: ``started`` is durable before the group's position passes a bundle, so whatever kills this
process, the bundle is either read again by a successor or missed by its dispatcher. On free pools the run
does not wait for that: a lost race wastes work, never a result.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence

import structlog

from shotbus.broker.bus.base import Bus, BusError
from shotbus.broker.circuits import CircuitSource
from shotbus.broker.clock import Clock, SystemClock
from shotbus.broker.dispatcher.bundles import COMPILE
from shotbus.broker.pools import PoolsTail
from shotbus.broker.store.base import Store
from shotbus.broker.topics import Topics
from shotbus.workers.adapters.base import Adapter, CanCancel, CanCompile, CanSense, load
from shotbus.workers.advertise import HEALTHY, Advertiser
from shotbus.workers.ahead import Ahead
from shotbus.workers.calibrations import Calibrations
from shotbus.workers.claims import Claims
from shotbus.workers.compiled.settings import CacheSettings
from shotbus.workers.grants import Grants
from shotbus.workers.hand import Hand
from shotbus.workers.inline import Inline
from shotbus.workers.intake import Intake
from shotbus.workers.lanes import Taken
from shotbus.workers.process import Child, Fetch
from shotbus.workers.reporting import Reporter
from shotbus.workers.revocations import RevocationsTail
from shotbus.workers.revoked import Revoked
from shotbus.workers.sensing import Senses
from shotbus.workers.settings import Means, WorkerCounters, WorkerSettings

_log = structlog.get_logger(__name__)
_RETRY_SECONDS = 0.5


class WorkerService:
    """Serves one pool until stopped.

    Args:
        bus: started bus whose topics exist.
        store: started store, for circuits.
        topics: names and partition count.
        settings: what to serve and how.
        clock: None is this machine's.
        adapter: None loads the one that the settings name.
        make_child: makes a slot's process; None starts real ones.
        entropy: makes lease ids, random bytes of a length.

    """

    def __init__(
        self,
        bus: Bus,
        store: Store,
        topics: Topics,
        settings: WorkerSettings,
        *,
        clock: Clock | None = None,
        adapter: Adapter | None = None,
        make_child: Callable[[], Child] | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.counters = WorkerCounters()
        self._settings = settings
        self._clock = clock or SystemClock()
        options = f"$.pools.{settings.pool}.options"
        self._adapter = adapter or load(settings.adapter, settings.options, place=options)
        self._capabilities = self._adapter.capabilities
        compiles = isinstance(self._adapter, CanCompile) and not self._capabilities.inline
        source = CircuitSource(bus, store, topics, self.counters)
        self._reporter = Reporter(bus, topics.name("outcomes"), self._clock, self.counters)
        self._advertiser = self._make_advertiser(bus, topics, compiles=compiles)
        self._senses = Senses(
            self._adapter, settings, self._clock, self.counters, told=self._advertiser.sensed
        )
        self._tail = PoolsTail(bus, topics, self._advertiser.learn, self._clock)
        means = Means(self._clock, self.counters, entropy)
        self._inline = Inline(self._adapter, settings, self._reporter, means)
        self._hand = Hand()
        self._ahead = Ahead(settings, self._hand, source.fetch, self.counters, able=compiles)
        self._unwanted: asyncio.Queue[Taken] = asyncio.Queue()
        self._revoked, self._grants = Revoked(settings.revocation_seconds), Grants()
        self._revocations = RevocationsTail(
            bus,
            topics,
            settings.pool,
            self._take_revocation,
            clock=self._clock,
            seconds=settings.revocation_seconds,
        )
        self._calibrations = self._make_calibrations(bus, topics)
        self._claims = self._make_claims(source.fetch, means)
        self._intake = Intake(
            bus,
            topics.work(settings.pool),
            topics.name(settings.group),
            self.counters,
            notify=self._partitions_changed,
            announced=self._claims.announced,
        )
        self._stopping = False
        self._lost: Exception | None = None
        self._freed = asyncio.Event()
        self._commit_due = asyncio.Event()
        directory = settings.compile_cache if compiles else None
        self._cache = CacheSettings(directory, settings.compile_cache_bytes, settings.compile_rule)
        slots = 0 if self._capabilities.inline else settings.slots
        self._children = [(make_child or self._child)() for _ in range(slots)]

    def _make_advertiser(self, bus: Bus, topics: Topics, *, compiles: bool) -> Advertiser:
        return Advertiser(
            bus,
            topics,
            self._settings,
            capabilities=self._capabilities,
            counters=self.counters,
            clock=self._clock,
            backend=None if isinstance(self._adapter, CanSense) else HEALTHY,
            compiles=compiles,
        )

    def _make_calibrations(self, bus: Bus, topics: Topics) -> Calibrations:
        pool, name = self._settings.pool, self._capabilities.executed_on
        return Calibrations(bus, topics, self._clock, self.counters, pool=pool, executed_on=name)

    def _make_claims(self, fetch: Fetch, means: Means) -> Claims:
        return Claims(
            self._settings,
            self._capabilities,
            fetch,
            self._reporter,
            settle=self._settle,
            revoked=self._revoked,
            grants=self._grants,
            means=means,
            cancels=isinstance(self._adapter, CanCancel),
            calibrations=self._calibrations,
        )

    def _child(self) -> Child:
        settings = self._settings
        return Child(
            settings.adapter,
            memory_bytes=settings.memory_bytes,
            start_seconds=settings.child_start_seconds,
            timeouts=settings.timeouts,
            options=settings.options,
            compile_cache=self._cache,
            compiled=self.counters.compiled,
            calibrated=self._calibrations.learn,
        )

    def stop(self) -> None:
        """Ask :meth:`run` to drain and return."""
        self._stopping = True
        self._freed.set()
        self._intake.interrupt()

    def _give_way(self, lost: Exception) -> None:
        self._lost = lost
        self.stop()

    async def run(self) -> None:
        """Serve until :meth:`stop`, then drain.

        Raises:
            BusError: the bus was away at the start, or the group could not be joined.
            ShotbusError: (SB-2006) another process has joined under this one's instance name; it has drained.
            ExceptionGroup: a defect in one of the service's own tasks.

        """
        works = [self._tail.run, self._advertiser.run, self._commit_for_ever]
        if self._capabilities.inline:
            works += [self._look_for_ever] if self._senses.wanted else []
        else:
            # Inline bundles are answered as they are read: there is nothing that could be taken back.
            works += [self._revocations.run, self._decline_for_ever]
            await self._revocations.catch_up()
        self._ahead.prepare(self._clock.wall_ms())
        await self._intake.join(self._give_way)
        try:
            async with asyncio.TaskGroup() as group:
                background = [group.create_task(self._keep(work)) for work in works]
                slots = [group.create_task(self._serve(child)) for child in self._children]
                await self._read_until_stopped()
                await self._drain(slots)
                for task in background:
                    task.cancel()
            await self._advertiser.withdraw()
            _log.info("worker stopped", pool=self._settings.pool, done=self.counters.jobs_done)
        finally:
            for child in self._children:
                await child.kill()
        if self._lost is not None:
            raise self._lost

    def pids(self) -> list[int]:
        """Return the ids of the child processes that run now."""
        return [child.pid for child in self._children if child.pid is not None]

    async def _slot(self, child: Child, taken: Taken) -> None:
        if not self._intake.holds(taken):
            # The partition has gone to another worker, which reads this bundle again.
            return
        if taken.bundle["start_by_ms"] < self._clock.wall_ms():
            self.counters.bundles_late += 1
            self._settle(taken)
            return
        await self._claims.run(child, taken)

    def _take_revocation(self, bundle_id: str, jobs: Sequence[str], granted: str) -> None:
        """Take note; a bundle in hand that nobody wants any more makes room at once."""
        if granted:
            self._grants.learn(bundle_id, granted)
            return
        self._revoked.learn(bundle_id, jobs, self._clock.monotonic())
        for taken in self._hand.take():
            if taken.bundle["bundle_id"] != bundle_id or self._revoked.part(taken.bundle)[0]:
                self._hand.put(taken)
            else:
                self._unwanted.put_nowait(taken)
                self.counters.in_hand -= 1
                self._freed.set()

    async def _decline_for_ever(self) -> None:
        while True:
            taken = await self._unwanted.get()
            if self._intake.holds(taken):
                await self._claims.decline(taken)

    async def _keep(self, work: Callable[[], Awaitable[None]]) -> None:
        """Repeat a task while the bus comes and goes."""
        while True:
            try:
                await work()
            except BusError as error:
                self.counters.bus_errors += 1
                _log.warning("bus is away", error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)

    def _partitions_changed(self) -> None:
        self._advertiser.set_partitions(self._intake.partitions)

    async def _read_until_stopped(self) -> None:
        while not self._stopping:
            self._freed.clear()
            room = self._room()
            if room <= 0:
                await self._freed.wait()
                continue
            try:
                taken = await self._intake.poll(room)
            except BusError as error:
                self.counters.bus_errors += 1
                _log.warning("work cannot be read", error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                await self._handle(taken)

    def _room(self) -> int:
        if self._capabilities.inline:
            return self._settings.inline_records
        return self._settings.slots + self._settings.prefetch - self.counters.in_hand

    async def _handle(self, taken: Sequence[Taken]) -> None:
        if self._capabilities.inline:
            await self._inline.answer(taken)
            self._commit_due.set()
            return
        for one in taken:
            if one.bundle["purpose"] == COMPILE:
                self._ahead.take(one.bundle, self._clock.wall_ms())
                self._settle(one)
                continue
            self.counters.in_hand += 1
            self._hand.put(one)

    async def _serve(self, child: Child) -> None:
        """Run bundles from the hand, one at a time, until told to end."""
        while (taken := await self._next(child)) is not None:
            self.counters.running += 1
            failed = self.counters.jobs_failed
            try:
                async with self._advertiser.turn() as mine:
                    # Draining began while it waited for its turn: whoever takes the partition runs it.
                    if mine:
                        await self._slot(child, taken)
            finally:
                self.counters.running -= 1
                self.counters.in_hand -= 1
                self._freed.set()
                if self.counters.jobs_failed > failed:
                    self._senses.doubt()

    async def _next(self, child: Child) -> Taken | None:
        """Return what is next in the hand; between two bundles the child is asked how its backend is."""
        while True:
            wait = self._senses.wait(busy=len(self._hand) > 0)
            if wait == 0.0:
                await self._senses.ask(child)
                continue
            try:
                async with asyncio.timeout(wait):
                    found = await self._hand.next()
            except TimeoutError:
                continue
            if not isinstance(found, bytes):
                return found
            await self._ahead.compile(child, found)

    async def _look_for_ever(self) -> None:
        """Ask an adapter of this process how its backend is."""
        while True:
            self._senses.look()
            await asyncio.sleep(self._settings.advertise_seconds)

    def _settle(self, taken: Taken) -> None:
        taken.done()
        self._commit_due.set()

    async def _commit_for_ever(self) -> None:
        while True:
            await self._commit_due.wait()
            self._commit_due.clear()
            try:
                await self._intake.commit()
            except BusError:
                self._commit_due.set()
                raise

    async def _drain(self, slots: Sequence[asyncio.Task[None]]) -> None:
        """Hand over what has not begun at once, then let what runs finish, for a bounded time."""
        _log.info("draining", worker=self._settings.worker, running=self.counters.running)
        try:
            async with asyncio.timeout(self._settings.stop_seconds):
                await self._hand_over()
                if slots:
                    await asyncio.wait(slots)
        except TimeoutError:
            _log.warning("stopped with bundles still running", running=self.counters.running)
        for slot in slots:
            slot.cancel()

    async def _hand_over(self) -> None:
        self.counters.in_hand -= len(self._hand)
        self._hand.end()
        self._ahead.stop()
        await self._advertiser.drain()
        # A started bundle whose position is not committed would be started again by the successor.
        await self._claims.announced()
        try:
            await self._intake.commit()
            await self._intake.leave()
        except BusError as error:
            self.counters.bus_errors += 1
            _log.warning("could not hand over", error=str(error))
