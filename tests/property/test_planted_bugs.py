"""The checkers are checked: each planted bug must be caught by the property test or the crash test that guards it."""

import asyncio

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from shard_kit import LEDGER, Plant
from test_dispatcher_machine import DispatcherRules
from test_runner_crash import Rivals, check_rivals, survives_crashes

from shotbus.broker.bus.memory import MemoryBus, MemoryShardWriter
from shotbus.broker.dispatcher import machine as machine_module
from shotbus.broker.dispatcher.desk import Desk
from shotbus.broker.dispatcher.floor import Floor
from shotbus.broker.dispatcher.judge import Judge
from shotbus.broker.dispatcher.machine import Dispatcher, Parts
from shotbus.broker.dispatcher.shard import Shard
from shotbus.broker.dispatcher.states import Cause, IllegalTransitionError
from shotbus.broker.runner import PoisonError, ShardRunner

CAUGHT = (AssertionError, KeyError, IllegalTransitionError)
HUNT = settings(
    max_examples=400,
    stateful_step_count=40,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


class NoAttemptFence(Judge):
    """Any attempt's answer counts."""

    def _judge(self, bundle, outcome, item, now):
        return super()._judge(bundle, outcome, {**item, "attempt": bundle.open.get(item["job_id"])}, now)


class NoLeaseCheck(Judge):
    """Any worker's word about a bundle counts."""

    def reported(self, event, now):
        bundle = self._shard.bundles.get(event.outcome["bundle_id"])
        if bundle is not None:
            bundle.lease_id = ""
        return super().reported(event, now)


class WrongAttemptClosesTheRightOne(Judge):
    """A stale report takes the attempt in flight out of its bundle."""

    def _judge(self, bundle, outcome, item, now):
        commands = super()._judge(bundle, outcome, item, now)
        self._shard.bundles.close(bundle, item["job_id"])
        return commands


class LosesTheRowOfARetry(Judge):
    """A retry changes the job but not its row."""

    def _retry(self, job, *rest, **more):
        commands = super()._retry(job, *rest, **more)
        self._shard._touched.pop(job.job_id.encode())
        return commands


class NoRenewalAfterATaking(Dispatcher):
    """Leases are over as soon as the shard was taken."""

    def restored(self, now):
        super().restored(now)
        self.shard.bundles.renew_all(now.seen)


class SaysResultsTwice(Shard):
    """A success is published twice."""

    def end(self, job, cause, *rest):
        return super().end(job, cause, *rest) * (2 if cause is Cause.SUCCEED else 1)


class CountsAnEarlyCancelAsWaiting(Shard):
    """What is cancelled on arrival leaves a queue that it never entered."""

    def end(self, job, cause, *rest):
        if job.phase is None and cause is Cause.CANCEL:
            job.move(Cause.ACCEPT)
        return super().end(job, cause, *rest)


class ForgetsWhatIsDone(Dispatcher):
    """Done pages are written but not read back."""

    def restore(self, key, snapshot):
        if not machine_module.is_done_key(key):
            super().restore(key, snapshot)


class AnyoneMayCancel(Desk):
    """A cancel counts as its job's own tenant's."""

    def _cancel(self, control, now):
        job = self._shard.jobs.get(control["name"])
        return super()._cancel({**control, "tenant": job.tenant if job else control["tenant"]}, now)


class OneBundleTooMany(Floor):
    """Workers get one bundle more than they granted."""

    def _forward_pool(self, pool, free, now):
        return super()._forward_pool(pool, [one._replace(bundles=one.bundles + 1) for one in free], now)


class FreesTheCreditOfACancelledAttempt(Dispatcher):
    """After a restart nobody remembers that a worker still runs what was cancelled."""

    def snapshot(self, key):
        return None if key.decode() in self.shard.ghosts else super().snapshot(key)


def dispatcher_with(bug):
    """A dispatcher that is the bug, or has it in the part of which it is a kind."""
    if issubclass(bug, Dispatcher):
        return bug
    (name,) = (name for name, part in Parts()._asdict().items() if issubclass(bug, part))
    return type(bug.__name__, (Dispatcher,), {"parts": Parts(**{name: bug})})


@pytest.mark.parametrize(
    "mutant",
    [
        NoAttemptFence,
        NoLeaseCheck,
        WrongAttemptClosesTheRightOne,
        LosesTheRowOfARetry,
        NoRenewalAfterATaking,
        SaysResultsTwice,
        ForgetsWhatIsDone,
        AnyoneMayCancel,
        OneBundleTooMany,
        CountsAnEarlyCancelAsWaiting,
        FreesTheCreditOfACancelledAttempt,
    ],
)
def test_the_model_catches(mutant):
    class MutantRules(DispatcherRules):
        machine_class = dispatcher_with(mutant)

    with pytest.raises(CAUGHT):
        run_state_machine_as_test(MutantRules, settings=HUNT)


# --- bugs around the runner ---


class SplitWriter(MemoryShardWriter):
    """Writes the positions in a transaction of their own, before or after the rest."""

    first = False

    async def commit(self, records):
        positions = [record for record in records if record.key == b"\0positions"]
        rest = [record for record in records if record.key != b"\0positions"]
        for part in (positions, rest) if self.first else (rest, positions):
            self._bus.probe("half")
            await super().commit(part)


class PositionsFirst(SplitWriter):
    first = True


class TwoWrites(MemoryShardWriter):
    """Publishes what leaves the shard outside the transaction."""

    async def commit(self, records):
        own = [record for record in records if record.topic == LEDGER.topic]
        await self._bus.publish([record for record in records if record.topic != LEDGER.topic])
        self._bus.probe("half")
        await super().commit(own)


class Unfenced(MemoryShardWriter):
    """Commits although the shard was taken by another."""

    async def commit(self, records):
        await self._bus.publish(records)


def bus_with(writer_class):
    """A bus whose shard writers have the bug."""

    class MutantBus(MemoryBus):
        probe = staticmethod(lambda _: None)

        async def fence(self, shard):
            await super().fence(shard)
            return writer_class(self, shard, self.cluster._epochs[shard])

    return MutantBus


def with_writer(writer_class):
    def make_runner(plant, bus, probe=None):
        bus.__class__ = bus_with(writer_class)
        bus.probe = probe or (lambda _: None)
        return Plant.runner(plant, bus, probe)

    return make_runner


class KeepsTheStateOfPoison(ShardRunner):
    """Sets poison aside without undoing what it did."""

    def _handle(self, edge, events, sources):
        commands = []
        for event, source in zip(events, sources, strict=True):
            try:
                commands += super()._handle(edge, [event], [source])
            except PoisonError as error:
                self._poison[source[:3]] = error.message
        return commands


class StartsAtTheEnd(ShardRunner):
    """Takes its positions from the log's end instead of the ledger."""

    async def _restore(self, edge):
        await super()._restore(edge)
        return await self._bus.ends([one.partition for one in edge.inputs])


def with_runner(runner_class):
    def make_runner(plant, bus, probe=None):
        runner = Plant.runner(plant, bus, probe)
        runner.__class__ = runner_class
        return runner

    return make_runner


@pytest.mark.parametrize(
    "make_runner",
    [
        pytest.param(with_writer(SplitWriter), id="positions after the rows"),
        pytest.param(with_writer(PositionsFirst), id="positions before the rows"),
        pytest.param(with_writer(TwoWrites), id="outgoing beside the transaction"),
        pytest.param(with_runner(StartsAtTheEnd), id="positions not from the ledger"),
    ],
)
async def test_the_crash_test_catches(make_runner):
    with pytest.raises(AssertionError):
        await survives_crashes(make_runner)


RACE = [("take", 0, 1), ("turn", 0, 6), ("put", 0, 3), ("take", 1, 1), ("step", 0, 1), ("step", 1, 1)]
POISONED = [("take", 0, 1), ("put", 0, 6), ("step", 0, 1), ("put", 0, 1), ("step", 0, 1)]


@pytest.mark.parametrize(
    ("make_runner", "moves"),
    [
        pytest.param(with_writer(Unfenced), RACE, id="no fence"),
        pytest.param(with_runner(KeepsTheStateOfPoison), POISONED, id="poison not undone"),
    ],
)
def test_the_interleavings_catch(make_runner, moves):
    asyncio.run(check_rivals(Rivals(), moves))
    with pytest.raises(AssertionError):
        asyncio.run(check_rivals(Rivals(make_runner), moves))
