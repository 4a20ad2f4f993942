"""The provider at work: accepts against limits, runs what is queued, tells. Books and threads, no HTTP."""

from __future__ import annotations

import asyncio
import json
from random import Random
from typing import Any, NamedTuple

from shotbus.broker.bucket import TokenBucket
from shotbus.broker.clock import Clock
from shotbus.deploy.provider.books import Accepted, Books, Job, Order
from shotbus.deploy.provider.device import Device
from shotbus.deploy.provider.faults import Fault, Plan, spoiled
from shotbus.deploy.provider.refusals import RefusalError
from shotbus.deploy.provider.running import ProgramError, run
from shotbus.deploy.provider.settings import ServerSettings
from shotbus.deploy.provider.submissions import Submission, check, read

_SPOILING = ("wrong_shots", "negative", "wide", "not_hex", "missing")
_WAIT_SECONDS = 1.0


class Answer(NamedTuple):
    """What to answer: an HTTP status and a document."""

    status: int
    document: dict[str, Any]


class Provider:
    """One device, its queue and its accounts' jobs. Everything public is called in one event loop."""

    def __init__(self, settings: ServerSettings, books: Books, clock: Clock) -> None:
        self._settings, self._books, self._clock = settings, books, clock
        self.device = Device(settings.device, clock)
        self.plan = Plan(Random(settings.device.seed))  # noqa: S311 (chance of faults, nothing secret)
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._jobs = {job.id: job for job in books.unfinished()}
        for name in self._jobs:
            self._queue.put_nowait(name)
        self._buckets: dict[str, TokenBucket] = {}
        self._mean_seconds = settings.latency_seconds

    async def serve(self) -> None:
        """Run what is queued, for ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._settings.slots):
                group.create_task(self._serve_slot())

    def submit(self, account: str, body: bytes, attempt: int = 0) -> Answer:
        """Accept a job; ``attempt`` is the account's own number for it. Raises RefusalError."""
        submission = read(body)
        known = self._books.by_token(account, submission.token)
        if known is None:
            self._admit(account, submission)
        prices = self._settings.prices
        cost = prices.per_task + prices.per_shot * submission.all_shots
        order = Order(account, submission.token, body, cost, submission.all_shots, attempt)
        credit = self._settings.limits.credits
        accepted = self._books.accept(order, self._clock.wall_ms(), credit=credit)
        return self._accepted(accepted)

    def _accepted(self, accepted: Accepted) -> Answer:
        document = {"job": accepted.job.document()}
        if accepted.fresh:
            self._jobs[accepted.job.id] = accepted.job
            self._queue.put_nowait(accepted.job.id)
            return Answer(201, document)
        if accepted.same:
            return Answer(200, document)
        conflict = RefusalError("token_conflict", "the token has another job", actual=accepted.job.id)
        return Answer(conflict.status, {**conflict.document(), **document})

    def _admit(self, account: str, submission: Submission) -> None:
        limits = self._settings.limits
        if self.device.offline:
            raise RefusalError("offline", self.device.offline)
        if 0 < limits.in_flight <= (count := self._books.in_flight(account)):
            raise RefusalError(
                "jobs_in_flight",
                "too many jobs have yet to end",
                limit=limits.in_flight,
                actual=count,
                retry_after=_WAIT_SECONDS,
            )
        self._take_turn(account)
        calibration = self.device.current()
        check(submission, limits, self._settings.device.qubits, calibration.gates)

    def _take_turn(self, account: str) -> None:
        limits, now = self._settings.limits, self._clock.monotonic()
        if not limits.rate_per_second:
            return
        fresh = TokenBucket(limits.rate_per_second, limits.burst, now)
        bucket = self._buckets.setdefault(account, fresh)
        if not bucket.take(now):
            rate = f"{limits.rate_per_second:g} a second"
            raise RefusalError("rate_limited", "too many requests", limit=rate, retry_after=bucket.wait(now))

    def job(self, account: str, name: str) -> Job:
        """Return a job. Raises RefusalError (job_not_found)."""
        return self._books.job(account, name)

    def find(self, account: str, token: str) -> Job:
        """Return the last job that came with a token. Raises RefusalError (job_not_found)."""
        if (found := self._books.last_of(account, token)) is None:
            raise RefusalError("job_not_found", "no job came with this token", actual=token)
        return found

    def another(self, account: str, token: str) -> Job | None:
        """Return a job under another token, for the fault that mixes them up."""
        return self._books.another(account, token)

    def close_token(self, account: str, token: str) -> Answer:
        """Say which job has a token, or have none accepted under it from now on."""
        job = self._books.close_token(account, token, self._clock.wall_ms())
        return Answer(200, {"closed": job is None, "job": job.document() if job else None})

    def cancel(self, account: str, name: str) -> Answer:
        """End a job that waits. Raises RefusalError (job_not_found, too_late)."""
        job = self._books.job(account, name)
        if job.status != "queued":
            raise RefusalError("too_late", "it has begun", actual=job.status)
        self._books.unbilled(job, "cancelled", self._clock.wall_ms(), by="account")
        return Answer(200, {"job": self._books.job(account, name).document()})

    def result(self, account: str, name: str) -> Answer:
        """Return a job's result. Raises RefusalError (job_not_found, not_finished, result_lost)."""
        job = self._books.job(account, name)
        if job.status != "done":
            raise RefusalError("not_finished", "it has no result", actual=job.status)
        if self.plan.bite("result_lost", job.token):
            raise RefusalError("result_lost", "the result is gone", actual=name)
        results = json.loads(self._books.result(name))
        for fault in _SPOILING:
            if self.plan.bite(fault, job.token):
                results = spoiled(results, fault)
        return Answer(200, {"id": job.id, "token": job.token, "results": results})

    def describe(self) -> dict[str, Any]:
        """Return the device: state, calibration, queue, limits, prices."""
        calibration, settings = self.device.current(), self._settings
        self._books.keep_calibration(calibration.id, calibration.snapshot)
        waiting = len(self._books.unfinished())
        return {
            "name": settings.device.name,
            "qubits": settings.device.qubits,
            "status": "offline" if self.device.offline else "online",
            "reason": self.device.offline,
            "calibration": {"id": calibration.id, "calibrated_ms": calibration.calibrated_ms},
            "queue": {"jobs": waiting, "seconds": waiting * self._mean_seconds / settings.slots},
            "limits": {"max_shots": settings.limits.max_shots, "max_points": settings.limits.max_points},
            "prices": {"per_task": settings.prices.per_task, "per_shot": settings.prices.per_shot},
        }

    def calibration(self, name: str) -> bytes:
        """Return a snapshot. Raises RefusalError (calibration_not_found)."""
        return self._books.calibration(name)

    def ledger(self) -> list[dict[str, Any]]:
        """Return the ledger."""
        return self._books.ledger()

    async def _serve_slot(self) -> None:
        while True:
            job = self._jobs.pop(await self._queue.get())
            # It may have been cancelled while it waited.
            job = self._books.job(job.account, job.id)
            if job.open:
                await self._run(job)

    async def _run(self, job: Job) -> None:
        if self.plan.bite("cancel", job.token):
            self._books.unbilled(
                job, "cancelled", self._clock.wall_ms(), by="provider", error="cancelled_by_provider"
            )
            return
        calibration = self.device.current()
        self._books.keep_calibration(calibration.id, calibration.snapshot)
        begun = self._clock.monotonic()
        self._books.started(job.id, self._clock.wall_ms(), calibration.id)
        slow: Fault | None = self.plan.bite("slow", job.token)
        await asyncio.sleep(self._settings.latency_seconds + (slow.seconds if slow else 0.0))
        if self.plan.bite("fail", job.token):
            self._books.unbilled(job, "failed", self._clock.wall_ms(), by="provider", error="device_error")
            return
        if self.plan.bite("recalibrate", job.token):
            self.device.recalibrate()
        try:
            results = await asyncio.to_thread(run, read(job.body), calibration, int(job.digest[:12], 16))
        except ProgramError:
            self._books.unbilled(job, "failed", self._clock.wall_ms(), by="provider", error="invalid_program")
            return
        seconds = self._clock.monotonic() - begun
        self._mean_seconds = 0.8 * self._mean_seconds + 0.2 * seconds
        self._books.done(
            job.id,
            json.dumps(results).encode(),
            now_ms=self._clock.wall_ms(),
            seconds=seconds,
            calibration=self.device.current().id,
        )
