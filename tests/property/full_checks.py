"""What must hold of a dispatcher in full after every micro-batch: places, counts, the ledger, whoever takes over."""

from collections import Counter, defaultdict

import pytest

from shotbus.broker.dispatcher.breaker import Gate
from shotbus.broker.dispatcher.bundles import RUN
from shotbus.broker.dispatcher.rows import row_fields
from shotbus.broker.dispatcher.states import WITH_A_WORKER, Phase
from shotbus.broker.machine import Now
from shotbus.schemas.errors import ShotbusError

# --- where jobs are ---


def places_of(machine):
    """Every place that each live job is in, by id."""
    shard = machine.shard
    found = defaultdict(list)
    for pool, queue in shard.queues.items():
        for key in queue:
            found[shard.jobs.glance(key).job_id].append(f"queue {pool}")
    for key in shard.agenda.timed():
        found[shard.jobs.glance(key).job_id].append("timer")
    for bundle in shard.bundles._bundles.values():
        for job_id, attempt in bundle.open.items():
            job = shard.jobs.look(job_id)
            if job is not None and (job.bundle_id, job.attempt) == (bundle.bundle_id, attempt):
                found[job_id].append(f"bundle {bundle.bundle_id}")
    for circuit, jobs in shard.validating.items():
        assert jobs, f"nobody waits for {circuit}"
        for job_id in jobs:
            found[job_id].append("inspection")
    for followers in shard.sharing._followers.values():
        for job_id in followers:
            found[job_id].append("sharing")
    for name, jobs in (("budget", shard.asking), ("recall", shard.recalling)):
        for job_id in jobs:
            found[job_id].append(name)
    for jobs in shard.lookups.values():
        for job_id in jobs:
            found[job_id].append("look-up")
    for job_id, job in machine.live.items():
        if "awaits" in (job.extras or {}) and job.extras["companions"]["speculation"][0] in shard.jobs:
            found[job_id].append("companion")
    return found


_PLACES = {
    Phase.VALIDATING: ("inspection", "budget"),
    Phase.AWAITING_REVIEW: (),
    Phase.FALLING_BACK: ("recall", "companion"),
    Phase.SCHEDULED: ("timer",),
    Phase.DEFERRED: ("timer",),
    Phase.SHARING: ("sharing",),
    Phase.WAITING: ("queue",),
    Phase.RETRYING: ("timer",),
    Phase.RECONCILING: ("timer", "look-up"),
    **dict.fromkeys(WITH_A_WORKER, ("bundle",)),
}


def check_places(machine):
    """Every live job is in exactly one place, which is that of its phase; nothing else is anywhere."""
    shard, found, live = machine.shard, places_of(machine), machine.live
    assert set(found) <= set(live), "something waits that does not live"
    for job_id, job in live.items():
        places, wanted = found.get(job_id, []), _PLACES[job.phase]
        fits = len(places) == 1 and places[0].split()[0] in wanted if wanted else not places
        assert fits, f"{job_id} ({job.phase}) is in {places}"
        low = machine.low_offsets()[job.reference[:2]]
        assert low <= job.reference.offset, "a request may be deleted that a job still needs"
    for queue in shard.queues.values():
        assert queue.length == len(list(queue))
        assert queue.seconds == pytest.approx(sum(shard.jobs.glance(key).cost for key in queue), abs=1e-6)
    for key in shard.sharing._followers:
        leader = shard.jobs.look(shard.sharing.leader(key) or "")
        assert leader is not None, f"nobody computes {key}"
    # A job whose deadline is over waits for an earlier result, which whoever looks for it brings.
    moves = any(
        job.phase in _PLACES
        and ((job.deadline_ms and "overdue" not in (job.extras or ())) or "timer" in found[one])
        for one, job in live.items()
    )
    assert not moves or machine.wake_at(Now(0, 0.0)) is not None


def check_pools(machine):
    """What is counted of workers is what there is."""
    shard, running = machine.shard, Counter()
    for bundle in shard.bundles._bundles.values():
        assert bundle.open, "an empty bundle keeps a credit"
        for job_id in bundle.open if bundle.purpose == RUN else ():
            job = shard.jobs.look(job_id) or shard.ghosts[job_id]
            for place in shard.running._places(job.tenant, job.session_id, bundle.pool):
                running[place] += 1
    assert dict(shard.running._running.items()) == running
    for (kind, name, _), count in running.items():
        if not (most := shard.running.most(key := f"{kind}:{name}")):
            continue
        most = most if kind == "session" else shard.running.places.held(key, most)
        assert count <= most, f"{count} jobs of {key} are with workers, {most} may be"


def check_limits(machine, neighbour):
    """What may be with workers at a time may be so over all shards."""
    running = machine.shard.running
    keys = {f"{kind}:{name}": None for kind, name, _ in dict(running._running.items())}
    for key in keys:
        most = running.most(key)
        if most and not key.startswith("session"):
            count = running._count(key) + neighbour.shared._count(key)
            assert count <= most, f"{count} jobs of {key} are with workers, {most} may be"


def check_ledger(machine, ledger):
    """What the ledger holds is what the machine would write now: no change was forgotten.

    Two things may be older there: what is reserved of a purse, which follows from the jobs' own rows, and when a
    job that is to be repeated looks whether it may, or a provider is asked: both only happen earlier.
    """
    for key, row in ledger.items():
        if not key.startswith(b"allowance/purse/"):
            assert _lasting(machine.snapshot(key)) == _lasting(row), f"the row {key} is stale"
    assert {job_id.encode() for job_id in machine.live} <= set(ledger)


def _lasting(row):
    try:
        fields = row_fields(row)
    except ShotbusError:
        return row
    timed = fields["state"] in (Phase.RETRYING.value, Phase.RECONCILING.value)
    return {**fields, "not_before_ms": 0} if timed else fields


def check_twin(machine, twin):
    """Whoever takes the shard over finds it as it is."""
    mine, other = image(machine), image(twin)
    for name, value in mine.items():
        assert other[name] == value, f"{name} after a restore: {other[name]} instead of {value}"


def image(machine):
    """Everything that decides, comparable between a machine and its restored twin."""
    shard, found = machine.shard, places_of(machine)
    allowance = shard.funds.allowance
    return {
        "places": {job_id: sorted(map(_durable, places)) for job_id, places in found.items()},
        "jobs": {job_id: _told(job) for job_id, job in machine.live.items()},
        "ghosts": {job_id: (job.bundle_id, job.attempt) for job_id, job in shard.ghosts.items()},
        "bundles": {
            one.bundle_id: (one.seat(), one.pool, one.open, one.purpose)
            for one in shard.bundles._bundles.values()
        },
        "load": dict(machine.load()),
        "running": sorted(shard.running._running.items()),
        "limits": {
            key: (one.extra, one.keep) for key, one in shard.running.places._parts.items() if not one.is_blank
        },
        "serials": (shard.running.places._sent, shard.running.places._heard),
        "books": {key: one.row() for key, one in shard.running.places._books.items()},
        "standing": (machine.paused, shard.standing._intents, shard.standing.flags),
        "flags": dict(shard.router.flags),
        "uniques": shard.uniques,
        "sharing": {key: sorted(jobs) for key, jobs in shard.sharing._followers.items()},
        "open": sorted(
            pool for pool in shard.queues if shard.guard.breakers.view(pool, 0.0).gate is not Gate.CLOSED
        ),
        "done": ({number: bytes(page) for number, page in shard.done._pages.items()}, len(shard.done)),
        "lows": machine.low_offsets(),
        "funds": {job_id: dict(one.parts) for job_id, one in allowance._reserved.items()},
        "purses": {
            purse.key: (one.granted, one.used, one.returned, one.reserved, one.free)
            for purse, one in allowance._holdings.items()
        },
    }


def _durable(place):
    """A look-up that is due stands in its timer again after a restore."""
    return "timer" if place == "look-up" else place


def _told(job):
    return (job.phase, job.pool, job.priority, job.attempt, job.failures, job.deaths, job.chain, job.extras)
