"""Circuit text to circuits that Aer runs: inspected, parsed and transpiled once, kept. CPU, compile cache.

What is kept is keyed by circuit id, by the options that change the outcome of transpiling, and by the
calibration of the device that is imitated, if one is. The text is inspected before any SDK parser sees it:
parsers open includes and expand bombs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from inspect import isclass
from typing import Any

from shotbus.broker.lru import Lru
from shotbus.schemas.codec import Fields
from shotbus.schemas.errors import fail
from shotbus.schemas.openqasm import CircuitFacts, inspect
from shotbus.workers.adapters.aer_device import Calibrated
from shotbus.workers.adapters.aer_facts import counted, places_of, registers_of
from shotbus.workers.adapters.aer_kept import NO_TARGET, KeptCircuit, Target, keep, kept_key, read_kept
from shotbus.workers.adapters.aer_layout import another_layout, layout_word, seed_of
from shotbus.workers.adapters.aer_run import refusals
from shotbus.workers.adapters.bases import Basis, X, Y
from shotbus.workers.compiled.cache import CompileCache, Origin

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
#: Methods that run with a device's noise; thermal relaxation is nothing that stabilisers can tell.
_NOISY = tuple(method for method in METHODS if method != "stabilizer")
_UNITARY_ONLY = ("reset", "measure", "if_else", "for_loop", "while_loop", "switch_case")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The request's options that change what Aer does."""

    method: str = "automatic"
    optimization_level: int = 1
    layout: str = ""

    @property
    def seed_transpiler(self) -> int:
        """What the transpiler draws from: ``layout`` is a word for another seed, hence another placement."""
        return seed_of(self.layout)

    @classmethod
    def read(cls, options: Mapping[str, str]) -> RunOptions:
        """Read a request's options. Raises ShotbusError (SB-1108); unknown names belong to other backends."""
        method = options.get("method", "automatic")
        level = options.get("optimization_level", "1")
        if method not in METHODS:
            raise fail("SB-1108", "$.options.method", limit=", ".join(METHODS), actual=method)
        if level not in {"0", "1", "2", "3"}:
            raise fail("SB-1108", "$.options.optimization_level", limit="0 to 3", actual=level)
        return cls(method, int(level), layout_word(options.get("layout", "")))

    def as_dict(self) -> dict[str, Any]:
        """Return the options for provenance."""
        return {
            "method": self.method,
            "optimization_level": self.optimization_level,
            "seed_transpiler": self.seed_transpiler,
        }


@dataclass
class Parsed:
    """An inspected circuit, parsed when it has to be transpiled: ``text`` in OpenQASM."""

    text: str
    facts: CircuitFacts

    @cached_property
    def parameters(self) -> frozenset[str]:
        """The names that bindings give values to."""
        return frozenset(self.facts.parameters)

    @cached_property
    def circuit(self) -> Any:
        """The circuit as the SDK holds it. Raises ShotbusError (SB-1220)."""
        with refusals():
            return _load(self.text, self.facts.language)


@dataclass
class Transpiled:
    """A circuit for the Aer target. Qubit i of the text begins at ``begins[i]`` and ends up at ``wires[i]``.

    ``native``: what is added to it has to be made of the device's own gates. ``key``: under what it is kept.
    """

    circuit: Any
    wires: tuple[int, ...]
    begins: tuple[int, ...]
    native: bool = False
    key: str = ""
    target: Target = NO_TARGET
    _bases: Lru[bytes, Any] = field(default_factory=lambda: Lru(_BASES))

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What transpiling made of it, for provenance."""
        return {
            "target": self.target.name,
            "compiled_key": self.key,
            **counted(self.circuit),
            "initial_layout": list(self.begins),
            "layout": list(self.wires),
        }

    @cached_property
    def registers(self) -> tuple[tuple[str, int], ...]:
        """The classical registers as (name, width) from bit 0 up, single bits included."""
        return registers_of(self.circuit)

    def in_basis(self, basis: Basis) -> Any:
        """Return the circuit with the rotations and measurements of ``basis`` behind it.

        They act on single qubits, so nothing needs routing, and the expensive transpilation of the body is
        shared by all bases.
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
        turn = _turn_natively if transpiled.native else _turn
        turn(circuit, wire, basis.paulis[qubit])
        circuit.measure(wire, register[bit])
    return circuit


def _turn(circuit: Any, wire: int, pauli: int) -> None:
    """Turn the eigenvectors of a Pauli into those of Z; H and S-dagger are native to every Aer method."""
    if pauli == Y:
        circuit.sdg(wire)
    if pauli in (X, Y):
        circuit.h(wire)


def _turn_natively(circuit: Any, wire: int, pauli: int) -> None:
    """Do the same with gates of which a device's noise is known: a Hadamard would be free of any."""
    if pauli == X:
        circuit.rz(math.pi / 2, wire)
    if pauli in (X, Y):
        circuit.sx(wire)


class Compiler:
    """Parses and transpiles; keeps the last few results, and all of them in ``kept``.

    Args:
        device: where Aer computes, ``CPU`` or ``GPU``; the latter must be there.

    """

    #: method -> most qubits.
    methods: Mapping[str, int] = METHODS
    #: What a circuit and its wires become.
    form: type[Transpiled] = Transpiled

    def __init__(self, device: str = "CPU") -> None:
        self._device = device
        self._calibration: Calibrated | None = None
        self.kept = CompileCache()
        #: Where the circuit came from that :meth:`transpile` has returned last.
        self.origin: Origin = "anew"
        self._parsed: Lru[str, Parsed] = Lru(_PARSED)
        self._transpiled: Lru[tuple[Target, str, RunOptions, bool], Transpiled] = Lru(_TRANSPILED)
        self._backends: dict[str, Any] = {}

    def imitate(self, calibration: Calibrated) -> None:
        """Compile for a device as it was calibrated, and run with its noise, from now on."""
        if calibration is not self._calibration:
            self._calibration, self._backends = calibration, {}

    def backend(self, method: str) -> Any:
        """Return the simulator for a method, one thread: parallelism is the pool's."""
        if method not in self._backends:
            from qiskit_aer import AerSimulator

            made = AerSimulator(method=method, device=self._device, max_parallel_threads=1)
            if self._calibration is not None:
                made.set_options(noise_model=self._calibration.noise_model)
            self._backends[method] = made
        return self._backends[method]

    def options_for(self, options: RunOptions, *, exact: bool) -> RunOptions:
        """Return the options that a run goes by.

        With noise an exact value is that of the density matrix: a state vector would be one of many that
        chance may bring. Raises ShotbusError (SB-1108) for a method that cannot do what is asked.
        """
        if self._calibration is None:
            return options
        able = ("automatic", "density_matrix") if exact else _NOISY
        if options.method not in able:
            raise fail("SB-1108", "$.options.method", limit=", ".join(able), actual=options.method)
        return replace(options, method="density_matrix") if exact else options

    def parse(self, circuit_id: str, record: Fields, *, anew: bool = False) -> Parsed:
        """Return the inspected circuit. Raises ShotbusError (SB-12xx; SB-1117 for too many layers)."""
        known = None if anew else self._parsed.get(circuit_id)
        return known or self._parsed.put(circuit_id, _parse(record))

    def transpile(
        self, circuit_id: str, parsed: Parsed, options: RunOptions, *, bare: bool, anew: bool = False
    ) -> Transpiled:
        """Return the transpiled circuit; ``bare`` leaves out final measurements (for estimates).

        ``anew``: it is kept, but what is kept of it already is not used.
        Raises ShotbusError: SB-1116 for more qubits than the method is offered for, SB-1220.
        """
        limit = self.methods[options.method]
        if parsed.facts.qubits > limit:
            raise fail(
                "SB-1116", "$.circuit", limit=f"{limit} qubits ({options.method})", actual=parsed.facts.qubits
            )
        model = self._calibration.model if self._calibration is not None else None
        if model is not None and parsed.facts.qubits > model.qubits:
            most = f"{model.qubits} qubits ({model.backend_name})"
            raise fail("SB-1116", "$.circuit", limit=most, actual=parsed.facts.qubits)
        key = (self.target(options), circuit_id, options, bare)
        found = None if anew else self._transpiled.get(key)
        self.origin = "memory"
        if found is None:
            begun = time.perf_counter()
            made = self._obtain(circuit_id, parsed, options, bare=bare, anew=anew)
            found = self._transpiled.put(key, made)
            self.kept.counts.seconds += time.perf_counter() - begun
        self.kept.counts.found(self.origin)
        return found

    def _obtain(
        self, circuit_id: str, parsed: Parsed, options: RunOptions, *, bare: bool, anew: bool
    ) -> Transpiled:
        """Take a circuit from those that are kept, or transpile and keep it."""
        key = kept_key(circuit_id, self.target(options), options, bare=bare)
        found = None if anew else read_kept(self.kept, key)
        self.origin = "anew" if found is None else "disk"
        if found is None:
            found = self._transpile(parsed, options, bare=bare)
            keep(self.kept, key, found)
        native, target = self._calibration is not None, self.target(options)
        return self.form(*found, native=native, key=key, target=target)

    def _transpile(self, parsed: Parsed, options: RunOptions, *, bare: bool) -> KeptCircuit:
        with refusals():
            body = self.prepared(parsed.circuit)
            body = _without_final_measurements(body) if bare else body
            if options.layout and self._calibration is not None:
                circuit = self._translated(body, options, initial_layout=self._elsewhere(body, options))
            else:
                circuit = self._translated(body, options)
        return KeptCircuit(circuit, *places_of(circuit, parsed.facts.qubits))

    def prepared(self, circuit: Any) -> Any:
        """Return a parsed circuit as it goes into the transpiler. Raises ShotbusError (SB-1118)."""
        return circuit

    def _translated(self, body: Any, options: RunOptions, **more: Any) -> Any:
        from qiskit import transpile

        return transpile(
            body,
            **self.goal(options, varies=bool(body.parameters)),
            optimization_level=options.optimization_level,
            seed_transpiler=options.seed_transpiler,
            **more,
        )

    def _elsewhere(self, body: Any, options: RunOptions) -> list[int]:
        """Return another placement than those that the circuit has without ``layout``."""
        assert self._calibration is not None, "only a device has places"
        levels = {options.optimization_level, RunOptions().optimization_level}
        usual = [replace(options, optimization_level=level, layout="") for level in sorted(levels)]
        layouts = [self._translated(body, one).layout.initial_index_layout(True) for one in usual]
        edges = self._calibration.model.edges()
        return another_layout(edges, body.num_qubits, options.seed_transpiler, set(map(tuple, layouts)))

    def target(self, options: RunOptions) -> Target:
        """Return what is compiled for, as it is kept under."""
        if self._calibration is None:
            return Target(f"aer {options.method}, no controlled angles that vary")
        return Target(self._calibration.model.backend_name, self._calibration.calibration_id)

    def goal(self, options: RunOptions, *, varies: bool) -> dict[str, Any]:
        """Return what the transpiler is told of that; the circuit ``varies`` if it has parameters."""
        if self._calibration is None:
            backend = self.backend(options.method)
            return {"target": _bindable(backend.target)} if varies else {"backend": backend}
        return {"target": self._calibration.target}


def _bindable(target: Any) -> Any:
    """Return a target without controlled gates that have angles.

    Aer takes the parameters of such gates for numbers already bound and leaves the gates out, without a word
    (qiskit-aer 0.18, its issues 2323, 2391 and 2403). Written out they are gates that it does bind.
    """
    from qiskit.circuit import ControlledGate
    from qiskit.transpiler import Target as QiskitTarget

    left = QiskitTarget(num_qubits=target.num_qubits)
    for name in sorted(target.operation_names):
        operation = target.operation_from_name(name)
        if not (isinstance(operation, ControlledGate) and operation.params):
            # Flow of control is known by its classes, which have no properties.
            left.add_instruction(operation, None if isclass(operation) else target[name], name=name)
    return left


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
    return Parsed(record["text"], facts)


def _load(text: str, language: str) -> Any:
    if language == "openqasm2":
        from qiskit import qasm2
        from qiskit.circuit.library import IGate

        # Qiskit's own u0 takes whole numbers only and is so many gates; to the library it is U(0,0,0).
        known = [one for one in qasm2.LEGACY_CUSTOM_INSTRUCTIONS if one.name != "u0"]
        known.append(qasm2.CustomInstruction("u0", 1, 1, lambda _: IGate(), builtin=True))
        # Without an include path the parser can open nothing but its built-in qelib1.inc.
        return qasm2.loads(text, include_path=(), custom_instructions=known)
    from qiskit import qasm3

    return qasm3.loads(text)


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
