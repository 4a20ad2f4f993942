"""Whether a rule takes a job: ``when`` compiled into named tests that say why not. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from shotbus.broker.policy.circuits import WITHIN, connectivity, foreign_gates, numbers
from shotbus.broker.policy.config import FamilyConfig, Span, WhenConfig
from shotbus.broker.policy.facts import Asked
from shotbus.broker.policy.families import rank
from shotbus.broker.policy.windows import Window

#: Takes the job and the wall time in milliseconds; returns why not, empty when it holds.
Test = Callable[[Asked, int], str]
_UNKNOWN = "unknown until the circuit is inspected"
#: Key of ``when`` -> field of :class:`Asked`, one word each.
_WORDS = {
    "classes": "priority",
    "tenants": "tenant",
    "principals": "principal",
    "intents": "intent",
    "data_classes": "data_class",
    "experiments": "experiment",
    "sessions": "session",
    "modes": "mode",
}
_LISTS = {"roles": "roles", "tags": "tags"}
_OWN_NUMBERS = ("points", "shots", "confidence", "value")
_CIRCUIT_NUMBERS = (
    "qubits",
    "depth",
    "operations",
    "two_qubit_gates",
    "two_qubit_ratio",
    "parameters",
    "degree",
)


class Condition(NamedTuple):
    """One test of a rule, with the fields of :class:`Asked` that it reads."""

    name: str
    test: Test
    reads: tuple[str, ...]


def compile_when(
    when: WhenConfig, families: Mapping[str, FamilyConfig], windows: Mapping[str, Window]
) -> tuple[Condition, ...]:
    """Return the tests of a rule, the cheap ones first."""
    found = []
    for key, name in (_WORDS | _LISTS).items():
        if patterns := getattr(when, key):
            found.append(Condition(key, _words(patterns, name), (name,)))
    if when.families:
        test = _families(when.families, families)
        found.append(Condition("families", test, ("family", "family_version")))
    found += [Condition(key, _own(span, key), (key,)) for key in _OWN_NUMBERS if (span := getattr(when, key))]
    if when.deadline_seconds:
        found.append(Condition("deadline_seconds", _deadline(when.deadline_seconds), ("deadline_ms",)))
    if when.window:
        found.append(Condition("window", _window(when.window, windows[when.window]), ()))
    found += [
        Condition(key, _measured(span, key), ("circuit",))
        for key in _CIRCUIT_NUMBERS
        if (span := getattr(when, key))
    ]
    return (*found, *_circuit(when))


def _circuit(when: WhenConfig) -> list[Condition]:
    found = []
    if when.gates:
        found.append(Condition("gates", _gates(when.gates), ("circuit",)))
    if when.connectivity:
        found.append(Condition("connectivity", _connectivity(when.connectivity), ("circuit",)))
    if when.mid_circuit:
        found.append(Condition("mid_circuit", _mid_circuit(wanted=when.mid_circuit == "yes"), ("circuit",)))
    return found


def matches(patterns: Sequence[str], values: Sequence[str]) -> bool:
    """Tell whether any value fits the patterns and none is excluded by one with ``!``; empty is no value."""
    there = [value for value in values if value]
    negative = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    if any(_fits(pattern, value) for pattern in negative for value in there):
        return False
    positive = [pattern for pattern in patterns if not pattern.startswith("!")]
    return not positive or any(_fits(pattern, value) for pattern in positive for value in there)


def _fits(pattern: str, value: str) -> bool:
    return value.startswith(pattern[:-1]) if pattern.endswith("*") else value == pattern


def _words(patterns: Sequence[str], name: str) -> Test:
    def test(asked: Asked, now_ms: int) -> str:
        del now_ms
        value = getattr(asked, name)
        values = (value,) if isinstance(value, str) else value
        return (
            "" if matches(patterns, values) else f"{', '.join(values) or 'none'} is not {', '.join(patterns)}"
        )

    return test


def _families(patterns: Sequence[str], families: Mapping[str, FamilyConfig]) -> Test:
    """``name@2`` takes version 2 and later ones, by their order in the registry."""

    def holds(pattern: str, asked: Asked) -> bool:
        name, _, least = pattern.partition("@")
        if not _fits(name, asked.family) or not least:
            return _fits(name, asked.family)
        family = families[asked.family]
        wanted, given = rank(family, least), rank(family, asked.family_version)
        if wanted is None or given is None:
            return asked.family_version == least
        return given >= wanted

    def test(asked: Asked, now_ms: int) -> str:
        del now_ms
        known = asked.family in families
        positive = [pattern for pattern in patterns if not pattern.startswith("!")]
        excluded = known and any(holds(p[1:], asked) for p in patterns if p.startswith("!"))
        taken = not positive or (known and any(holds(pattern, asked) for pattern in positive))
        if taken and not excluded:
            return ""
        told = f"{asked.family}@{asked.family_version}".strip("@") or "none"
        return f"{told}{'' if known else ' (not registered)'} is not {', '.join(patterns)}"

    return test


def _own(span: Span, key: str) -> Test:
    def test(asked: Asked, now_ms: int) -> str:
        del now_ms
        return outside(span, getattr(asked, key))

    return test


def _deadline(span: Span) -> Test:
    def test(asked: Asked, now_ms: int) -> str:
        return outside(span, None if asked.deadline_ms is None else (asked.deadline_ms - now_ms) / 1000)

    return test


def _window(name: str, window: Window) -> Test:
    def test(asked: Asked, now_ms: int) -> str:
        del asked
        return "" if window.is_open(now_ms) else f"{name} is closed"

    return test


def _measured(span: Span, key: str) -> Test:
    def test(asked: Asked, now_ms: int) -> str:
        del now_ms
        return _UNKNOWN if asked.circuit is None else outside(span, numbers(asked.circuit)[key])

    return test


def _gates(allowed: Sequence[str]) -> Test:
    def test(asked: Asked, now_ms: int) -> str:
        del now_ms
        if asked.circuit is None:
            return _UNKNOWN
        foreign = foreign_gates(asked.circuit, allowed)
        return f"also {', '.join(foreign)}" if foreign else ""

    return test


def _connectivity(wanted: str) -> Test:
    def test(asked: Asked, now_ms: int) -> str:
        del now_ms
        if asked.circuit is None:
            return _UNKNOWN
        kind = connectivity(asked.circuit)
        return "" if kind in WITHIN[wanted] else f"{kind} is not {wanted}"

    return test


def _mid_circuit(*, wanted: bool) -> Test:
    def test(asked: Asked, now_ms: int) -> str:
        del now_ms
        if asked.circuit is None:
            return _UNKNOWN
        found = asked.circuit.has_mid_circuit
        return "" if found == wanted else f"{'yes' if found else 'no'} is not {'yes' if wanted else 'no'}"

    return test


def outside(span: Span, value: float | None) -> str:
    """Return why a value is not in a range, empty when it is."""
    if value is None:
        return f"unknown, not {span}"
    return "" if span.holds(value) else f"{value:.6g} is not {span}"
