"""A worker's child process: reads bundles on standard input, runs them, answers on standard output.

``python -m shotbus.workers.child --adapter NAME``. Between two bundles it says how its backend is.
Everything an SDK prints goes to standard error: the frames travel on private copies of the descriptors.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any, BinaryIO

from shotbus.broker.children.confine import confine, private_streams
from shotbus.broker.children.frames import Frame, FrameError, FrameKind, frame, json_frame
from shotbus.broker.clock import SystemClock
from shotbus.broker.dispatcher.bundles import COMPILE
from shotbus.broker.lru import Lru
from shotbus.schemas.codec import Fields, decode
from shotbus.schemas.errors import ShotbusError
from shotbus.workers.adapters.base import (
    Adapter,
    Batch,
    BatchItem,
    CanCompile,
    CanSense,
    ItemResult,
    load,
)
from shotbus.workers.backend import faults_among, pack_state, state_of
from shotbus.workers.callers import by_caller
from shotbus.workers.compiled.cache import CompileCache
from shotbus.workers.compiled.settings import CacheSettings
from shotbus.workers.entering import listen
from shotbus.workers.frames import calibration_frame, split_run
from shotbus.workers.incoming import Incoming
from shotbus.workers.late import late_among
from shotbus.workers.outcomes import Claim, item_fields
from shotbus.workers.quality import gated
from shotbus.workers.revoked import revoked_among
from shotbus.workers.running import Ran, compile_safely, run_bundle
from shotbus.workers.topup import with_priors

_CIRCUITS = 256
# Of so many calibrations it is known that the worker has them.
_CALIBRATIONS = 64
_CIRCUIT_BYTES = 64 * 1_048_576


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="shotbus.workers.child")
    parser.add_argument("--adapter", required=True)
    parser.add_argument("--options", type=json.loads, default={})
    CacheSettings.declare(parser)
    parser.add_argument("--memory-bytes", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args(arguments)
    confine(memory_bytes=options.memory_bytes, parent=options.parent)
    reading, writing = private_streams()
    compiled = CacheSettings.read(options).open()
    Server(load(options.adapter, options.options), reading, writing, compiled).serve()


class Server:
    """Runs one bundle at a time with one adapter."""

    def __init__(
        self, adapter: Adapter, reading: BinaryIO, writing: BinaryIO, compiled: CompileCache
    ) -> None:
        self._adapter = adapter
        self._compiled = compiled
        if isinstance(adapter, CanCompile):
            adapter.keep_in(compiled)
        self._incoming = Incoming(reading, adapter)
        self._writing = writing
        self._circuits: Lru[str, Fields] = Lru(_CIRCUITS, _CIRCUIT_BYTES)
        self._told: Lru[str, bool] = Lru(_CALIBRATIONS)
        self._clock = SystemClock()
        listen(lambda stage: self._send(frame(FrameKind.STAGE, stage.encode())))

    def serve(self) -> None:
        """Announce this child, then answer RUN and SENSE frames until the stream ends. Raises FrameError."""
        self._send(json_frame(FrameKind.HELLO, {"adapter": type(self._adapter).__name__}))
        while (received := self._incoming.next()) is not None:
            if received.kind is FrameKind.SENSE:
                self._send(json_frame(FrameKind.SENSED, pack_state(state_of(self._adapter))))
            elif received.kind is FrameKind.RUN:
                self._answer(*split_run(received.payload))
            else:
                raise FrameError(f"{received.kind.name} out of turn")

    def _send(self, data: bytes) -> None:
        self._writing.write(data)
        self._writing.flush()

    def _answer(self, head: dict[str, Any], record: bytes) -> None:
        bundle = decode(record, "work_bundle")[1]
        lease_seconds = max(0.0, time.time() - bundle["sent_us"] / 1e6)
        items = [BatchItem.of(item) for item in bundle["items"]]
        if bundle["purpose"] == COMPILE:
            self._done(compile_safely(self._adapter, Batch(items, self._gather(items))), 0)
            return
        claim = Claim(bundle["bundle_id"], bundle["pool"], head["worker"], head["lease_id"])
        frames: list[bytes] = []
        results: list[ItemResult] = []
        priors = {item["job_id"]: item["prior"] for item in bundle["items"] if item["prior"]}
        circuits = self._gather(items)
        with self._incoming.running(bundle["bundle_id"], items):
            for one in run_bundle(self._adapter, bundle["purpose"], items, circuits, self._clock.wall_ms):
                ran = gated(with_priors(one, priors) if priors else one)
                for result in {id(result): result for result in ran.results}.values():
                    result.timings.add("lease", lease_seconds)
                frames += self._snapshots(ran)
                for part in by_caller(ran):
                    frames += [frame(FrameKind.OUTCOME, record) for record in self._records(claim, part)]
                results += ran.results
        late, revoked = late_among(results), revoked_among(results)
        failures = sum(bool(result.error_class) for result in results) - late - revoked
        self._done(failures, faults_among(results), frames, late=late, revoked=revoked)

    def _done(
        self, failures: int, faults: int, frames: Sequence[bytes] = (), *, late: int = 0, revoked: int = 0
    ) -> None:
        compiled = self._compiled.take_counts()
        told = {"failed": failures, "faults": faults, "compiled": compiled, "late": late, "revoked": revoked}
        self._send(b"".join([*frames, json_frame(FrameKind.DONE, told)]))

    def _records(self, claim: Claim, ran: Ran) -> list[bytes]:
        return claim.finished(
            time.time_ns() // 1000,
            [item_fields(item, result) for item, result in zip(ran.items, ran.results, strict=True)],
            executed_on=self._adapter.capabilities.executed_on,
            provenance=ran.provenance,
            calibration_id=ran.calibration_id,
        )

    def _snapshots(self, ran: Ran) -> list[bytes]:
        """Return the calibrations that a run names, of those that this child has not handed over yet."""
        if not ran.calibrations or not isinstance(self._adapter, CanSense):
            return []
        frames = []
        for name in ran.calibrations:
            if self._told.get(name) is None and (snapshot := self._adapter.calibration(name)) is not None:
                self._told.put(name, True)
                frames.append(calibration_frame(name, snapshot))
        return frames

    def _gather(self, items: Sequence[BatchItem]) -> dict[str, Fields]:
        """Return the circuits of a batch, asking the worker for those that are not held here."""
        if not self._adapter.capabilities.needs_circuits:
            return {}
        wanted = _circuit_ids(items)
        held = {name: self._circuits.get(name) for name in wanted}
        missing = [name for name, circuit in held.items() if circuit is None]
        if missing:
            self._send(json_frame(FrameKind.NEED, missing))
            held.update(self._receive_circuits())
        return {name: circuit for name, circuit in held.items() if circuit is not None}

    def _receive_circuits(self) -> dict[str, Fields]:
        received: dict[str, Fields] = {}
        while (answer := self._expect()).kind is FrameKind.CIRCUIT:
            circuit = decode(answer.payload, "circuit")[1]
            name = circuit["circuit_id"]
            received[name] = self._circuits.put(name, circuit, len(answer.payload))
        return received

    def _expect(self) -> Frame:
        answer = self._incoming.next()
        if answer is None or answer.kind not in (FrameKind.CIRCUIT, FrameKind.GO):
            raise FrameError("the worker did not send the circuits")
        return answer


def _circuit_ids(items: Sequence[BatchItem]) -> list[str]:
    """Return the ids in order; a request that cannot be read is refused later, by itself."""
    wanted: dict[str, None] = {}
    for item in items:
        try:
            wanted[item.request["circuit_id"]] = None
        except ShotbusError:
            continue
    return list(wanted)


if __name__ == "__main__":
    main()
