"""What a waiting job may expect: its place in the queue, when it ends, and why it waits. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shotbus.broker.dispatcher.eta import Eta
from shotbus.broker.dispatcher.fallback import Fallback
from shotbus.broker.dispatcher.health import PoolState
from shotbus.broker.dispatcher.job import Job
from shotbus.broker.dispatcher.shard import LACKS, Shard
from shotbus.broker.dispatcher.states import WITH_A_TIMER, WITH_A_WORKER, Phase
from shotbus.broker.machine import Now
from shotbus.broker.treasury.periods import stamp

_REASONS: Mapping[Phase, str] = {
    Phase.VALIDATING: "its circuit is being inspected, or its budget asked for",
    Phase.AWAITING_REVIEW: "a person has to approve it: shotbus review",
    Phase.FALLING_BACK: "an earlier result is looked for",
    Phase.SHARING: "the same work is under way; it takes that result",
}


def prospects(shard: Shard, job: Job, now: Now) -> Mapping[str, Any]:
    """Return the fields of ``located`` that say what a job waits for and how long."""
    if job.phase is not Phase.WAITING:
        return {"pool": job.pool, "reason": _reason(shard, job)}
    position, eta = forecast(shard, job, now)
    stands = stands_still(shard, job.pool)
    told = {"pool": job.pool, "reason": stands or _place(position), "position": position}
    if not stands and not shard.guard.is_measured(job.pool):
        # An interval would be the configuration's guess, with a probability of which nothing is known.
        return {
            **told,
            "reason": f"{told['reason']}; nothing has ended on {job.pool} yet by which to tell when",
        }
    if stands:
        # Nobody knows when the pool goes on: an interval would be that of a pool that does.
        return {**told, "reason": stands + _ways_out(shard, job, now)}
    ends = {
        name: now.wall_ms + int(1000 * seconds)
        for name, seconds in zip(_ENDS, (eta.low, eta.mid, eta.high), strict=True)
    }
    return {**told, **ends}


_TIMED: Mapping[Phase, str] = {
    Phase.SCHEDULED: "is not to begin before",
    Phase.DEFERRED: "was put off until",
    Phase.RETRYING: "is repeated from",
    Phase.RECONCILING: "was sent, and its provider is asked what became of it from",
}
_SHORT = ": its budget does not cover it on its pool, and is asked again then"
_ENDS = ("eta_low_ms", "eta_mid_ms", "eta_high_ms")


def forecast(shard: Shard, job: Job, now: Now) -> tuple[int, Eta]:
    """Return the jobs before a waiting one, and when it ends, seconds from now."""
    queue = shard.queues[job.pool]
    ahead = queue.position(job, shard.key(job))
    # Each cost is what was known when its job came: together they are taken for what they are now.
    now_seconds = shard.waiting_seconds(job.pool)
    seconds = ahead.seconds * now_seconds / queue.seconds if queue.seconds > 0 else now_seconds
    return ahead.jobs, shard.guard.eta(job.pool, seconds, shard.run_seconds(job, job.pool), now)


def follow(shard: Shard, job: Job, now: Now) -> None:
    """Predict when a job that has just begun to wait ends, if it is time for a sample of its pool.

    Of a pool that stands still nothing is predicted: it would be counted as an error of predictions.
    """
    if (
        shard.guard.samples(job.pool, now)
        and shard.guard.is_measured(job.pool)
        and not stands_still(shard, job.pool)
    ):
        _, eta = forecast(shard, job, now)
        shard.guard.forecasts.follow(job.job_id, job.pool, eta, now.seen)


def _reason(shard: Shard, job: Job) -> str:
    if job.phase in WITH_A_WORKER:
        return "a worker has it"
    if job.phase in WITH_A_TIMER:
        until = (
            f" {_TIMED[job.phase]} {stamp(job.not_before_ms)}" if job.not_before_ms else " waits for its time"
        )
        short = job.phase is Phase.DEFERRED and (job.extras or {}).get(LACKS) == "budget"
        return f"it{until}{_SHORT if short else ''}{_without(shard, job)}"
    return _REASONS.get(job.phase, "") if job.phase else ""


def _without(shard: Shard, job: Job) -> str:
    """Say which of its windows a policy has taken away: it keeps the time that was found with them."""
    gone = [name for name in (job.extras or {}).get("windows", ()) if name not in shard.windows]
    if not gone:
        return ""
    are = f"window {gone[0]} is" if len(gone) == 1 else f"windows {', '.join(gone)} are"
    return f"; {are} no longer in the policy, the time found before is kept"


def _ways_out(shard: Shard, job: Job, now: Now) -> str:
    """Say where else a job may go whose pool takes no work; nothing where that is somebody's wish."""
    down = shard.guard.stalled(job.pool, now)
    if down is None or shard.standing.is_paused(job.pool):
        return ""
    against = Fallback(shard).elsewheres(job)
    if not job.chain and not against:
        return "; neither its rule nor a chain has another pool for it"
    rest = shard.config.routing.down_seconds - down
    told = ", ".join(f"{pool} {why}" if why else pool for pool, why in against.items())
    later = f" in {rest:.0f} s, unless it works by then" if rest > 0 else ""
    return f"; its rule and chain are asked{later}" + (f": {told}" if told else "")


def _place(position: int) -> str:
    return "others go first" if position else "it goes next, when its pool has room"


def stands_still(shard: Shard, pool: str) -> str:
    """Return why nothing leaves a pool's queue; empty when it flows."""
    health = shard.guard.health(pool)
    if shard.standing.is_paused(pool) and (health is None or health.state is not PoolState.PAUSED):
        # Health is looked at now and then; a pause holds at once.
        return f"{pool} is paused: somebody paused it"
    if health is None or health.flows:
        return ""
    return f"{pool} is {health.state.value}: {health.reason}"
