"""The checks of the dispatcher in full are checked: each planted bug must be caught."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from test_dispatcher_in_full import FullRules

from shotbus.broker.dispatcher.admission import lacks
from shotbus.broker.dispatcher.desk import Desk
from shotbus.broker.dispatcher.floor import Floor
from shotbus.broker.dispatcher.judge import Judge
from shotbus.broker.dispatcher.machine import Dispatcher, Parts
from shotbus.broker.dispatcher.shard import Shard

HUNT = settings(
    max_examples=300,
    stateful_step_count=40,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


class SendsOnAGuess(Judge):
    """What a provider may have is sent again instead of looked up."""

    def _reconcile(self, job, now, why, wait_ms=0):
        self._retry(job, "LOST", 1, now)


class GoesOnWhenAPoolIsDown(Floor):
    """Breakers and opening hours count for nothing."""

    def _forward_pool(self, pool, free, now):
        self._shard.guard.room = lambda *_: None
        return super()._forward_pool(pool, free, now)


class ShowsPrivateWork(Shard):
    """Where a pool can do the work it may have it."""

    def unfit(self, job, pool):
        return lacks(job.traits, pool, self.config)


class RunsUnpaid(Shard):
    """Who is sent elsewhere takes along what was set aside for where it was."""

    def requeue(self, job, cause, now, **more):
        reserve, self.funds.reserve = self.funds.reserve, lambda *_: None
        super().requeue(job, cause, now, **more)
        self.funds.reserve = reserve


class CountsNobodyOut(Shard):
    """A worker that has done its job keeps counting against the limits."""

    def landed(self, bundle, job_id):
        pass


class ForgetsAFlag(Desk):
    """A switched flag is not written down."""

    def _flag(self, control, now):
        told = super()._flag(control, now)
        self._shard._touched.pop(b"meta/flags", None)
        return told


@pytest.mark.parametrize(
    "mutant",
    [
        SendsOnAGuess,
        GoesOnWhenAPoolIsDown,
        ShowsPrivateWork,
        RunsUnpaid,
        CountsNobodyOut,
        ForgetsAFlag,
    ],
)
def test_the_checks_catch(mutant):
    (name,) = (name for name, part in Parts()._asdict().items() if issubclass(mutant, part))

    class MutantRules(FullRules):
        machine_class = type(mutant.__name__, (Dispatcher,), {"parts": Parts(**{name: mutant})})

    with pytest.raises((AssertionError, KeyError)):
        run_state_machine_as_test(MutantRules, settings=HUNT)
