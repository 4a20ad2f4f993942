"""Circuit text to circuits that Aer runs: inspected, parsed and transpiled once, kept. CPU, compile cache.

What is kept is keyed by circuit id, by the options that change the outcome of transpiling, and by the
calibration of the device that is compiled for, if one is; that of an earlier calibration is used for as long
as the pool's rule allows. The text is inspected before any SDK parser sees it:
parsers open includes and expand bombs.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from inspect import isclass
from typing import Any, NamedTuple

from shotbus.broker.lru import Lru
from shotbus.schemas.codec import Fields
from shotbus.schemas.errors import fail
from shotbus.schemas.openqasm import CircuitFacts, inspect
from shotbus.workers.adapters.aer_device import Calibrated
from shotbus.workers.adapters.aer_facts import layouts_of
from shotbus.workers.adapters.aer_fit import errors_at, places_of, topology_of
from shotbus.workers.adapters.aer_kept import (
    KeptCircuit,
    Target,
    entry_key,
    fit_of,
    keep,
    kept_group,
    loaded,
    read_kept,
)
from shotbus.workers.adapters.aer_layout import another_layout, layout_word, seed_of
from shotbus.workers.adapters.aer_run import refusals
from shotbus.workers.adapters.aer_transpiled import Transpiled
from shotbus.workers.compiled.cache import CompileCache, Origin
from shotbus.workers.compiled.reuse import Fit, Verdict, judge

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
#: Qiskit takes no seed that a signed 32-bit number does not hold.
_LARGEST_SEED = 2**31 - 1
_DIGITS = re.compile(r"[0-9]{1,10}")
#: Methods that run with a device's noise; thermal relaxation is nothing that stabilisers can tell.
_NOISY = tuple(method for method in METHODS if method != "stabilizer")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The request's options that change what Aer does."""

    method: str = "automatic"
    optimization_level: int = 1
    layout: str = ""
    seed: int = 0

    @property
    def seed_transpiler(self) -> int:
        """What the transpiler draws from: ``layout`` is a word for another seed, hence another placement.

        It goes before ``seed``, since it may be a remedy for what came of that.
        """
        return seed_of(self.layout) if self.layout else self.seed

    @classmethod
    def read(cls, options: Mapping[str, str]) -> RunOptions:
        """Read a request's options. Raises ShotbusError (SB-1108); unknown names belong to other backends."""
        method = options.get("method", "automatic")
        level = options.get("optimization_level", "1")
        if method not in METHODS:
            raise fail("SB-1108", "$.options.method", limit=", ".join(METHODS), actual=method)
        if level not in {"0", "1", "2", "3"}:
            raise fail("SB-1108", "$.options.optimization_level", limit="0 to 3", actual=level)
        layout, seed = options.get("layout", ""), options.get("seed_transpiler", "0")
        # Not int(): it also takes signs, spaces and underscores, and other alphabets' digits.
        if not _DIGITS.fullmatch(seed) or int(seed) > _LARGEST_SEED:
            raise fail("SB-1108", "$.options.seed_transpiler", limit=f"0 to {_LARGEST_SEED}", actual=seed)
        return cls(method, int(level), layout_word(layout), int(seed))

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


class _Kind(NamedTuple):
    """What is compiled alike but for the calibration."""

    target: Target
    circuit_id: str
    options: RunOptions
    bare: bool

    @property
    def group(self) -> str:
        """Under what all calibrations of it are kept."""
        return kept_group(self.circuit_id, self.target, self.options, bare=self.bare)


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
        self._transpiled: Lru[tuple[_Kind, str], Transpiled] = Lru(_TRANSPILED)
        #: Of each kind the one that came last, whatever it was compiled for.
        self._newest: Lru[_Kind, Transpiled] = Lru(_TRANSPILED)
        self._topology = ""
        self._backends: dict[str, Any] = {}

    def imitate(self, calibration: Calibrated) -> None:
        """Compile for a device as it was calibrated, and run with its noise, from now on."""
        if calibration is not self._calibration:
            self._calibration, self._backends = calibration, {}
            self._topology = topology_of(calibration.target)

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
        kind = _Kind(self.target(options), circuit_id, options, bare)
        known = (kind, self._calibration_id)
        found = None if anew else self._transpiled.get(known)
        self.origin = "memory"
        if found is None:
            begun = time.perf_counter()
            made = self._obtain(kind, parsed, anew=anew)
            found = self._newest.put(kind, self._transpiled.put(known, made))
            self.kept.counts.seconds += time.perf_counter() - begun
        self.kept.counts.found(self.origin)
        return found

    def told(self, body: Transpiled) -> dict[str, Any]:
        """Return for provenance where a circuit came from that :meth:`transpile` has just returned."""
        told: dict[str, Any] = {"compiled": self.origin}
        if body.fit is not None and body.fit.calibration_id != self._calibration_id:
            told["compiled_for"] = body.fit.calibration_id
        return {**told, "compiled_because": body.why} if body.why else told

    @property
    def _calibration_id(self) -> str:
        return self._calibration.calibration_id if self._calibration is not None else ""

    def _obtain(self, kind: _Kind, parsed: Parsed, *, anew: bool) -> Transpiled:
        """Take a circuit from those that are kept, or transpile and keep it."""
        key, why = self._key(kind.group), ""
        if not anew:
            if (found := read_kept(self.kept, key)) is not None:
                self.origin = "disk"
                return self._formed(found, kind, key)
            earlier, why = self._earlier(kind)
            if earlier is not None:
                self.kept.counts.reused += 1
                return earlier
        self.origin = "anew"
        made = self._transpile(parsed, kind)
        keep(self.kept, key, made)
        return replace(self._formed(made, kind, key), why=why)

    def _earlier(self, kind: _Kind) -> tuple[Transpiled | None, str]:
        """Return what was compiled for an earlier calibration and may be used now, or why the newest may not.

        What this process has goes first, then what is kept, the newest calibration first.
        """
        if self._calibration is None or not self.kept.rule.after_seconds:
            return None, ""
        known, why = self._newest.get(kind), ""
        if known is not None and known.fit is not None:
            reuse, why = self._judged(known.fit)
            if reuse:
                return replace(known, why=why), ""
        for key in self.kept.earlier(kind.group):
            entry = self.kept.get(key)
            if entry is None or (fit := fit_of(entry)) is None:
                continue
            reuse, because = self._judged(fit)
            if reuse and (found := loaded(self.kept, key, entry)) is not None:
                self.origin = "disk"
                return replace(self._formed(found, kind, key), why=because), ""
            why = why or because
        return None, why

    def _judged(self, fit: Fit) -> Verdict:
        """Hold a circuit's errors against those of the calibration that holds."""
        assert self._calibration is not None, "only a device has calibrations"
        held = self._calibration
        now = Fit(held.calibration_id, held.calibrated_ms, errors_at(held.target, fit.errors))
        return judge(fit, now, self.kept.rule)

    def _key(self, group: str) -> str:
        return group if self._calibration is None else entry_key(group, self._calibration)

    def _formed(self, found: KeptCircuit, kind: _Kind, key: str) -> Transpiled:
        native = self._calibration is not None
        return self.form(
            found.circuit, found.wires, found.begins, native, fit=found.fit, key=key, target=kind.target
        )

    def _transpile(self, parsed: Parsed, kind: _Kind) -> KeptCircuit:
        options = kind.options
        with refusals():
            body = self.prepared(parsed.circuit)
            body = _without_final_measurements(body) if kind.bare else body
            # Where all qubits are coupled alike there is no other place.
            if options.layout and self._calibration is not None and self._calibration.model.edges():
                circuit = self._translated(body, options, initial_layout=self._elsewhere(body, options))
            else:
                circuit = self._translated(body, options)
        wires, begins = layouts_of(circuit, parsed.facts.qubits)
        return KeptCircuit(circuit, wires, begins, self._fit(circuit, wires, bare=kind.bare))

    def _fit(self, circuit: Any, wires: Sequence[int], *, bare: bool) -> Fit | None:
        """Return the errors that a circuit uses."""
        held = self._calibration
        if held is None:
            return None
        places = places_of(held.target, circuit, wires, bare=bare)
        return Fit(held.calibration_id, held.calibrated_ms, errors_at(held.target, places))

    def prepared(self, circuit: Any) -> Any:
        """Return a parsed circuit as it goes into the transpiler. Raises ShotbusError (SB-1118)."""
        return circuit

    def _translated(self, body: Any, options: RunOptions, **more: Any) -> Any:
        from qiskit import transpile

        goal = self.goal(options, varies=bool(body.parameters))
        return transpile(
            body,
            **goal,
            **_timing(body, goal.get("target")),
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
        return Target(self._calibration.model.backend_name, self._topology)

    def goal(self, options: RunOptions, *, varies: bool) -> dict[str, Any]:
        """Return what the transpiler is told of that; the circuit ``varies`` if it has parameters."""
        if self._calibration is None:
            backend = self.backend(options.method)
            return {"target": _bindable(backend.target)} if varies else {"backend": backend}
        return {"target": self._calibration.target}


def _timing(body: Any, target: Any) -> dict[str, Any]:
    """Return how a circuit with delays is scheduled: Qiskit fails on those that its device has to align."""
    aligned = target is not None and (target.pulse_alignment > 1 or target.acquire_alignment > 1)
    return {"scheduling_method": "alap"} if aligned and "delay" in body.count_ops() else {}


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
