"""A submission as the provider reads it: strictly, everything bounded. Pure.

Circuits are OpenQASM 3 text on one register of the device's qubits, in its own gates, with float parameters.
QPY was decided against: of a stranger's it must not be loaded, and a text can be read, kept and hashed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from shotbus.deploy.provider.refusals import RefusalError
from shotbus.deploy.provider.settings import Limits
from shotbus.schemas.errors import ShotbusError
from shotbus.schemas.openqasm import CircuitFacts, inspect

MAX_BODY_BYTES = 16 << 20
_MAX_TOKEN = 128
_MAX_PROGRAMS = 1_000
_MAX_RUNS = 10_000
_FIELDS = frozenset({"token", "programs", "parameters", "bindings", "shots"})


@dataclass(frozen=True, slots=True)
class Submission:
    """A job: every program with every row of bindings, in runs of ``shots`` each.

    ``bindings`` is rows x parameters, in the order of ``parameters``.
    """

    token: str
    programs: tuple[str, ...]
    parameters: tuple[str, ...]
    bindings: tuple[tuple[float, ...], ...]
    shots: tuple[int, ...]

    @property
    def all_shots(self) -> int:
        """Shots that are billed."""
        return len(self.programs) * len(self.bindings) * sum(self.shots)


def read(body: bytes) -> Submission:
    """Read a submission's bytes. Raises RefusalError (malformed_request)."""
    try:
        document = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _malformed(f"not JSON: {type(error).__name__}") from None
    if not isinstance(document, dict) or set(document) != _FIELDS:
        raise _malformed(f"an object with {', '.join(sorted(_FIELDS))}")
    return Submission(
        _token(document["token"]),
        _texts(document["programs"], _MAX_PROGRAMS, "programs"),
        _texts(document["parameters"], 10_000, "parameters"),
        _bindings(document["bindings"], len(document["parameters"])),
        _shots(document["shots"]),
    )


def check(submission: Submission, limits: Limits, qubits: int, gates: Mapping[str, Any]) -> None:
    """Hold a submission against the device: ``gates`` maps its gates to the qubits they work on.

    Raises RefusalError for the first thing that is wrong.
    """
    most = max(submission.shots)
    if 0 < limits.max_shots < most:
        raise _beyond("too_many_shots", limits.max_shots, most)
    if 0 < limits.max_points < len(submission.bindings):
        raise _beyond("too_many_points", limits.max_points, len(submission.bindings))
    for text in submission.programs:
        _check_program(_facts(text), submission, limits, qubits, gates)


def _check_program(
    facts: CircuitFacts, submission: Submission, limits: Limits, qubits: int, gates: Mapping[str, Any]
) -> None:
    if facts.qubits > qubits:
        raise _beyond("too_many_qubits", qubits, facts.qubits)
    if 0 < limits.max_operations < facts.operations:
        raise _beyond("too_many_operations", limits.max_operations, facts.operations)
    if not set(facts.parameters) <= set(submission.parameters):
        raise _malformed("a parameter without values")
    if not facts.measurements:
        raise RefusalError("invalid_program", "it measures nothing")
    foreign = sorted(name for name, _ in facts.gates if name not in gates and name != "barrier")
    if foreign:
        raise _beyond("not_native", ", ".join(sorted(gates)), foreign[0])
    pairs = np.frombuffer(facts.packed_edges, dtype="<u2").reshape(-1, 2).tolist()
    coupled = {frozenset(places) for places in gates["cx"]}
    apart = [pair for pair in pairs if frozenset(pair) not in coupled]
    if apart:
        raise _beyond("not_coupled", "coupled qubits", apart[0])


def _facts(text: str) -> CircuitFacts:
    try:
        return inspect(text)
    except ShotbusError as error:
        raise RefusalError(
            "invalid_program", error.problems[0].title, actual=error.problems[0].path
        ) from None


def _beyond(code: str, limit: object, actual: object) -> RefusalError:
    return RefusalError(code, code.replace("_", " "), limit=limit, actual=actual)


def _malformed(wanted: str) -> RefusalError:
    return RefusalError("malformed_request", f"expected {wanted}")


def _refuse_constant(name: str) -> float:
    raise ValueError(name)


def _token(value: object) -> str:
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise _malformed("a token of printable ASCII")
    if not 0 < len(value) <= _MAX_TOKEN:
        raise _malformed(f"a token of 1 to {_MAX_TOKEN} characters")
    return value


def _texts(value: object, most: int, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > most or not all(isinstance(one, str) for one in value):
        raise _malformed(f"{name}: a list of at most {most} texts")
    return tuple(value)


def _bindings(value: object, width: int) -> tuple[tuple[float, ...], ...]:
    if not isinstance(value, list) or not value:
        raise _malformed("bindings: a row or more")
    for row in value:
        if not isinstance(row, list) or len(row) != width or not all(_is_finite(one) for one in row):
            raise _malformed(f"bindings: rows of {width} finite numbers")
    return tuple(tuple(float(one) for one in row) for row in value)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _shots(value: object) -> tuple[int, ...]:
    whole = isinstance(value, list) and all(type(one) is int and one > 0 for one in value)
    if not isinstance(value, list) or not whole or not 0 < len(value) <= _MAX_RUNS:
        raise _malformed(f"shots: 1 to {_MAX_RUNS} whole numbers above 0")
    return tuple(value)
