"""What a compiled circuit uses of a device: its places, their errors, and the device's topology. Pure.

Reads Qiskit's circuits and Targets by their attributes and imports nothing of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from inspect import isclass
from typing import Any

from shotbus.schemas.ids import digest
from shotbus.workers.compiled.reuse import Place

#: What measuring in a basis adds to a circuit whose own measurements were left out.
_TURNING = ("measure", "rz", "sx")


def topology_of(target: Any) -> str:
    """Return a digest of what a device is apart from how well it works: qubits, couplings, native gates.

    A gate that has gone from one pair, or one whose angle is another, makes another topology.
    """
    gates = [[name, _angles(target, name), _places(target[name])] for name in sorted(target.operation_names)]
    return digest(json.dumps([target.num_qubits, target.dt, gates]), size=16).hex()


def errors_at(target: Any, places: Iterable[Place]) -> dict[Place, float | None]:
    """Return the errors that a calibration has at places; None where it measured none."""
    return {place: _error(target, place) for place in places}


def places_of(target: Any, circuit: Any, wires: Sequence[int], *, bare: bool) -> list[Place]:
    """Return where a circuit acts, in order; of a ``bare`` one also where it will be measured.

    Args:
        target: what it was compiled for; what that does not have (a barrier) has no error either.
        circuit: on the device's qubits.
        wires: where the qubits of the text end up.
        bare: whether its final measurements were left out.

    """
    found = dict.fromkeys(_used(circuit, range(circuit.num_qubits)))
    if bare:
        found |= dict.fromkeys((name, (wire,)) for wire in wires for name in _TURNING)
    known = set(target.operation_names)
    return sorted(place for place in found if place[0] in known)


def _used(circuit: Any, qubits: Sequence[int]) -> Iterator[Place]:
    """Yield gates and where they act; those inside of branches and loops too."""
    numbers = {qubit: qubits[number] for number, qubit in enumerate(circuit.qubits)}
    for item in circuit.data:
        where = tuple(numbers[qubit] for qubit in item.qubits)
        yield item.operation.name, where
        for block in getattr(item.operation, "blocks", ()):
            yield from _used(block, where)


def _error(target: Any, place: Place) -> float | None:
    name, qubits = place
    properties: Mapping[Any, Any] = (target[name] if name in target.operation_names else None) or {}
    measured = properties.get(qubits)
    error = None if measured is None else measured.error
    return float(error) if error is not None and math.isfinite(error) else None


def _places(properties: Mapping[Any, Any] | None) -> list[Any]:
    """Return where there is a gate; None among them is everywhere."""
    return sorted((list(places) if places is not None else None for places in properties or {}), key=str)


def _angles(target: Any, name: str) -> list[str]:
    operation = target.operation_from_name(name)
    # Flow of control stands there as its classes, which have no angles.
    return [] if isclass(operation) else [str(angle) for angle in operation.params]
