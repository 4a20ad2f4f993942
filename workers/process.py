"""The worker's end of a child process: run a bundle, ask how the backend is. Starts processes."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from shotbus.broker.children.frames import Frame, FrameKind, frame, json_frame
from shotbus.broker.children.process import ChildProcess, expect, send
from shotbus.broker.config import TimeoutsConfig
from shotbus.broker.timeouts import limit_of
from shotbus.workers.adapters.base import NO_OPTIONS, BackendState
from shotbus.workers.adapters.options import referenced
from shotbus.workers.backend import unpack_state
from shotbus.workers.compiled.settings import NO_CACHE, CacheSettings
from shotbus.workers.frames import run_frame, split_calibration

_UNLIMITED = TimeoutsConfig(compile=0.0, submit=0.0, retrieve=0.0)

#: Returns the framed Circuit records of ids, None where one is not to be found.
Fetch = Callable[[Sequence[str]], Awaitable[Mapping[str, bytes | None]]]
#: Takes a calibration that an outcome of the same run will name: its id and the snapshot.
Calibrated = Callable[[str, bytes], None]


class RunReport(NamedTuple):
    """What a child answered: encoded Outcome records, and how many of the bundle's jobs failed.

    ``faults`` are those that failed by the backend's fault. ``compiled`` are the child's
    :class:`~shotbus.workers.compiled.cache.CompileCounts` of this bundle, empty where it compiles nothing.
    ``late`` jobs, which count neither as done nor as failed, were not begun: their deadlines had passed.
    ``revoked`` jobs neither: they were called off in time, and nothing came of them.
    """

    outcomes: list[bytes]
    failures: int
    faults: int = 0
    compiled: Mapping[str, float] = MappingProxyType({})
    late: int = 0
    revoked: int = 0


class Child(ChildProcess):
    """At most one process at a time; runs one bundle at a time."""

    def __init__(
        self,
        adapter: str,
        *,
        memory_bytes: int,
        start_seconds: float,
        timeouts: TimeoutsConfig = _UNLIMITED,
        options: Mapping[str, str] = NO_OPTIONS,
        compile_cache: CacheSettings = NO_CACHE,
        compiled: Callable[[Mapping[str, float]], None] = lambda _: None,
        calibrated: Calibrated = lambda *_: None,
    ) -> None:
        super().__init__(
            "shotbus.workers.child",
            ["--adapter", adapter, "--options", json.dumps(dict(options)), *compile_cache.arguments()],
            memory_bytes=memory_bytes,
            start_seconds=start_seconds,
            variables=referenced(options),
        )
        self._timeouts, self._compiled, self._calibrated = timeouts, compiled, calibrated
        self._hearing: Process | None = None
        self._unheard: list[bytes] = []

    async def run(self, head: Mapping[str, Any], bundle: bytes, fetch: Fetch, *, seconds: float) -> RunReport:
        """Run a bundle.

        Args:
            head: ``worker`` and ``lease_id``, as :class:`Claim` wants them.
            bundle: the WorkBundle record.
            fetch: asked for the circuits that the child does not hold.
            seconds: time limit, the start of the process not counted.

        Raises:
            ChildDiedError, ChildTimeoutError, ChildStartError: see :meth:`ChildProcess.exchange`; a stage of
                the work that takes longer than its own limit is a ChildTimeoutError that names it.

        """
        try:
            report = await self.exchange(
                lambda process: self._run(process, run_frame(head, bundle), fetch), seconds=seconds
            )
        finally:
            self._hearing, self._unheard = None, []
        self._compiled(report.compiled)
        return report

    def call_off(self, bundle_id: str, jobs: Collection[str]) -> None:
        """Tell the child that nobody wants some jobs of the bundle that it runs; its adapter can cancel.

        What came of it is in the run's report. Nothing comes of what is said after its last word.
        """
        told = json_frame(FrameKind.CANCEL, [bundle_id, *jobs])
        if self._hearing is None or self._hearing.stdin is None:
            # It is still being started: it hears of that behind its bundle.
            self._unheard.append(told)
        else:
            self._hearing.stdin.write(told)

    async def _run(self, process: Process, request: bytes, fetch: Fetch) -> RunReport:
        self._hearing = process
        await send(process, b"".join([request, *self._unheard]))
        return await _converse(process, fetch, self._timeouts, self._calibrated)

    async def sense(self, *, seconds: float) -> BackendState:
        """Ask how the backend is, the start of the process not counted in ``seconds``.

        It is no run: should the next one kill the process, that job has nobody else to blame. Raises as
        :meth:`run` does.
        """
        return await self.exchange(_sense, seconds=seconds, counts=False)


async def _sense(process: Process) -> BackendState:
    await send(process, frame(FrameKind.SENSE))
    return unpack_state((await expect(process, FrameKind.SENSED)).document())


async def _converse(
    process: Process, fetch: Fetch, timeouts: TimeoutsConfig, calibrated: Calibrated
) -> RunReport:
    outcomes: list[bytes] = []
    stage = ""
    while True:
        answer = await _answer(process, stage, limit_of(stage, timeouts))
        if answer.kind is FrameKind.STAGE:
            stage = answer.payload.decode()
            continue
        stage = ""
        if answer.kind is FrameKind.DONE:
            told = answer.document()
            counts = int(told["failed"]), int(told["faults"])
            return RunReport(outcomes, *counts, told["compiled"], int(told["late"]), int(told["revoked"]))
        if answer.kind is FrameKind.OUTCOME:
            outcomes.append(answer.payload)
            continue
        if answer.kind is FrameKind.CALIBRATION:
            calibrated(*split_calibration(answer.payload))
            continue
        circuits = await fetch(answer.document())
        frames = [frame(FrameKind.CIRCUIT, record) for record in circuits.values() if record is not None]
        await send(process, b"".join([*frames, frame(FrameKind.GO)]))


async def _answer(process: Process, stage: str, limit: float) -> Frame:
    """Wait for the next frame while a child is in a stage. Raises TimeoutError that names it."""
    kinds = (FrameKind.NEED, FrameKind.STAGE, FrameKind.CALIBRATION, FrameKind.OUTCOME, FrameKind.DONE)
    clock = asyncio.timeout(limit or None)
    try:
        async with clock:
            return await expect(process, *kinds)
    except TimeoutError:
        raise TimeoutError(f"{stage} took longer than {limit:g} s") from None
