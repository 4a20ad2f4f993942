"""What a device of Braket's says it can do, and how well: its capabilities, of whatever maker. Pure.

Its qubits have labels with gaps; ours are places in their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import permutations
from typing import Any

from shotbus.workers.adapters.braket_compile import GATES, NEEDED, Form
from shotbus.workers.adapters.braket_programs import Limits
from shotbus.workers.providers.base import DownError

_PROGRAM, _SET = "braket.ir.openqasm.program", "braket.ir.openqasm.program_set"
_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_MOST_QUBITS, _MOST_ALIKE = 100_000, 256


@dataclass(frozen=True, slots=True)
class Facts:
    """What a device's capabilities say.

    Attributes:
        labels: of its qubits, in order.
        pairs: coupled places; None where everything is coupled, as on a simulator.
        gates: Qiskit's names of those that it takes.
        limits: of a task.
        form: of its texts.
        calibrated_ms: when they were last updated, wall time; 0 is not told.
        times: T1 and T2 of each place, seconds; None is not told.
        errors: of a gate on a place or pair.
        readouts: of a place.

    """

    labels: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...] | None
    gates: frozenset[str]
    limits: Limits
    form: Form
    calibrated_ms: int = 0
    times: tuple[tuple[float | None, float | None], ...] = ()
    errors: Mapping[tuple[int, ...], float] = field(default_factory=dict)
    readouts: Mapping[int, float] = field(default_factory=dict)


def read_facts(capabilities: Mapping[str, Any]) -> Facts:
    """Read a device's capabilities, of whatever maker. Raises DownError for one that is nothing for us."""
    action = capabilities["action"].get(_PROGRAM)
    if action is None:
        raise DownError("it takes no OpenQASM")
    known = {str(name).lower() for name in action["supportedOperations"]}
    gates = frozenset(name for name, theirs in GATES.items() if theirs in known)
    if not set(NEEDED) <= gates:
        raise DownError("it has no rz and v, which measurement bases are turned with")
    service, paradigm = capabilities["service"], capabilities["paradigm"]
    labels, pairs = _shape(paradigm, (capabilities.get("standardized") or {}).get("oneQubitProperties") or ())
    facts = Facts(
        labels,
        pairs,
        gates,
        Limits.read(service, capabilities["action"].get(_SET)),
        Form(
            labels if action.get("supportPhysicalQubits") and pairs is not None else (),
            bool(action.get("requiresAllQubitsMeasurement")),
            "i" in known,
        ),
        _milliseconds(service.get("updatedAt")),
    )
    return _measured(facts, capabilities)


def _shape(
    paradigm: Mapping[str, Any], named: Iterable[str]
) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...] | None]:
    """Return labels and coupled places; ``named`` are the qubits that something was measured of."""
    named = list(named)
    count = int(paradigm["qubitCount"])
    if not 0 < count <= _MOST_QUBITS:
        raise ValueError("qubits")
    connectivity = paradigm.get("connectivity")
    if connectivity is None:
        return tuple(range(count)), None
    if connectivity["fullyConnected"]:
        labels = tuple(sorted(int(one) for one in named)) if len(named) == count else tuple(range(count))
        # So many pairs would take longer to look at than any of them could be worth.
        return labels, tuple(permutations(range(count), 2)) if count <= _MOST_ALIKE else None
    graph = connectivity["connectivityGraph"]
    told = [(int(one), int(other)) for one, others in graph.items() for other in others]
    labels = tuple(sorted({int(one) for one in graph} | {other for _, other in told})) or tuple(range(count))
    place = {label: number for number, label in enumerate(labels)}
    there = {(place[one], place[other]) for one, other in told}
    return labels, tuple(sorted(there | {(b, a) for a, b in there}))


def _measured(facts: Facts, capabilities: Mapping[str, Any]) -> Facts:
    """Add what was measured: in Braket's form, by qubit and pair or of the whole device, or in IonQ's own."""
    standard, own = capabilities.get("standardized") or {}, capabilities.get("provider") or {}
    place = {str(label): number for number, label in enumerate(facts.labels)}
    singles = standard.get("oneQubitProperties") or {}
    times = [_times(singles.get(str(label)) or standard, own) for label in facts.labels]
    errors: dict[tuple[int, ...], float] = {}
    readouts: dict[int, float] = {}
    whole = _error(standard.get("twoQubitGateFidelity")) or _mean_error(own, "2Q")
    for pair in facts.pairs or ():
        if whole is not None:
            errors[pair] = whole
    for name, told in (standard.get("twoQubitProperties") or {}).items():
        both = tuple(place[one] for one in str(name).split("-") if one in place)
        if len(both) == 2 and (error := _error(told.get("twoQubitGateFidelity"))) is not None:
            errors[both] = errors[both[::-1]] = error
    for label, number in place.items():
        known = (singles.get(label) or {}).get("oneQubitFidelity") or ()
        readout, gate = _split(known)
        error = _error(gate) if gate else _mean_error(own, "1Q")
        if error is not None:
            errors[(number,)] = error
        wrong = _error(readout or standard.get("readoutFidelity"))
        wrong = _mean_error(own, "spam") if wrong is None else wrong
        if wrong is not None:
            readouts[number] = wrong
    return replace(facts, times=tuple(times), errors=errors, readouts=readouts)


def _split(known: Iterable[Mapping[str, Any]]) -> tuple[list[Any], list[Any]]:
    """Part fidelities of a qubit's readout from those of its gates."""
    readout: list[Any] = []
    gate: list[Any] = []
    for one in known:
        name = str((one.get("fidelityType") or {}).get("name", "")).upper()
        # Errors of one direction of the readout stand among the fidelities.
        if "READOUT_ERROR" not in name:
            (readout if "READOUT" in name else gate).append(one)
    return readout, gate


def _error(known: Any) -> float | None:
    """Return the error of the best of some fidelities."""
    values = [float(one["fidelity"]) for one in known or () if one.get("fidelity") is not None]
    best = max((value for value in values if 0 <= value <= 1), default=None)
    return None if best is None else 1.0 - best


def _mean_error(own: Mapping[str, Any], name: str) -> float | None:
    told = (own.get("fidelity") or {}).get(name) if isinstance(own.get("fidelity"), Mapping) else None
    return _error([{"fidelity": told.get("mean")}]) if isinstance(told, Mapping) else None


def _times(told: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[float | None, float | None]:
    timing = own.get("timing")
    seconds = timing if isinstance(timing, Mapping) else {}
    return _seconds(told.get("T1"), seconds.get("T1")), _seconds(told.get("T2"), seconds.get("T2"))


def _seconds(told: Any, otherwise: Any) -> float | None:
    if isinstance(told, Mapping):
        unit = _UNITS.get(str(told.get("unit", "s")).lower())
        return None if unit is None else float(told["value"]) * unit
    return None if otherwise is None else float(otherwise)


def _milliseconds(written: Any) -> int:
    try:
        told = datetime.fromisoformat(str(written))
    except ValueError:
        return 0
    # Without a zone it is UTC, not this host's time.
    return round((told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp() * 1e3)
