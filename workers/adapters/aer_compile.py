"""Circuit text to circuits that Aer runs: inspected, parsed once, transpiled once, kept. CPU only.

What is kept is keyed by circuit id and by the options that change the outcome of transpiling. The text
is inspected before any SDK parser sees it: parsers open includes and expand bombs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from shotbus.broker.lru import Lru
from shotbus.schemas.codec import Fields
from shotbus.schemas.errors import fail
from shotbus.schemas.openqasm import CircuitFacts, inspect
from shotbus.workers.adapters.aer_run import refusals
from shotbus.workers.adapters.bases import Basis, X, Y

#: method -> most qubits it is offered for here; Aer itself refuses what memory does not hold.
METHODS: Mapping[str, int] = {
    "automatic": 28,
    "statevector": 28,
    "density_matrix": 14,
    "matrix_product_state": 63,
    "stabilizer": 1_000,
}
#: The Aer SDK's time grows faster than the depth: minutes for a hundred thousand layers.
MAX_DEPTH = 100_000
_PARSED = 64
_TRANSPILED = 64
_BASES = 256
_UNITARY_ONLY = ("reset", "measure", "if_else", "for_loop", "while_loop", "switch_case")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The request's options that change what Aer does."""

    method: str = "automatic"
    optimization_level: int = 1

    @classmethod
    def read(cls, options: Mapping[str, str]) -> RunOptions:
        """Read a request's options. Raises ShotbusError (SB-1108); unknown names belong to other backends."""
        method = options.get("method", "automatic")
        level = options.get("optimization_level", "1")
        if method not in METHODS:
            raise fail("SB-1108", "$.options.method", limit=", ".join(METHODS), actual=method)
        if level not in {"0", "1", "2", "3"}:
            raise fail("SB-1108", "$.options.optimization_level", limit="0 to 3", actual=level)
        return cls(method, int(level))

    def as_dict(self) -> dict[str, Any]:
        """Return the options for provenance."""
        return {"method": self.method, "optimization_level": self.optimization_level}


@dataclass(frozen=True, slots=True)
class Parsed:
    """A circuit as the SDK holds it.

    ``parameters`` are the names that bindings give values to; ``registers`` the classical registers as
    (name, width) from bit 0 up, single bits included.
    """

    circuit: Any
    facts: CircuitFacts
    parameters: frozenset[str]
    registers: tuple[tuple[str, int], ...]


@dataclass
class Transpiled:
    """A circuit for the Aer target. ``wires[i]`` is where qubit i of the text ends up."""

    circuit: Any
    wires: tuple[int, ...]
    _bases: Lru[bytes, Any] = field(default_factory=lambda: Lru(_BASES))

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What transpiling made of it, for provenance."""
        operations = [item for item in self.circuit.data if not item.operation._directive]  # noqa: SLF001
        return {
            "depth": int(self.circuit.depth()),
            "operations": len(operations),
            "two_qubit_gates": sum(len(item.qubits) == 2 for item in operations),
            "layout": list(self.wires),
        }

    def in_basis(self, basis: Basis) -> Any:
        """Return the circuit with the rotations and measurements of ``basis`` behind it.

        H and S-dagger are native to every Aer method and nothing needs routing, so the expensive
        transpilation of the body is shared by all bases.
        """
        key = basis.paulis.tobytes()
        return self._bases.get(key) or self._bases.put(key, _measured(self, basis))

    def with_expectations(self, operators: list[Any]) -> Any:
        """Return the circuit with an exact expectation value saved for each operator (label ``e0``…)."""
        circuit = self.circuit.copy()
        for number, operator in enumerate(operators):
            circuit.save_expectation_value(operator, self.wires, label=f"e{number}")
        return circuit


def _measured(transpiled: Transpiled, basis: Basis) -> Any:
    from qiskit.circuit import ClassicalRegister

    circuit = transpiled.circuit.copy()
    taken = {register.name for register in circuit.cregs}
    name = next(name for name in (f"basis{k}" for k in range(len(taken) + 1)) if name not in taken)
    register = ClassicalRegister(basis.measured.size, name)
    circuit.add_register(register)
    for bit, qubit in enumerate(basis.measured.tolist()):
        wire = transpiled.wires[qubit]
        if basis.paulis[qubit] == Y:
            circuit.sdg(wire)
        if basis.paulis[qubit] in (X, Y):
            circuit.h(wire)
        circuit.measure(wire, register[bit])
    return circuit


class Compiler:
    """Parses and transpiles; keeps the last few results."""

    def __init__(self) -> None:
        self._parsed: Lru[str, Parsed] = Lru(_PARSED)
        self._transpiled: Lru[tuple[str, RunOptions, bool], Transpiled] = Lru(_TRANSPILED)
        self._backends: dict[str, Any] = {}

    def backend(self, method: str) -> Any:
        """Return the simulator for a method, one thread: parallelism is the pool's."""
        if method not in self._backends:
            from qiskit_aer import AerSimulator

            self._backends[method] = AerSimulator(method=method, max_parallel_threads=1)
        return self._backends[method]

    def parse(self, circuit_id: str, record: Fields) -> Parsed:
        """Return the parsed circuit. Raises ShotbusError (SB-12xx; SB-1117 for too many layers)."""
        return self._parsed.get(circuit_id) or self._parsed.put(circuit_id, _parse(record))

    def transpile(self, circuit_id: str, parsed: Parsed, options: RunOptions, *, bare: bool) -> Transpiled:
        """Return the transpiled circuit; ``bare`` leaves out final measurements (for estimates).

        Raises ShotbusError: SB-1116 for more qubits than the method is offered for, SB-1220.
        """
        limit = METHODS[options.method]
        if parsed.facts.qubits > limit:
            raise fail(
                "SB-1116", "$.circuit", limit=f"{limit} qubits ({options.method})", actual=parsed.facts.qubits
            )
        key = (circuit_id, options, bare)
        return self._transpiled.get(key) or self._transpiled.put(
            key, self._transpile(parsed, options, bare=bare)
        )

    def _transpile(self, parsed: Parsed, options: RunOptions, *, bare: bool) -> Transpiled:
        from qiskit import transpile

        with refusals():
            body = _without_final_measurements(parsed.circuit) if bare else parsed.circuit
            circuit = transpile(
                body,
                self.backend(options.method),
                optimization_level=options.optimization_level,
                seed_transpiler=0,
            )
        layout = circuit.layout
        wires = layout.final_index_layout() if layout is not None else range(parsed.facts.qubits)
        return Transpiled(circuit, tuple(wires))


def _without_final_measurements(circuit: Any) -> Any:
    """Drop measurements that nothing follows on their qubit and nothing reads.

    Qiskit's own method looks at qubits alone and drops measurements that a later ``if`` depends on.
    """
    used: set[Any] = set()
    kept = []
    for instruction in reversed(circuit.data):
        touched = {*instruction.qubits, *instruction.clbits}
        name = instruction.operation.name
        if name == "measure" and not touched & used:
            continue
        if name != "barrier":
            used |= touched
        kept.append(instruction)
    bare = circuit.copy_empty_like()
    for instruction in reversed(kept):
        bare.append(instruction)
    return bare


def _parse(record: Fields) -> Parsed:
    facts = inspect(record["text"])
    if facts.depth_bound > MAX_DEPTH:
        raise fail("SB-1117", "$.circuit", limit=f"{MAX_DEPTH} layers", actual=f"{facts.depth_bound} layers")
    with refusals():
        circuit = _load(record["text"], facts.language)
    return Parsed(circuit, facts, frozenset(facts.parameters), _registers(circuit))


def _load(text: str, language: str) -> Any:
    if language == "openqasm2":
        from qiskit import qasm2

        # Without an include path the parser can open nothing but its built-in qelib1.inc.
        return qasm2.loads(text, include_path=(), custom_instructions=qasm2.LEGACY_CUSTOM_INSTRUCTIONS)
    from qiskit import qasm3

    return qasm3.loads(text)


def _registers(circuit: Any) -> tuple[tuple[str, int], ...]:
    """Name registers as Qiskit does; a bit declared alone has lost its name and is called after its place."""
    registers: dict[str, int] = {}
    for number, bit in enumerate(circuit.clbits):
        homes = circuit.find_bit(bit).registers
        name, width = (homes[0][0].name, homes[0][0].size) if homes else (f"bit{number}", 1)
        registers[name] = width
    return tuple(registers.items())


def check_exact(circuit: Any) -> None:
    """Refuse what has no exact expectation value in a single run (SB-1215)."""
    for item in circuit.data:
        if item.operation.name in _UNITARY_ONLY:
            raise fail(
                "SB-1215",
                "$.circuit",
                actual=item.operation.name,
                limit="unitary circuits",
                hint="give shots",
            )
