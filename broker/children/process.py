"""A process's end of its child: start, talk, kill. Starts processes.

A child is started at its first use and kept. After any failure it is killed and the next use starts a
fresh one: nothing is ever read from a stream whose place is unknown.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeVar

from shotbus.broker.children.confine import child_environment
from shotbus.broker.children.frames import MAX_FRAME_BYTES, Frame, FrameError, FrameKind, receive_frame

T = TypeVar("T")

_LAST_WORDS_SECONDS = 1.0
_BROKEN = (asyncio.IncompleteReadError, FrameError, ConnectionError, BrokenPipeError)


class ChildDiedError(Exception):
    """The process ended, or said something that is no frame, before it had answered."""


class ChildStartError(Exception):
    """No process could be started: the host's fault, never a job's."""


class ChildTimeoutError(Exception):
    """The process did not answer in time."""


class ChildProcess:
    """At most one process at a time, which answers one question at a time.

    Args:
        module: run as ``python -m``; takes ``--memory-bytes`` and ``--parent``, says HELLO when ready.
        arguments: its further arguments.
        memory_bytes: cap of the child's address space.
        start_seconds: how long its start may take.
        variables: names of the environment's variables that are handed down besides the usual ones.

    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        memory_bytes: int,
        start_seconds: float,
        variables: Collection[str] = (),
    ) -> None:
        self._command = ["-m", module, *arguments, "--memory-bytes", str(memory_bytes)]
        self._start_seconds, self._variables = start_seconds, variables
        self._process: Process | None = None
        self.starts = 0
        self.runs = 0

    @property
    def pid(self) -> int | None:
        """Id of the running process, None when there is none."""
        return self._process.pid if self._process is not None else None

    async def exchange(
        self, converse: Callable[[Process], Awaitable[T]], *, seconds: float, counts: bool = True
    ) -> T:
        """Return what ``converse`` makes of the running process; starts one when there is none.

        ``seconds`` bounds the conversation, the start not counted. Raises ChildDiedError,
        ChildTimeoutError and ChildStartError: the process is gone, the next call starts another. ``runs``
        still tells how many conversations it had that count.
        """
        process = self._process if self._process is not None else await self.start()
        self.runs += counts
        try:
            async with asyncio.timeout(seconds) as limit:
                answer = await converse(process)
                # A busy loop may hear of an answer first: then it has taken longer than may be billed.
                _in_time(limit)
                return answer
        except TimeoutError as error:
            await self.kill()
            # A conversation may have limits of its own, and says which.
            raise ChildTimeoutError(str(error) or f"no answer within {seconds:g} s") from None
        except _BROKEN:
            raise ChildDiedError(await self._epitaph()) from None
        except BaseException:
            # Cancelled, or a defect: either way the stream's place is lost, and the process with it.
            await self.kill()
            raise

    async def start(self) -> Process:
        """Start a process, of which there must be none, and wait for its HELLO. Raises ChildStartError."""
        self.starts, self.runs = self.starts + 1, 0
        command = [sys.executable, *self._command, "--parent", str(os.getpid())]
        environment = child_environment(os.environ, self._variables)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=PIPE, env=environment, limit=MAX_FRAME_BYTES
            )
            async with asyncio.timeout(self._start_seconds):
                await expect(self._process, FrameKind.HELLO)
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


def _in_time(limit: asyncio.Timeout) -> None:
    ends = limit.when()
    if ends is not None and ends < asyncio.get_running_loop().time():
        raise TimeoutError


def _close_input(process: Process) -> None:
    if process.stdin is not None:
        process.stdin.close()


async def send(process: Process, data: bytes) -> None:
    """Write frames to a child."""
    assert process.stdin is not None, "started with a pipe"
    process.stdin.write(data)
    await process.stdin.drain()


async def expect(process: Process, *kinds: FrameKind) -> Frame:
    """Wait for a child's next frame. Raises FrameError when it is of another kind."""
    assert process.stdout is not None, "started with a pipe"
    received = await receive_frame(process.stdout)
    if received.kind not in kinds:
        raise FrameError(f"{received.kind.name} out of turn")
    return received
