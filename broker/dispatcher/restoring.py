"""A shard from its ledger: job rows are taken as they come, then every job gets its place. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from shotbus.broker.dispatcher.bundles import RUN
from shotbus.broker.dispatcher.job import Job, Seat, job_of_row, seat_of_row
from shotbus.broker.dispatcher.packedjobs import Glance
from shotbus.broker.dispatcher.rows import row_fields
from shotbus.broker.dispatcher.shard import COMPUTE, Shard
from shotbus.broker.dispatcher.states import TERMINAL, WITH_A_TIMER, WITH_A_WORKER, Phase
from shotbus.broker.machine import Now

#: Places given between two looks at whatever else the process has to do.
SETTLED_AT_ONCE = 1_000


class Restoring:
    """Builds one shard up again."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        #: While the ledger is read: where jobs sit that a worker has.
        self._seats: dict[str, Seat] = {}
        #: Whether it matters where the sessions of live jobs were.
        self._placed = self._finds_sessions = False

    def take(self, job_id: str, row: bytes | None) -> None:
        """Let a job's row replace what was taken for it; None: it is gone."""
        shard = self._shard
        self._seats.pop(job_id, None)
        shard.ghosts.pop(job_id, None)
        if row is None:
            shard.jobs.discard(job_id)
            return
        fields = row_fields(row)
        phase = Phase(fields["state"])
        if phase in TERMINAL:
            shard.jobs.discard(job_id)
            shard.ghosts[job_id], self._seats[job_id] = job_of_row(fields)
            return
        shard.jobs.put_row(fields)
        if phase in WITH_A_WORKER:
            self._seats[job_id] = seat_of_row(fields)

    def settling(self) -> Iterator[None]:
        """All rows are here: give every job its place, :data:`SETTLED_AT_ONCE` of them a step."""
        shard = self._shard
        self._placed = True
        self._finds_sessions = shard.router.policy.remembers_sessions
        for ghost in shard.ghosts.values():
            self._board(ghost, self._seats[ghost.job_id])
        for number, key in enumerate(shard.jobs):
            self._settle(key, shard.jobs.glance(key))
            if number % SETTLED_AT_ONCE == 0:
                yield
        self._seats.clear()

    def settle(self, now: Now) -> None:
        """Begin anew with what the ledger had: jobs have their places, leases a full period."""
        shard = self._shard
        if not self._placed:
            deque(self.settling(), maxlen=0)
        if shard.funds.allowance is not None:
            shard.funds.allowance.restored(now)
        shard.guard.restored(now)
        shard.router.switch(shard.standing.flags)
        shard.renew_leases(now)
        shard.fresh = True

    def _settle(self, key: int, job: Glance) -> None:
        shard = self._shard
        if self._finds_sessions and job.session_id:
            shard.router.sessions.found(job.tenant, job.session_id, job.pool, job.order)
        shard.agenda.watch(job, key)
        extras = (shard.jobs.at(key).extras or {}) if shard.jobs.is_rare(key) else {}
        if "unique" in extras and job.phase is not Phase.VALIDATING:
            shard.uniques[extras["unique"]] = job.job_id
        if "companions" in extras:
            shard.beside.restored(shard.jobs.at(key))
        if job.phase in COMPUTE:
            shard.sharing.lead(shard.jobs.cache_key(key), job.job_id)
        if job.phase is Phase.WAITING:
            queue = shard.queue_of(job.pool)
            queue.push(job, key)
            queue.load.add(job)
            if extras.get("others") or shard.jobs.has_chain(key):
                shard.stranded.enter(job, key)
            if "impatient_ms" in extras:
                shard.patience.restore(shard.jobs.at(key), key)
        elif job.phase in WITH_A_WORKER:
            self._board(shard.jobs.at(key), self._seats[job.job_id])
        elif job.phase in WITH_A_TIMER:
            shard.agenda.later(job, key)
        else:
            self._settle_aside(key, job, extras)

    def _settle_aside(self, key: int, job: Glance, extras: Mapping[str, Any]) -> None:
        """Give a job its place that waits for an answer from elsewhere."""
        shard = self._shard
        if job.phase is Phase.SHARING:
            shard.sharing.follow(shard.jobs.cache_key(key), job.job_id)
        elif job.phase is Phase.VALIDATING and "funding" in extras:
            shard.asking[job.job_id] = None
        elif job.phase is Phase.VALIDATING:
            circuit = shard.jobs.text(key, "circuit_id")
            shard.validating.setdefault(circuit, {})[job.job_id] = None
        elif job.phase is Phase.FALLING_BACK and "awaits" not in extras:
            shard.recalling[job.job_id] = None

    def _board(self, job: Job, seat: Seat) -> None:
        shard = self._shard
        shard.bundles.restore(job, seat)
        bundle = shard.bundles.get(job.bundle_id)
        if shard.running and bundle is not None and bundle.purpose == RUN:
            shard.running.take(job.tenant, job.session_id, bundle.pool)
