"""A job's handle: result, status, cancel; works from any process with nothing but the id."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Generator, Mapping, Sequence
from typing import Any, NoReturn

from shotbus.broker.bus.base import Record
from shotbus.broker.stages import Timings
from shotbus.broker.store.refused import refusal_key
from shotbus.producers.calibrations import find_calibration
from shotbus.producers.locating import LOCATE_SECONDS, WHERE, Locator, place_of
from shotbus.producers.queueing import QueueInfo, info_of
from shotbus.producers.result import (
    JobResult,
    JobTimeoutError,
    ended_as,
    read_answer,
    read_making,
    read_refusal,
    refused_by,
)
from shotbus.producers.session import Session
from shotbus.producers.trail import read_trail
from shotbus.schemas.codec import decode, identify
from shotbus.schemas.errors import Problem, fail
from shotbus.schemas.ids import route_of
from shotbus.schemas.outcomes import LATE_HEADER, REFUSED, status_of

_ASK_AGAIN_SECONDS = 0.01
# Control overtakes requests: what is unknown for so long is not just on its way to an idle dispatcher.
_ARRIVAL_SECONDS = 1.0
_NOT_TAKEN = ("UNKNOWN", "VALIDATING")


class AsyncJob:
    """One job.

    ``payload``: the hash of what this client published, so its answer will come by the inbox. None: another
    process submitted it, and the store is asked, then the job's shard. ``since_ms``: wall time before which
    there was no such job; 0 is not known.
    """

    def __init__(
        self,
        session: Session,
        job_id: str,
        *,
        tenant: str,
        timings: Timings | None = None,
        payload: bytes | None = None,
        since_ms: int = 0,
    ) -> None:
        """Listen from now on. Raises ShotbusError (SB-4001) for a malformed id."""
        try:
            route_of(job_id)
        except ValueError as error:
            raise fail("SB-4001", "$.job_id", actual=job_id, detail=str(error)) from error
        self._session, self._job_id, self._tenant, self._timings = session, job_id, tenant, timings
        self._payload, self._locator = payload, Locator(session, job_id, tenant)
        self._since_ms = since_ms
        self._answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._arrived = 0.0
        session.inbox.listen(job_id, self._take)

    @property
    def job_id(self) -> str:
        """The broker's id."""
        return self._job_id

    def _take(self, record: Record) -> None:
        """Keep a terminal answer undecoded; what another tenant's job of this id is told is not for us."""
        if LATE_HEADER in record.headers:
            return
        value = record.value or b""
        name = decode_name(value)
        if name == "located":
            self._take_location(decode(value)[1])
            return
        if not self._is_our_tenants(record):
            return
        if name == "refusal" and not self._is_mine(record):
            if self._payload is None:
                self._begin(self._settle_if_gone(value))
            return
        self._arrived = max(0.0, time.time() - record.timestamp_ms / 1000)
        if not self._answer.done():
            self._answer.set_result(value)
            if self._payload is not None:
                self._session.answered()
        self._session.inbox.forget(self._job_id, self._take)

    def _is_mine(self, refusal: Record) -> bool:
        """Tell whether a refusal answers this handle's submission: the same id was tried with others too.

        Whoever reuses an idempotency key with another payload is refused under the id of the job that
        has it, whose own submitter goes on waiting for its result.
        """
        payload = next((value for name, value in refusal.headers if name == "payload"), None)
        return self._payload is not None and payload == self._payload.hex().encode()

    def _is_our_tenants(self, record: Record) -> bool:
        return ("tenant", self._tenant.encode()) in record.headers

    def _take_location(self, fields: dict[str, Any]) -> None:
        """Fetch the result of a job that was submitted again after its end: it is on the bus already.

        An answer with a correlation belongs to whoever asked, which may be another handle.
        """
        if fields["outcome"] and not fields["correlation"] and self._payload is not None:
            self._begin(self._fetch(fields["finished_ms"]))

    def _begin(self, fetching: Coroutine[Any, Any, None]) -> None:
        asyncio.ensure_future(fetching).add_done_callback(self._fetched)

    async def _settle_if_gone(self, refusal: bytes) -> None:
        """Take a refusal of whose submission is not known, if there is no job of that id."""
        try:
            place = await self.locate()
        except JobTimeoutError:
            return  # nobody can tell; who waits for the answer of a job goes on waiting
        if place["status"] == "UNKNOWN":
            self._settle(refusal)

    def _fetched(self, task: asyncio.Task[None]) -> None:
        """Hand on why a finished job's result could not be had: nobody else will answer."""
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._answer.done():
            self._answer.set_exception(error)

    async def accepted(self, timeout: float) -> bool:
        """Wait until the broker has taken the job: False when no dispatcher has said so in time.

        A submission is durable before anybody has read it; only the dispatcher can refuse an unknown pool
        or a key that was used before.

        Args:
            timeout: seconds.

        Raises:
            RefusedError: the submission was refused.

        """
        try:
            async with asyncio.timeout(timeout):
                await self._taken()
        except (TimeoutError, JobTimeoutError):
            return False
        if self._answer.done() and decode_name(self._answer.result()) == "refusal":
            read_answer(self._answer.result())
        return True

    async def _taken(self) -> None:
        """Ask the shard until it has the job or answers; control overtakes requests, so it may not yet.

        What is being validated may still be refused.
        """
        pause = _ASK_AGAIN_SECONDS
        while not self._answer.done() and (await self.locate())["status"] in _NOT_TAKEN:
            await asyncio.wait([self._answer], timeout=pause)
            pause *= 2

    def done(self) -> bool:
        """Tell whether the answer is here."""
        return self._answer.done()

    async def result(self, timeout: float | None = None) -> JobResult:
        """Wait for the answer.

        Args:
            timeout: seconds; None waits for ever.

        Raises:
            RefusedError: the submission was refused; from another process so long as results are kept.
            JobFailedError: the job ended without an answer.
            JobTimeoutError: no answer in time; the job goes on.
            ShotbusError: SB-4001, no such job.

        """
        try:
            async with asyncio.timeout(timeout):
                value = await self._value()
        except TimeoutError as error:
            hint = f"it goes on; come back with job id {self._job_id}"
            raise JobTimeoutError([Problem("SB-4006", "$", limit=f"{timeout} s", hint=hint)]) from error
        timings = self._timings
        if timings and self._arrived:
            timings.add("deliver", self._arrived, bytes_in=len(value))
            self._arrived = 0.0
        answer = read_answer(value, client=timings)
        if answer is None:
            self._unknown()
        return answer

    def __await__(self) -> Generator[Any, None, JobResult]:
        return self.result().__await__()

    async def _value(self) -> bytes:
        if self._payload is None and not self._answer.done():
            await self._look_up()
        return await asyncio.shield(self._answer)

    async def _look_up(self) -> None:
        """Ask the store, then the shard; returns when the answer is here or is bound to come."""
        stored = await self._session.read_model(f"result:{self._job_id}")
        if stored is not None and decode(stored, "circuit_result")[1]["tenant"] == self._tenant:
            self._settle(stored)
            return
        place = await self._arrived_place(await self.locate())
        if place["outcome"]:
            await self._fetch(place["finished_ms"])
        elif place["status"] == "UNKNOWN" and not self._answer.done():
            self._settle(await self._refusal() or self._unknown())

    def _unknown(self) -> NoReturn:
        raise fail("SB-4001", "$.job_id", actual=self._job_id)

    @property
    def _told(self) -> bytes:
        """The answer that this handle has, empty before it has one."""
        return self._answer.result() if self._answer.done() and not self._answer.exception() else b""

    async def _refusal(self) -> bytes | None:
        """Return the last refusal of a submission under this id; of a job that lives it says nothing.

        It is in the store only, so long as results are kept.
        """
        if self._told and decode_name(self._told) == "refusal":
            return self._told
        return await self._session.read_model(refusal_key(self._job_id, self._tenant))

    async def refused(self) -> dict[str, Any] | None:
        """Return what became of a submission under this id that was refused, None where none is known.

        Its fields are those of :meth:`details`, besides ``problems`` and ``retry_after_ms`` (0: no use). What
        a job of this id has, or had, is not looked at.
        """
        told = await self._refusal()
        return None if told is None else read_refusal(told)

    async def _arrived_place(self, place: dict[str, Any]) -> dict[str, Any]:
        """Return where the job is; one that is on its way to its shard is waited for, a second at most.

        What is known to have been refused is not.
        """
        deadline, pause = time.monotonic() + _ARRIVAL_SECONDS, _ASK_AGAIN_SECONDS
        while place["status"] == "UNKNOWN" and time.monotonic() < deadline and not await self._refusal():
            await asyncio.wait([self._answer], timeout=pause)
            pause *= 2
            (told,) = await self._locator.places("locate")
            place = {name: told[name] for name in place}
        return place

    async def _fetch(self, finished_ms: int) -> None:
        record = await self._session.find_result(self._job_id, finished_ms)
        if record is None or record.value is None or not self._is_our_tenants(record):
            hint = "its retention has passed"
            raise fail("SB-4001", "$.job_id", actual=self._job_id, hint=hint)
        self._settle(record.value)

    def _settle(self, value: bytes) -> None:
        if not self._answer.done():
            self._answer.set_result(value)

    async def locate(self) -> dict[str, Any]:
        """Ask the job's shard where it is: ``status``, ``sub_status``, ``outcome``, ``finished_ms``.

        ``status`` is Qiskit's word for a live job, FINISHED for one with an outcome, UNKNOWN for a job that
        the tenant does not have. Raises JobTimeoutError when no dispatcher answers.
        """
        return place_of((await self._locator.places("locate"))[0])

    async def where(self, timeout: float = LOCATE_SECONDS) -> dict[str, Any]:
        """Ask the job's shard as :meth:`locate` does, and what it waits for.

        Besides: ``pool``, ``reason`` (why it waits), ``position`` (jobs before it; negative: unknown),
        ``eta_low_ms``, ``eta_mid_ms``, ``eta_high_ms`` (wall time; 0: unknown). ``timeout`` in seconds.
        """
        (place,) = await self._locator.places("locate", timeout=timeout)
        return {name: place[name] for name in WHERE}

    async def queue_info(self) -> QueueInfo | None:
        """Return its place in the queue, when it ends and why it waits; None when it does not wait.

        Raises:
            JobTimeoutError: no dispatcher answered.
            ShotbusError: SB-4001, the tenant has no such job.

        """
        place = await self._arrived_place(await self.where())
        if place["status"] == "UNKNOWN":
            self._unknown()
        return info_of(place)

    async def queue_position(self) -> int | None:
        """Return its place in the queue, 1 goes next; None when it stands in none. Raises as above."""
        info = await self.queue_info()
        return None if info is None else info.position

    async def status(self) -> str:
        """Return Qiskit's word for where it is."""
        return str((await self.details())["status"])

    async def details(self) -> dict[str, Any]:
        """Return ``status``, ``sub_status``, ``outcome`` and more; from the store, else from the shard.

        Of a job that this handle has submitted and its shard has not read yet: INITIALIZING. One that another
        process has just submitted is waited for, a second at most. One that was refused is in ERROR with
        sub-status REFUSED, and what :meth:`refused` tells is with it. What this handle was answered counts
        until the store has it too, or something newer.
        """
        known = ended_as(self._told) if self._told else None
        stored = await self._session.read_model(f"status:{self._job_id}")
        if stored is not None:
            document = decode(stored, "status_document")[1]
            if document["tenant"] == self._tenant:
                if known is not None and known["updated_us"] >= document["updated_us"]:
                    return {**document, **known}
                refused = await self.refused() if document["sub_status"] == REFUSED else None
                return {**document, **(refused or {})}
        if known is not None:
            return known
        place = await self.locate()
        if self._payload is not None and place["status"] == "UNKNOWN" and not self._answer.done():
            return place | {"status": "INITIALIZING", "sub_status": "SUBMITTED"}
        place = await self._arrived_place(place)
        if place["status"] == "UNKNOWN":
            return await self.refused() or self._unknown()
        if place["status"] == "FINISHED":
            place["status"] = status_of(place["outcome"])
        return place

    async def events(self) -> list[dict[str, Any]]:
        """Return every change of its state that is kept, oldest first; see :func:`read_trail`.

        Of another tenant's job, or one that nobody knows, there are none.
        """
        submitted = self._since_ms or await self._told_submission()
        return await read_trail(self._session, self._job_id, self._tenant, submitted)

    async def _told_submission(self) -> int:
        """Return the wall time (ms) of its submission where its result tells it, else 0."""
        stored = await self._session.read_model(f"result:{self._job_id}")
        return 0 if stored is None else int(decode(stored, "circuit_result")[1]["accepted_us"] // 1000)

    async def why(self) -> dict[str, Any]:
        """Return where it is and how it came there: what its shard says of it, ``problems`` and ``events``.

        What the shard says: ``status``, ``sub_status``, ``outcome``, ``pool``, ``reason`` (why it waits),
        ``position`` in its queue (negative: unknown), ``eta_low_ms``, ``eta_mid_ms``, ``eta_high_ms`` (wall
        time; 0: unknown), ``finished_ms``. ``problems`` are those of its result, or of its refusal;
        ``results`` say how its answer, and what came late, were made and what they cost.

        Raises:
            JobTimeoutError: no dispatcher answered, and there is nothing else to tell.
            ShotbusError: SB-4001, the tenant has no such job, or it ended before what is kept.

        """
        events = await self.events()
        try:
            place = await self._arrived_place((await self._locator.places("locate"))[0])
        except JobTimeoutError:
            if not events:
                raise
            place = dict.fromkeys(WHERE, None)
        told = {name: place.get(name) for name in WHERE} | {"job_id": self._job_id}
        if place["status"] in ("UNKNOWN", None) and (refused := await self._last_refusal(events)):
            return {**told, **refused, "results": [], "events": events or await self.events()}
        if place["status"] == "UNKNOWN" and not events:
            self._unknown()
        result = await self._stored("result")
        problems = [] if result is None else list(decode(result, "circuit_result")[1]["problems"])
        results = [read_making(one) for one in (result, await self._stored("late")) if one is not None]
        more = {"problems": problems, "results": results, "events": events or await self.events()}
        return told | more

    async def _last_refusal(self, events: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
        """Return what the refusal of a submission says of which there is no job; the store may be empty."""
        seen = refused_by(events)
        return None if events and seen is None else await self.refused() or seen

    async def _stored(self, kind: str) -> bytes | None:
        """Return the job's ``result``, or what came ``late``, from the store; None where there is none."""
        stored = await self._session.read_model(f"{kind}:{self._job_id}")
        mine = stored is not None and decode(stored, "circuit_result")[1]["tenant"] == self._tenant
        return stored if mine else None

    async def late(self) -> JobResult | None:
        """Return what came after the job had been answered, with its ``deviation`` from it; None for nothing.

        It is in the store only, so long as results are kept.
        """
        stored = await self._stored("late")
        return None if stored is None else JobResult(decode(stored, "circuit_result")[1])

    async def calibration(self) -> dict[str, Any]:
        """Return the calibration that it ran under, as :meth:`AsyncClient.calibration` does.

        Waits for its answer. Raises ShotbusError (SB-4013) when it ran under none.
        """
        found = (await self.result()).provenance.get("calibration_id", "")
        if not found:
            raise fail("SB-4013", "$.job_id", actual=self._job_id, hint="its backend has no calibrations")
        return await find_calibration(self._session, found)

    async def cancel(self) -> None:
        """Ask for it to be cancelled; durable on return."""
        await self._locator.tell("cancel")

    async def cancel_and_locate(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Cancel it and return where it was before and where it is now, as :meth:`locate` does.

        A job that is on its way to its shard is waited for, a second at most.

        Raises:
            JobTimeoutError: no dispatcher answered; the wish is durable and will be heeded.
            ShotbusError: SB-4001, the tenant has no such job.

        """
        before, after = map(place_of, await self._locator.places("locate", "cancel", "locate"))
        after = await self._arrived_place(after)
        if after["status"] == "UNKNOWN":
            hint = "check the id and the tenant; a job that arrives within ten minutes is cancelled"
            raise fail("SB-4001", "$.job_id", actual=self._job_id, hint=hint)
        return before, after


def decode_name(value: bytes) -> str:
    """Return which record the bytes are, without decoding them."""
    return identify(value).name
