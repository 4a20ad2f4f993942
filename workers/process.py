"""The worker's end of a child process: start, run a bundle, kill. Starts processes.

A child is started at its first use and kept. After any failure it is killed and the next use starts a
fresh one: nothing is ever read from a stream whose place is unknown.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from shotbus.workers.confine import child_environment
from shotbus.workers.frames import (
    MAX_FRAME_BYTES,
    Frame,
    FrameError,
    FrameKind,
    frame,
    receive_frame,
    run_frame,
)

#: Returns the framed Circuit records of ids, None where one is not to be found.
Fetch = Callable[[Sequence[str]], Awaitable[Mapping[str, bytes | None]]]

_LAST_WORDS_SECONDS = 1.0
_BROKEN = (asyncio.IncompleteReadError, FrameError, ConnectionError, BrokenPipeError)


class ChildDiedError(Exception):
    """The process ended, or said something that is no frame, before it had answered."""


class ChildStartError(Exception):
    """No process could be started: the host's fault, never a job's."""


class ChildTimeoutError(Exception):
    """The process did not answer in time."""


class RunReport(NamedTuple):
    """What a child answered: encoded Outcome records and how many of the bundle's jobs failed."""

    outcomes: list[bytes]
    failures: int


class Child:
    """At most one process at a time; runs one bundle at a time."""

    def __init__(self, adapter: str, *, memory_bytes: int, start_seconds: float) -> None:
        self._adapter = adapter
        self._memory_bytes = memory_bytes
        self._start_seconds = start_seconds
        self._process: Process | None = None
        self.starts = 0
        self.runs = 0

    @property
    def pid(self) -> int | None:
        """Id of the running process, None when there is none."""
        return self._process.pid if self._process is not None else None

    async def run(self, head: Mapping[str, Any], bundle: bytes, fetch: Fetch, *, seconds: float) -> RunReport:
        """Run a bundle.

        Args:
            head: ``worker`` and ``lease_id``, as :class:`Claim` wants them.
            bundle: the WorkBundle record.
            fetch: asked for the circuits that the child does not hold.
            seconds: time limit, the start of the process not counted.

        Raises:
            ChildDiedError, ChildTimeoutError, ChildStartError: the process is gone, the next call starts
                another. ``runs`` still tells how many bundles it had been given.

        """
        process = self._process if self._process is not None else await self._start()
        self.runs += 1
        try:
            async with asyncio.timeout(seconds):
                return await _converse(process, run_frame(head, bundle), fetch)
        except TimeoutError:
            await self.kill()
            raise ChildTimeoutError(f"no answer within {seconds:g} s") from None
        except _BROKEN:
            raise ChildDiedError(await self._epitaph()) from None
        except BaseException:
            # Cancelled, or a defect: either way the stream's place is lost, and the process with it.
            await self.kill()
            raise

    async def _start(self) -> Process:
        self.starts, self.runs = self.starts + 1, 0
        command = [sys.executable, "-m", "shotbus.workers.child", "--adapter", self._adapter]
        command += ["--memory-bytes", str(self._memory_bytes), "--parent", str(os.getpid())]
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=PIPE, env=child_environment(os.environ), limit=MAX_FRAME_BYTES
            )
            async with asyncio.timeout(self._start_seconds):
                await _expect(self._process, FrameKind.HELLO)
        except (*_BROKEN, OSError, TimeoutError) as error:
            await self.kill()
            raise ChildStartError(type(error).__name__) from error
        except BaseException:
            await self.kill()
            raise
        return self._process

    async def _epitaph(self) -> str:
        """Say how the process ended; the pipe breaks a moment before the status can be had."""
        process = self._process
        assert process is not None, "it was running"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                await process.wait()
        await self.kill()
        status = process.returncode or 0
        return f"signal {-status}" if status < 0 else f"exit status {status}"

    async def kill(self) -> None:
        """End the process, if there is one, and wait until it is gone."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        _close_input(process)
        # Not to be cancelled half-way: a child that nobody waits for stays as a zombie.
        await asyncio.shield(process.wait())


def _close_input(process: Process) -> None:
    if process.stdin is not None:
        process.stdin.close()


async def _converse(process: Process, request: bytes, fetch: Fetch) -> RunReport:
    await _write(process, request)
    outcomes: list[bytes] = []
    while True:
        answer = await _expect(process, FrameKind.NEED, FrameKind.OUTCOME, FrameKind.DONE)
        if answer.kind is FrameKind.DONE:
            return RunReport(outcomes, int(answer.document()["failed"]))
        if answer.kind is FrameKind.OUTCOME:
            outcomes.append(answer.payload)
            continue
        circuits = await fetch(answer.document())
        frames = [frame(FrameKind.CIRCUIT, record) for record in circuits.values() if record is not None]
        await _write(process, b"".join([*frames, frame(FrameKind.GO)]))


async def _write(process: Process, data: bytes) -> None:
    assert process.stdin is not None, "started with a pipe"
    process.stdin.write(data)
    await process.stdin.drain()


async def _expect(process: Process, *kinds: FrameKind) -> Frame:
    assert process.stdout is not None, "started with a pipe"
    received = await receive_frame(process.stdout)
    if received.kind not in kinds:
        raise FrameError(f"{received.kind.name} out of turn")
    return received
