"""A batch's jobs as Aer sees them: what they share, whether their bindings fit, which merge. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from shotbus.broker.stages import Timings
from shotbus.schemas.errors import Problem, ShotbusError, fail
from shotbus.schemas.pub import Bindings, unpack_bindings
from shotbus.workers.adapters.aer_compile import RunOptions
from shotbus.workers.adapters.aer_run import SEED_STRIDE
from shotbus.workers.adapters.base import BatchItem, ItemResult, check_payload, failed
from shotbus.workers.adapters.increments import increments_of

_MAX_NAMED = 5


class GroupKey(NamedTuple):
    """What jobs must have in common to share a call.

    ``increments`` are the shots of each call of a row; ``anew``: whatever is kept of the circuit is not used.
    """

    circuit_id: str
    options: RunOptions
    mode: str
    increments: tuple[int, ...]
    observables: bytes
    anew: bool = False

    @property
    def shots(self) -> int:
        """Shots of a row; 0 is exact."""
        return sum(self.increments)

    def as_dict(self) -> dict[str, Any]:
        """Return what applies to the group, for provenance."""
        told: dict[str, Any] = self.options.as_dict()
        if len(self.increments) > 1:
            told |= {"shots_per_call": self.increments[0], "calls": len(self.increments)}
        return told


@dataclass(frozen=True, slots=True)
class Part:
    """A job of a group: its place in the batch, seed and rows."""

    index: int
    seed: int
    bindings: Bindings

    @property
    def points(self) -> int:
        """Number of rows."""
        return self.bindings.points

    def continues(self, other: Part) -> bool:
        """Say whether this job's rows may follow ``other``'s in one call without changing either."""
        follows = (other.seed + SEED_STRIDE * other.points - self.seed) % 2**64 == 0
        return follows and self.bindings.names == other.bindings.names


def key_of(item: BatchItem) -> GroupKey:
    """Return what a job has in common with others. Raises ShotbusError (SB-1001, SB-1103, SB-1108)."""
    request = item.request
    shots = int(request["shots"])
    if shots < 0 or (shots == 0 and request["mode"] == "sample"):
        raise ShotbusError([Problem("SB-1103", "$.shots", limit="at least 1", actual=str(shots))])
    observables = request["observables"] if request["mode"] == "estimate" else b""
    options, told = RunOptions.read(request["options"]), request["options"]
    if (recompile := told.get("recompile", "false")) not in ("true", "false"):
        raise fail("SB-1108", "$.options.recompile", limit="true or false", actual=recompile)
    increments = increments_of(told, shots)
    anew = recompile == "true"
    return GroupKey(request["circuit_id"], options, request["mode"], increments, observables, anew)


def part_of(index: int, item: BatchItem) -> Part:
    """Return a job's rows. Raises ShotbusError (SB-1004, SB-130x)."""
    request = item.request
    return Part(index, item.seed, unpack_bindings(request["bindings"], points=int(request["points"])))


def check_names(part: Part, parameters: frozenset[str]) -> None:
    """Refuse bindings that do not name exactly the circuit's parameters (SB-1301, SB-1302, SB-1306)."""
    given = part.bindings.names
    missing = sorted(parameters - set(given))[:_MAX_NAMED]
    surplus = sorted(set(given) - parameters)[:_MAX_NAMED]
    problems = [
        Problem("SB-1301", f"$.bindings.{name}", hint="give every parameter a value") for name in missing
    ]
    problems += [
        Problem("SB-1302", f"$.bindings.{name}", hint="remove it, or check its name") for name in surplus
    ]
    if len(set(given)) != len(given):
        twice = [name for name, count in Counter(given).items() if count > 1][:_MAX_NAMED]
        problems += [Problem("SB-1306", f"$.bindings.{name}", detail="it has two columns") for name in twice]
    if problems:
        raise ShotbusError(problems)


def calls_of(parts: Sequence[Part], *, rows: int, seeded: bool) -> list[list[Part]]:
    """Cut a group into calls.

    Args:
        parts: jobs in the order of the batch.
        rows: most rows of a call of several jobs (a single job of more rows is chunked later).
        seeded: whether a row's seed matters; if not, neighbours merge whatever their seeds are.

    """
    calls: list[list[Part]] = []
    held = 0
    for part in parts:
        fits = bool(calls) and held + part.points <= rows
        if fits and _mergeable(calls[-1][-1], part, seeded=seeded):
            calls[-1].append(part)
            held += part.points
        else:
            calls.append([part])
            held = part.points
    return calls


def _mergeable(last: Part, part: Part, *, seeded: bool) -> bool:
    return part.continues(last) if seeded else part.bindings.names == last.bindings.names


def merged(call: Sequence[Part]) -> Bindings:
    """Return the rows of a call, one job after the other."""
    return Bindings(call[0].bindings.names, np.concatenate([part.bindings.matrix for part in call]))


def spans(call: Sequence[Part]) -> list[tuple[int, int]]:
    """Return each job's first row and the row behind its last one within the call."""
    ends = np.cumsum([part.points for part in call]).tolist()
    return [(end - part.points, end) for part, end in zip(call, ends, strict=True)]


def share_out(
    call: Sequence[Part], payloads: Sequence[bytes], shots: int, timings: Timings
) -> dict[int, ItemResult]:
    """Return a call's results by place in the batch; seconds and bytes are shared out by rows.

    ``shots`` is the number taken for each row.
    """
    total = sum(part.points for part in call)
    results = {}
    for part, payload in zip(call, payloads, strict=True):
        own = timings.share(part.points / total)
        own.add("decode", 0.0, bytes_out=len(payload))
        results[part.index] = _finished(payload, shots * part.points, own)
    return results


def _finished(payload: bytes, shots: int, timings: Timings) -> ItemResult:
    try:
        return ItemResult(payload=check_payload(payload), shots=shots, timings=timings)
    except ShotbusError as error:
        return failed(error, timings)
