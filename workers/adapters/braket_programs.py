"""What a job is at Braket: one program, or a program set, whose executables are programs with values. Pure.

A device says how many executables a task may have, and how many shots. One that knows no program sets takes
one executable: whatever is more is another pool's, or is to be cut.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from shotbus.schemas.errors import Problem
from shotbus.workers.adapters.braket_compile import Form, Source, flat_circuits, values_of, write
from shotbus.workers.providers.base import RefusedError
from shotbus.workers.providers.programs import Order

_UNBOUNDED = 2**53
_HEADERS = {
    name: {"name": f"braket.ir.openqasm.{name}", "version": "1"} for name in ("program", "program_set")
}


class Limits(NamedTuple):
    """What a task may ask for: shots of an executable, executables (0: no sets), shots of all of them."""

    least_shots: int = 1
    most_shots: int = _UNBOUNDED
    executables: int = 0
    least_total: int = 1
    most_total: int = _UNBOUNDED

    @classmethod
    def read(cls, service: Mapping[str, Any], sets: Mapping[str, Any] | None) -> Limits:
        """Read a device's capabilities. Raises whatever a form that is none of theirs leads to."""
        least, most = service["shotsRange"]
        if sets is None:
            return cls(max(1, int(least)), int(most))
        return cls(
            max(1, int(least)),
            int(most),
            int(sets["maximumExecutables"]),
            int(sets.get("minimumTotalShots") or 1),
            int(sets["maximumTotalShots"]),
        )


class Action(NamedTuple):
    """A task's content: ``document`` in JSON, and the shots of all its executables together."""

    document: str
    shots: int


def executables_of(order: Order) -> int:
    """Return how many there are: each program runs with each row, as often as there are runs of shots."""
    return len(order.compiled.circuits) * order.rows * len(order.shots)


def action_of(order: Order, form: Form, limits: Limits) -> Action:
    """Return a job as a task.

    Raises:
        RefusedError: SB-1110, the device does not take as much at once.
        ShotbusError: SB-1220, an angle has no value.

    """
    _check(order, limits)
    sources = [write(circuit, form) for circuit in flat_circuits(order.compiled)]
    columns = {name: order.angles[:, k] for k, name in enumerate(order.wire_names)}
    values = [
        {name: values_of(angle, columns).tolist() for name, angle in one.inputs.items()} for one in sources
    ]
    count = executables_of(order)
    if count == 1:
        bound = {name: column[0] for name, column in values[0].items()}
        return Action(_json(_program(sources[0], bound)), order.shots[0])
    runs = len(order.shots)
    programs: list[Any] = []
    for source, bound in zip(sources, values, strict=True):
        if bound:
            programs.append(_program(source, {name: column * runs for name, column in bound.items()}))
        else:
            # Without inputs a program is one executable.
            programs += [_program(source, {})] * (runs * order.rows)
    document = {"braketSchemaHeader": _HEADERS["program_set"], "programs": programs}
    return Action(_json(document), count * order.shots[0])


def _program(source: Source, inputs: Mapping[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"braketSchemaHeader": _HEADERS["program"], "source": source.text}
    return {**told, "inputs": inputs} if inputs else told


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"), allow_nan=False)


def _check(order: Order, limits: Limits) -> None:
    count, shots = executables_of(order), order.shots[0]
    if len(set(order.shots)) > 1:
        raise _refused("$.shots", "shots that shots_per_call divides", sum(order.shots))
    if not limits.least_shots <= shots <= limits.most_shots:
        hint = "" if shots < limits.least_shots else f"shots_per_call = {limits.most_shots}"
        raise _refused("$.shots", f"{limits.least_shots} to {limits.most_shots} a run", shots, hint)
    if count == 1:
        return
    said = f"{len(order.compiled.circuits)} programs x {order.rows} rows x {len(order.shots)} runs of shots"
    if limits.executables == 0:
        hint = "one row a job, observables of one measurement basis, or a pool with program sets"
        raise _refused("$.points", "1 executable: the device has no program sets", said, hint)
    if count > limits.executables:
        rows = limits.executables * order.rows // count
        hint = f"at most {rows} rows a job" if rows else "fewer measurement bases, or fewer runs of shots"
        raise _refused("$.points", f"{limits.executables} executables", said, hint)
    if not limits.least_total <= count * shots <= limits.most_total:
        limit = f"{limits.least_total} to {limits.most_total} shots a task"
        raise _refused("$.shots", limit, f"{count} x {shots}", "fewer rows a job, or other shots")


def _refused(path: str, limit: str, actual: object, hint: str = "") -> RefusedError:
    return RefusedError(Problem("SB-1110", path, limit=limit, actual=str(actual), hint=hint))
