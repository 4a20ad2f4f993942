"""The simulation is checked: each planted bug breaks the invariant that guards against it within a few seeds."""

import asyncio
import functools
import json

import pytest
import structlog

from shotbus.broker.audit import AuditChain
from shotbus.broker.bus.memory import MemoryShardWriter
from shotbus.broker.dispatcher import desk, edge, judge
from shotbus.broker.dispatcher.done import DoneLog
from shotbus.broker.dispatcher.funds import Funds
from shotbus.broker.dispatcher.places import Places
from shotbus.broker.dispatcher.reports import Reports
from shotbus.broker.dispatcher.shard import Shard
from shotbus.broker.invariants.lives import Life
from shotbus.broker.runner import ShardRunner
from shotbus.broker.treasury.account import Account
from shotbus.reducers.projector import Projector
from shotbus.reducers.sweep import Sweep
from shotbus.simulation import Scenario, simulate
from shotbus.simulation.child import PaidChild
from shotbus.workers import advertise
from shotbus.workers.claims import Claims

SEEDS = 14


@pytest.fixture(autouse=True)
def quiet():
    with structlog.testing.capture_logs():
        yield


def caught(rules, *kinds, first=0, **changes):
    """Return which of the rules some seed from ``first`` on breaks, under these kinds of faults."""
    options = {"kinds": kinds, "faults": 36.0 if kinds else 0.0, "settle": 60.0} | changes
    for seed in range(first, first + SEEDS):
        found = {one.rule for one in simulate(Scenario(seed, **options)).violations}
        if found & rules:
            return found & rules
    return set()


def test_a_dispatcher_that_forgets_finished_jobs(monkeypatch):
    monkeypatch.setattr(DoneLog, "find", lambda *_: None)
    assert caught({"one-terminal-result"}, "repeat")


def test_a_dispatcher_that_swallows_an_answer(monkeypatch):
    real = judge.Judge._succeed

    def swallowing(self, job, *rest):
        return [] if job.job_id.endswith("0") else real(self, job, *rest)

    monkeypatch.setattr(judge.Judge, "_succeed", swallowing)
    assert caught({"a-job-ends"})


def test_a_result_that_is_not_what_the_holder_of_the_lease_reported(monkeypatch):
    real = judge.answer
    other = json.dumps({"lease": "another"}).encode()
    monkeypatch.setattr(judge, "answer", lambda *about: {**real(*about), "provenance": other})
    assert caught({"stale-attempts-are-fenced"})


def test_a_dispatcher_that_sends_again_what_a_provider_may_have(monkeypatch):
    monkeypatch.setattr(Shard, "is_paid", lambda *_: False)
    monkeypatch.setattr(PaidChild, "token", staticmethod(lambda item: f"{item['job_id']}.{item['attempt']}"))
    assert caught({"billed-once"})


def test_a_worker_that_pays_on_a_lease_that_has_lapsed(monkeypatch):
    real = PaidChild._submit

    async def late(self, item, token):
        await asyncio.sleep(6.0)  # whatever keeps a worker from looking at its clock
        return await real(self, item, token)

    monkeypatch.setattr(PaidChild, "_submit", late)
    monkeypatch.setattr(PaidChild, "may_submit", lambda _: True)
    monkeypatch.setattr(Claims, "_awaits_grant", lambda *_: False)
    # Two workers have to have the same job at the same time: that happens in about one seed of twenty.
    victims = ("paid-0", "paid-1")
    assert caught({"billed-once"}, "cut_there", "pause", victims=victims, features=False, first=22)


def test_a_dispatcher_that_lets_anyone_cancel(monkeypatch):
    real = desk.Desk._cancel

    def obeying(self, control, now):
        job = self._shard.jobs.get(control["name"])
        return real(self, {**control, "tenant": job.tenant if job else control["tenant"]}, now)

    monkeypatch.setattr(desk.Desk, "_cancel", obeying)
    assert caught({"only-its-tenant-cancels"}, "drain")


def test_a_dispatcher_that_does_not_compare_payloads(monkeypatch):
    monkeypatch.setattr(edge, "payload_hash", lambda _: b"\0" * 16)
    assert caught({"another-payload-is-refused"})


def test_a_dead_letter_that_is_not_what_came(monkeypatch):
    real = edge.dead_letter

    def retouched(record, **told):
        return real(record, **told)._replace(value=record.value + b"\0")

    monkeypatch.setattr(edge, "dead_letter", retouched)
    assert caught({"a-burial-has-a-letter", "a-letter-keeps-the-bytes"})


def test_a_result_without_provenance(monkeypatch):
    real = Reports.result

    def bare(self, job, outcome, now, answer):
        return real(self, job, outcome, now, {**answer, "provenance": b""})

    monkeypatch.setattr(Reports, "result", bare)
    assert caught({"provenance-is-complete"})


def test_a_result_for_the_wrong_tenant(monkeypatch):
    real = Reports.result

    def mixed_up(self, job, *rest):
        command = real(self, job, *rest)
        return command._replace(fields={**command.fields, "tenant": "mallory"})

    monkeypatch.setattr(Reports, "result", mixed_up)
    assert caught({"answers-go-to-their-tenant"})


def test_a_worker_that_grants_more_than_it_has(monkeypatch):
    real = advertise.share_credits
    monkeypatch.setattr(advertise, "share_credits", lambda total, *rest: real(total + 1, *rest))
    assert caught({"granted-within-the-window"})


def test_a_fold_that_counts_a_shard_twice(monkeypatch):
    count = Sweep.count

    def twice(self, shard, facts):
        self.shots += facts.shots
        count(self, shard, facts)

    monkeypatch.setattr(Sweep, "count", twice)
    assert caught({"fan-in-conserves-shots"})


def test_a_shard_without_a_fence(monkeypatch):
    async def commit(self, records):
        await self._bus.publish(records)

    monkeypatch.setattr(MemoryShardWriter, "commit", commit)
    rules = {"events-in-sequence", "one-terminal-result", "states-follow-the-table", "attempts-add-up"}
    assert caught(rules, "expire", "pause", "cut_back", faults=120.0)


def test_a_shard_that_starts_at_the_end_of_its_inputs(monkeypatch):
    restore = ShardRunner._restore

    async def skipping(self, edge):
        await restore(self, edge)
        return await self._bus.ends([one.partition for one in edge.inputs])

    monkeypatch.setattr(ShardRunner, "_restore", skipping)
    assert caught({"a-submission-is-answered", "a-job-ends"}, "kill", faults=60.0)


def test_a_projector_that_passes_what_the_store_refused(monkeypatch):
    real = Projector._retrying

    async def once(self, call, dead):
        try:
            return await real(self, functools.partial(first_only, call, dead), dead)
        except StoreRefusedError:
            return True

    monkeypatch.setattr(Projector, "_retrying", once)
    assert caught({"read-models-catch-up"}, "dead_store")


class StoreRefusedError(Exception):
    """The store did."""


async def first_only(call, dead):
    try:
        await call()
    except dead as error:
        raise StoreRefusedError from error


def test_a_checker_that_takes_everything_for_ended_would_be_noticed(monkeypatch):
    monkeypatch.setattr(Life, "ended", property(lambda _: False))
    assert caught({"a-job-ends", "an-end-has-a-result"})


def test_a_treasury_that_gives_what_it_does_not_have(monkeypatch):
    monkeypatch.setattr(Account, "available", property(lambda self: self.limit))
    assert caught({"granted-within-the-limit"}, features=True)


def test_a_shard_that_sets_aside_less_than_an_attempt_may_take(monkeypatch):
    real = Funds._claim

    def hopeful(self, *about, **more):
        claim = real(self, *about, **more)
        return claim._replace(cost=claim.measured)

    monkeypatch.setattr(Funds, "_claim", hopeful)
    assert caught({"spent-within-the-limit"}, features=True)


def test_an_audit_chain_that_begins_anew_with_every_life(monkeypatch):
    monkeypatch.setattr(AuditChain, "restore", lambda *_: None)
    assert caught({"entries-follow-one-another"}, "kill", "drain", features=True)


def test_shards_that_have_at_least_one_place_each_of_a_limit(monkeypatch):
    monkeypatch.setattr(Places, "allowed", lambda self, _, most: max(1, most // self._shards))
    assert caught({"limit-passed"}, features=True)
