"""The dispatcher's end of the inspection process: one text at a time, its death is the text's refusal.

Starts processes. The process gets no secrets; it is ended after a number of texts, so that nothing which a
text left behind in it lives long.
"""

from __future__ import annotations

import asyncio
import hashlib
from asyncio.subprocess import Process
from dataclasses import dataclass
from typing import Self

import structlog

from shotbus.broker.children.frames import FrameError, FrameKind, frame
from shotbus.broker.children.process import ChildDiedError, ChildProcess, ChildTimeoutError, expect, send
from shotbus.broker.config import Config
from shotbus.broker.inspection.child import NO_MEMORY
from shotbus.broker.inspection.facts import Inspected, decode_facts, refused
from shotbus.schemas.errors import ShotbusError

_log = structlog.get_logger(__name__)
_START_SECONDS = 30.0
#: Texts that one process looks at.
RECYCLE = 5_000
#: Callers that wait for the process; whoever comes then is told to come later.
QUEUE = 256


class InspectorBusyError(Exception):
    """As many texts wait as may wait."""


@dataclass(slots=True)
class InspectorCounters:
    """What has happened since the start."""

    accepted: int = 0
    refused: int = 0
    died: int = 0
    timed_out: int = 0


class Inspector:
    """Inspects texts in one child process, started at the first text or by :meth:`start`.

    Args:
        child: makes and holds the process.
        seconds: time for one text, once its turn has come.
        recycle: texts until the process is replaced.
        queue: callers that may wait.

    """

    def __init__(
        self, child: ChildProcess, *, seconds: float, recycle: int = RECYCLE, queue: int = QUEUE
    ) -> None:
        self._child, self._seconds, self._recycle, self._queue = child, seconds, recycle, queue
        self._turn = asyncio.Lock()
        self._waiting = 0
        self.counters = InspectorCounters()

    @classmethod
    def configured(cls, config: Config) -> Self:
        """Return the inspector that ``[inspection]`` asks for."""
        wanted = config.inspection
        arguments = ["--seconds", str(wanted.seconds), "--max-bytes", str(config.limits.max_circuit_bytes)]
        child = ChildProcess(
            "shotbus.broker.inspection.child",
            arguments,
            memory_bytes=wanted.memory_mb << 20,
            start_seconds=_START_SECONDS,
        )
        return cls(child, seconds=wanted.seconds)

    async def start(self) -> None:
        """Start the process ahead of the first text. Raises ChildStartError."""
        async with self._turn:
            if self._child.pid is None:
                await self._child.start()

    async def inspect(self, text: bytes) -> Inspected:
        """Return the facts of a text, or its refusal.

        Raises:
            InspectorBusyError: too many wait.
            ChildStartError: no process can be started; the text is not to blame.

        """
        if self._waiting >= self._queue:
            raise InspectorBusyError(f"{self._waiting} circuits wait for inspection")
        self._waiting += 1
        try:
            async with self._turn:
                return self._count(await self._inspect(text))
        finally:
            self._waiting -= 1

    async def _inspect(self, text: bytes) -> Inspected:
        if self._child.runs >= self._recycle:
            await self._child.kill()
            self._child.runs = 0
        name = hashlib.sha256(text).hexdigest()
        try:
            return await self._child.exchange(
                lambda process: _ask(process, text, name), seconds=self._seconds
            )
        except ChildTimeoutError as error:
            self.counters.timed_out += 1
            detail = str(error)
        except ChildDiedError as error:
            self.counters.died += 1
            detail = "out of memory" if str(error) == f"exit status {NO_MEMORY}" else str(error)
        _log.warning("circuit did not survive its inspection", circuit_id=name, detail=detail)
        return refused(name, "SB-1221", limit=f"{self._seconds:g} s", detail=detail)

    def _count(self, inspected: Inspected) -> Inspected:
        if inspected.facts is None:
            self.counters.refused += 1
        else:
            self.counters.accepted += 1
        return inspected

    async def close(self) -> None:
        """End the process."""
        await self._child.kill()


async def _ask(process: Process, text: bytes, name: str) -> Inspected:
    await send(process, frame(FrameKind.INSPECT, text))
    answer = await expect(process, FrameKind.FACTS)
    try:
        inspected = decode_facts(answer.payload)
    except ShotbusError as error:
        raise FrameError("the answer is no circuit_facts record") from error
    if inspected.circuit_id != name:
        raise FrameError("the answer is about another circuit")
    return inspected
