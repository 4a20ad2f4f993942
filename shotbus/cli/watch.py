"""``watch``: follow a job until it ends."""

from __future__ import annotations

import asyncio
import json
import re
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import click

from shotbus.broker.bus.base import Reader, TopicPartition
from shotbus.cli.common import FiniteRange, Options, come_back, command_options, printable, run_async
from shotbus.cli.jobs import as_tenant, handle, problem_lines
from shotbus.cli.progress import way_back
from shotbus.cli.submission import tenant_option
from shotbus.producers.job import AsyncJob
from shotbus.producers.queueing import QueueInfo, info_of
from shotbus.producers.result import JobTimeoutError
from shotbus.schemas.codec import decode
from shotbus.schemas.errors import fail
from shotbus.schemas.ids import partition_of
from shotbus.schemas.outcomes import status_of

_TERMINAL = ("DONE", "ERROR", "CANCELLED")
_LOOK_SECONDS = 2.0
_DIGITS = re.compile(r"\d+")


@click.command()
@click.argument("job_id")
@click.option("--timeout", type=FiniteRange(0), default=3600.0, show_default=True, help="Seconds.")
@tenant_option
@command_options
def watch(options: Options, job_id: str, timeout: float, tenant: str) -> None:
    """Print every state change of JOB_ID until it ends; Ctrl-C leaves it running.

    While it waits, its place in the queue, when it ends and why it waits are printed whenever they change.

    With --json a line is one JSON object.
    """
    run_async(_watch(options, job_id, timeout, tenant))


async def _watch(options: Options, job_id: str, timeout: float, tenant: str) -> None:
    async with handle(options, job_id, tenant) as (client, job):
        session = client.session
        place = TopicPartition(session.topics.name("events"), partition_of(job_id, session.topics.partitions))
        # First the end of the events, then the shard itself: a read model may lag behind either, and
        # what happened in between would never be seen.
        reader = session.bus.reader(await session.bus.ends([place]))
        back = come_back(options, "watch", job_id, *as_tenant(tenant))
        try:
            with way_back(f"{job_id} goes on; come back with: {back}"):
                async with asyncio.timeout(timeout):
                    await _Watch(options, job).follow(reader)
        finally:
            await reader.close()


class _Watch:
    """Says what becomes of a job: its events as they come, its prospects while it waits."""

    def __init__(self, options: Options, job: AsyncJob) -> None:
        self._options, self._job = options, job
        self._state, self._sub_status = "", ""
        self._prospects: tuple[Any, ...] = ()
        self._look_at = 0.0

    async def follow(self, reader: Reader) -> None:
        """Return at the job's end. Raises ShotbusError (SB-4001) for one that nobody knows."""
        place = await self._job.where()
        if place["status"] == "UNKNOWN" and (refused := await self._job.refused()):
            self._say(refused, None)
            return
        if place["status"] == "UNKNOWN":
            raise fail("SB-4001", "$.job_id", actual=self._job.job_id)
        if place["outcome"]:
            place["status"] = status_of(place["outcome"])
        self._say(place, self._news(info_of(place)))
        while self._state not in _TERMINAL:
            for record in await reader.poll(max_records=1_000, timeout=1.0):
                for event in decode(record.value, "event_batch")[1]["events"]:
                    if event["job_id"] == self._job.job_id:
                        self._say(event | {"status": event["state"]}, None)
            await self._look()

    async def _look(self) -> None:
        """Ask now and then what a waiting job may expect; said when it is something else than before."""
        if self._state in (*_TERMINAL, "RUNNING") or time.monotonic() < self._look_at:
            return
        with suppress(JobTimeoutError):
            place = await self._job.where(_LOOK_SECONDS)
            info = self._news(info_of(place))
            if info is not None:
                self._say(place, info)

    def _news(self, info: QueueInfo | None) -> QueueInfo | None:
        self._look_at = time.monotonic() + _LOOK_SECONDS
        # Seconds that are counted down are no news.
        told = (info.position, _DIGITS.sub("", info.reason)) if info else ()
        if told == self._prospects:
            return None
        self._prospects = told
        return info

    def _say(self, event: dict[str, Any], info: QueueInfo | None) -> None:
        self._state, self._sub_status = event["status"], event["sub_status"]
        if self._options.as_json:
            told = event | ({"queue": info.as_json()} if info else {})
            click.echo(json.dumps(told, default=str))
            return
        words = [self._state, self._sub_status, event.get("cause", ""), event.get("outcome", "")]
        if info is not None:
            words += [f" {one}" for one in (info.in_words(datetime.now(UTC)), info.reason) if one]
        click.echo(printable(" ".join(word for word in words if word)))
        for line in problem_lines(event.get("problems", ()), event.get("retry_after_ms", 0)):
            click.echo(line)
