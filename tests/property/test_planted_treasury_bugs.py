"""The checkers are checked: bugs planted into Treasury, allowance and their transactions must be caught."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from test_treasury import TreasuryRules
from treasury_kit import World

from shotbus.broker.treasury.allowance import Allowance
from shotbus.broker.treasury.budgets import purse_of
from shotbus.broker.treasury.machine import Treasury

CAUGHT = (AssertionError, KeyError, ValueError)
HUNT = settings(
    max_examples=1_000,
    stateful_step_count=40,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


class PublishesBesideItsTransaction(World):
    """What a lost transaction said is heard all the same."""

    def finish(self, node, taken, commands, commit, shard=None):
        if not commit:
            self.publish(commands)
        super().finish(node, taken, commands, commit, shard)


class MovesOnBeforeItsRows(World):
    """A lost transaction keeps the position: what was read is never read again."""

    def finish(self, node, taken, commands, commit, shard=None):
        super().finish(node, taken, commands, commit, shard)
        if not commit:
            node.position += taken


class SettlesTwice(Allowance):
    """A job that was settled keeps its reservation."""

    def settle(self, job_id, cost):
        reservation = self._reserved.get(job_id)
        parts = dict(reservation.parts) if reservation else {}
        settled = super().settle(job_id, cost)
        if reservation:
            reservation.parts.update(parts)
            self._reserved[job_id] = reservation
        return settled


class ReleasesIntoSpentUnits(Allowance):
    """What was charged out of a reservation is free again at its end."""

    def charge(self, job_id, cost):
        before = dict(self.reserved(job_id))
        settled = super().charge(job_id, cost)
        if job_id in self._reserved:
            self._reserved[job_id].parts.update(before)
        return settled


class ForgetsReservations(Allowance):
    """After a restart the units of live jobs are free."""

    def restored(self, now):
        super().restored(now)
        for holding in self._holdings.values():
            holding.reserved = 0


class GivesBackWhatIsReserved(Allowance):
    """A recall takes the units of live jobs."""

    def told(self, fields, now):
        decided = super().told(fields, now)
        for holding in self._holdings.values():
            if fields["kind"] == "recall" and holding.owes_answer:
                holding.returned = holding.granted - holding.used
        return decided


class LosesTheRowOfAJob(Allowance):
    """A reservation is in memory alone."""

    def touched(self):
        return [key for key in super().touched() if b"/job/" not in key]


class TakesAGrantTwice(Allowance):
    """A grant that comes again is added again."""

    def told(self, fields, now):
        holding = self._holdings.get(purse_of(fields))
        if holding and fields["kind"] == "grant" and fields["number"] <= holding.heard:
            holding.granted += fields["units"]
        return super().told(fields, now)


class LosesTheRowOfAGrant(Treasury):
    """What was granted is not written."""

    def touched(self):
        return [key for key in super().touched() if key.count(b"/") < 2]


class CountsARecallAsAnswered(Treasury):
    """Units that were called back are given to others before they have come."""

    def _recall(self, account, share, units, now):
        share.returned += min(units, share.held)
        return super()._recall(account, share, units, now)


class ForgetsWhatWasSpent(Treasury):
    """Units that were spent can be granted again."""

    def _serve(self, account, now):
        for share in account.shares.values():
            share.returned, share.used = share.returned + share.used, 0
        return super()._serve(account, now)


class GrantsOneTooMany(Treasury):
    """The unit in advance is not looked for."""

    def _in_advance(self, account, need):
        return super()._in_advance(account, need) + 1


class LosesWishes(Treasury):
    """A wish that cannot be met at once is forgotten."""

    def _recall_for(self, account, first, now):
        commands = super()._recall_for(account, first, now)
        first.wanted = 0
        return commands


@pytest.mark.parametrize(
    "planted",
    [
        {"world_class": PublishesBesideItsTransaction},
        {"world_class": MovesOnBeforeItsRows},
        {"allowance": SettlesTwice},
        {"allowance": ReleasesIntoSpentUnits},
        {"allowance": ForgetsReservations},
        {"allowance": GivesBackWhatIsReserved},
        {"allowance": LosesTheRowOfAJob},
        {"allowance": TakesAGrantTwice},
        {"treasury": LosesTheRowOfAGrant},
        {"treasury": CountsARecallAsAnswered},
        {"treasury": ForgetsWhatWasSpent},
        {"treasury": GrantsOneTooMany},
        {"treasury": LosesWishes},
    ],
    ids=lambda planted: next(iter(planted.values())).__name__,
)
def test_the_rules_catch(planted):
    mutant = type("MutantRules", (TreasuryRules,), planted)
    with pytest.raises(CAUGHT):
        run_state_machine_as_test(mutant, settings=HUNT)
