"""Registered circuit families: what is declared is checked against the inspected circuit. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from shotbus.broker.policy.circuits import WITHIN, connectivity, foreign_gates, numbers
from shotbus.broker.policy.config import FamilyConfig, Span
from shotbus.broker.policy.facts import Asked
from shotbus.schemas.errors import Problem
from shotbus.schemas.openqasm import CircuitFacts

_RANGES = ("qubits", "depth", "operations", "two_qubit_gates", "two_qubit_ratio", "parameters", "degree")


def check_family(asked: Asked, families: Mapping[str, FamilyConfig]) -> list[Problem]:
    """Return what is false about the job's declaration.

    A name that is not registered is a label: nothing is claimed by it, and no rule takes it for a family.
    Before the circuit is inspected (``asked.circuit`` None) only the version is checked.
    """
    family = families.get(asked.family)
    if family is None:
        return []
    problems = []
    if family.versions and asked.family_version not in family.versions:
        limit, actual = ", ".join(family.versions), asked.family_version or "none"
        problems.append(
            Problem("SB-1151", "$.family_version", limit=f"{asked.family}: {limit}", actual=actual)
        )
    if asked.circuit is not None:
        place = f"{asked.family}@{asked.family_version}" if asked.family_version else asked.family
        problems += [
            Problem("SB-1150", "$.family", limit=f"{place}: {limit}", actual=actual)
            for limit, actual in _breaches(family, asked.circuit)
        ]
    return problems


def rank(family: FamilyConfig | None, version: str) -> int | None:
    """Return a version's place among those of its family, oldest first; None for one that is not there."""
    if family is None or version not in family.versions:
        return None
    return family.versions.index(version)


def _breaches(family: FamilyConfig, circuit: CircuitFacts) -> Iterator[tuple[str, str]]:
    found = numbers(circuit)
    for name in _RANGES:
        span, value = getattr(family, name), found[name]
        if isinstance(span, Span) and span and (value is None or not span.holds(value)):
            yield f"{name} {span}", f"{name} {'unknown' if value is None else format(value, '.6g')}"
    if family.gates and (foreign := foreign_gates(circuit, family.gates)):
        yield f"gates {', '.join(family.gates)}", f"also {', '.join(foreign)}"
    if family.connectivity and (kind := connectivity(circuit)) not in WITHIN[family.connectivity]:
        yield f"connectivity {family.connectivity}", f"connectivity {kind}"
    if not family.mid_circuit and circuit.has_mid_circuit:
        yield "nothing after a measurement", "mid-circuit measurement, reset or condition"
