"""What inspection says of a circuit: data, a ``circuit_facts`` record, a key in the store. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from shotbus.schemas.codec import decode, encode
from shotbus.schemas.errors import Problem, ShotbusError
from shotbus.schemas.openqasm import INSPECTOR_VERSION, CircuitFacts

#: Header by which a circuit_facts record on ``outcomes`` is told from a worker's outcome.
FACTS_HEADERS = (("kind", b"facts"),)


@dataclass(frozen=True, slots=True)
class Inspected:
    """The answer to one circuit: its ``facts``, or the ``problems`` for which it is refused.

    The problems' paths are ``line:column`` of the text, or ``$`` for all of it.
    """

    circuit_id: str
    facts: CircuitFacts | None
    problems: tuple[Problem, ...] = ()


def refused(circuit_id: str, code: str, **fields: str) -> Inspected:
    """Return a refusal of the whole text with one problem; ``fields`` are those of :class:`Problem`."""
    return Inspected(circuit_id, None, (Problem(code, **fields),))


def encode_facts(inspected: Inspected) -> bytes:
    """Return the framed record, at the present version of the inspector."""
    head = {"circuit_id": inspected.circuit_id, "inspector": INSPECTOR_VERSION}
    if inspected.facts is None:
        problems = [problem.as_record() for problem in inspected.problems]
        return encode("circuit_facts", {**head, "problems": problems, "edges": b""})
    return encode("circuit_facts", {**head, **_written(inspected.facts)})


def decode_facts(raw: bytes) -> Inspected:
    """Read what :func:`encode_facts` wrote. Raises ShotbusError for anything else."""
    return facts_of(decode(raw, "circuit_facts")[1])


def facts_of(record: Mapping[str, Any]) -> Inspected:
    """Return what a decoded ``circuit_facts`` record says."""
    if record["problems"]:
        problems = tuple(Problem.from_record(problem) for problem in record["problems"])
        return Inspected(record["circuit_id"], None, problems)
    return Inspected(record["circuit_id"], _read(record))


def facts_key(circuit_id: str) -> str:
    """Return the store's key of a circuit's facts."""
    return f"facts:{circuit_id}"


def usable_facts(raw: bytes | None, circuit_id: str) -> Inspected | None:
    """Return what the store has of a circuit; None for nothing, another inspector's, or something else."""
    if raw is None:
        return None
    try:
        _, record = decode(raw, "circuit_facts")
    except ShotbusError:
        return None
    if record["inspector"] != INSPECTOR_VERSION or record["circuit_id"] != circuit_id:
        return None
    return facts_of(record)


def _written(facts: CircuitFacts) -> dict[str, Any]:
    return {
        "language": facts.language,
        "qubits": facts.qubits,
        "clbits": facts.clbits,
        "registers": [{"name": name, "width": width} for name, width in facts.registers],
        "parameters": facts.parameters,
        "operations": facts.operations,
        "two_qubit_gates": facts.two_qubit_gates,
        "depth_bound": facts.depth_bound,
        "measurements": facts.measurements,
        "has_mid_circuit": facts.has_mid_circuit,
        "gates": [{"name": name, "count": count} for name, count in facts.gates],
        "gates_cut": facts.gates_cut,
        "edges": facts.packed_edges,
        "edges_cut": facts.edges_cut,
        "expanded_size": facts.expanded_size,
        "statevector_cost": facts.statevector_cost,
    }


def _read(record: Mapping[str, Any]) -> CircuitFacts:
    language: Literal["openqasm3", "openqasm2"]
    language = "openqasm2" if record["language"] == "openqasm2" else "openqasm3"
    return CircuitFacts(
        language=language,
        qubits=record["qubits"],
        clbits=record["clbits"],
        registers=tuple((register["name"], register["width"]) for register in record["registers"]),
        parameters=tuple(record["parameters"]),
        operations=record["operations"],
        two_qubit_gates=record["two_qubit_gates"],
        depth_bound=record["depth_bound"],
        measurements=record["measurements"],
        has_mid_circuit=record["has_mid_circuit"],
        gates=tuple((gate["name"], gate["count"]) for gate in record["gates"]),
        gates_cut=record["gates_cut"],
        packed_edges=record["edges"],
        edges_cut=record["edges_cut"],
        expanded_size=record["expanded_size"],
    )
