"""Sweeps by their shards' results and their reductions: I11. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from shotbus.broker.bus.base import Record
from shotbus.broker.invariants.findings import Findings, Look
from shotbus.schemas.codec import decode
from shotbus.schemas.outcomes import SUCCESSES


@dataclass(slots=True)
class _Sweep:
    shots: dict[int, int] = field(default_factory=dict)
    succeeded: set[int] = field(default_factory=set)
    final: Mapping[str, Any] | None = None


class Sweeps:
    """Adds the shards up again."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._sweeps: dict[str, _Sweep] = {}

    @property
    def takes(self) -> Mapping[str, Callable[[Record], None]]:
        """Results and reductions."""
        return {"results": self._result, "reductions": self._reduction}

    def _result(self, record: Record) -> None:
        if not dict(record.headers).get("sweep-id", b"?"):
            return  # the header says the same as the record, which then need not be decoded
        name, fields = decode(record.value)
        if name != "circuit_result" or not fields["sweep_id"] or fields.get("late"):
            return
        sweep = self._sweep(fields["sweep_id"])
        if fields["outcome"] in SUCCESSES:
            sweep.shots[fields["shard_index"]] = fields["shots"]
            sweep.succeeded.add(fields["shard_index"])

    def _reduction(self, record: Record) -> None:
        if record.value is None:
            return
        _, fields = decode(record.value, "sweep_reduction")
        if not fields["final"]:
            return
        sweep = self._sweep(fields["sweep_id"])
        same = sweep.final is None or sweep.final["payload"] == fields["payload"]
        seen = "two different final reductions"
        self._findings.judge("I11", "one-final-reduction", fields["sweep_id"], seen, holds=same)
        sweep.final = fields

    def finish(self, look: Look) -> None:
        """Compare sums; a sweep that was sealed or stopped early counts what it had then."""
        for sweep_id, sweep in self._sweeps.items():
            final = sweep.final
            if final is not None and look.complete and final["done"] >= final["shards"]:
                self._judge(sweep_id, sweep, final)
        if look.over:
            for operation in look.history.of("declare"):
                if operation.status == "ok":
                    holds = self._sweep(operation.about).final is not None
                    self._findings.judge(
                        "I11", "every-sweep-ends", operation.about, "no final reduction", holds=holds
                    )

    def _judge(self, sweep_id: str, sweep: _Sweep, final: Mapping[str, Any]) -> None:
        shots, succeeded = sum(sweep.shots.values()), len(sweep.succeeded)
        seen = f"results have {shots} shots, the reduction {final['shots']}"
        self._findings.judge("I11", "fan-in-conserves-shots", sweep_id, seen, holds=shots == final["shots"])
        counted = f"{final['done']} of {final['shards']} shards counted"
        seen = f"{counted}, {final['succeeded']} of {succeeded} with success"
        holds = final["done"] == final["shards"] and final["succeeded"] == succeeded
        self._findings.judge("I11", "no-shard-twice", sweep_id, seen, holds=holds)

    def _sweep(self, sweep_id: str) -> _Sweep:
        return self._sweeps.setdefault(sweep_id, _Sweep())
